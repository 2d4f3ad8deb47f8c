//! `rgft theory predict`: does Lemma 1 foretell what a step is worth, on real data?
//!
//! On one large batch, for many sets S of components: what the lemma promises of a gradient step of S alone,
//! `(η/2)·Σ_S‖∇_i f‖²`, over its FLOPs, against what the loss of that batch falls by, over the same FLOPs. The sets: all
//! components, the densest by T6, each alone, and random ones.

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rgft_core::ledger::SGD_FLOPS;
use rgft_core::{Slice, rank_correlation, theory};
use rgft_data::PackedBatch;
use rgft_nn::{Blind, Engine, Gradients, Mode, Tape};
use rgft_report::scatter_svg;
use rgft_train::recipe::{MethodName, OptimizerName, RawRecipe, Recipe};
use rgft_train::schedule_of_batches::BatchSchedule;
use rgft_train::{Costs, Optimizer, OutFolder, StepSize, Workload, batch_loss};
use serde::Serialize;

use crate::args::ForetellArgs;
use crate::pool;
use crate::printer::Printer;

const FILES: [&str; 2] = ["predict.json", "predict.svg"];
/// A fall of the loss by less than this part of it is lost in the rounding of f32.
const MEASURABLE: f64 = 1e-5;
/// Halvings of the learning rate until the promise is kept.
const HALVINGS: usize = 60;

/// One set of components.
#[derive(Clone, Debug, Serialize)]
struct Set {
    /// `everything`, `densest`, `one` or `random`.
    kind: &'static str,
    components: Vec<usize>,
    cut: usize,
    /// Of the step.
    flops: f64,
    /// Fall of the loss that Lemma 1 promises.
    promised: f64,
    /// Fall of the loss.
    measured: f64,
}

#[derive(Serialize)]
struct Report {
    components: Vec<String>,
    examples: usize,
    loss: f64,
    /// The largest power of two, 1 at most, at which a step of everything keeps its promise.
    rate: f64,
    /// Of promised and measured, both over FLOPs.
    rank_correlation: f64,
    /// Sets whose promise was not kept.
    broken: usize,
    /// Sets whose promise is lost in rounding: left out.
    too_small: usize,
    sets: Vec<Set>,
}

pub(super) fn run(args: &ForetellArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let given = args.recipe.recipe(threads)?;
    let mut raw = match &given.model {
        Some(folder) => RawRecipe::of_trained(folder)?,
        None => RawRecipe::default(),
    };
    raw.merge(given);
    // All components at the recipe's granularity, whatever method the folder was trained by.
    (raw.method, raw.only, raw.optimizer) = (Some(MethodName::Rgft), None, Some(OptimizerName::Sgd));
    let mut recipe = raw.check()?;
    (recipe.momentum, recipe.weight_decay) = (0.0, 0.0);
    let out = recipe.out.as_deref().map(|path| OutFolder::for_files(path, &FILES)).transpose()?;
    let report = pool::run(
        recipe.threads,
        |say| measure(&recipe, args, say),
        |message: String| printer.note(&message),
    )?;
    let kinds = ["everything", "densest", "one", "random"];
    let rows: Vec<Vec<String>> = kinds.iter().filter_map(|kind| line(kind, &report.sets)).collect();
    printer.table(
        &[
            "sets",
            "how many",
            "components",
            "promised per TFLOP",
            "measured per TFLOP",
            "measured / promised",
        ],
        &rows,
    )?;
    printer.text(&format!(
        "{} of {} promises broken at η = {:.2e}, {} too small to be measured; rank correlation of promised and measured per \
         FLOP {:.3}",
        report.broken,
        report.sets.len(),
        report.rate,
        report.too_small,
        report.rank_correlation
    ))?;
    if let Some(out) = out {
        let mut bytes = serde_json::to_vec_pretty(&report)?;
        bytes.push(b'\n');
        out.write(FILES[0], &bytes)?;
        let group = |kind: &&str| {
            let sets = report.sets.iter().filter(|set| *set.kind == **kind);
            (
                (*kind).to_owned(),
                sets.map(|set| (set.promised / set.flops, set.measured / set.flops)).collect(),
            )
        };
        let groups: Vec<(String, Vec<(f64, f64)>)> = kinds.iter().map(group).collect();
        let picture = scatter_svg(
            "What a step is worth",
            "promised fall of the loss per FLOP",
            "measured fall per FLOP; the line: equal",
            &groups,
        );
        out.write(FILES[1], picture.as_bytes())?;
    }
    printer.document(&report)?;
    Ok(())
}

