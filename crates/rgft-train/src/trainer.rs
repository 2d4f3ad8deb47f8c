//! The training loop: probe, plan, forward, loss, backward, step, event.

mod budget;
mod clock;
mod probe;
mod record;
mod residuals;
mod roll_back;
mod screening;
mod smoothness;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Instant;

use rgft_core::ledger::{ADAMW_FLOPS, SGD_FLOPS};
use rgft_core::{
    Account, Certificate, Component, ComponentKind, Event, Extent, Guard, GuardSettings, Ledger, Level,
    LrRule, RunSummary, Sampler, Schedule, Slices, UpdateRule,
};
use rgft_data::{Dataset, PackedBatch};
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::models;
use rgft_nn::models::Hidden;
use rgft_nn::{Blind, Engine, Gradients, Mode, Needs, Tape};

use crate::costs::{self, Costs};
use crate::evaluate::{self, evaluate};
use crate::methods::{self, Method, Plan, Standing};
use crate::optimizer::{Optimizer, StepSize};
use crate::prefix_cache::PrefixCache;
use crate::recipe::{Augment, Cache, MethodName, OptimizerName, Recipe};
use crate::schedule_of_batches::{BatchSchedule, Order};
use crate::tracking::Tracker;
use crate::{OutFolder, TrainError, Workload, process};

use clock::Clock;
pub(crate) use probe::{found, probe_batch, rows_to_look_at};
use roll_back::RollBack;
use screening::Screening;

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
    metrics: BTreeMap<String, f64>,
    weights: Vec<(usize, Vec<f32>)>,
    /// Validations up to it.
    validations: usize,
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    work: &'a mut Workload,
    out: Option<&'a mut OutFolder>,
    sink: &'a mut dyn FnMut(&Event),
    engine: Engine,
    order: Order,
    /// Hidden states below the cut; `None`: they are computed anew each time.
    cache: Option<PrefixCache>,
    costs: Costs,
    /// FLOPs of looking at an example.
    look: f64,
    /// FLOPs of full fine-tuning.
    full_equivalent: u64,
    /// FLOPs that may be spent.
    budget: f64,
    /// Steps of full fine-tuning in one epoch.
    epoch_steps: usize,
    /// The most steps that are made.
    total_steps: usize,
    schedule: Schedule,
    method: Box<dyn Method>,
    /// Draws the examples to learn from, where the method wants that.
    screening: Option<Screening>,
    tracker: Tracker,
    optimizer: Optimizer,
    active: Active,
    guard: Guard,
    ledger: Ledger,
    /// FLOPs spent when planning began.
    planned_at: Option<u64>,
    mapped: bool,
    /// Whether the user knows that the prefix cache has no more room.
    told_of_cache: bool,
    /// Steps after which the weights were last validated, and the FLOPs spent then.
    validated_at: (Option<usize>, u64),
    /// Parameters that were ever updated.
    touched: Vec<bool>,
    best: Option<Best>,
    roll_back: RollBack,
    /// L as seen when it was last looked at, and the largest learning rate since.
    smoothness: Option<f64>,
    largest_rate: f64,
    curve: Vec<(u64, f64)>,
    clock: Clock,
}

