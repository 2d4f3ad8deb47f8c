//! Methods that decide once: `full` (everything), `head` (linear probing), `last-k` (the head and the last k layers).

use rgft_core::{Component, ComponentKind};

use super::{Method, Plan, Standing};
use crate::TrainError;

/// One plan for the whole run.
pub(super) struct Fixed {
    plan: Option<Plan>,
}

impl Fixed {
    fn of(components: &[Component], cut: usize, is_active: impl Fn(&Component) -> bool) -> Self {
        let active: Vec<usize> = (0..components.len()).filter(|&i| is_active(&components[i])).collect();
        let mut weights = vec![0.0; components.len()];
        active.iter().for_each(|&i| weights[i] = 1.0);
        Self { plan: Some(Plan { cut, active, weights }) }
    }

    /// Everything, from the embeddings up.
    pub(super) fn full(components: &[Component]) -> Self {
        Self::of(components, 0, |_| true)
    }

    /// The task head alone.
    pub(super) fn head(components: &[Component], levels: usize) -> Self {
        Self::of(components, levels - 1, |component| component.kind == ComponentKind::TaskHead)
    }

    /// The task head and the last `k` layers.
    pub(super) fn last_k(components: &[Component], levels: usize, k: usize) -> Result<Self, TrainError> {
        let layers =
            components.iter().filter_map(|component| component.layer).max().map_or(0, |last| last + 1);
        if k > layers {
            return Err(TrainError::Mismatch {
                problem: format!("last-k = {k}, but the model has {layers} layers"),
                hint: "lower last-k, or use --method full",
            });
        }
        let is_active = |component: &Component| {
            component.kind == ComponentKind::TaskHead
                || component.layer.is_some_and(|layer| layer + k >= layers)
        };
        let lowest = components.iter().filter(|c| is_active(c)).map(|c| c.depth).min();
        Ok(Self::of(components, lowest.unwrap_or(levels - 1), is_active))
    }
}

impl Method for Fixed {
    fn trainable(&self, components: &[Component]) -> usize {
        let active = self.plan.iter().flat_map(|plan| &plan.active);
        active.map(|&i| components[i].parameters).sum()
    }

    fn plan(&mut self, _: Standing) -> Option<Plan> {
        self.plan.take()
    }
}
