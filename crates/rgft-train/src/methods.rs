//! Methods: which components are computed and updated in the coming steps. One file each.
//!
//! A method sees components, costs and, if it asks for probes, energies. It knows no architecture.

mod fixed;
mod rgft;

use rgft_core::{Component, ComponentKind, Extent, Granularity};
use rgft_nn::models::{self, Model};

use crate::costs::{self, Costs};
use crate::recipe::{MethodName, Recipe};
use crate::trainer::update_flops;
use crate::{TrainError, Workload};

/// The largest energy that a map holds.
pub(crate) const ENERGY_MAX: f64 = 1e12;

/// Cut, active components and learning-rate weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The lowest level that backward reaches.
    pub cut: usize,
    /// Indices of the active components, ascending.
    pub active: Vec<usize>,
    /// Learning-rate weight of each component; 0 for what is skipped.
    pub weights: Vec<f64>,
}

/// Where a run stands when a method is asked for a plan.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// The step that comes next.
    pub step: usize,
    /// Steps that are left, this one included.
    pub steps_left: usize,
    /// Works out the costs of the step to come, for a method that makes a new plan.
    pub costs: &'a dyn Fn() -> Costs,
    /// FLOPs spent so far, everything counted.
    pub spent: u64,
    /// What full fine-tuning would compute in the steps that are left.
    pub full_left: u64,
    /// FLOPs of a probe, per example.
    pub probe_flops_per_example: u64,
}

/// What a method may spend on a look at the whole depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// How many batches are carried back.
    pub batches: usize,
    /// Examples of each batch that are used; all of them where larger than the batch.
    pub examples: usize,
}

/// A map as it is reported.
#[derive(Clone, Debug)]
pub struct MapReport {
    /// E_i.
    pub energies: Vec<f64>,
    /// p_i.
    pub shares: Vec<f64>,
    /// Effective number of components `1/Σp²`.
    pub effective_components: f64,
    /// Spearman correlation with the map before.
    pub rank_correlation: Option<f64>,
    /// Steps until the next probe.
    pub next_interval: usize,
}

/// Chooses what is computed and updated.
pub trait Method {
    /// The probe wanted before step `step`, after `spent` FLOPs, if any.
    fn probe(&self, step: usize, spent: u64) -> Option<ProbeRequest> {
        let _ = (step, spent);
        None
    }

    /// Takes the energies that a probe found, and `‖θ_i‖²`.
    ///
    /// # Errors
    /// If an energy is no energy.
    fn observe(
        &mut self,
        step: usize,
        energies: &[f64],
        norms: &[f64],
    ) -> Result<Option<MapReport>, TrainError> {
        let _ = (step, energies, norms);
        Ok(None)
    }

    /// How many scalars the method may update in a run.
    fn trainable(&self, components: &[Component]) -> usize {
        components.iter().map(|component| component.parameters).sum()
    }

    /// The plan from step `standing.step` on; `None`: as before.
    fn plan(&mut self, standing: Standing) -> Option<Plan>;

    /// The plan does not fit what is left of the budget: make another one for the step to come.
    fn expire(&mut self) {}

    /// Raw energies of the current map (mean squared gradient norms), and the step whose data they come from.
    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        None
    }

    /// The current map as it is reported.
    fn map_report(&self) -> Option<MapReport> {
        None
    }

    /// Allowance of the current plan, as a part of full fine-tuning's step.
    fn allowance(&self) -> f64 {
        1.0
    }
}

/// Refuses a budget that allows not even one step, on a batch of this extent.
pub(crate) fn check_budget(
    recipe: &Recipe,
    work: &Workload,
    full_equivalent: u64,
    extent: &Extent,
) -> Result<(), TrainError> {
    let budget = recipe.budget * full_equivalent as f64;
    let cheapest = cheapest_step(&work.model, &work.components, extent, update_flops(recipe)) as f64;
    if recipe.budget >= 1.0 || budget >= cheapest {
        return Ok(());
    }
    Err(TrainError::Mismatch {
        problem: format!(
            "budget = {} is {budget:.3e} FLOPs, but the first step takes {cheapest:.3e} even for the task head alone",
            recipe.budget
        ),
        hint: "raise budget, lower batch-size, or give more data or epochs",
    })
}

/// FLOPs of the cheapest step there is: forward, and the task head alone.
fn cheapest_step(model: &Model, components: &[Component], extent: &Extent, update_flops: u64) -> u64 {
    let heads: Vec<usize> = task_heads(components);
    let update = models::update_of(model.parameters(), components, &heads);
    let scalars: usize = heads.iter().map(|&i| components[i].parameters).sum();
    costs::step(model, extent, &model.needs(&update, model.levels() - 1, false))
        + update_flops * scalars as u64
}

/// Indices of the task head's components.
fn task_heads(components: &[Component]) -> Vec<usize> {
    (0..components.len()).filter(|&i| components[i].kind == ComponentKind::TaskHead).collect()
}

/// The granularity that a method works at: those that follow no map need no parts smaller than a layer's blocks.
pub fn granularity(recipe: &Recipe) -> Granularity {
    match recipe.method {
        MethodName::Rgft => recipe.granularity,
        _ => Granularity::Layer,
    }
}

/// The method that a recipe names, for a run of at most `steps` steps in which full fine-tuning would compute
/// `full_equivalent` FLOPs.
///
/// # Errors
/// If the method's settings do not fit the components.
pub fn build(
    recipe: &Recipe,
    components: &[Component],
    levels: usize,
    full_equivalent: u64,
    steps: usize,
) -> Result<Box<dyn Method>, TrainError> {
    Ok(match recipe.method {
        MethodName::Full => Box::new(fixed::Fixed::full(components)),
        MethodName::Head => Box::new(fixed::Fixed::head(components, levels)),
        MethodName::LastK => Box::new(fixed::Fixed::last_k(components, levels, recipe.last_k)?),
        MethodName::Rgft => Box::new(rgft::Rgft::new(recipe, components, full_equivalent, steps)?),
    })
}
