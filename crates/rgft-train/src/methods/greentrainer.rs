//! `greentrainer`: the tensors that promise the largest fall of the loss for what a step may cost.
//!
//! ```text
//! max Σ_{i∈S} I_i     subject to     forward + dX down to the lowest of S + Σ_{i∈S} dW_i ≤ step-ratio · full step
//! ```
//!
//! `I_i = Σ |g_i|` over the tensor, from one batch, in parts of the largest: gradient times step for a step by signs, as
//! AdamW's first one. Chosen anew at every other epoch by dynamic programming over costs in thousandths of a step.
//!
//! Source: Huang et al., *Towards green AI in fine-tuning large language models via adaptive backpropagation* (2024). Its code
//! takes two steps on the batch and multiplies the first's step with the second's gradient, moments included. As there, a
//! ratio that not even forward fits in becomes forward and 5 % of backward. Backward ends at a level here, not within one;
//! a fresh task head is always chosen; what is looked at first is learnt from in later passes; the prefix cache serves what
//! lies below the cut, which the ratio does not count on.

use rgft_core::{Component, ComponentKind};

use super::looks::{Looks, epoch};
use super::{Found, MapReport, Method, Plan, ProbeRequest, Standing, task_heads};
use crate::costs::Costs;
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

/// Epochs between choices.
const INTERVAL: usize = 2;
/// The part of backward that is left where forward takes all.
const LEAST_BACKWARD: f64 = 0.05;
/// Steps that costs are counted in.
const PARTS: usize = 1000;

pub(super) struct GreenTrainer {
    components: Vec<Component>,
    step_ratio: f64,
    looks: Looks,
}

impl GreenTrainer {
    pub(super) fn new(recipe: &Recipe, work: &Workload) -> Self {
        let interval = INTERVAL * epoch(recipe, work);
        Self {
            components: work.components.clone(),
            step_ratio: recipe.step_ratio,
            looks: Looks::new(1, interval, recipe),
        }
    }
}

/// What a step may cost per example.
fn limit(step_ratio: f64, costs: &Costs) -> f64 {
    let top = costs.cut.len() - 1;
    let forward = costs.prefix[top] + costs.cut[top];
    let wanted = step_ratio * costs.full;
    if wanted > forward { wanted } else { forward + LEAST_BACKWARD * (costs.full - forward) }
}

fn is_new_head(component: &Component) -> bool {
    component.fresh && component.kind == ComponentKind::TaskHead
}

/// The components whose importances sum up to most within `limit`, in parts of which costs are rounded up.
fn choose(components: &[Component], importances: &[f64], costs: &Costs, limit: f64) -> Vec<usize> {
    let (mut best, mut chosen) = (f64::NEG_INFINITY, Vec::new());
    for cut in 0..costs.cut.len() {
        let price = |i: usize| costs.component_at(i, components[i].depth, cut);
        let above: Vec<usize> = (0..components.len()).filter(|&i| components[i].depth >= cut).collect();
        let (fresh, others): (Vec<usize>, Vec<usize>) =
            above.into_iter().partition(|&i| is_new_head(&components[i]));
        let rest = limit - costs.prefix[cut] - costs.cut[cut] - fresh.iter().map(|&i| price(i)).sum::<f64>();
        if rest < 0.0 && cut + 1 < costs.cut.len() {
            continue;
        }
        let room = (rest.max(0.0) / limit * PARTS as f64) as usize;
        let parts = |i: usize| (price(i) / limit * PARTS as f64).ceil() as usize;
        // The most that fits in each room, and whether the last of the components so far is in it.
        let mut most = vec![0.0; room + 1];
        let mut taken = vec![vec![false; room + 1]; others.len()];
        for (&i, taken) in others.iter().zip(&mut taken) {
            let parts = parts(i);
            for t in (parts..=room).rev() {
                let with = most[t - parts] + importances[i];
                if with > most[t] {
                    (most[t], taken[t]) = (with, true);
                }
            }
        }
        if most[room] > best {
            (best, chosen) = (most[room], fresh);
            let mut t = room;
            for (&i, taken) in others.iter().zip(&taken).rev() {
                if taken[t] {
                    chosen.push(i);
                    t -= parts(i);
                }
            }
        }
    }
    chosen.sort_unstable();
    chosen
}

