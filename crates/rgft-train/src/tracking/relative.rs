//! `relative`: `Ê = sketch / ‖θ‖²` (`sketch.rs`), θ being all of the component's scalars as they are at the look.
//!
//! Weights whose mean square is below 1e-8 count as this large, so that what starts at zero does not take the whole
//! share. The scaling α applies to this signal as to any other: alone it is meant with `alpha = "uniform"`. The same
//! ratio comes from `signal = "sketch"` with `alpha = "relative"`, where the map averages before it divides.
//!
//! Cost: that of `sketch`, and one pass over the weights per batch.
//!
//! Source: the relative gradient norm of Auto-RGN (Lee et al., *Surgical fine-tuning improves adaptation to distribution
//! shifts*, 2023), squared.

use rgft_core::{Axis, Component};
use rgft_nn::models::Model;

use super::squared;

const LEAST_MEAN_SQUARE: f64 = 1e-8;

/// Divides each component's energy by its `‖θ‖²`.
pub(super) fn divide(energies: &mut [f64], model: &Model, components: &[Component]) {
    let norms = squared_norms(model, components);
    for ((energy, norm), component) in energies.iter_mut().zip(norms).zip(components) {
        *energy /= norm.max(LEAST_MEAN_SQUARE * component.parameters.max(1) as f64);
    }
}

/// `‖θ_i‖²` of each component.
pub fn squared_norms(model: &Model, components: &[Component]) -> Vec<f64> {
    let norm = |slice: &rgft_core::Slice| {
        let parameter = &model.parameters()[slice.parameter];
        let cols = parameter.cols();
        match slice.axis {
            Axis::Rows => squared(&parameter.data[slice.range.start * cols..slice.range.end * cols]),
            Axis::Cols => {
                parameter.data.chunks_exact(cols).map(|row| squared(&row[slice.range.clone()])).sum()
            }
        }
    };
    components.iter().map(|component| component.slices.iter().map(norm).sum()).collect()
}
