//! Pacing: spends a budget of FLOPs evenly over what is left of a run.
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

    /// Whether `next_cost` FLOPs more stay within the budget.
    pub fn affords(&self, spent: u64, next_cost: u64) -> bool {
        spent.saturating_add(next_cost) <= self.budget
    }
}
