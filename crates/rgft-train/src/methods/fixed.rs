//! Methods that decide once: `full` (everything), `head` (linear probing), `last-k` (the head and the last k layers),
//! `only` (what is named).

use globset::{Glob, GlobSetBuilder};
use rgft_core::{Component, ComponentKind};

use super::{Method, Plan, Standing, new_heads};
use crate::{TrainError, Workload};

/// One plan for the whole run.
pub(super) struct Fixed {
    plan: Plan,
}

impl Fixed {
    /// What `is_active` says of each component and its index, and backward no lower than that.
    pub(super) fn of(
        components: &[Component],
        levels: usize,
        is_active: impl Fn(usize, &Component) -> bool,
    ) -> Self {
        let active: Vec<usize> = (0..components.len()).filter(|&i| is_active(i, &components[i])).collect();
        Self { plan: Plan::uniform(components, levels, active) }
    }

    /// What `is_active` says, and the task head where it belongs to the task ([`new_heads`]).
    pub(super) fn with_new_heads(work: &Workload, is_active: impl Fn(usize, &Component) -> bool) -> Self {
        let heads = new_heads(work);
        let is_active = |i: usize, component: &Component| heads.contains(&i) || is_active(i, component);
        Self::of(&work.components, work.model.levels(), is_active)
    }

    /// Everything, from the embeddings up.
    pub(super) fn full(components: &[Component], levels: usize) -> Self {
        Self { plan: Plan { cut: 0, ..Self::of(components, levels, |_, _| true).plan } }
    }

    /// The task head alone.
    pub(super) fn head(components: &[Component], levels: usize) -> Self {
        let plan =
            Self::of(components, levels, |_, component| component.kind == ComponentKind::TaskHead).plan;
        Self { plan: Plan { cut: levels - 1, ..plan } }
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
        Ok(Self::of(components, levels, |_, component| {
            component.kind == ComponentKind::TaskHead
                || component.layer.is_some_and(|layer| layer + k >= layers)
        }))
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
        let found = Self::of(components, levels, |_, component| set.is_match(&component.name));
        if found.plan.active.is_empty() {
            let names: Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
            return Err(TrainError::Mismatch {
                problem: format!("only = {globs:?} names none of {}", names.join(", ")),
                hint: "a component's name at the recipe's granularity must match; rgft map lists them",
            });
        }
        Ok(found)
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
