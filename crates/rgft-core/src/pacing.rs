//! Pacing: the least that a step must cost for a budget of FLOPs to be spent by the end of the data.
//!
//! ```text
//! allowance = clip((budget − spent − reserved) / remaining_full, 0, 1)
//! ```
//!
//! A step may cost that share of a full step. What a step leaves unspent raises the allowance of all later ones,
//! and what it overspends lowers it, so the total meets the budget whatever the planner chose.

/// A budget for a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacer {
    budget: u64,
}

impl Pacer {
    /// A budget of that many FLOPs.
    pub fn new(budget_flops: u64) -> Self {
        Self { budget: budget_flops }
    }

    /// The budget in FLOPs.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The share of full fine-tuning's compute that the remaining steps may take, between 0 and 1, where `spent`
    /// FLOPs are gone, `reserved` are kept back (for probes to come), and full fine-tuning would cost
    /// `remaining_full` for the remaining steps.
    pub fn allowance(&self, spent: u64, reserved: u64, remaining_full: u64) -> f64 {
        let left = self.budget.saturating_sub(spent.saturating_add(reserved));
        if left >= remaining_full { 1.0 } else { left as f64 / remaining_full as f64 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn allowance_by_hand() {
        let pacer = Pacer::new(300);
        assert_eq!(pacer.allowance(0, 0, 1000), 0.3);
        assert_eq!(pacer.allowance(100, 50, 600), 0.25);
        assert_eq!(pacer.allowance(100, 0, 100), 1.0);
        assert_eq!(pacer.allowance(290, 20, 100), 0.0);
        assert_eq!(pacer.allowance(300, 0, 0), 1.0);
    }

    proptest! {
        /// Whatever share of its allowance each step uses, the sum keeps the budget; using all of it meets it.
        #[test]
        fn the_sum_of_steps_meets_the_budget(
            usage in proptest::collection::vec(0.0..=1.0f64, 50),
            ratio in 0.05..1.0f64,
            thrifty_steps in 0usize..20,
        ) {
            let (full_step, steps) = (1_000_000u64, usage.len());
            let pacer = Pacer::new((ratio * (full_step * steps as u64) as f64) as u64);
            let mut spent = 0;
            let mut saturated = false;
            for (k, usage) in usage.iter().enumerate() {
                let allowance = pacer.allowance(spent, 0, full_step * (steps - k) as u64);
                let usage = if k < thrifty_steps { *usage } else { 1.0 };
                saturated |= allowance >= 1.0;
                spent += (usage * allowance * full_step as f64) as u64;
            }
            prop_assert!(spent <= pacer.budget());
            prop_assert!(saturated || pacer.budget() - spent <= steps as u64);
        }
    }
}