/// Means over the sets of a kind.
fn line(kind: &str, sets: &[Set]) -> Option<Vec<String>> {
    let sets: Vec<&Set> = sets.iter().filter(|set| set.kind == kind).collect();
    let mean = |of: &dyn Fn(&Set) -> f64| sets.iter().map(|set| of(set)).sum::<f64>() / sets.len() as f64;
    (!sets.is_empty()).then(|| {
        vec![
            kind.to_owned(),
            sets.len().to_string(),
            format!("{:.1}", mean(&|set| set.components.len() as f64)),
            format!("{:.4}", mean(&|set| 1e12 * set.promised / set.flops)),
            format!("{:.4}", mean(&|set| 1e12 * set.measured / set.flops)),
            format!("{:.2}", mean(&|set| set.measured / set.promised)),
        ]
    })
}

/// The batch, its gradient, and the weights where it was taken.
struct Trial<'a> {
    engine: Engine,
    recipe: &'a Recipe,
    work: Workload,
    batch: PackedBatch,
    gradients: Gradients,
    kept: Vec<Vec<f32>>,
}

impl Trial<'_> {
    fn loss(&self) -> f64 {
        // The batch's statistics, as the gradient saw them.
        self.engine.set_mode(Mode::Calibrate);
        let model = &self.work.model;
        let mut outputs =
            model.forward(&self.engine, &self.batch.inputs, &model.no_needs(), &mut Tape::default());
        self.engine.take_statistics();
        batch_loss(&*self.engine.kernels, outputs.data_mut(), &self.batch.targets, 1.0)
    }

    /// The loss after a step of these components alone; the weights come back.
    fn loss_after(&mut self, set: &[usize], rate: f64) -> f64 {
        let components = &self.work.components;
        let mut sizes = vec![StepSize::default(); components.len()];
        set.iter().for_each(|&i| sizes[i] = StepSize { learning_rate: rate, active: true });
        let mut optimizer = Optimizer::new(self.recipe, self.work.model.parameters(), components);
        let parameters = self.work.model.parameters_mut();
        optimizer.step(&*self.engine.kernels, parameters, &self.gradients, &sizes, 1.0);
        let loss = self.loss();
        let parameters = self.work.model.parameters_mut();
        self.kept.iter().enumerate().for_each(|(i, data)| parameters[i].data.copy_from_slice(data));
        loss
    }
}

