//! The learning-rate schedule: a warm-up, then a decay.
//!
//! ```text
//! factor(k) = min((k + 1) / (W + 1), decay(k))        left = clip((total − k) / (total − W), 0, 1), W = warmup · total
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

/// A schedule, of any number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape of the decay.
    pub kind: ScheduleKind,
    /// The part of the steps that warms up.
    pub warmup: f64,
}

impl Schedule {
    /// The factor on the learning rate at `step` of `total`; steps count from 0, and both may be fractions of one where steps
    /// differ in size. Between 0 and 1, and above 0 for every step before `total`.
    pub fn factor(&self, step: f64, total: f64) -> f64 {
        let warmup_steps = self.warmup * total;
        let warmup = (step + 1.0) / (warmup_steps + 1.0);
        // A run that is all warm-up has no decay to spread out.
        let decaying = (total - warmup_steps).max(f64::MIN_POSITIVE);
        let left = ((total - step) / decaying).clamp(0.0, 1.0);
        let decay = match self.kind {
            ScheduleKind::Linear => left,
            ScheduleKind::Cosine => (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
            ScheduleKind::Constant => 1.0,
        };
        warmup.min(decay)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    fn factors(kind: ScheduleKind, warmup_steps: f64, total_steps: usize) -> Vec<f64> {
        let total = total_steps as f64;
        let schedule = Schedule { kind, warmup: warmup_steps / total };
        (0..=total_steps).map(|step| schedule.factor(step as f64, total)).collect()
    }

    #[test]
    fn linear_by_hand() {
        let found = factors(ScheduleKind::Linear, 1.0, 5);
        assert_eq!(found, [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn cosine_by_hand() {
        let found = factors(ScheduleKind::Cosine, 0.0, 4);
        let half = std::f64::consts::FRAC_1_SQRT_2 / 2.0;
        for (found, expected) in found.into_iter().zip([1.0, 0.5 + half, 0.5, 0.5 - half, 0.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn constant_keeps_its_warm_up() {
        assert_eq!(factors(ScheduleKind::Constant, 3.0, 5), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn no_step_of_a_run_is_without_effect() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::Constant] {
            for (warmup, total) in [(0.0, 1), (0.06, 1), (3.0, 3), (9.0, 3), (0.6, 10)] {
                let schedule = Schedule { kind, warmup: warmup / total as f64 };
                for step in 0..total {
                    let factor = schedule.factor(step as f64, total as f64);
                    assert!(factor > 0.0 && factor <= 1.0, "{kind} {warmup} {total} {step}: {factor}");
                }
            }
        }
    }
}
