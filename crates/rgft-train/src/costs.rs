//! What things cost, to the FLOP: read off the products that the engine will run, so that prediction and ledger
//! cannot disagree.

use std::collections::HashMap;
use std::ops::Range;

use rgft_core::{Component, Extent, Slice, Slices};
use rgft_nn::models::{self, Model};
use rgft_nn::{Flops, Needs};

use crate::Workload;
use crate::schedule_of_batches::BatchSchedule;
use crate::trainer::extent_of;

/// What one example costs, in FLOPs: the mean over some batches.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Forward from the cut up and dX down to it, with the cut at each level, nothing being updated.
    pub cut: Vec<f64>,
    /// Forward of what lies below each level.
    pub prefix: Vec<f64>,
    /// dW and update of each component where δ passes it anyway.
    pub component: Vec<f64>,
    /// The same where backward ends at it.
    pub component_at_cut: Vec<f64>,
    /// Uses of each component's parameters, in FLOPs of a weight gradient: those of dW, where it is a product; a norm's or
    /// a table's gradient is none, and counts as if it were.
    pub amount: Vec<f64>,
    /// A whole step of full fine-tuning.
    pub full: f64,
}

impl Costs {
    /// dW and update of component `i`, whose depth is `depth`, with the cut at `cut`.
    pub fn component_at(&self, i: usize, depth: usize, cut: usize) -> f64 {
        if depth == cut { self.component_at_cut[i] } else { self.component[i] }
    }

    /// Means over the examples of `batches`, which are of the given extents; an updated scalar costs `update_flops` in
    /// every step.
    pub fn new(model: &Model, components: &[Component], batches: &[Extent], update_flops: u64) -> Self {
        let parameters = model.parameters();
        let examples: usize = batches.iter().map(|extent| model.rows_at(extent, 0).len()).sum();
        let each = 1.0 / examples.max(1) as f64;
        let steps = batches.len() as f64;
        let all = batches.iter().cloned().reduce(|all, more| all.joined(&more));
        let all = all.unwrap_or(Extent::Sequences(Vec::new()));
        let between = |needs: &[Needs], levels: Range<usize>| {
            model.products_between(&all, needs, levels).iter().collect::<Flops>().total() as f64
        };
        let nothing = vec![Slices::None; parameters.len()];
        let idle: Vec<Vec<Needs>> =
            (0..model.levels()).map(|level| model.needs(&nothing, level, false)).collect();
        let cut: Vec<f64> =
            idle.iter().enumerate().map(|(level, needs)| between(needs, level..model.levels())).collect();
        let none = model.no_needs();
        let prefix = (0..model.levels()).map(|level| each * between(&none, 0..level)).collect();
        let alone = |i: usize, at: usize| {
            let update = models::update_of(parameters, components, &[i]);
            let levels = at..model.levels();
            let added = between(&model.needs(&update, at, false), levels) - cut[at];
            each * (added + steps * (update_flops * components[i].parameters as u64) as f64)
        };
        let mut component_at_cut: Vec<f64> =
            (0..components.len()).map(|i| alone(i, components[i].depth)).collect();
        let component: Vec<f64> =
            (0..components.len()).map(|i| alone(i, components[i].depth.saturating_sub(1))).collect();
        let amount = |(component, flops): (&Component, &f64)| {
            let update = steps * each * (update_flops * component.parameters as u64) as f64;
            if flops - update > 0.5 {
                return flops - update;
            }
            let rows = each * model.rows_at(&all, component.depth.max(1)).iter().sum::<usize>() as f64;
            // Of a table an example uses no more rows than it has itself.
            let used = |slice: &Slice| {
                let parameter = &parameters[slice.parameter];
                let scalars = Slices::from(slice).elements(parameter.rows(), parameter.cols()) as f64;
                let looked_up = rows * parameter.cols() as f64;
                if model.is_table(slice.parameter) { scalars.min(looked_up) } else { scalars }
            };
            2.0 * rows * component.slices.iter().map(used).sum::<f64>()
        };
        let amount = components.iter().zip(&component).map(amount).collect();
        let full = batches.iter().map(|extent| full_step(model, extent, update_flops) as f64).sum::<f64>();
        let whole = cut;
        let mut cut: Vec<f64> = whole.iter().map(|flops| each * flops).collect();
        for level in 0..model.levels() {
            let own: Vec<usize> = (0..components.len()).filter(|&i| components[i].depth == level).collect();
            if own.len() < 2 {
                continue;
            }
            // What any of them needs and none needs twice, a recurrence through time: the cut pays for it.
            let update = models::update_of(parameters, components, &own);
            let added = between(&model.needs(&update, level, false), level..model.levels()) - whole[level];
            let scalars: u64 = own.iter().map(|&i| components[i].parameters as u64).sum();
            let together = each * (added + steps * (update_flops * scalars) as f64);
            let alone: f64 = own.iter().map(|&i| component_at_cut[i]).sum();
            let shared = ((alone - together) / (own.len() - 1) as f64).max(0.0);
            let least = own.iter().map(|&i| component_at_cut[i]).fold(f64::INFINITY, f64::min);
            let shared = shared.min(least);
            own.iter().for_each(|&i| component_at_cut[i] -= shared);
            cut[level] += shared;
        }
        Self { cut, prefix, component, component_at_cut, amount, full: each * full }
    }
}

/// What one step of full fine-tuning computes on a batch of this extent, update included and without recomputation.
pub(crate) fn full_step(model: &Model, extent: &Extent, update_flops: u64) -> u64 {
    let everything = model.parameters().everything();
    let products = model.products_once(extent, &model.needs(&everything, 0, false));
    products.iter().collect::<Flops>().total() + update_flops * model.parameters().scalars() as u64
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

/// What one step computes under `needs` from `cut` up, without the update.
pub(crate) fn step(model: &Model, extent: &Extent, needs: &[Needs], cut: usize) -> u64 {
    model.products_between(extent, needs, cut..model.levels()).iter().collect::<Flops>().total()
}

/// What bringing a batch to level `cut` computes.
pub(crate) fn prefix(model: &Model, extent: &Extent, cut: usize) -> u64 {
    model.products_between(extent, &model.no_needs(), 0..cut).iter().collect::<Flops>().total()
}
