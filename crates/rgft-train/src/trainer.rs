//! The training loop: probe, plan, forward, loss, backward, step, event.

mod probe;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rgft_core::events::{Convergence, Flops as FlopsSummary, Memory, Metrics, Seconds};
use rgft_core::ledger::{ADAMW_FLOPS, SGD_FLOPS};
use rgft_core::{
    Account, Certificate, Component, ComponentInfo, ComponentKind, Event, Extent, Guard, GuardSettings,
    Ledger, Level, LrRule, RunSummary, Schedule, Slices, UpdateRule,
};
use rgft_data::{Dataset, PackedBatch};
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::models;
use rgft_nn::{Blind, Engine, Gradients, Needs};

use crate::costs::{self, Costs};
use crate::evaluate::{self, evaluate};
use crate::methods::{self, Method, Plan, Standing};
use crate::optimizer::{Optimizer, StepSize};
use crate::recipe::{MethodName, OptimizerName, Recipe};
use crate::schedule_of_batches::BatchSchedule;
use crate::tracking::Tracker;
use crate::{OutFolder, TrainError, Workload, process};

pub(crate) use probe::probe_batch;

/// What a run leaves behind besides its files.
pub struct RunOutcome {
    /// The content of `run.json`.
    pub summary: RunSummary,
    /// Which conditions of the theory held.
    pub certificate: Certificate,
}

/// FLOPs that updating one scalar takes.
pub(crate) fn update_flops(recipe: &Recipe) -> u64 {
    match recipe.optimizer {
        OptimizerName::AdamW => ADAMW_FLOPS,
        OptimizerName::Sgd => SGD_FLOPS,
    }
}

/// Fine-tunes `workload`'s model by `recipe`; `sink` hears every event as it happens.
///
/// When it returns, the model holds the weights of the best validation, and `out` all files of the run but the
/// report.
///
/// # Errors
/// [`TrainError::Diverged`] when the loss is no number, or when a file cannot be written.
pub fn train(
    recipe: &Recipe,
    workload: &mut Workload,
    out: Option<&mut OutFolder>,
    sink: &mut dyn FnMut(&Event),
) -> Result<RunOutcome, TrainError> {
    Trainer::new(recipe, workload, out, sink)?.run()
}

/// The plan in force, translated for the engine.
#[derive(Default)]
struct Active {
    plan: Plan,
    update: Vec<Slices>,
    needs: Vec<Needs>,
    gradients: Gradients,
    /// Scalars that a step updates.
    scalars: u64,
}

/// The best validation so far, and the weights that reached it.
struct Best {
    value: f64,
    weights: Vec<(usize, Vec<f32>)>,
    at_step: usize,
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    work: &'a mut Workload,
    out: Option<&'a mut OutFolder>,
    sink: &'a mut dyn FnMut(&Event),
    engine: Engine,
    batches: BatchSchedule,
    /// What full fine-tuning computes from step `i` to the end.
    full_from: Vec<u64>,
    full_equivalent: u64,
    schedule: Schedule,
    method: Box<dyn Method>,
    tracker: Tracker,
    optimizer: Optimizer,
    active: Active,
    guard: Guard,
    ledger: Ledger,
    probe_flops_per_example: u64,
    /// FLOPs spent when the first map was there.
    mapped_at: Option<u64>,
    /// Steps after which the weights were last validated.
    validated_at: Option<usize>,
    /// Parameters that were ever updated.
    touched: Vec<bool>,
    best: Option<Best>,
    curve: Vec<(u64, f64)>,
    clock: Clock,
}

/// Where the time goes.
#[derive(Default)]
struct Clock {
    train: Duration,
    probe: Duration,
    eval: Duration,
}

