//! A fault: one component with the numbers that it would start from, were the model not trained. So each layer's own
//! initialisation decides how large they are. Running statistics stay as they are: they are part of no component.

use rgft_core::{Axis, Component};
use rgft_nn::NnError;
use rgft_nn::models::{self, HeadRequest, Model};
use rgft_train::recipe::Recipe;

/// The same model, untrained.
pub(super) struct Twin(Model);

impl Twin {
    /// # Errors
    /// Those of building the model, of which there should be none.
    pub(super) fn new(recipe: &Recipe, model: &Model, outputs: usize, seed: u64) -> Result<Self, NnError> {
        let request = HeadRequest { outputs: Some(outputs), seed, random: true, ..HeadRequest::default() };
        models::build(&recipe.model, model.config().clone(), &request).map(Self)
    }

    /// Gives `component` of `model` the twin's numbers.
    pub(super) fn plant(&self, model: &mut Model, component: &Component) {
        for slice in &component.slices {
            let from = &self.0.parameters()[slice.parameter];
            let cols = from.cols();
            let to = &mut model.parameters_mut()[slice.parameter];
            match slice.axis {
                Axis::Rows => {
                    let scalars = slice.range.start * cols..slice.range.end * cols;
                    to.data[scalars.clone()].copy_from_slice(&from.data[scalars]);
                }
                Axis::Cols => {
                    for (to, from) in to.data.chunks_exact_mut(cols).zip(from.data.chunks_exact(cols)) {
                        to[slice.range.clone()].copy_from_slice(&from[slice.range.clone()]);
                    }
                }
            }
        }
    }
}
