//! The head of a forecaster (PatchTST, Nie et al. 2023): all tokens of a window end to end, dropped out, then a linear map
//! to the horizon, whose result goes back to the window's units.
//!
//! `y = σ·(x·Wᵀ + b) + μ`, `x` `[windows, tokens · hidden]`, so the map's `δ` is `σ·δ_y`.

use rgft_core::{Extent, Slices};

use super::head::{head_part, row_per_example, set_head_needs};
use super::linear::Linear;
use super::series_stem::InstanceNorm;
use super::{Block, Context, Part, Sinks};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Tokens to a forecast.
#[derive(Clone, Debug)]
pub struct ForecastHead {
    /// W `[horizon, tokens · hidden]`, b.
    pub map: Linear,
    /// How windows were normalised by the stem.
    pub instance_norm: Option<InstanceNorm>,
    /// Probability of dropping an element of the map's input.
    pub dropout: f32,
}

impl Block for ForecastHead {
    /// `x` `[windows · tokens, hidden]` → `[windows, horizon]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let mut x = x.reshaped(cx.extent.examples(), self.map.input);
        if let Some(dropout) = cx.engine.dropout(self.map.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
        let mut y = self.map.forward(cx, &x);
        self.map.save_input(cx, x, tape);
        if let Some(norm) = self.instance_norm {
            norm.reverse(cx, &mut y, false);
        }
        y
    }

    fn backward(&self, cx: Context, residual: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let x = self.map.saved_input(cx, tape);
        if cx.needs[self.map.site].is_empty() {
            return None;
        }
        let mut delta = residual;
        if let Some(norm) = self.instance_norm {
            norm.reverse(cx, &mut delta, true);
        }
        self.map.backward_parameters(cx, x.as_ref(), &delta, sinks);
        let mut dx = self.map.backward_input(cx, &delta)?;
        if let Some(dropout) = cx.engine.dropout(self.map.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, dx.data_mut());
        }
        let rows = cx.extent.rows();
        Some(dx.reshaped(rows, cx.extent.examples() * self.map.input / rows))
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.map.products(&needs[self.map.site], extent.examples(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        set_head_needs(&self.map, needs, below, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        head_part(&self.map, parameters)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        row_per_example(entering)
    }
}