fn measure(recipe: &Recipe, args: &ForetellArgs, say: &mut dyn FnMut(String)) -> Result<Report> {
    let work = Workload::load(recipe)?;
    let engine = Workload::engine(recipe);
    let batches = BatchSchedule::new(&*work.train, 1.0, args.examples.max(2), 1, recipe.seed);
    // The last batch of a pass is smaller.
    let largest =
        (0..batches.steps_per_epoch().min(batches.len())).max_by_key(|&step| batches.step(step)[0].len());
    let rows = batches.step(largest.unwrap_or(0))[0].clone();
    let batch = work.train.pack(&rows, None);
    let costs = Costs::new(&work.model, &work.components, &[work.train.extent(&rows)], SGD_FLOPS);

    engine.set_mode(Mode::Probe);
    let parameters = work.model.parameters();
    let everything = parameters.everything();
    let needs = work.model.needs(&everything, 0, false);
    let mut gradients = Gradients::new(&engine, parameters, &everything, &work.model.tables());
    let kept = parameters.iter().map(|parameter| parameter.data.clone()).collect();
    work.model.forward_backward(&engine, &batch.inputs, &needs, &mut gradients, &mut Blind, |logits| {
        batch_loss(&*engine.kernels, logits.data_mut(), &batch.targets, 1.0)
    });
    let square = |slice: &Slice| {
        let rows = parameters[slice.parameter].rows();
        gradients.squared_norm_of(slice.parameter, slice.axis, slice.range.clone(), rows)
    };
    let squares: Vec<f64> =
        work.components.iter().map(|component| component.slices.iter().map(square).sum()).collect();
    let mut trial = Trial { engine, recipe, work, batch, gradients, kept };
    let loss = trial.loss();
    say(format!("loss {loss:.4} on {} examples", rows.len()));

    let all: Vec<usize> = (0..squares.len()).collect();
    let promise = |set: &[usize], rate: f64| theory::descent(rate, set.iter().map(|&i| squares[i]).sum());
    ensure!(
        promise(&all, 1.0) > 0.0,
        "the gradient of this batch is 0, or no number: there is nothing to foretell"
    );
    let mut rate = 1.0;
    let keeps = |trial: &mut Trial, rate: f64| loss - trial.loss_after(&all, rate) >= promise(&all, rate);
    for _ in 0..HALVINGS {
        if keeps(&mut trial, rate) {
            break;
        }
        rate *= 0.5;
    }
    ensure!(
        keeps(&mut trial, rate),
        "no learning rate down to {rate:.0e} keeps the promise of a step of everything"
    );

    let chosen = sets(&trial.work, &costs, &squares, args.random, recipe.seed);
    let (mut sets, mut too_small) = (Vec::new(), 0);
    for (kind, cut, components) in chosen {
        let promised = promise(&components, rate);
        if promised < MEASURABLE * loss {
            too_small += 1;
            continue;
        }
        let measured = loss - trial.loss_after(&components, rate);
        let flops = rows.len() as f64 * flops_of(&trial.work, &costs, cut, &components);
        sets.push(Set { kind, components, cut, flops, promised, measured });
    }
    let by_flop = |of: fn(&Set) -> f64| sets.iter().map(|set| of(set) / set.flops).collect::<Vec<f64>>();
    let rank_correlation = rank_correlation(&by_flop(|set| set.promised), &by_flop(|set| set.measured));
    let broken = sets.iter().filter(|set| set.measured < set.promised).count();
    let components = trial.work.components.iter().map(|component| component.name.clone()).collect();
    Ok(Report { components, examples: rows.len(), loss, rate, rank_correlation, broken, too_small, sets })
}

/// FLOPs of a step of one example, forward from the inputs on.
fn flops_of(work: &Workload, costs: &Costs, cut: usize, set: &[usize]) -> f64 {
    let component = |&i: &usize| costs.component_at(i, work.components[i].depth, cut);
    costs.prefix[cut] + costs.cut[cut] + set.iter().map(component).sum::<f64>()
}

/// Kind, cut and components of each set.
fn sets(
    work: &Workload,
    costs: &Costs,
    squares: &[f64],
    random: usize,
    seed: u64,
) -> Vec<(&'static str, usize, Vec<usize>)> {
    let depth = |i: usize| work.components[i].depth;
    let reach = |cut: usize| (0..squares.len()).filter(move |&i| depth(i) >= cut).collect::<Vec<usize>>();
    let lowest = |set: &[usize]| set.iter().map(|&i| depth(i)).min().unwrap_or(0);
    let densest = (0..costs.cut.len()).map(|cut| {
        let reached = reach(cut);
        let gains: Vec<f64> = reached.iter().map(|&i| squares[i]).collect();
        let prices: Vec<f64> = reached.iter().map(|&i| costs.component_at(i, depth(i), cut)).collect();
        let (set, ratio) = theory::best_ratio(&gains, &prices, costs.prefix[cut] + costs.cut[cut]);
        (cut, set.into_iter().map(|i| reached[i]).collect::<Vec<usize>>(), ratio)
    });
    let densest = densest.max_by(|a, b| a.2.total_cmp(&b.2));
    let mut sets = vec![("everything", 0, reach(0))];
    sets.extend(densest.map(|(cut, set, _)| ("densest", cut, set)));
    sets.extend((0..squares.len()).map(|i| ("one", depth(i), vec![i])));
    let mut random_numbers = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..random {
        let (cut, chance) = (random_numbers.random_range(0..costs.cut.len()), random_numbers.random::<f64>());
        let set: Vec<usize> =
            reach(cut).into_iter().filter(|_| random_numbers.random::<f64>() < chance).collect();
        if !set.is_empty() {
            sets.push(("random", lowest(&set), set));
        }
    }
    sets
}
