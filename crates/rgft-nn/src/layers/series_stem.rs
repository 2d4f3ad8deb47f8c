//! Windows of series `[windows, steps]` to tokens (PatchTST, Nie et al. 2023): each window in units of its own (see
//! `rgft_kernels::cpu::instance_norm`), cut into patches that go through a [`PatchEmbedding`].

use rgft_core::{Extent, Inputs, Series, Slices};

use super::patch_embedding::PatchEmbedding;
use super::{Context, Part, Sinks, Stem};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Patches of windows of one length.
#[derive(Clone, Debug)]
pub struct SeriesStem {
    /// Patches to tokens.
    pub embedding: PatchEmbedding,
    /// Steps of a window.
    pub context: usize,
    /// Steps of a patch.
    pub patch: usize,
    /// Steps from one patch to the next.
    pub stride: usize,
    /// Units of the window's own, where it is to be seen so.
    pub instance_norm: Option<InstanceNorm>,
}

/// Reversible norm of each window by its own mean and deviation. It owns no parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNorm {
    /// ε, added to the variance.
    pub epsilon: f32,
}

/// The windows of inputs that a stem has checked.
///
/// # Panics
/// If they are none.
pub(crate) fn series(inputs: &Inputs) -> &Series {
    match inputs {
        Inputs::Series(series) => series,
        _ => panic!("inputs were checked to be series"),
    }
}

impl InstanceNorm {
    /// Mean and deviation of each window, `[windows, 2]`.
    pub fn units(&self, cx: Context, series: &Series) -> Tensor {
        let mut units = cx.engine.tensor(series.values.len() / series.steps, 2);
        cx.engine.kernels.instance_units(&series.values, series.steps, self.epsilon, units.data_mut());
        units
    }

    /// The windows in units of their own, `[windows, steps]`.
    pub fn normalised(&self, cx: Context, series: &Series) -> Tensor {
        let units = self.units(cx, series);
        let mut x = cx.engine.tensor(units.rows(), series.steps);
        x.data_mut().copy_from_slice(&series.values);
        cx.engine.kernels.instance_norm(x.data_mut(), series.steps, units.data());
        x
    }

    /// Forecasts `[windows, horizon]` back in the units of the windows that the batch reads; for a residual
    /// (`slopes_only`), the other way of the same.
    ///
    /// # Panics
    /// If the batch reads no series.
    pub fn reverse(&self, cx: Context, y: &mut Tensor, slopes_only: bool) {
        let units = self.units(cx, series(cx.inputs.expect("a forecast reads series")));
        let horizon = y.cols();
        cx.engine.kernels.instance_denorm(y.data_mut(), horizon, units.data(), slopes_only);
    }
}

impl Stem for SeriesStem {
    /// `[windows · patches, hidden]`.
    fn forward(&self, cx: Context, inputs: &Inputs, tape: &mut Tape) -> Tensor {
        let series = series(inputs);
        let rows = series.values.len() / series.steps * self.embedding.patches();
        let mut patches = cx.engine.tensor(rows, self.patch);
        let own = self.instance_norm.map(|norm| norm.normalised(cx, series));
        let windows = own.as_ref().map_or(&series.values[..], Tensor::data);
        let (out, steps) = (patches.data_mut(), series.steps);
        cx.engine.kernels.series_patches(windows, steps, self.patch, self.stride, out);
        self.embedding.forward(cx, patches, tape)
    }

    fn backward(&self, cx: Context, _: &Inputs, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) {
        self.embedding.backward(cx, dy, tape, sinks);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.embedding.products(needs, extent.examples(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], observe: bool) {
        self.embedding.set_needs(needs, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        self.embedding.parts(parameters)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        Extent::Sequences(vec![self.embedding.tokens; entering.examples()])
    }

    fn check(&self, _: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Series(series) = inputs else { return Err(NnError::Inputs { expected: "series" }) };
        if series.steps != self.context {
            return Err(NnError::Context { found: series.steps, expected: self.context });
        }
        Ok(())
    }
}
