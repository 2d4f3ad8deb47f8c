//! RMS norm: `y = γ·x/√(mean x² + ε)` (see `rgft_kernels::cpu::rms_norm`). Backward: `dγ = Σ dy·ẑ`, and dx.

use super::{Context, Sinks};
use crate::probe::{Activation, Passed};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// An RMS norm.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Its site.
    pub site: usize,
    /// Parameter index of γ.
    pub weight: usize,
    /// Width.
    pub width: usize,
    /// ε.
    pub epsilon: f32,
}

impl RmsNorm {
    fn saves(&self, cx: Context) -> bool {
        !cx.needs[self.site].is_empty()
    }

    /// `x`, `y` `[rows, width]`.
    pub fn forward(&self, cx: Context, x: &Tensor, tape: &mut Tape) -> Tensor {
        let (rows, weight) = (x.rows(), cx.parameters.data(self.weight));
        let mut y = cx.engine.tensor(rows, self.width);
        if self.saves(cx) {
            let (mut normalised, mut scales) =
                (cx.engine.tensor(rows, self.width), cx.engine.tensor(rows, 1));
            let saved = Some((normalised.data_mut(), scales.data_mut()));
            cx.engine.kernels.rms_norm(x.data(), weight, self.epsilon, y.data_mut(), saved);
            tape.push(normalised);
            tape.push(scales);
        } else {
            cx.engine.kernels.rms_norm(x.data(), weight, self.epsilon, y.data_mut(), None);
        }
        cx.engine.pass(self.site, Passed::Output(&y));
        y
    }

    /// Accumulates dγ; returns dx `[rows, width]` where something below needs it.
    pub fn backward(
        &self,
        cx: Context,
        mut dy: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> Option<Tensor> {
        let needs = &cx.needs[self.site];
        if !self.saves(cx) {
            return None;
        }
        let (scales, normalised) = (tape.pop(), tape.pop());
        if needs.observe {
            sinks.probe.see(cx.engine, self.site, Activation::Dense(&normalised), &dy);
        }
        if !needs.dw.is_none() {
            let (columns, factor) = (0..self.width, Some(normalised.data()));
            let sums = sinks.gradients.accumulate_cleared(self.weight);
            cx.engine.kernels.add_column_sums(dy.data(), factor, self.width, &[columns], sums.data_mut());
        }
        if needs.dx.is_none() {
            return None;
        }
        let weight = cx.parameters.data(self.weight);
        cx.engine.kernels.rms_norm_backward(weight, normalised.data(), scales.data(), dy.data_mut());
        Some(dy)
    }
}
