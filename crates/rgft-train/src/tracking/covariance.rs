//! `covariance`: `Ê = ‖AᵀR‖_F / (‖A‖_F·‖R‖_F)`, between a component's output and the output residual. Forward only.
//!
//! For a batch of n examples, `A` `[n, d]` is the mean of the component's output over each example's rows, `R`
//! `[n, outputs]` that of the output residual. A component's output is what it hands on: where it has columns of a linear
//! map, what they read (the context of a head, the activation of a neuron); else what its rows give, side by side: of
//! linear maps and convolutions, norms, and looked-up rows of tables. A group of channels is seen before its batch norm, a
//! gate before its activation, its two shares apart. Between 0 and 1, and 1 for a single example: the larger the batch,
//! the more it means.
//!
//! No `δ` is needed, so it sees below the cut without a backward pass. It is no gradient: `AᵀR` is the gradient of a linear
//! map from the component's output straight to the model's outputs.
//!
//! Cost: forward; `O(T·(in + out))` for the means per site; `2·n·in·out` where rows of a linear map are asked for, since
//! means pass through it (`mean(x)·Wᵀ + b`); and `2·n²·d` per component, because `‖AᵀR‖² = ⟨A·Aᵀ, R·Rᵀ⟩`.
//!
//! Source: the centred form of this ratio is the RV coefficient (Robert and Escoufier 1976), linear CKA (Kornblith et al.,
//! *Similarity of neural network representations revisited*, 2019) with other denominators.

use std::cell::RefCell;
use std::rc::Rc;

use rgft_core::{Axis, Component, Inputs};
use rgft_kernels::Mat;
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Engine, Observer, Pass, Passed, Tape, Tensor};

use super::ownership::Ownership;
use super::rows_of_examples::{RowsOfExamples, packed};
use super::squared;

/// What passed the sites, one row per example.
struct Means {
    rows: RowsOfExamples,
    seen: Vec<(usize, Mean)>,
}

enum Mean {
    /// Of a linear map's input.
    Input(Tensor),
    Output(Tensor),
    /// Which rows of a table each example looked up.
    Rows(Vec<Vec<u32>>),
}

impl Means {
    fn of(&self, engine: &Engine, x: &Tensor) -> Tensor {
        let repacked = packed(engine, x);
        let x = repacked.as_ref().unwrap_or(x);
        let mut means = engine.zeros(self.rows.examples(), x.cols());
        let parts = self.rows.among(x.rows()).into_iter().zip(means.data_mut().chunks_exact_mut(x.cols()));
        for (part, mean) in parts {
            let scale = 1.0 / part.len().max(1) as f32;
            for row in x.data()[part.start * x.cols()..part.end * x.cols()].chunks_exact(x.cols()) {
                mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += scale * x);
            }
        }
        means
    }
}

impl Observer for Means {
    fn pass(&mut self, engine: &Engine, site: usize, passed: Passed) {
        let mean = match passed {
            Passed::Input(x) => Mean::Input(self.of(engine, x)),
            Passed::Output(y) => Mean::Output(self.of(engine, y)),
            Passed::Rows(ids) => {
                Mean::Rows(self.rows.among(ids.len()).into_iter().map(|part| ids[part].to_vec()).collect())
            }
        };
        self.seen.push((site, mean));
    }
}

/// Energies of one batch. `loss` turns the outputs into the output residual.
pub(super) fn energies(
    components: &[Component],
    ownership: &Ownership,
    engine: &Engine,
    model: &Model,
    inputs: &Inputs,
    loss: impl FnOnce(&mut Tensor) -> f64,
) -> Vec<f64> {
    let means = Rc::new(RefCell::new(Means { rows: RowsOfExamples::new(inputs), seen: Vec::new() }));
    engine.observe(Some(means.clone()));
    let mut outputs = model.forward(engine, inputs, &model.no_needs(), &mut Tape::default());
    engine.observe(None);
    loss(&mut outputs);
    let residual = means.borrow().of(engine, &outputs);
    let seen = std::mem::take(&mut means.borrow_mut().seen);

    let n = residual.rows();
    let product = |site: usize, a: Mat| {
        let mut gram = engine.tensor(n, n);
        engine.product(site, Pass::Tracking, a, a.t(), gram.mat_mut(), false);
        gram
    };
    let last_site = model.sites().len() - 1;
    let of_residual = product(last_site, residual.mat());
    let has_columns: Vec<bool> = components
        .iter()
        .map(|component| component.slices.iter().any(|slice| slice.axis == Axis::Cols))
        .collect();
    // ‖AᵀR‖² and ‖A‖² of each component.
    let (mut aligned, mut sizes) = (vec![0.0; components.len()], vec![0.0; components.len()]);
    for (site, mean) in seen {
        let kind = model.sites()[site].kind;
        let rows_read = ownership.along(kind.weight(), Axis::Rows).any(|slice| !has_columns[slice.component]);
        let output = rows_read.then(|| output_of(engine, model, site, &mean)).flatten();
        for slice in ownership.of(kind.weight()) {
            let whole = match (slice.axis, &mean) {
                (Axis::Cols, Mean::Input(x)) => Some(x),
                (Axis::Rows, Mean::Rows(_)) => output.as_ref(),
                (Axis::Rows, _) if !has_columns[slice.component] => output.as_ref(),
                _ => None,
            };
            let Some(whole) = whole else { continue };
            // Rows of a table are no columns of what it gives.
            let columns = match mean {
                Mean::Rows(_) => 0..whole.cols(),
                _ => slice.range.clone(),
            };
            let gram = product(site, whole.mat().columns(columns));
            aligned[slice.component] += super::dot(gram.data(), of_residual.data());
            sizes[slice.component] += gram.data().iter().step_by(n + 1).map(|d| f64::from(*d)).sum::<f64>();
        }
    }
    let of_residual = squared(residual.data());
    let ratio = |(aligned, size): (f64, f64)| {
        let below = size * of_residual;
        if below > 0.0 { (aligned.max(0.0) / below).sqrt() } else { 0.0 }
    };
    aligned.into_iter().zip(sizes).map(ratio).collect()
}

/// The mean output `[n, out]` of a site.
fn output_of(engine: &Engine, model: &Model, site: usize, mean: &Mean) -> Option<Tensor> {
    let parameters = model.parameters();
    match (mean, model.sites()[site].kind) {
        (Mean::Input(x), SiteKind::Linear { weight, bias }) => {
            let weight = &parameters[weight];
            let mut y = engine.zeros(x.rows(), weight.rows());
            if let Some(bias) = bias {
                engine.kernels.fill_rows(y.data_mut(), &parameters[bias].data);
            }
            let w = Mat::new(&weight.data, weight.rows(), weight.cols());
            engine.product(site, Pass::Tracking, x.mat(), w.t(), y.mat_mut(), true);
            Some(y)
        }
        (Mean::Rows(ids), SiteKind::Embedding { weight }) => {
            let table = &parameters[weight];
            let mut y = engine.zeros(ids.len(), table.cols());
            for (ids, y) in ids.iter().zip(y.data_mut().chunks_exact_mut(table.cols())) {
                let scale = 1.0 / ids.len().max(1) as f32;
                for &id in ids {
                    let row = &table.data[id as usize * table.cols()..][..table.cols()];
                    y.iter_mut().zip(row).for_each(|(y, x)| *y += scale * x);
                }
            }
            Some(y)
        }
        (Mean::Output(y), _) => {
            let mut copy = engine.tensor(y.rows(), y.cols());
            copy.data_mut().copy_from_slice(y.data());
            Some(copy)
        }
        _ => None,
    }
}
