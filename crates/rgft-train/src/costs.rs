//! What things cost, to the FLOP: read off the products that the engine will run, so that prediction and ledger
//! cannot disagree.

use std::collections::HashMap;

use rgft_core::{Candidate, Component, Extent, Slices};
use rgft_nn::models::{self, Model};
use rgft_nn::{Flops, Needs};

use crate::Workload;
use crate::schedule_of_batches::BatchSchedule;
use crate::trainer::extent_of;

/// Costs of one step on batches of a given extent, in FLOPs.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Forward and dX with the cut at each level, nothing being updated.
    pub cut: Vec<u64>,
    /// dW and update of each component where δ passes it anyway.
    pub component: Vec<u64>,
    /// The same where backward ends at it.
    pub component_at_cut: Vec<u64>,
    /// A whole step of full fine-tuning.
    pub full: u64,
}

impl Costs {
    /// Costs for a batch of this `extent`; an updated scalar costs `update_flops`.
    pub fn new(model: &Model, components: &[Component], extent: &Extent, update_flops: u64) -> Self {
        let parameters = model.parameters();
        let total = |update: &[Slices], cut: usize| {
            let needs = model.needs(update, cut, false);
            model.products(extent, &needs).iter().collect::<Flops>().total()
        };
        let nothing = vec![Slices::None; parameters.len()];
        let cut: Vec<u64> = (0..model.levels()).map(|level| total(&nothing, level)).collect();
        let alone = |i: usize, at: usize| {
            let update = models::update_of(parameters, components, &[i]);
            total(&update, at) - cut[at] + update_flops * components[i].parameters as u64
        };
        let component_at_cut = (0..components.len()).map(|i| alone(i, components[i].depth)).collect();
        let component =
            (0..components.len()).map(|i| alone(i, components[i].depth.saturating_sub(1))).collect();
        Self { cut, component, component_at_cut, full: full_step(model, extent, update_flops) }
    }

    /// The planner's candidates with these gains.
    pub fn candidates(&self, components: &[Component], gains: &[f64]) -> Vec<Candidate> {
        let candidate = |(i, component): (usize, &Component)| Candidate {
            gain: gains[i],
            cost: self.component[i],
            cost_at_cut: self.component_at_cut[i],
            depth: component.depth,
        };
        components.iter().enumerate().map(candidate).collect()
    }
}

/// What one step of full fine-tuning computes on a batch of this extent, update included.
pub(crate) fn full_step(model: &Model, extent: &Extent, update_flops: u64) -> u64 {
    let everything = model.parameters().everything();
    step(model, extent, &model.needs(&everything, 0, false))
        + update_flops * model.parameters().scalars() as u64
}

/// What each step of full fine-tuning computes. Many steps are of one extent, which is priced once.
pub(crate) fn full_steps(work: &Workload, batches: &BatchSchedule, update_flops: u64) -> Vec<u64> {
    let mut known = HashMap::new();
    let mut price = |extent: Extent| match known.get(&extent) {
        Some(flops) => *flops,
        None => {
            let flops = full_step(&work.model, &extent, update_flops);
            known.insert(extent, flops);
            flops
        }
    };
    (0..batches.len()).map(|step| price(extent_of(batches.step(step), work))).collect()
}

/// What one step computes under `needs`, without the update.
pub(crate) fn step(model: &Model, extent: &Extent, needs: &[Needs]) -> u64 {
    model.products(extent, needs).iter().collect::<Flops>().total()
}
