//! Looks at fixed intervals, for methods that make a new plan of each.

use rgft_core::rank_correlation;

use super::{MapReport, ProbeRequest, Standing};

/// When looks are due, and what the last one showed.
pub(super) struct Looks {
    batches: usize,
    /// Steps between looks.
    interval: usize,
    /// Examples of a step.
    batch: usize,
    next: usize,
    plan_is_due: bool,
    /// The step before which the last look was taken.
    step: Option<usize>,
    report: Option<MapReport>,
}

impl Looks {
    /// At `batches` batches, every `interval` steps of `batch` examples.
    pub(super) fn new(batches: usize, interval: usize, batch: usize) -> Self {
        Self { batches, interval, batch, next: 0, plan_is_due: true, step: None, report: None }
    }

    /// A look, if it is due and leaves enough for a step that costs `step` FLOPs per example.
    pub(super) fn request(&self, standing: &Standing, step: f64) -> Option<ProbeRequest> {
        let batch = self.batch as f64;
        let flops = standing.left - batch * step;
        let is_affordable = flops > self.batches as f64 * batch * standing.look;
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
        (self.next, self.plan_is_due, self.step) = (step + self.interval, true, step.checked_sub(1));
        self.report.clone()
    }

    /// Whether there was a look since this was last asked, or it never was.
    pub(super) fn plan_is_due(&mut self) -> bool {
        std::mem::take(&mut self.plan_is_due)
    }

    pub(super) fn report(&self) -> Option<&MapReport> {
        self.report.as_ref()
    }

    /// As [`super::Method::map`].
    pub(super) fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        Some((self.step, self.report.as_ref()?.energies.clone()))
    }
}
