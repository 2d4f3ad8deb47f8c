//! Where the time of a run goes. What is measured here decides nothing.

use std::time::{Duration, Instant};

use crate::process;

/// Where the time goes.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) train: Duration,
    /// What the processor spent on training; zero where the system does not tell.
    pub(super) processor: Duration,
    pub(super) probe: Duration,
    pub(super) eval: Duration,
}

impl Clock {
    /// Adds what training took since then.
    pub(super) fn trained(&mut self, (begun, processor): (Instant, Duration)) {
        self.train += begun.elapsed();
        self.processor += process::processor_time().saturating_sub(processor);
    }
}
