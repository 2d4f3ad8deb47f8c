//! Methods that decide once: `full` (everything), `head` (linear probing), `last-k` (the head and the last k layers),
//! `only` (what is named).

use globset::{Glob, GlobSetBuilder};
use rgft_core::{Component, ComponentKind};

use super::{Method, Plan, Standing};
use crate::TrainError;

/// One plan for the whole run.
pub(super) struct Fixed {
    plan: Plan,
}

impl Fixed {
    fn of(components: &[Component], cut: usize, is_active: impl Fn(&Component) -> bool) -> Self {
        let active: Vec<usize> = (0..components.len()).filter(|&i| is_active(&components[i])).collect();
        let mut weights = vec![0.0; components.len()];
        active.iter().for_each(|&i| weights[i] = 1.0);
        Self { plan: Plan { cut, active, weights, examples: None } }
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

    /// The components that a glob names.
    pub(super) fn only(
        components: &[Component],
        levels: usize,
        globs: &[String],
    ) -> Result<Self, TrainError> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let bad = |source: globset::Error| TrainError::Mismatch {
                problem: format!("only = {glob:?}: {source}"),
                hint: "* stands for any part of a name",
            };
            set.add(Glob::new(glob).map_err(bad)?);
        }
        let set = set.build().map_err(|source| TrainError::Mismatch {
            problem: format!("only: {source}"),
            hint: "use fewer or shorter globs",
        })?;
        let is_active = |component: &Component| set.is_match(&component.name);
        let Some(lowest) = components.iter().filter(|c| is_active(c)).map(|c| c.depth).min() else {
            let names: Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
            return Err(TrainError::Mismatch {
                problem: format!("only = {globs:?} names none of {}", names.join(", ")),
                hint: "a component's name at the recipe's granularity must match; rgft map lists them",
            });
        };
        Ok(Self::of(components, lowest.min(levels - 1), is_active))
    }
}

impl Method for Fixed {
    fn trainable(&self, components: &[Component]) -> usize {
        self.plan.active.iter().map(|&i| components[i].parameters).sum()
    }

    fn fixed(&self) -> Option<&Plan> {
        Some(&self.plan)
    }

    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        (standing.step == 0).then(|| self.plan.clone())
    }
}
