//! Post-norm: `y = LN(residual + dropout(projection + b))` with `LN(z) = γ·ẑ + β`, one fused pass
//! (see `rgft_kernels::cpu::norm`).
//!
//! Backward: `dγ = Σ dy·ẑ`, `dβ = Σ dy`, and dz; the branch receives `dropout(dz)`, the residual dz.

use rgft_kernels::cpu::norm::{NormInput, NormWeights};

use super::{Context, Sinks};
use crate::probe::{Activation, Passed};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A layer norm together with the dropout on the branch before it.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Its site.
    pub site: usize,
    /// Parameter index of γ.
    pub weight: usize,
    /// Parameter index of β.
    pub bias: usize,
    /// Width.
    pub width: usize,
    /// ε.
    pub epsilon: f32,
    /// Probability of dropping an element of the branch.
    pub dropout: f32,
}

impl Norm {
    fn saves(&self, cx: Context) -> bool {
        !cx.needs[self.site].is_empty()
    }

    /// `projection` `[rows, width]` without its bias; `bias` is the branch's bias, `residual` what it joins.
    pub fn forward(
        &self,
        cx: Context,
        projection: &Tensor,
        bias: Option<&[f32]>,
        residual: Option<&Tensor>,
        tape: &mut Tape,
    ) -> Tensor {
        let rows = projection.rows();
        let input = NormInput {
            projection: projection.data(),
            bias,
            dropout: cx.engine.dropout(self.site, self.dropout),
            residual: residual.map(Tensor::data),
        };
        let weights = NormWeights {
            weight: cx.parameters.data(self.weight),
            bias: cx.parameters.data(self.bias),
            epsilon: self.epsilon,
        };
        let mut y = cx.engine.tensor(rows, self.width);
        if self.saves(cx) {
            let (mut normalised, mut scales) =
                (cx.engine.tensor(rows, self.width), cx.engine.tensor(rows, 1));
            let saved = Some((normalised.data_mut(), scales.data_mut()));
            cx.engine.kernels.layer_norm(input, weights, y.data_mut(), saved);
            tape.push(normalised);
            tape.push(scales);
        } else {
            cx.engine.kernels.layer_norm(input, weights, y.data_mut(), None);
        }
        cx.engine.pass(self.site, Passed::Output(&y));
        y
    }

    /// Accumulates dγ and dβ; returns dz `[rows, width]` where something below needs it.
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
        let columns = 0..self.width;
        let whole = std::slice::from_ref(&columns);
        if !needs.dw.is_none() {
            let sums = sinks.gradients.accumulate_cleared(self.weight);
            let factor = Some(normalised.data());
            cx.engine.kernels.add_column_sums(dy.data(), factor, self.width, whole, sums.data_mut());
        }
        if !needs.db.is_none() {
            let sums = sinks.gradients.accumulate_cleared(self.bias);
            cx.engine.kernels.add_column_sums(dy.data(), None, self.width, whole, sums.data_mut());
        }
        if needs.dx.is_none() {
            return None;
        }
        let weight = cx.parameters.data(self.weight);
        cx.engine.kernels.layer_norm_backward(weight, normalised.data(), scales.data(), dy.data_mut());
        Some(dy)
    }

    /// What dz means for the branch: `dropout(dz)`, in a new tensor, or `None` where dropout is off and the branch
    /// receives dz itself.
    pub fn branch_delta(&self, cx: Context, dz: &Tensor) -> Option<Tensor> {
        let dropout = cx.engine.dropout(self.site, self.dropout)?;
        let mut branch = cx.engine.tensor(dz.rows(), dz.cols());
        cx.engine.kernels.drop_into(dropout, dz.data(), branch.data_mut());
        Some(branch)
    }
}
