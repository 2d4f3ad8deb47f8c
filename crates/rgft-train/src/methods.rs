//! Methods: which components are computed and updated in the coming steps. One file each.
//!
//! A method sees components, costs and, if it asks for probes, energies. It knows no architecture.

mod auto_rgn;
mod badam;
mod bitfit;
mod fixed;
mod greentrainer;
mod lisa;
mod looks;
mod lora;
mod norm;
mod rgft;
mod s2ft;
mod selective_backprop;
mod turns;

use rgft_core::{Component, ComponentKind, Extent, Granularity, Signal};
use rgft_data::Objective;
use rgft_nn::models::{self, Model, Site, SiteKind};

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
    /// Different examples to learn from, from now on; `None`: as before.
    pub examples: Option<usize>,
    /// Whether the optimizer forgets its moments.
    pub restarts: bool,
}

impl Plan {
    /// These components at the full learning rate, backward to the lowest of them.
    fn uniform(components: &[Component], levels: usize, active: Vec<usize>) -> Self {
        let mut weights = vec![0.0; components.len()];
        active.iter().for_each(|&i| weights[i] = 1.0);
        let cut = active.iter().map(|&i| components[i].depth).min().unwrap_or(levels - 1).min(levels - 1);
        Self { cut, active, weights, ..Self::default() }
    }
}

/// Where a run stands when a method is asked for a plan.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// The step that comes next.
    pub step: usize,
    /// Per example.
    pub costs: &'a Costs,
    /// FLOPs that are left of the budget.
    pub left: f64,
    /// FLOPs of the whole budget.
    pub budget: f64,
    /// FLOPs of looking at an example.
    pub look: f64,
    /// Examples that there are.
    pub examples: usize,
    /// How often the working set was passed.
    pub passes: f64,
    /// Examples whose hidden state at each level is kept; `None`: none is ever kept.
    pub stored: Option<&'a [usize]>,
}

/// What a method wants to look at, from the bottom to the top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeRequest {
    /// How many batches are carried back.
    pub batches: usize,
    /// Examples of each batch that are used; all of them where larger than the batch.
    pub examples: usize,
    /// FLOPs that it may cost at most.
    pub flops: f64,
}

/// What a probe found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Of each component.
    pub energies: Vec<f64>,
    /// `‖θ_i‖²`.
    pub norms: Vec<f64>,
    /// The part of each component's gradient that batches agree on; 0 where the signal does not tell.
    pub coherence: Vec<f64>,
    /// The same of the whole gradient.
    pub overall_coherence: f64,
    /// Examples that were looked at.
    pub examples: usize,
    /// What the probe cost.
    pub flops: u64,
}

/// A map as it is reported.
#[derive(Clone, Debug)]
pub struct MapReport {
    /// E_i.
    pub energies: Vec<f64>,
    /// p_i.
    pub shares: Vec<f64>,
    /// Spearman correlation with the map before.
    pub rank_correlation: Option<f64>,
    /// Steps until the next probe.
    pub next_interval: usize,
}

/// Chooses what is computed and updated.
pub trait Method {
    /// The probe wanted before the next step, if any.
    fn probe(&self, standing: Standing) -> Option<ProbeRequest> {
        let _ = standing;
        None
    }

    /// The plan of the whole run, where there is but one.
    fn fixed(&self) -> Option<&Plan> {
        None
    }

    /// Whether what lies below a cut may be frozen in some step.
    fn may_freeze(&self) -> bool {
        self.fixed().is_none_or(|plan| plan.cut > 0)
    }

    /// Whether the run ends with its epochs, if not with its budget before; else with its budget alone.
    fn ends_with_epochs(&self) -> bool {
        true
    }

    /// Of a method that draws, by a forward pass, which examples are learnt from: the power of their percentile.
    fn selectivity(&self) -> Option<f64> {
        None
    }

    /// Takes what a probe found.
    ///
    /// # Errors
    /// If an energy is no energy.
    fn observe(&mut self, step: usize, found: &Found) -> Result<Option<MapReport>, TrainError> {
        let _ = (step, found);
        Ok(None)
    }

    /// How many scalars the method may update in a run.
    fn trainable(&self, components: &[Component]) -> usize {
        components.iter().map(|component| component.parameters).sum()
    }

    /// The plan from step `standing.step` on; `None`: as before.
    fn plan(&mut self, standing: Standing) -> Option<Plan>;

    /// Whether the run is past what a new head needs: the learning rate's schedule begins.
    fn is_planning(&self) -> bool {
        true
    }

