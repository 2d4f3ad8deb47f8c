//! A small net of every registered model, with a linear loss `ℓ = Σ ẑ·G` with a fixed G, so that an example's residual
//! is its own.

use rgft_core::{Component, Images, Inputs, Series, Signal, Tokens};
use rgft_kernels::Precision;
use rgft_nn::models::{Grain, MODELS, Model};
use rgft_nn::{Blind, Engine, Gradients, Tape, Tensor};
use rgft_train::Tracker;

use super::common::scalars_of;
use super::examples;

pub(crate) struct Net {
    pub(crate) name: &'static str,
    pub(crate) model: Model,
    pub(crate) inputs: Inputs,
    pub(crate) components: Vec<Component>,
    /// G `[rows, outputs]`, by example.
    pub(crate) residual: Vec<Vec<f32>>,
}

pub(crate) fn nets() -> Vec<Net> {
    MODELS.iter().map(|(name, ..)| net(name)).collect()
}

pub(crate) fn net(name: &'static str) -> Net {
    let (model, example) = examples::build(name);
    let components = model.components(Grain { neuron_group: 3, ..Grain::default() });
    let inputs = example.inputs;
    let residual_of = |(j, one): (usize, Inputs)| -> Vec<f32> {
        let engine = Engine::new(Precision::F32);
        let outputs = model.forward(&engine, &one, &model.no_needs(), &mut Tape::default());
        (0..outputs.data().len()).map(|i| (1.3 * (i + 50 * j) as f32 + 0.4).sin()).collect()
    };
    let residual = one_by_one(&inputs).into_iter().enumerate().map(residual_of).collect();
    Net { name, model, inputs, components, residual }
}

/// Each example as a batch of its own.
pub(crate) fn one_by_one(inputs: &Inputs) -> Vec<Inputs> {
    match inputs {
        Inputs::Tokens(tokens) => {
            let mut start = 0;
            let one = |&n: &usize| {
                let own = start..start + n;
                start += n;
                let (ids, types) = (tokens.ids[own.clone()].to_vec(), tokens.types[own].to_vec());
                Inputs::Tokens(Tokens { ids, types, lengths: vec![n] })
            };
            tokens.lengths.iter().map(one).collect()
        }
        Inputs::Images(images) => {
            let picture = images.height * images.width * images.channels;
            let one = |pixels: &[f32]| Inputs::Images(Images { pixels: pixels.to_vec(), ..*images });
            images.pixels.chunks_exact(picture).map(one).collect()
        }
        Inputs::Series(series) => {
            let one = |values: &[f32]| Inputs::Series(Series { values: values.to_vec(), ..*series });
            series.values.chunks_exact(series.steps).map(one).collect()
        }
    }
}

impl Net {
    pub(crate) fn energies(&self, signal: Signal, seed: u64, cut: Option<usize>) -> Vec<f64> {
        let engine = Engine::new(Precision::F32);
        let mut tracker = Tracker::new(&self.model, &self.components, signal, 0.9, seed);
        cut.into_iter().for_each(|cut| tracker.set_cut(cut));
        let residual = self.residual.concat();
        tracker.look(&engine, &self.model, &self.inputs, |outputs| put(outputs, &residual));
        tracker.take()
    }

    /// Gradients of each parameter `[rows, cols]`.
    pub(crate) fn gradients(&self, inputs: &Inputs, residual: &[f32]) -> Vec<Vec<f32>> {
        let (engine, parameters) = (Engine::new(Precision::F32), self.model.parameters());
        let everything = parameters.everything();
        let needs = self.model.needs(&everything, 0, false);
        let mut gradients = Gradients::new(&engine, parameters, &everything, &self.model.tables());
        let loss = |outputs: &mut Tensor| put(outputs, residual);
        self.model.forward_backward(&engine, inputs, &needs, &mut gradients, &mut Blind, loss);
        let dense = |i: usize| gradients.dense(i, parameters[i].rows(), parameters[i].cols());
        (0..parameters.len()).map(|i| if everything[i].is_none() { Vec::new() } else { dense(i) }).collect()
    }

    /// Of each component, `of(θ, gradient)` summed over its scalars.
    pub(crate) fn sums(&self, gradients: &[Vec<f32>], of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let parameters = self.model.parameters();
        let of_slice = |slice: &rgft_core::Slice| -> f64 {
            let (weight, gradient) = (&parameters[slice.parameter].data, &gradients[slice.parameter]);
            let scalars = scalars_of(slice, parameters).into_iter();
            scalars.map(|at| of(f64::from(weight[at]), f64::from(gradient[at]))).sum()
        };
        self.components.iter().map(|component| component.slices.iter().map(of_slice).sum()).collect()
    }

    pub(crate) fn all_gradients(&self) -> Vec<Vec<f32>> {
        self.gradients(&self.inputs, &self.residual.concat())
    }

    /// Components whose parameters are those of one site each: squares are not summed over tied embeddings.
    pub(crate) fn untied(&self) -> Vec<bool> {
        let sites = |parameter: usize| {
            self.model.sites().iter().filter(|site| site.kind.weight() == parameter).count()
        };
        let is_untied = |c: &Component| c.slices.iter().all(|slice| sites(slice.parameter) <= 1);
        self.components.iter().map(is_untied).collect()
    }

    pub(crate) fn close(&self, found: &[f64], expected: &[f64], tolerance: f64) {
        let largest = expected.iter().copied().fold(0.0, f64::max);
        for ((component, found), expected) in self.components.iter().zip(found).zip(expected) {
            let off = (found - expected).abs();
            assert!(
                off <= tolerance * expected.max(1e-6 * largest),
                "{}, {}: {found} against {expected}",
                self.name,
                component.name
            );
        }
    }

    /// The mean over many draws lies within five standard errors.
    pub(crate) fn unbiased(&self, signal: Signal, expected: &[f64]) {
        let draws = 200;
        let (mut sum, mut squares) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        for seed in 0..draws {
            for (i, energy) in self.energies(signal, seed, None).into_iter().enumerate() {
                sum[i] += energy;
                squares[i] += energy * energy;
            }
        }
        let n = draws as f64;
        for (i, component) in self.components.iter().enumerate() {
            let mean = sum[i] / n;
            let error = ((squares[i] / n - mean * mean).max(0.0) / n).sqrt();
            assert!(
                (mean - expected[i]).abs() <= 5.0 * error + 1e-4 * expected[i],
                "{}, {}: mean {mean}, expected {}, standard error {error}",
                self.name,
                component.name,
                expected[i]
            );
        }
    }
}

pub(crate) fn put(outputs: &mut Tensor, residual: &[f32]) -> f64 {
    outputs.data_mut().copy_from_slice(residual);
    0.0
}