impl<'a> Trainer<'a> {
    fn new(
        recipe: &'a Recipe,
        work: &'a mut Workload,
        out: Option<&'a mut OutFolder>,
        sink: &'a mut dyn FnMut(&Event),
    ) -> Result<Self, TrainError> {
        let batches = BatchSchedule::new(
            &*work.train,
            recipe.epochs,
            recipe.batch_size,
            recipe.accumulation,
            recipe.seed,
        );
        let model = &work.model;
        let full_costs = costs::full_steps(work, &batches, update_flops(recipe));
        let full_equivalent = full_costs.iter().sum();
        let method =
            methods::build(recipe, &work.components, model.levels(), full_equivalent, batches.len())?;
        let mut full_from: Vec<u64> = full_costs
            .iter()
            .rev()
            .scan(0, |sum, cost| {
                *sum += cost;
                Some(*sum)
            })
            .collect();
        full_from.reverse();
        let schedule = Schedule {
            kind: recipe.schedule,
            warmup_steps: recipe.warmup * batches.len() as f64,
            total_steps: batches.len(),
        };
        methods::check_budget(recipe, work, full_equivalent, &extent_of(batches.step(0), work))?;
        let tracker = Tracker::new(model, &work.components, recipe.signal, recipe.seed);
        let optimizer = Optimizer::new(recipe, model.parameters(), &work.components);
        let guard = guard_of(recipe, &work.components);
        let touched = vec![false; model.parameters().len()];
        Ok(Self {
            recipe,
            engine: Workload::engine(recipe),
            work,
            out,
            sink,
            batches,
            full_from,
            full_equivalent,
            schedule,
            method,
            tracker,
            optimizer,
            active: Active::default(),
            guard,
            ledger: Ledger::new(),
            probe_flops_per_example: 0,
            mapped_at: None,
            validated_at: None,
            touched,
            best: None,
            curve: Vec::new(),
            clock: Clock::default(),
        })
    }

    fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        (self.sink)(event);
        match &mut self.out {
            Some(out) => out.event(event),
            None => Ok(()),
        }
    }

    fn run(mut self) -> Result<RunOutcome, TrainError> {
        let start = Instant::now();
        process::reset_peak_rss();
        if let Some(out) = &self.out {
            out.recipe(self.recipe)?;
        }
        self.announce()?;
        let total = self.batches.len();
        let every = self.recipe.validate_every.unwrap_or_else(|| self.batches.steps_per_epoch().min(total));
        let mut steps = 0;
        for step in 0..total {
            let begun = Instant::now();
            let mut probed = Duration::ZERO;
            if let Some(request) = self.method.probe(step, self.ledger.total()) {
                self.probe(step, request)?;
                probed = begun.elapsed();
                self.clock.probe += probed;
            }
            self.replan(step)?;
            if !self.affords(step) {
                self.method.expire();
                self.replan(step)?;
                if !self.affords(step) {
                    break;
                }
            }
            let event = self.step(step)?;
            self.clock.train += begun.elapsed() - probed;
            steps = step + 1;
            self.emit(&self.stamped(event))?;
            if (steps.is_multiple_of(every) || steps == total) && self.validate(steps)? {
                break;
            }
        }
        self.finish(start, steps)
    }

    /// The step event with the clock as it stands.
    fn stamped(&self, mut event: Event) -> Event {
        if let Event::Step { seconds, .. } = &mut event {
            *seconds = self.clock.train.as_secs_f64();
        }
        event
    }

    fn announce(&mut self) -> Result<(), TrainError> {
        let recipe = self.recipe;
        let event = Event::RunStarted {
            method: recipe.method.to_string(),
            model: name_of(&recipe.model),
            data: name_of(&recipe.data),
            task: recipe.task.to_string(),
            budget: recipe.budget,
            seed: recipe.seed,
            version: env!("CARGO_PKG_VERSION").into(),
            precision: self.precision().into(),
            threads: rayon::current_num_threads(),
            total_steps: self.batches.len(),
            parameters: self.work.model.parameters().scalars(),
            trainable_parameters: self.method.trainable(&self.work.components),
            full_equivalent_flops: self.full_equivalent,
            components: self.work.components.iter().map(ComponentInfo::from).collect(),
            train_examples: self.work.train.len(),
            validation_examples: self.work.validation.len(),
            test_examples: self.work.test.as_ref().map_or(0, |test| test.len()),
            labels: self.work.labels.names().to_vec(),
        };
        self.emit(&event)?;
        for message in std::mem::take(&mut self.work.notes) {
            self.emit(&Event::Note { level: Level::Info, message })?;
        }
        if self.engine.precision != crate::workload::precision_of(recipe) {
            let message = "this processor has no bf16 products: computing in f32".into();
            self.emit(&Event::Note { level: Level::Warning, message })?;
        }
        Ok(())
    }

    fn precision(&self) -> &'static str {
        match self.engine.precision {
            rgft_kernels::Precision::F32 => "f32",
            rgft_kernels::Precision::Bf16 => "bf16",
        }
    }

    /// Asks the method for a plan and, if there is a new one, prepares needs and gradient buffers for it.
    fn replan(&mut self, step: usize) -> Result<(), TrainError> {
        let work = &*self.work;
        let costs = || {
            let extent = extent_of(self.batches.step(step), work);
            Costs::new(&work.model, &work.components, &extent, update_flops(self.recipe))
        };
        let standing = Standing {
            step,
            steps_left: self.batches.len() - step,
            costs: &costs,
            spent: self.ledger.total(),
            full_left: self.full_from[step],
            probe_flops_per_example: self.probe_flops_per_example,
        };
        let Some(plan) = self.method.plan(standing) else { return Ok(()) };
        if step > 0 {
            self.guard.observe_plan(&plan.active);
        }
        let update = models::update_of(work.model.parameters(), &work.components, &plan.active);
        if update != self.active.update || plan.cut != self.active.plan.cut {
            self.active.needs = work.model.needs(&update, plan.cut, false);
            // Dropped before the new ones are made: their buffers go back to the arena.
            self.active.gradients = Gradients::default();
            self.active.gradients =
                Gradients::new(&self.engine, work.model.parameters(), &update, &work.model.tables());
            self.active.scalars = plan.active.iter().map(|&i| work.components[i].parameters as u64).sum();
            let changing = (0..update.len()).filter(|&i| !update[i].is_none()).collect();
            self.active.update = update;
            self.touch(changing);
        }
        self.active.plan = plan.clone();
        let step_flops = self.step_flops(step);
        let full = self.full_from[step] - self.full_from.get(step + 1).copied().unwrap_or(0);
        self.emit(&Event::Plan {
            step,
            cut: plan.cut,
            active: plan.active,
            weights: plan.weights,
            step_flops_ratio: step_flops as f64 / full as f64,
            allowance: self.method.allowance(),
        })
    }

    /// Notes that these parameters are about to change.
    fn touch(&mut self, parameters: Vec<usize>) {
        for i in parameters {
            let first = !std::mem::replace(&mut self.touched[i], true);
            // Untouched until now, so the best weights are those that it has now.
            if let (true, Some(best)) = (first, &mut self.best) {
                best.weights.push((i, self.work.model.parameters().data(i).to_vec()));
            }
        }
    }

    /// What the step will compute under the plan in force, update included.
    fn step_flops(&self, step: usize) -> u64 {
        let extent = extent_of(self.batches.step(step), self.work);
        let update = self.active.scalars * update_flops(self.recipe);
        costs::step(&self.work.model, &extent, &self.active.needs) + update
    }

    /// A budget is a limit: the step that would break it is not made.
    fn affords(&self, step: usize) -> bool {
        let budget = self.recipe.budget * self.full_equivalent as f64;
        (self.ledger.total() + self.step_flops(step)) as f64 <= budget * 1.001
    }

    fn step(&mut self, step: usize) -> Result<Event, TrainError> {
        let augmentation = Some(self.batches.augmentation(step));
        let rows = self.batches.step(step).iter();
        let micro: Vec<PackedBatch> = rows.map(|rows| self.work.train.pack(rows, augmentation)).collect();
        let examples = micro.iter().map(|batch| batch.rows.len()).sum();
        let targets: usize = micro.iter().map(|batch| batch.targets.count()).sum();
        self.active.gradients.clear();
        let mut loss = 0.0;
        for (i, batch) in micro.iter().enumerate() {
            let seed = hash(hash(self.recipe.seed as u32 ^ 0x5bd1_e995, step as u32), i as u32);
            self.engine.set_dropout(Some(seed));
            let share = batch.targets.count() as f64 / targets.max(1) as f64;
            let kernels = &self.engine.kernels;
            loss += self.work.model.forward_backward(
                &self.engine,
                &batch.inputs,
                &self.active.needs,
                &mut self.active.gradients,
                &mut Blind,
                |logits| evaluate::loss(&**kernels, logits.data_mut(), &batch.targets, share),
            );
        }
        self.guard.observe_loss(step, loss);
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step, loss });
        }
        let flops = self.engine.take_flops();
        self.ledger.add(Account::Forward, flops.forward);
        self.ledger.add(Account::Dx, flops.dx);
        self.ledger.add(Account::Dw, flops.dw);
        self.ledger.add(Account::Update, self.active.scalars * update_flops(self.recipe));

        let gradient_norm = self.active.gradients.squared_norm(&self.engine).sqrt();
        if !gradient_norm.is_finite() {
            return Err(TrainError::Diverged { step, loss });
        }
        let clip = self.recipe.clip;
        let scale = if clip > 0.0 { (clip / (gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
        let factor = self.rate_factor(step);
        let sizes = self.step_sizes(factor);
        let kernels = &*self.engine.kernels;
        let parameters = self.work.model.parameters_mut();
        self.optimizer.step(kernels, parameters, &self.active.gradients, &sizes, scale as f32);
        // Running statistics move with the step that observed them, and are kept with the weights.
        self.touch(self.active.gradients.statistics().collect());
        let parameters = self.work.model.parameters_mut();
        self.active.gradients.move_statistics(parameters);
        if let Some((map_step, energies)) = self.method.map() {
            self.guard.observe_weights(step, map_step, &self.active.plan.weights, &energies);
        }
        Ok(Event::Step {
            step,
            epoch: (step + 1) as f64 / self.batches.steps_per_epoch() as f64,
            loss,
            learning_rate: self.recipe.learning_rate * factor,
            gradient_norm,
            examples,
            tokens: micro.iter().map(|batch| batch.inputs.extent().rows()).sum(),
            flops: self.ledger.total(),
            seconds: 0.0,
        })
    }

    /// The schedule's factor. Under a budget it follows what is left of the budget after the first map, because the
    /// budget ends the run, however many steps that takes; before the map only a task head learns, at full rate.
    fn rate_factor(&self, step: usize) -> f64 {
        if self.recipe.budget >= 1.0 {
            return self.schedule.factor(step);
        }
        let Some(start) = self.mapped_at else { return 1.0 };
        let whole = self.recipe.budget * self.full_equivalent as f64 - start as f64;
        let spent = (self.ledger.total() - start) as f64;
        let position = spent / whole * self.batches.len() as f64;
        self.schedule.factor((position as usize).min(self.batches.len() - 1))
    }

    fn step_sizes(&self, factor: f64) -> Vec<StepSize> {
        let mut sizes = vec![StepSize::default(); self.work.components.len()];
        for &i in &self.active.plan.active {
            let component = &self.work.components[i];
            let rate = match component.kind {
                ComponentKind::TaskHead => self.recipe.head_learning_rate(component.fresh),
                _ => self.recipe.learning_rate,
            };
            sizes[i] = StepSize { learning_rate: rate * factor * self.active.plan.weights[i], active: true };
        }
        sizes
    }

    fn evaluate(&self, set: &dyn Dataset) -> BTreeMap<String, f64> {
        evaluate(&self.work.model, &self.engine, set, self.work.objective).metrics
    }

    /// Validates; keeps the weights if they are the best so far. Returns whether patience has run out.
    fn validate(&mut self, steps: usize) -> Result<bool, TrainError> {
        let begun = Instant::now();
        let metrics = self.evaluate(&*self.work.validation);
        self.ledger.add_evaluation(self.engine.take_flops().total());
        // Weights that are no longer numbers must not replace a saved model.
        if let Some(&loss) = metrics.get("loss").filter(|loss| !loss.is_finite()) {
            return Err(TrainError::Diverged { step: steps, loss });
        }
        self.validated_at = Some(steps);
        let value = metrics.get(self.work.objective.primary_metric()).copied().unwrap_or(f64::NAN);
        let larger_is_better = self.work.objective.larger_is_better();
        let best = self
            .best
            .as_ref()
            .is_none_or(|best| if larger_is_better { value > best.value } else { value < best.value });
        self.curve.push((self.ledger.total(), value));
        if best {
            let parameters = self.work.model.parameters();
            let touched = (0..parameters.len()).filter(|&i| self.touched[i]);
            let weights = touched.map(|i| (i, parameters.data(i).to_vec())).collect();
            self.best = Some(Best { value, weights, at_step: steps });
            if let Some(out) = &self.out {
                out.model(self.work)?;
            }
        }
        self.clock.eval += begun.elapsed();
        let epoch = steps as f64 / self.batches.steps_per_epoch() as f64;
        let (flops, seconds) = (self.ledger.total(), self.clock.train.as_secs_f64());
        self.emit(&Event::Validation { step: steps, epoch, metrics, flops, seconds, best })?;
        let since = self.best.as_ref().map_or(0, |best| steps - best.at_step);
        let every = self.recipe.validate_every.unwrap_or(self.batches.steps_per_epoch());
        Ok(self.recipe.patience.is_some_and(|patience| since >= patience.max(1).saturating_mul(every)))
    }

    fn finish(mut self, start: Instant, steps: usize) -> Result<RunOutcome, TrainError> {
        if self.recipe.method == MethodName::Rgft && self.mapped_at.is_none() {
            let message = "no error map was made, so only the task head was trained: the run is too short, or its \
                           budget too small";
            self.emit(&Event::Note { level: Level::Warning, message: message.into() })?;
        }
        // A run that its budget ended before the last validation is validated where it stands.
        if self.validated_at != Some(steps) {
            self.validate(steps)?;
        }
        let begun = Instant::now();
        if let Some(best) = self.best.take() {
            let parameters = self.work.model.parameters_mut();
            best.weights.into_iter().for_each(|(i, data)| parameters[i].data = data);
        }
        let validation = self.evaluate(&*self.work.validation);
        let mut metrics = Metrics { validation, ..Metrics::default() };
        if let Some(test) = &self.work.test {
            metrics.test = self.evaluate(&**test);
            if let Some(snippets) = &self.work.snippets {
                let share = snippets.share_that_parse(&self.work.model, &self.engine)?;
                metrics.test.extend(share.map(|share| ("parse_share".into(), share)));
            }
        }
        self.ledger.add_evaluation(self.engine.take_flops().total());
        self.clock.eval += begun.elapsed();
        let recipe = self.recipe;
        let (metric, larger) = (self.work.objective.primary_metric(), self.work.objective.larger_is_better());
        let summary = RunSummary {
            method: recipe.method.to_string(),
            model: name_of(&recipe.model),
            data: name_of(&recipe.data),
            task: recipe.task.to_string(),
            budget: recipe.budget,
            seed: recipe.seed,
            metrics,
            flops: FlopsSummary::new(&self.ledger, self.full_equivalent),
            seconds: Seconds {
                total: start.elapsed().as_secs_f64(),
                train: self.clock.train.as_secs_f64(),
                probe: self.clock.probe.as_secs_f64(),
                eval: self.clock.eval.as_secs_f64(),
            },
            memory: Memory { peak_rss_bytes: process::peak_rss_bytes() },
            convergence: Convergence::of(metric, &self.curve, larger),
            steps,
            epochs: steps as f64 / self.batches.steps_per_epoch() as f64,
            threads: rayon::current_num_threads(),
            precision: self.precision().into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let certificate = self.guard.certificate();
        self.emit(&Event::Finished { summary: Box::new(summary.clone()) })?;
        if let Some(out) = &self.out {
            if let Some(report) = self.last_map() {
                let infos: Vec<ComponentInfo> =
                    self.work.components.iter().map(ComponentInfo::from).collect();
                out.error_map(&infos, &report.0, &report.1)?;
            }
            out.certificate(&certificate)?;
            out.summary(&summary)?;
        }
        Ok(RunOutcome { summary, certificate })
    }

    fn last_map(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        self.method.map_report().map(|report| (report.energies, report.shares))
    }
}

/// The extent of all batches of a step together.
pub(crate) fn extent_of(micro: &[Vec<usize>], work: &Workload) -> Extent {
    let extents = micro.iter().map(|rows| work.train.extent(rows));
    extents.reduce(|all, more| all.joined(&more)).unwrap_or(Extent::Sequences(Vec::new()))
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn guard_of(recipe: &Recipe, components: &[Component]) -> Guard {
    let (weight_min, weight_max) = match recipe.method {
        MethodName::Rgft => recipe.lr_rule.bounds(),
        _ => LrRule::Uniform.bounds(),
    };
    Guard::new(GuardSettings {
        components: components.iter().map(|component| component.name.clone()).collect(),
        energy_max: methods::ENERGY_MAX,
        weight_min,
        weight_max,
        window: recipe.coverage_window,
        update_rule: match recipe.optimizer {
            OptimizerName::AdamW => UpdateRule::AdamW,
            OptimizerName::Sgd if recipe.momentum > 0.0 => UpdateRule::Momentum,
            OptimizerName::Sgd if recipe.clip > 0.0 || recipe.weight_decay > 0.0 => UpdateRule::ModifiedSgd,
            OptimizerName::Sgd => UpdateRule::Sgd,
        },
    })
}