    /// Raw energies of the current map (averages of each look's shares), and the step whose data they come from.
    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        None
    }

    /// The current map as it is reported.
    fn map_report(&self) -> Option<MapReport> {
        None
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
    costs::step(model, extent, &model.needs(&update, model.levels() - 1, false), 0)
        + update_flops * scalars as u64
}

/// Indices of the components that those who freeze the model train all the same: the task head's, but not a language
/// model's, which is as pre-trained as all else.
fn new_heads(work: &Workload) -> Vec<usize> {
    match work.objective {
        Objective::NextToken => Vec::new(),
        _ => task_heads(&work.components),
    }
}

/// Indices of the task head's components.
fn task_heads(components: &[Component]) -> Vec<usize> {
    (0..components.len()).filter(|&i| components[i].kind == ComponentKind::TaskHead).collect()
}

/// What a method's looks measure: some are defined by it.
pub fn signal(recipe: &Recipe) -> Signal {
    match recipe.method {
        MethodName::AutoRgn => Signal::Exact,
        MethodName::GreenTrainer => Signal::Absolute,
        _ => recipe.signal,
    }
}

/// The granularity that a method works at.
pub fn granularity(recipe: &Recipe) -> Granularity {
    match recipe.method {
        MethodName::Only | MethodName::Random | MethodName::Static | MethodName::Rgft => recipe.granularity,
        MethodName::S2ft => Granularity::Group,
        MethodName::Bitfit | MethodName::Norm | MethodName::AutoRgn | MethodName::GreenTrainer => {
            Granularity::Tensor
        }
        MethodName::Full
        | MethodName::FullShort
        | MethodName::Head
        | MethodName::LastK
        | MethodName::SelectiveBackprop
        | MethodName::Lora
        | MethodName::RsLora
        | MethodName::Lisa
        | MethodName::BAdam => Granularity::Layer,
    }
}

/// Puts into a model what a method trains besides the model's own parameters.
///
/// # Errors
/// If it does not fit the model.
pub fn prepare(recipe: &Recipe, model: &mut Model) -> Result<(), TrainError> {
    match recipe.method {
        MethodName::Lora | MethodName::RsLora => lora::prepare(recipe, model),
        _ => Ok(()),
    }
}

/// The method that a recipe names.
///
/// # Errors
/// If the method's settings do not fit the components.
pub fn build(recipe: &Recipe, work: &Workload) -> Result<Box<dyn Method>, TrainError> {
    let (components, levels) = (&work.components, work.model.levels());
    Ok(match recipe.method {
        MethodName::Full | MethodName::FullShort => Box::new(fixed::Fixed::full(components, levels)),
        MethodName::Head => Box::new(fixed::Fixed::head(components, levels)),
        MethodName::LastK => Box::new(fixed::Fixed::last_k(components, levels, recipe.last_k)?),
        MethodName::Only => Box::new(fixed::Fixed::only(components, levels, &recipe.only)?),
        MethodName::Bitfit => Box::new(bitfit::bitfit(work)?),
        MethodName::Norm => Box::new(norm::norm(work)?),
        MethodName::S2ft => Box::new(s2ft::s2ft(recipe, work)?),
        MethodName::Lisa => Box::new(lisa::lisa(recipe, work)?),
        MethodName::BAdam => Box::new(badam::badam(recipe, work)?),
        MethodName::AutoRgn => Box::new(auto_rgn::AutoRgn::new(recipe, work)),
        MethodName::GreenTrainer => Box::new(greentrainer::GreenTrainer::new(recipe, work)),
        MethodName::Lora | MethodName::RsLora => Box::new(lora::lora(work)),
        MethodName::SelectiveBackprop => {
            Box::new(selective_backprop::SelectiveBackprop::new(recipe.selectivity, work))
        }
        MethodName::Random | MethodName::Static | MethodName::Rgft => {
            Box::new(rgft::Rgft::new(recipe, components, outputs(work))?)
        }
    })
}

/// Indices of the components that hold the last linear map, which makes the outputs: the head, or a table that is its
/// weight too.
fn outputs(work: &Workload) -> Vec<usize> {
    let linear = |site: &Site| match site.kind {
        SiteKind::Linear { weight, .. } => Some(weight),
        _ => None,
    };
    let last = work.model.sites().iter().rev().find_map(linear);
    let holds = |i: &usize| work.components[*i].slices.iter().any(|slice| Some(slice.parameter) == last);
    (0..work.components.len()).filter(holds).collect()
}
