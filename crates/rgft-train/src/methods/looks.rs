//! Looks at fixed intervals, for methods that make a new plan of each.

use rgft_core::rank_correlation;

use super::{MapReport, ProbeRequest, Standing};
use crate::Workload;
use crate::recipe::Recipe;

/// Steps of an epoch.
pub(super) fn epoch(recipe: &Recipe, work: &Workload) -> usize {
    work.train.len().div_ceil(recipe.batch_size * recipe.accumulation).max(1)
}

/// When looks are due, and what the last one showed.
pub(super) struct Looks {
    batches: usize,
    /// Steps between looks.
    interval: usize,
    /// Examples of a batch.
    batch: usize,
    /// Examples of a step.
    step: usize,
    next: usize,
    plan_is_due: bool,
    report: Option<MapReport>,
}

impl Looks {
    /// At `batches` batches, every `interval` steps.
    pub(super) fn new(batches: usize, interval: usize, recipe: &Recipe) -> Self {
        let (batch, step) = (recipe.batch_size, recipe.batch_size * recipe.accumulation);
        Self { batches, interval, batch, step, next: 0, plan_is_due: true, report: None }
    }

    /// A look, if it is due and leaves enough for a step that costs `step` FLOPs per example.
    pub(super) fn request(&self, standing: &Standing, step: f64) -> Option<ProbeRequest> {
        let flops = standing.left - self.step as f64 * step;
        let is_affordable = flops > (self.batches * self.batch) as f64 * standing.look;
        let request = ProbeRequest { batches: self.batches, examples: usize::MAX, flops };
        (standing.step >= self.next && is_affordable).then_some(request)
    }

    /// Takes what a look before `step` showed of each component.
    pub(super) fn take(&mut self, step: usize, energies: Vec<f64>) -> Option<MapReport> {
        let sum = energies.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let before = self.report.take();
        self.report = Some(MapReport {
            shares: energies.iter().map(|energy| energy / sum).collect(),
            rank_correlation: before.map(|before| rank_correlation(&before.energies, &energies)),
            energies,
            next_interval: self.interval,
        });
        (self.next, self.plan_is_due) = (step + self.interval, true);
        self.report.clone()
    }

    /// Whether there was a look since this was last asked, or it never was.
    pub(super) fn plan_is_due(&mut self) -> bool {
        std::mem::take(&mut self.plan_is_due)
    }

    pub(super) fn report(&self) -> Option<&MapReport> {
        self.report.as_ref()
    }
}