impl Method for GreenTrainer {
    fn probe(&self, standing: Standing) -> Option<ProbeRequest> {
        self.looks.request(&standing, limit(self.step_ratio, standing.costs))
    }

    fn observe(&mut self, step: usize, found: &Found) -> Result<Option<MapReport>, TrainError> {
        let largest = found.energies.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        Ok(self.looks.take(step, found.energies.iter().map(|importance| importance / largest).collect()))
    }

    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        if !self.looks.plan_is_due() {
            return None;
        }
        let nothing = vec![0.0; self.components.len()];
        let importances = self.looks.report().map_or(&nothing, |report| &report.energies);
        let limit = limit(self.step_ratio, standing.costs);
        let mut active = choose(&self.components, importances, standing.costs, limit);
        if active.is_empty() {
            active = task_heads(&self.components);
        }
        Some(Plan::uniform(&self.components, standing.costs.cut.len(), active))
    }

    fn map_report(&self) -> Option<MapReport> {
        self.looks.report().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component(depth: usize, fresh: bool) -> Component {
        Component {
            name: String::new(),
            kind: if fresh { ComponentKind::TaskHead } else { ComponentKind::FeedForward },
            layer: None,
            depth,
            slices: Vec::new(),
            parameters: 1,
            fresh,
        }
    }

    fn costs(levels: usize, components: &[f64]) -> Costs {
        // Forward of each level and δ through it cost 1 each.
        let below = |level: usize| level as f64;
        Costs {
            cut: (0..levels).map(|level| 2.0 * (levels - level) as f64 - 1.0).collect(),
            prefix: (0..levels).map(below).collect(),
            component: components.to_vec(),
            component_at_cut: components.to_vec(),
            amount: components.to_vec(),
            full: 2.0 * levels as f64 - 1.0 + components.iter().sum::<f64>(),
        }
    }

    fn price(components: &[Component], costs: &Costs, chosen: &[usize]) -> f64 {
        let cut = chosen.iter().map(|&i| components[i].depth).min().unwrap_or(costs.cut.len() - 1);
        let own: f64 = chosen.iter().map(|&i| costs.component_at(i, components[i].depth, cut)).sum();
        costs.prefix[cut] + costs.cut[cut] + own
    }

    proptest! {
        #[test]
        fn the_choice_is_as_good_as_any_within_the_limit(
            given in proptest::collection::vec((0..4usize, 0.0..1.0f64, 0.1..3.0f64), 1..9),
            ratio in 0.4..1.0f64,
        ) {
            let components: Vec<Component> = given.iter().map(|(depth, ..)| component(*depth, false)).collect();
            let importances: Vec<f64> = given.iter().map(|(_, importance, _)| *importance).collect();
            let costs = costs(4, &given.iter().map(|(.., cost)| *cost).collect::<Vec<_>>());
            let limit = limit(ratio, &costs);
            let chosen = choose(&components, &importances, &costs, limit);
            prop_assert!(chosen.is_empty() || price(&components, &costs, &chosen) <= limit * (1.0 + 1e-9));
            let worth = |chosen: &[usize]| chosen.iter().map(|&i| importances[i]).sum::<f64>();
            // Costs are rounded up by a thousandth of the limit each.
            let slack = limit * (1.0 - given.len() as f64 / PARTS as f64);
            for subset in 0..1usize << given.len() {
                let subset: Vec<usize> = (0..given.len()).filter(|i| subset >> i & 1 == 1).collect();
                if price(&components, &costs, &subset) <= slack {
                    prop_assert!(worth(&subset) <= worth(&chosen) + 1e-9, "{subset:?} against {chosen:?}");
                }
            }
        }
    }

    #[test]
    fn a_ratio_below_forward_leaves_a_twentieth_of_backward() {
        let costs = costs(4, &[1.0, 1.0]);
        // Forward is 4, all of it 9.
        assert!((limit(0.3, &costs) - (4.0 + 0.05 * 5.0)).abs() < 1e-12);
        assert!((limit(0.5, &costs) - 4.5).abs() < 1e-12);
    }

    #[test]
    fn a_fresh_head_is_always_chosen() {
        let components = [component(0, false), component(3, true)];
        assert_eq!(choose(&components, &[1.0, 0.0], &costs(4, &[5.0, 5.0]), 4.5), [1]);
    }
}