/// The part of a budget that calibration may take.
const FIRST_LOOK: f64 = 0.02;
/// Batches over which costs are averaged.
const PRICED: usize = 8;
/// Validations of a run under a budget.
const VALIDATIONS: f64 = 5.0;

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
        let full_equivalent = costs::full_steps(work, &batches, update_flops(recipe)).iter().sum();
        let method = methods::build(recipe, work)?;
        methods::check_budget(recipe, work, full_equivalent, &extent_of(batches.step(0), work))?;
        let budget = recipe.budget * full_equivalent as f64;
        let costs = Costs::new(model, &work.components, &priced(&batches, work), update_flops(recipe));
        let cache =
            caches(recipe).then(|| PrefixCache::new(recipe.cache_dtype, (recipe.cache_memory as u64) << 20));
        let total_steps = match method.fixed() {
            Some(plan) => budget::affordable_steps(recipe, work, &batches, plan, cache.is_some(), budget),
            None if method.ends_with_epochs() => batches.len(),
            None => usize::MAX,
        };
        let tracker =
            Tracker::new(model, &work.components, methods::signal(recipe), recipe.beta, recipe.seed);
        let look = tracker.forecast_each(model, &priced(&batches, work));
        let optimizer = Optimizer::new(recipe, model.parameters(), &work.components);
        let guard = guard_of(recipe, &work.components);
        let touched = vec![false; model.parameters().len()];
        let sampler =
            Sampler::new(work.train.len(), recipe.sampling, recipe.sampling_rate, recipe.sampling_least);
        Ok(Self {
            recipe,
            engine: Workload::engine(recipe),
            order: Order::new(&*work.train, recipe.batch_size, recipe.seed, sampler),
            work,
            out,
            sink,
            cache,
            costs,
            look,
            full_equivalent,
            budget,
            epoch_steps: batches.steps_per_epoch(),
            total_steps,
            schedule: Schedule { kind: recipe.schedule, warmup: recipe.warmup },
            screening: method.selectivity().map(|beta| Screening::new(beta, recipe.seed)),
            method,
            tracker,
            optimizer,
            active: Active::default(),
            guard,
            ledger: Ledger::new(),
            planned_at: None,
            mapped: false,
            told_of_cache: false,
            validated_at: (None, 0),
            touched,
            best: None,
            roll_back: RollBack::new(recipe.roll_back),
            smoothness: None,
            largest_rate: 0.0,
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
        let begun = (Instant::now(), process::processor_time());
        self.calibrate()?;
        self.clock.trained(begun);
        let mut steps = 0;
        while steps < self.total_steps {
            let mut begun = (Instant::now(), process::processor_time());
            if let Some(request) = self.with_standing(steps, |method, standing| method.probe(standing)) {
                self.probe(steps, request)?;
                self.clock.probe += begun.0.elapsed();
            }
            self.replan(steps)?;
            if steps == 0 {
                self.clock.trained(begun);
                self.smoothness = self.measure_smoothness();
                begun = (Instant::now(), process::processor_time());
            }
            let Some(batch) = self.next_batch() else {
                self.clock.trained(begun);
                break;
            };
            let event = self.step(steps, batch)?;
            self.clock.trained(begun);
            steps += 1;
            if let Some(event) = event {
                self.emit(&self.stamped(event))?;
            }
            if self.is_validation_due(steps) && self.validate(steps)? {
                break;
            }
        }
        self.finish(start, steps)
    }

    /// Batch norms of what will be frozen take over the statistics of these data.
    fn calibrate(&mut self) -> Result<(), TrainError> {
        let freezes = self.method.may_freeze();
        let has_statistics = self.work.model.parameters().iter().any(|parameter| parameter.buffer);
        if !freezes || !has_statistics || self.recipe.calibration_batches == 0 {
            return Ok(());
        }
        self.engine.set_mode(Mode::Calibrate);
        let needs = self.work.model.no_needs();
        let mut rows = self.order.first(self.recipe.calibration_batches);
        let cost = self.costs.prefix.last().map_or(0.0, |flops| flops * rows.concat().len() as f64);
        budget::shrink(&mut rows, cost, FIRST_LOOK * self.budget);
        for rows in rows {
            let batch = self.work.train.pack(&rows, None);
            self.work.model.forward(&self.engine, &batch.inputs, &needs, &mut Tape::default());
        }
        let observed = self.engine.take_statistics();
        self.work.model.parameters_mut().set_statistics(&observed);
        // Afterwards: a run that goes back begins with these statistics.
        self.touch(observed.iter().map(|statistic| statistic.parameter).collect());
        self.ledger.add(Account::Probe, self.engine.take_flops().total());
        Ok(())
    }

    /// Asks the method something, where the run stands.
    fn with_standing<T>(&mut self, step: usize, ask: impl FnOnce(&mut dyn Method, Standing) -> T) -> T {
        let levels = self.work.model.levels();
        let stored = self.cache.as_ref().map(|cache| {
            let mut stored = cache.levels().to_vec();
            stored.resize(levels, 0);
            stored
        });
        let standing = Standing {
            step,
            costs: &self.costs,
            left: (self.budget - self.ledger.total() as f64).max(0.0),
            budget: self.budget,
            look: self.look,
            examples: self.work.train.len(),
            passes: self.order.passes(),
            stored: stored.as_deref(),
        };
        ask(&mut *self.method, standing)
    }

    /// Passes over the training data after `steps` steps.
    fn epochs(&self, steps: usize) -> f64 {
        match &self.screening {
            Some(screening) => screening.passed as f64 / self.work.train.len() as f64,
            None => steps as f64 / self.epoch_steps as f64,
        }
    }

    fn is_validation_due(&self, steps: usize) -> bool {
        if steps == self.total_steps {
            return true;
        }
        match self.recipe.validate_every {
            Some(every) => steps.is_multiple_of(every),
            None if self.recipe.budget >= 1.0 && self.screening.is_some() => {
                self.epochs(steps) as usize > self.curve.len()
            }
            None if self.recipe.budget >= 1.0 => steps.is_multiple_of(self.epoch_steps.min(self.total_steps)),
            None => {
                let since = self.ledger.total() - self.validated_at.1;
                self.method.is_planning() && since as f64 >= self.budget / VALIDATIONS
            }
        }
    }

    /// The step event with the clock as it stands.
    fn stamped(&self, mut event: Event) -> Event {
        if let Event::Step { seconds, .. } = &mut event {
            *seconds = self.clock.train.as_secs_f64();
        }
        event
    }

    /// Asks the method for a plan and, if there is a new one, prepares needs and gradient buffers for it.
    fn replan(&mut self, at: usize) -> Result<(), TrainError> {
        let Some(plan) = self.with_standing(at, |method, standing| method.plan(standing)) else {
            return Ok(());
        };
        if let Some(examples) = plan.examples {
            self.order.set_working_set(examples);
        }
        if let Some(cache) = &mut self.cache {
            // Where the cut will be after a new head has learnt is not known yet.
            let planning = self.method.is_planning();
            cache.keep_on_the_way(if planning { Vec::new() } else { (1..plan.cut).collect() });
            if planning {
                cache.drop_below(plan.cut);
            }
        }
        if self.method.is_planning() {
            self.planned_at.get_or_insert(self.ledger.total());
        }
        let work = &*self.work;
        if at > 0 {
            self.guard.observe_plan(&plan.active);
        }
        debug_assert!(plan.active.iter().all(|&i| work.components[i].depth >= plan.cut), "{plan:?}");
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
        if plan.restarts {
            self.optimizer.forget();
        }
        self.tracker.set_cut(plan.cut);
        self.active.plan = plan.clone();
        let components = &self.work.components;
        let component = |&i: &usize| self.costs.component_at(i, components[i].depth, plan.cut);
        let step = self.costs.cut[plan.cut] + plan.active.iter().map(component).sum::<f64>();
        let event = Event::Plan {
            step: at,
            cut: plan.cut,
            active: plan.active,
            weights: plan.weights,
            step_flops_ratio: step / self.costs.full,
            examples: plan.examples.unwrap_or(self.order.examples()),
        };
        self.emit(&event)
    }

    /// Notes that these parameters are about to change.
    fn touch(&mut self, parameters: Vec<usize>) {
        for i in parameters {
            if std::mem::replace(&mut self.touched[i], true) {
                continue;
            }
            // Untouched until now, so the best weights are those that it has now.
            let data = || self.work.model.parameters().data(i).to_vec();
            match &mut self.best {
                Some(best) => best.weights.push((i, data())),
                None => self.roll_back.begin_with(i, data),
            }
        }
    }

    /// The hidden states that enter the cut, where the plan has one.
    fn prefix(&mut self, rows: &[usize], batch: &PackedBatch) -> Result<Option<Hidden>, TrainError> {
        let (cut, model) = (self.active.plan.cut, &self.work.model);
        if cut == 0 {
            if let Some(cache) = &mut self.cache {
                cache.clear();
            }
            return Ok(None);
        }
        let hidden = match &mut self.cache {
            Some(cache) => cache.fill(model, &self.engine, &*self.work.train, rows, cut)?,
            None => self.computed_prefix(batch),
        };
        let account = if self.cache.is_some() { Account::Cache } else { Account::Forward };
        self.ledger.add(account, self.engine.take_flops().total());
        if let (false, Some(reason)) =
            (self.told_of_cache, self.cache.as_ref().and_then(PrefixCache::stopped))
        {
            let message =
                format!("the prefix cache keeps no more, the rest is computed anew each time: {reason}");
            self.told_of_cache = true;
            self.emit(&Event::Note { level: Level::Warning, message })?;
        }
        Ok(Some(hidden))
    }

    /// The hidden states that enter the cut, computed anew.
    fn computed_prefix(&self, batch: &PackedBatch) -> Hidden {
        let (cut, model) = (self.active.plan.cut, &self.work.model);
        self.engine.set_mode(Mode::Evaluate);
        let (needs, tape) = (model.no_needs(), &mut Tape::default());
        let state = model.forward_between(&self.engine, &batch.inputs, None, cut, &needs, tape);
        Hidden { level: cut, state }
    }

    /// One step; `None` if its loss took the run back.
    fn step(&mut self, step: usize, rows: Vec<Vec<(usize, f64)>>) -> Result<Option<Event>, TrainError> {
        // By what was spent before it.
        let factor = self.rate_factor(step, &rows);
        let augmentation = Some(self.order.augmentation());
        let pack = |rows: &Vec<(usize, f64)>| {
            let rows: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
            self.work.train.pack(&rows, augmentation)
        };
        let micro: Vec<PackedBatch> = rows.iter().map(pack).collect();
        let examples = micro.iter().map(|batch| batch.rows.len()).sum();
        let targets: usize = micro.iter().map(|batch| batch.targets.count()).sum();
        self.active.gradients.clear();
        let mut loss = 0.0;
        for (i, (batch, rows)) in micro.iter().zip(&rows).enumerate() {
            let hidden = self.prefix(&batch.rows, batch)?;
            let seed = hash(hash(self.recipe.seed as u32 ^ 0x5bd1_e995, step as u32), i as u32);
            self.engine.set_mode(Mode::Train { seed });
            let share = batch.targets.count() as f64 / targets.max(1) as f64;
            let kernels = &self.engine.kernels;
            let mut residuals = Vec::new();
            loss += self.work.model.forward_backward_from(
                &self.engine,
                &batch.inputs,
                hidden,
                &self.active.needs,
                &mut self.active.gradients,
                &mut Blind,
                |logits| {
                    let loss = evaluate::loss(&**kernels, logits.data_mut(), &batch.targets, share);
                    residuals = residuals::weigh(logits, &batch.inputs.extent(), &batch.targets, rows, share);
                    loss
                },
            );
            rows.iter().zip(residuals).for_each(|((row, _), residual)| self.order.observe(*row, residual));
        }
        let flops = self.engine.take_flops();
        self.ledger.add(Account::Forward, flops.forward);
        self.ledger.add(Account::Dx, flops.dx);
        self.ledger.add(Account::Dw, flops.dw);
        let gradient_norm = self.active.gradients.squared_norm(&self.engine).sqrt();
        let sound = self.guard.observe_loss(step, loss) && gradient_norm.is_finite();
        if !sound && self.goes_back(step, loss)? {
            return Ok(None);
        }
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            return Err(TrainError::Diverged { step, loss });
        }
        self.ledger.add(Account::Update, self.active.scalars * update_flops(self.recipe));
        let clip = self.recipe.clip;
        let scale = if clip > 0.0 { (clip / (gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
        let sizes = self.step_sizes(factor);
        self.largest_rate = sizes.iter().map(|size| size.learning_rate).fold(self.largest_rate, f64::max);
        let kernels = &*self.engine.kernels;
        let parameters = self.work.model.parameters_mut();
        self.optimizer.step(kernels, parameters, &self.active.gradients, &sizes, scale as f32);
        // Running statistics move with the step that observed them, and are kept with the weights.
        let observed = self.engine.take_statistics();
        self.touch(observed.iter().map(|statistic| statistic.parameter).collect());
        self.work.model.parameters_mut().move_statistics(&observed);
        if let Some((map_step, energies)) = self.method.map() {
            self.guard.observe_weights(step, map_step, &self.active.plan.weights, &energies);
        }
        Ok(Some(Event::Step {
            step,
            epoch: self.epochs(step + 1),
            loss,
            learning_rate: self.recipe.learning_rate * factor,
            gradient_norm,
            examples,
            tokens: micro.iter().map(|batch| batch.inputs.extent().rows()).sum(),
            flops: self.ledger.total(),
            seconds: 0.0,
        }))
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
        self.judge_step_size(steps);
        let begun = Instant::now();
        let metrics = self.evaluate(&*self.work.validation);
        self.ledger.add_evaluation(self.engine.take_flops().total());
        // Weights that are no longer numbers must not replace a saved model.
        if let Some(&loss) = metrics.get("loss").filter(|loss| !loss.is_finite()) {
            self.clock.eval += begun.elapsed();
            return if self.goes_back(steps, loss)? {
                Ok(false)
            } else {
                Err(TrainError::Diverged { step: steps, loss })
            };
        }
        self.validated_at = (Some(steps), self.ledger.total());
        let value = metrics.get(self.work.objective.primary_metric()).copied().unwrap_or(f64::NAN);
        let larger_is_better = self.work.objective.larger_is_better();
        let best = self
            .best
            .as_ref()
            .is_none_or(|best| if larger_is_better { value > best.value } else { value < best.value });
        self.curve.push((self.ledger.total(), value));
        if best {
            let parameters = self.work.model.parameters();
            // Those before them make room first: all that changed is a copy of the model in a full run.
            let mut weights = self.best.take().map_or(Vec::new(), |best| best.weights);
            weights.clear();
            let touched = (0..parameters.len()).filter(|&i| self.touched[i]);
            weights.extend(touched.map(|i| (i, parameters.data(i).to_vec())));
            let metrics = metrics.clone();
            self.best = Some(Best { value, metrics, weights, validations: self.curve.len() });
            self.roll_back.forget_beginning();
            if let Some(out) = &self.out {
                out.model(self.work)?;
            }
        }
        self.clock.eval += begun.elapsed();
        let epoch = self.epochs(steps);
        let (flops, seconds) = (self.ledger.total(), self.clock.train.as_secs_f64());
        self.emit(&Event::Validation { step: steps, epoch, metrics, flops, seconds, best })?;
        let since = self.best.as_ref().map_or(0, |best| self.curve.len() - best.validations);
        Ok(self.recipe.patience.is_some_and(|patience| since >= patience.max(1)))
    }
}

/// Whether what lies below the cut is computed but once: not where an example looks different each time.
pub(crate) fn caches(recipe: &Recipe) -> bool {
    recipe.cache == Cache::Auto && recipe.augment == Augment::None
}

/// The extents of some batches, spread over the first epoch.
pub(crate) fn priced(batches: &BatchSchedule, work: &Workload) -> Vec<Extent> {
    let first = batches.steps_per_epoch().min(batches.len());
    let micro: Vec<&Vec<usize>> = (0..first).flat_map(|step| batches.step(step)).collect();
    let every = micro.len().div_ceil(PRICED).max(1);
    micro.into_iter().step_by(every).map(|rows| work.train.extent(rows)).collect()
}

/// The extent of all batches of a step together.
pub(crate) fn extent_of(micro: &[Vec<usize>], work: &Workload) -> Extent {
    let extents = micro.iter().map(|rows| work.train.extent(rows));
    extents.reduce(|all, more| all.joined(&more)).unwrap_or(Extent::Sequences(Vec::new()))
}

fn guard_of(recipe: &Recipe, components: &[Component]) -> Guard {
    let (weight_min, weight_max) = match recipe.method {
        MethodName::AutoRgn => (0.0, 1.0),
        method if method.plans() => recipe.lr_rule.bounds(),
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
        momentum: recipe.momentum,
    })
}
