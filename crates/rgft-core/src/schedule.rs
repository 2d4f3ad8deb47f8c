//! The learning-rate schedule: a warm-up, then a decay.
//!
//! ```text
//! factor(k) = min((k + 1) / (warmup + 1), decay(k))        left = clip((total − k) / (total − warmup), 0, 1)
//!
//! linear      decay = left
//! cosine      decay = (1 − cos(π · left)) / 2
//! constant    decay = 1
//! ```

use serde::{Deserialize, Serialize};

use crate::words::words;

/// The shape of the decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// A straight line to 0.
    #[default]
    Linear,
    /// Half a cosine to 0.
    Cosine,
    /// None.
    Constant,
}

words!(ScheduleKind, "schedule", {
    "linear" => ScheduleKind::Linear,
    "cosine" => ScheduleKind::Cosine,
    "constant" => ScheduleKind::Constant,
});

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape of the decay.
    pub kind: ScheduleKind,
    /// Steps of warm-up; may be fractional, a ratio of `total_steps`.
    pub warmup_steps: f64,
    /// Steps of the run.
    pub total_steps: usize,
}

impl Schedule {
    /// The factor on the learning rate at `step`, which counts from 0. Between 0 and 1, and above 0 for every
    /// step before `total_steps`.
    pub fn factor(&self, step: usize) -> f64 {
        let (step, total) = (step as f64, self.total_steps as f64);
        let warmup = (step + 1.0) / (self.warmup_steps + 1.0);
        // A run that is all warm-up has no decay to spread out.
        let decaying = (total - self.warmup_steps).max(f64::MIN_POSITIVE);
        let left = ((total - step) / decaying).clamp(0.0, 1.0);
        let decay = match self.kind {
            ScheduleKind::Linear => left,
            ScheduleKind::Cosine => (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
            ScheduleKind::Constant => 1.0,
        };
        warmup.min(decay)
    }
}
