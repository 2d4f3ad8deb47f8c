//! A fault: one component with the numbers that it would start from, were the model not trained, each of its slices as
//! large as it was: `‖θ‖` alone must not give the fault away. What would start from zeros is zero. Running statistics
//! stay as they are: they are part of no component.

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
            let (from, to) =
                (&self.0.parameters()[slice.parameter], &mut model.parameters_mut()[slice.parameter]);
            let cols = from.cols();
            let (rows, range) = match slice.axis {
                Axis::Rows => (slice.range.clone(), 0..cols),
                Axis::Cols => (0..from.data.len() / cols.max(1), slice.range.clone()),
            };
            let runs = |row: usize| row * cols + range.start..row * cols + range.end;
            let norm = |data: &[f32]| {
                let squares = rows.clone().flat_map(|row| &data[runs(row)]).map(|x| f64::from(*x).powi(2));
                squares.sum::<f64>().sqrt()
            };
            let new = norm(&from.data);
            let scale = if new > 0.0 { (norm(&to.data) / new) as f32 } else { 0.0 };
            for row in rows {
                let pairs = to.data[runs(row)].iter_mut().zip(&from.data[runs(row)]);
                pairs.for_each(|(to, from)| *to = scale * from);
            }
        }
    }
}
