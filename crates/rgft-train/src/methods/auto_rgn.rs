//! `auto-rgn`: everything is updated, each tensor at a learning rate in proportion to its relative gradient norm.
//!
//! ```text
//! RGN_i = √(mean of ‖g_i‖² over 5 batches) / ‖θ_i‖          w_i = RGN_i / max_j RGN_j
//! ```
//!
//! Looked at anew at the beginning of each epoch, with moments that begin at zero, as long as the budget lasts, which looks
//! are a part of. Nothing is skipped.
//!
//! Source: Lee et al., *Surgical fine-tuning improves adaptation to distribution shifts* (2023), Auto-RGN. Its code takes the
//! mean of norms instead of the root of the mean of squares, and leaves batch norms out; here they take part, and a tensor
//! of zeros, whose relative norm is none, has weight 1; and what is looked at first is learnt from in later passes.

use super::looks::{Looks, epoch};
use super::{Found, MapReport, Method, Plan, ProbeRequest, Standing};
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

/// Batches of a look.
const BATCHES: usize = 5;

pub(super) struct AutoRgn {
    looks: Looks,
    weights: Vec<f64>,
    /// Squared gradient norms, and the step before which they were looked at.
    map: Option<(Option<usize>, Vec<f64>)>,
}

impl AutoRgn {
    pub(super) fn new(recipe: &Recipe, work: &Workload) -> Self {
        let looks = Looks::new(BATCHES, epoch(recipe, work), recipe);
        Self { looks, weights: vec![1.0; work.components.len()], map: None }
    }
}

impl Method for AutoRgn {
    fn probe(&self, standing: Standing) -> Option<ProbeRequest> {
        self.looks.request(&standing, standing.costs.full)
    }

    fn observe(&mut self, step: usize, found: &Found) -> Result<Option<MapReport>, TrainError> {
        let relative = |(energy, norm): (&f64, &f64)| (*norm > 0.0).then(|| (energy / norm).sqrt());
        let relative: Vec<Option<f64>> = found.energies.iter().zip(&found.norms).map(relative).collect();
        let largest = relative.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
        self.weights = relative.iter().map(|rgn| rgn.map_or(1.0, |rgn| rgn / largest)).collect();
        self.map = Some((step.checked_sub(1), found.energies.clone()));
        Ok(self.looks.take(step, relative.into_iter().map(Option::unwrap_or_default).collect()))
    }

    fn may_freeze(&self) -> bool {
        false
    }

    fn plan(&mut self, _: Standing) -> Option<Plan> {
        self.looks.plan_is_due().then(|| Plan {
            cut: 0,
            active: (0..self.weights.len()).collect(),
            weights: self.weights.clone(),
            examples: None,
            restarts: true,
        })
    }

    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        self.map.clone()
    }

    fn map_report(&self) -> Option<MapReport> {
        self.looks.report().cloned()
    }
}
