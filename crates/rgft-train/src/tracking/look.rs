//! One look at one batch: what the backward pass shows of each site, read by the signal.

use std::collections::HashMap;
use std::ops::Range;

use rgft_core::{Axis, Inputs, Signal};
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Activation, Engine, Pass, Probe, Tensor};

use super::coherent::Agreement;
use super::ownership::{Owned, Ownership};
use super::rows_of_examples::RowsOfExamples;
use super::{absolute, exact, reads_dw, taylor};

pub(super) struct Look<'a> {
    pub(super) signal: Signal,
    pub(super) ownership: &'a Ownership,
    pub(super) model: &'a Model,
    pub(super) rows: RowsOfExamples,
    draw: u64,
    /// Of `coherent`: what the batches before had.
    pub(super) agreement: &'a mut Agreement,
    /// Sums by component; for `taylor`, signed.
    pub(super) energies: Vec<f64>,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        signal: Signal,
        ownership: &'a Ownership,
        model: &'a Model,
        inputs: &Inputs,
        draw: u64,
        agreement: &'a mut Agreement,
    ) -> Self {
        let energies = vec![0.0; ownership.components()];
        Self { signal, ownership, model, rows: RowsOfExamples::new(inputs), draw, agreement, energies }
    }

    /// Adds `energy(i, slice)` for each slice of `parameter` along `axis`, `i` counting them.
    pub(super) fn add(&mut self, parameter: usize, axis: Axis, mut energy: impl FnMut(usize, &Owned) -> f64) {
        for (i, slice) in self.ownership.along(parameter, axis).enumerate() {
            self.energies[slice.component] += energy(i, slice);
        }
    }

    /// Signs of site `site` in this batch, `[out]`.
    pub(super) fn signs(&self, site: usize, n: usize) -> Vec<f32> {
        let seed = (self.draw ^ (self.draw >> 32)) as u32 ^ (site as u32).wrapping_mul(0x85eb_ca6b);
        let sign = |i| if rgft_kernels::cpu::scalar::hash(seed, i) & 1 == 0 { 1.0 } else { -1.0 };
        (0..n as u32).map(sign).collect()
    }

    /// Adds what the signal reads off the gradient of rows `first..` of a parameter, as many as it holds.
    pub(super) fn gradient(&mut self, parameter: usize, gradient: &[f32], first: usize) {
        let weight = &self.model.parameters()[parameter];
        let signal = self.signal;
        if signal == Signal::Coherent {
            self.agreement.add(self.ownership, parameter, weight.cols(), gradient, first);
            return;
        }
        for slice in self.ownership.of(parameter) {
            self.energies[slice.component] += match signal {
                Signal::Taylor => taylor::of_slice(slice, weight.cols(), &weight.data, gradient, first),
                Signal::Absolute => absolute::of_slice(slice, weight.cols(), gradient, first),
                _ => exact::of_slice(slice, weight.cols(), gradient, first),
            };
        }
    }

    /// Column sums of `δ`, or of `δ·factor`, of some rows, as the gradient of a vector.
    fn vector(&mut self, engine: &Engine, parameter: usize, delta: &Tensor, factor: Option<&Tensor>) {
        let cols = delta.cols();
        let parts = match self.signal {
            Signal::Fisher => self.rows.among(delta.rows()),
            _ => std::iter::once(0..delta.rows()).collect(),
        };
        let mut sums = vec![0.0; cols];
        for part in parts {
            let scalars = part.start * cols..part.end * cols;
            sums.fill(0.0);
            let factor = factor.map(|factor| &factor.data()[scalars.clone()]);
            let columns = 0..cols;
            let whole = std::slice::from_ref(&columns);
            engine.kernels.add_column_sums(&delta.data()[scalars], factor, cols, whole, &mut sums);
            self.gradient(parameter, &sums, 0);
        }
    }

    fn embedding(&mut self, engine: &Engine, table: usize, ids: &[u32], delta: &Tensor) {
        let cols = delta.cols();
        let parts = match self.signal {
            Signal::Fisher => self.rows.among(delta.rows()),
            _ => std::iter::once(0..delta.rows()).collect(),
        };
        for part in parts {
            let mut slot_of = HashMap::new();
            let mut looked_up = Vec::new();
            let slots: Vec<u32> = ids[part.clone()]
                .iter()
                .map(|&id| {
                    *slot_of.entry(id).or_insert_with(|| {
                        looked_up.push(id as usize);
                        looked_up.len() as u32 - 1
                    })
                })
                .collect();
            let mut sums = vec![0.0; looked_up.len() * cols];
            let own = &delta.data()[part.start * cols..part.end * cols];
            engine.kernels.scatter_add(own, cols, &slots, &mut sums);
            for (row, sum) in looked_up.into_iter().zip(sums.chunks_exact(cols)) {
                self.gradient(table, sum, row);
            }
        }
    }

    /// dW `[out, in]`.
    pub(super) fn weight_gradient(engine: &Engine, site: usize, a: &Tensor, delta: &Tensor) -> Tensor {
        let mut dw = engine.tensor(delta.cols(), a.cols());
        engine.product(site, Pass::Tracking, delta.mat().t(), a.mat(), dw.mat_mut(), false);
        dw
    }

    fn linear(&mut self, engine: &Engine, site: usize, weight: usize, a: &Tensor, delta: &Tensor) {
        match self.signal {
            Signal::Gram => self.gram(engine, weight, a, delta),
            signal if reads_dw(signal) => {
                let dw = Self::weight_gradient(engine, site, a, delta);
                self.gradient(weight, dw.data(), 0);
            }
            Signal::Fisher => self.fisher(engine, site, weight, a, delta),
            _ => self.sketch(engine, site, weight, a, delta),
        }
    }
}

impl Probe for Look<'_> {
    fn see(&mut self, engine: &Engine, site: usize, input: Activation, delta: &Tensor) {
        // A site is shown what its kind takes in.
        match (self.model.sites()[site].kind, input) {
            (SiteKind::Linear { weight, bias }, Activation::Dense(a)) => {
                let by_example = self.signal == Signal::Fisher;
                let packed = |x| if by_example { super::rows_of_examples::packed(engine, x) } else { None };
                let (own_a, own_delta) = (packed(a), packed(delta));
                let (a, delta) = (own_a.as_ref().unwrap_or(a), own_delta.as_ref().unwrap_or(delta));
                if let Some(bias) = bias {
                    self.vector(engine, bias, delta, None);
                }
                self.linear(engine, site, weight, a, delta);
            }
            (SiteKind::Norm { weight, bias }, Activation::Dense(normalised)) => {
                self.vector(engine, weight, delta, Some(normalised));
                if let Some(bias) = bias {
                    self.vector(engine, bias, delta, None);
                }
            }
            (SiteKind::Embedding { weight }, Activation::Rows(ids)) => {
                self.embedding(engine, weight, ids, delta);
            }
            (SiteKind::Conv { weight, bias }, Activation::Maps { x, shape }) => {
                if let Some(bias) = bias {
                    self.vector(engine, bias, delta, None);
                }
                self.conv(engine, site, weight, (shape, x), delta);
            }
            _ => {}
        }
    }
}

/// The rows of `range` that rows `first..first + n` hold, counted from `first`.
pub(super) fn held(range: &Range<usize>, first: usize, n: usize) -> Range<usize> {
    let start = range.start.clamp(first, first + n);
    start - first..range.end.clamp(start, first + n) - first
}
