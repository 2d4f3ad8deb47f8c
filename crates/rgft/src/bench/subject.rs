//! A model and a batch, on which the forward pass and training steps are timed, kernel by kernel.

use std::time::{Duration, Instant};

use anyhow::Result;
use rgft_core::{Component, Inputs, Slices};
use rgft_kernels::{Precision, Timed, Timings};
use rgft_nn::models::{self, Grain, Model};
use rgft_nn::{Blind, Engine, Flops, Gradients, Mode, Needs, Tape};
use rgft_train::recipe::{RawRecipe, Recipe};
use rgft_train::{Optimizer, StepSize};
use serde::Serialize;

use super::peak::Peak;
use super::{Patience, Seconds, seconds};

/// A model, its components, and a batch.
pub(crate) struct Subject {
    pub(crate) model: Model,
    pub(crate) components: Vec<Component>,
    pub(crate) inputs: Inputs,
    /// A label of each example.
    targets: Vec<u32>,
    engine: Engine,
    timings: Timings,
    recipe: Recipe,
}

/// What a step updates.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) cut: usize,
    /// Indices of components.
    pub(crate) active: Vec<usize>,
}

/// What a forward pass or a step took.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: Seconds,
    /// Of products.
    pub(crate) products_gflop: f64,
    /// Of the optimizer.
    pub(crate) update_gflop: f64,
    /// Of what forward saves for backward.
    pub(crate) saved_megabytes: f64,
    /// Where the time goes, the longest first.
    pub(crate) kernels: Vec<KernelTime>,
}

/// What the calls of one kernel took, in one pass or step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KernelTime {
    pub(crate) kernel: &'static str,
    pub(crate) calls: f64,
    pub(crate) milliseconds: f64,
    pub(crate) megabytes: f64,
}

impl KernelTime {
    /// Whether the floor takes its time from its FLOPs.
    fn is_product(&self) -> bool {
        ["gemm", "conv", "attention", "lstm_forward", "lstm_backward"]
            .iter()
            .any(|name| self.kernel.starts_with(name))
    }
}

impl Measured {
    pub(crate) fn gflop(&self) -> f64 {
        self.products_gflop + self.update_gflop
    }

    /// Of the operands of all kernels whose time the floor takes from them.
    pub(crate) fn passed_megabytes(&self) -> f64 {
        self.kernels.iter().filter(|kernel| !kernel.is_product()).map(|kernel| kernel.megabytes).sum()
    }

    /// In milliseconds.
    pub(crate) fn floor(&self, peak: Peak, precision: Precision) -> f64 {
        peak.floor(precision, self.products_gflop, self.passed_megabytes())
    }
}

impl Subject {
    /// `outputs` is how many labels there are.
    pub(crate) fn new(model: Model, inputs: Inputs, outputs: usize, precision: Precision) -> Result<Self> {
        let raw = [("model", "."), ("data", "."), ("task", "text-classification")];
        let mut recipe = RawRecipe::default();
        raw.iter().try_for_each(|(key, value)| recipe.set(key, value))?;
        let timings = Timings::default();
        let mut engine = Engine::new(precision);
        engine.kernels = Box::new(Timed(timings.clone()));
        Ok(Self {
            components: model.components(Grain::default()),
            targets: (0..inputs.extent().examples() as u32).map(|i| i % outputs as u32).collect(),
            recipe: recipe.check()?,
            model,
            inputs,
            engine,
            timings,
        })
    }

