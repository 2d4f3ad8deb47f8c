//! Windows of series as sequences of rows for a recurrent layer: `patch` steps a row, in each window's own units where
//! asked for (reversible instance norm). It has no parameters; nothing is carried back into it.

use rgft_core::{Extent, Inputs, Slices};

use super::series_stem::{InstanceNorm, series};
use super::{Context, Part, Sinks, Stem};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Cuts windows into rows.
#[derive(Clone, Debug)]
pub struct WindowStem {
    /// Steps of a window.
    pub context: usize,
    /// Steps of a row; it divides `context`.
    pub patch: usize,
    /// Units of the window's own, where it is to be seen so.
    pub instance_norm: Option<InstanceNorm>,
}

impl Stem for WindowStem {
    /// `[windows · context / patch, patch]`.
    fn forward(&self, cx: Context, inputs: &Inputs, _: &mut Tape) -> Tensor {
        let series = series(inputs);
        let (rows, cols) = (series.values.len() / self.patch, self.patch);
        if let Some(norm) = self.instance_norm {
            return norm.normalised(cx, series).reshaped(rows, cols);
        }
        let mut x = cx.engine.tensor(rows, cols);
        x.data_mut().copy_from_slice(&series.values);
        x
    }

    fn backward(&self, _: Context, _: &Inputs, _: Tensor, _: &mut Tape, _: &mut Sinks) {}

    fn products(&self, _: &[Needs], _: &Extent, _: &mut Vec<Product>) {}

    fn set_needs(&self, _: &mut [Needs], _: &[Slices], _: bool) {}

    fn parts(&self, _: &Parameters, _: Grain) -> Vec<Part> {
        Vec::new()
    }

    fn extent(&self, entering: &Extent) -> Extent {
        Extent::Sequences(super::lengths(entering).iter().map(|steps| steps / self.patch).collect())
    }

    fn check(&self, _: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Series(series) = inputs else {
            return Err(NnError::Inputs { expected: "windows of series" });
        };
        if series.steps == self.context && series.values.len().is_multiple_of(series.steps) {
            return Ok(());
        }
        Err(NnError::Context { found: series.steps, expected: self.context })
    }
}
