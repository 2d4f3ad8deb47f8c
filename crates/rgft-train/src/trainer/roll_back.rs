//! Back to the best weights when the loss spikes or is no number any more, at half the learning rate.

use rgft_core::{Event, Level};

use super::Trainer;
use crate::TrainError;

/// How often a run may still go back, and how often it did.
pub(super) struct RollBack {
    left: usize,
    done: i32,
    /// Weights that the run began with, of what was changed before the first validation.
    beginning: Vec<(usize, Vec<f32>)>,
}

impl RollBack {
    pub(super) fn new(times: usize) -> Self {
        Self { left: times, done: 0, beginning: Vec::new() }
    }

    /// Keeps the weights that parameter `i` has before it is changed, if the run may ever want them.
    pub(super) fn begin_with(&mut self, i: usize, data: impl FnOnce() -> Vec<f32>) {
        if self.left > 0 {
            self.beginning.push((i, data()));
        }
    }

    /// There are better weights to go back to.
    pub(super) fn forget_beginning(&mut self) {
        self.beginning = Vec::new();
    }

    /// What the learning rate is multiplied by.
    pub(super) fn rate_factor(&self) -> f64 {
        0.5f64.powi(self.done)
    }
}

impl Trainer<'_> {
    /// Takes the run back after `loss` at step `step`, if it still may. What was spent stays spent.
    pub(super) fn goes_back(&mut self, step: usize, loss: f64) -> Result<bool, TrainError> {
        if self.roll_back.left == 0 {
            return Ok(false);
        }
        self.roll_back.left -= 1;
        self.roll_back.done += 1;
        let good = self.best.as_ref().map_or(&self.roll_back.beginning, |best| &best.weights);
        let parameters = self.work.model.parameters_mut();
        good.iter().for_each(|(i, data)| parameters[*i].data.copy_from_slice(data));
        // Moments and stored states are those of weights that are gone.
        self.optimizer.forget();
        self.engine.take_statistics();
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
        self.guard.went_back();
        let message = format!(
            "step {step}: loss {loss:.4}, a spike or with a gradient that is no number; back to the {} weights, the learning rate halved ({} more times are allowed)",
            if self.best.is_some() { "best" } else { "first" },
            self.roll_back.left
        );
        self.emit(&Event::Note { level: Level::Warning, message })?;
        Ok(true)
    }
}