    /// From now on products are computed so, and states are evaluated as predictions make them.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.engine.precision = precision.supported();
        self.engine.set_mode(Mode::Evaluate);
    }

    /// Of everything.
    pub(crate) fn full_step(&self) -> Case {
        Case { what: "full step", cut: 0, active: (0..self.components.len()).collect() }
    }

    /// The forward pass, as predictions make it.
    pub(crate) fn forward(&mut self, patience: Patience) -> Measured {
        let Self { model, inputs, engine, .. } = self;
        let nothing = vec![Needs::default(); model.sites().len()];
        let (mut times, mut all) = (0, Duration::ZERO);
        let taken = seconds(patience, || {
            let begun = Instant::now();
            model.forward(engine, inputs, &nothing, &mut Tape::default());
            all += begun.elapsed();
            times += 1;
        });
        let kernels = kernels(&self.timings, times, all, None);
        let products: Flops = model.products(&inputs.extent(), &nothing).iter().collect();
        let products_gflop = products.total() as f64 / 1e9;
        Measured { seconds: taken, products_gflop, update_gflop: 0.0, saved_megabytes: 0.0, kernels }
    }

    /// A whole training step.
    pub(crate) fn step(&mut self, case: &Case, patience: Patience) -> Measured {
        let Self { model, components, inputs, targets, engine, recipe, .. } = self;
        engine.set_mode(Mode::Train { seed: 0 });
        let update = models::update_of(model.parameters(), components, &case.active);
        debug_assert!(update.iter().any(|slices| *slices != Slices::None));
        let needs = model.needs(&update, case.cut, false);
        let mut gradients = Gradients::new(engine, model.parameters(), &update, &model.tables());
        let mut optimizer = Optimizer::new(recipe, model.parameters(), components);
        let mut sizes = vec![StepSize::default(); components.len()];
        case.active.iter().for_each(|&i| sizes[i] = StepSize { learning_rate: 1e-5, active: true });
        let (mut times, mut saved) = (0, 0);
        let (mut all, mut updating) = (Duration::ZERO, Duration::ZERO);
        let taken = seconds(patience, || {
            let begun = Instant::now();
            gradients.clear();
            let mut tape = Tape::default();
            let mut logits = model.forward(engine, inputs, &needs, &mut tape);
            saved = tape.scalars() * size_of::<f32>();
            engine.kernels.cross_entropy(logits.data_mut(), targets, 1.0);
            let sinks = &mut rgft_nn::layers::Sinks { gradients: &mut gradients, probe: &mut Blind };
            model.backward(engine, inputs, &needs, logits, &mut tape, sinks);
            let carried_back = Instant::now();
            optimizer.step(&*engine.kernels, model.parameters_mut(), &gradients, &sizes, 1.0);
            updating += carried_back.elapsed();
            model.parameters_mut().move_statistics(&engine.take_statistics());
            all += begun.elapsed();
            times += 1;
        });
        let kernels = kernels(&self.timings, times, all, Some(updating));
        let products: Flops = model.products(&inputs.extent(), &needs).iter().collect();
        let scalars: u64 = case.active.iter().map(|&i| components[i].parameters as u64).sum();
        Measured {
            seconds: taken,
            products_gflop: products.total() as f64 / 1e9,
            update_gflop: (rgft_core::ledger::ADAMW_FLOPS * scalars) as f64 / 1e9,
            saved_megabytes: saved as f64 / 1e6,
            kernels,
        }
    }
}

/// What is between the calls of kernels, as if it were one.
const BETWEEN: &str = "(between kernels)";

/// What the kernels took in each of `times` runs, `all` of them together, since the timings were last taken; `updating` is
/// what the optimizer took of that, whose calls run side by side, so that the sum of their times is no time of the run's.
fn kernels(timings: &Timings, times: usize, all: Duration, updating: Option<Duration>) -> Vec<KernelTime> {
    let in_each = |time: Duration| time.as_secs_f64() * 1e3 / times as f64;
    let spent = timings.take().into_iter().map(|(kernel, spent)| KernelTime {
        kernel,
        calls: spent.calls as f64 / times as f64,
        milliseconds: in_each(updating.filter(|_| kernel == "adamw").unwrap_or(spent.time)),
        megabytes: spent.bytes as f64 / 1e6 / times as f64,
    });
    let mut kernels: Vec<KernelTime> = spent.collect();
    let within: f64 = kernels.iter().map(|kernel| kernel.milliseconds).sum();
    let milliseconds = (in_each(all) - within).max(0.0);
    kernels.push(KernelTime { kernel: BETWEEN, calls: 1.0, milliseconds, megabytes: 0.0 });
    kernels.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    kernels
}
