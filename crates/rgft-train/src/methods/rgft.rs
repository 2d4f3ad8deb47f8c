//! Residual-guided fine-tuning: probes find where the errors come from, the planner spends the budget there.
//!
//! ```text
//! every `interval` steps:  probe → energies → map (EMA, α)          the interval adapts to how stable the map is
//! every `refresh` steps:   pacing → allowance → planner → cut, active components → learning-rate weights
//! ```
//!
//! The allowance is the least that a step must cost for the budget to be spent by the end of the data. A step may
//! cost more: then there are fewer of them. Of several sizes the planner takes the one with the largest gain per
//! FLOP, the forward pass included, so steps go deep while errors are spread and stay shallow where they are not.
//!
//! A plan for step k rests on data of steps before k only. While the task head is new, its residuals say nothing:
//! the run begins with the head alone, for as much of the budget as the warm-up takes, and only then looks. A head that
//! was loaded is trained alone only until there are steps to look back on.

use rgft_core::{
    Choice, Component, ErrorMap, ErrorMapSettings, LrRule, Pacer, ProbeInterval, lr_rule, planner,
    rank_correlation,
};

use super::{ENERGY_MAX, MapReport, Method, Plan, ProbeRequest, Standing};
use crate::TrainError;
use crate::recipe::{OptimizerName, Recipe};

/// How many sizes of a step, from what pacing allows to a full one, are compared.
const STEP_SIZES: u32 = 8;

pub(super) struct Rgft {
    components: Vec<Component>,
    map: ErrorMap,
    /// The step whose data the map rests on; `None` before the first step.
    map_step: Option<usize>,
    previous: Option<Vec<f64>>,
    rank_correlation: Option<f64>,
    interval: ProbeInterval,
    next_probe: usize,
    /// FLOPs to spend on a new head before the first look.
    head_first: u64,
    first_probe: ProbeRequest,
    later_probe: ProbeRequest,
    refresh: usize,
    next_plan: usize,
    pacer: Pacer,
    /// FLOPs of a step of the current plan, when it was made.
    step_cost: u64,
    lr_rule: LrRule,
    adam: bool,
    allowance: f64,
}

impl Rgft {
    pub(super) fn new(
        recipe: &Recipe,
        components: &[Component],
        full_equivalent: u64,
        steps: usize,
    ) -> Result<Self, TrainError> {
        let budget = (recipe.budget * full_equivalent as f64) as u64;
        let head_is_new = components.iter().any(|component| component.fresh);
        // Every component is probed within the coverage window, however still the map stands.
        let mut interval = ProbeInterval::new(recipe.probe_interval);
        interval.most = recipe.coverage_window.saturating_sub(1).saturating_mul(recipe.refresh).max(1);
        let settings = ErrorMapSettings { beta: recipe.beta, alpha: recipe.alpha.clone(), max: ENERGY_MAX };
        Ok(Self {
            components: components.to_vec(),
            map: ErrorMap::new(components, settings)?,
            map_step: None,
            previous: None,
            rank_correlation: None,
            interval,
            // A map needs data of steps that are over.
            next_probe: recipe.first_probe_batches.min((steps / 4).max(1)),
            head_first: if head_is_new { (recipe.warmup * budget as f64) as u64 } else { 0 },
            first_probe: ProbeRequest { batches: recipe.first_probe_batches, examples: usize::MAX },
            later_probe: ProbeRequest { batches: 1, examples: recipe.probe_examples },
            refresh: recipe.refresh,
            next_plan: 0,
            pacer: Pacer::new(budget),
            step_cost: 0,
            lr_rule: recipe.lr_rule,
            adam: recipe.optimizer == OptimizerName::AdamW,
            allowance: 0.0,
        })
    }

    /// What updating each component promises. A gradient step of size η lowers the loss by `η‖∇_i‖²`, a sign-like
    /// step (Adam) by `η‖∇_i‖₁ ≈ η√(|θ_i|·‖∇_i‖²)`; with per-parameter energies `E_i` that is `|θ_i|·E_i` and
    /// `|θ_i|·√E_i`, so the density (gain per FLOP) follows the map whatever α is.
    fn gains(&self) -> Vec<f64> {
        let gain = |(energy, component): (f64, &Component)| {
            component.parameters as f64 * if self.adam { energy.sqrt() } else { energy }
        };
        self.map.energies().into_iter().zip(&self.components).map(gain).collect()
    }

    /// What is updated in any case: a new head, and before the first map the head whether new or not.
    fn forced(&self) -> Vec<usize> {
        if self.previous.is_none() {
            return super::task_heads(&self.components);
        }
        (0..self.components.len()).filter(|&i| self.components[i].fresh).collect()
    }
}

impl Method for Rgft {
    fn probe(&self, step: usize, spent: u64) -> Option<ProbeRequest> {
        let request = if self.previous.is_none() { self.first_probe } else { self.later_probe };
        (step >= self.next_probe && spent >= self.head_first).then_some(request)
    }

    fn observe(
        &mut self,
        step: usize,
        energies: &[f64],
        norms: &[f64],
    ) -> Result<Option<MapReport>, TrainError> {
        let seen: Vec<Option<f64>> = energies.iter().copied().map(Some).collect();
        self.map.observe(&seen, norms)?;
        self.map_step = step.checked_sub(1);
        let energies = self.map.energies();
        let rank_correlation = self.previous.as_deref().map(|before| rank_correlation(before, &energies));
        let next_interval = self.interval.adapt(rank_correlation);
        self.next_probe = step.saturating_add(next_interval);
        // A new map deserves a new plan.
        self.next_plan = step;
        self.previous = Some(energies);
        self.rank_correlation = rank_correlation;
        Ok(self.map_report())
    }

    fn map_report(&self) -> Option<MapReport> {
        Some(MapReport {
            energies: self.previous.clone()?,
            shares: self.map.shares(),
            effective_components: self.map.effective_components(),
            rank_correlation: self.rank_correlation,
            next_interval: self.interval.steps,
        })
    }

    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        let left = self.pacer.budget().saturating_sub(standing.spent);
        // The last steps are as small as what is left.
        if standing.step < self.next_plan && self.step_cost <= left {
            return None;
        }
        self.next_plan = standing.step.saturating_add(self.refresh);
        let probes_left = (standing.steps_left / self.interval.steps.max(1)) as u64;
        let probe = standing.probe_flops_per_example * self.later_probe.examples as u64;
        let reserved = (probes_left * probe).min(left / 10);
        self.allowance = self.pacer.allowance(standing.spent, reserved, standing.full_left);
        let costs = (standing.costs)();
        let candidates = costs.candidates(&self.components, &self.gains());
        let forced = self.forced();
        let choice = (0..=STEP_SIZES)
            .map(|i| self.allowance + (1.0 - self.allowance) * f64::from(i) / f64::from(STEP_SIZES))
            .map(|part| ((part * costs.full as f64) as u64).min(left))
            .map(|allowed| planner::choose(&candidates, &costs.cut, allowed, &forced))
            // The first of equals: where nothing promises a gain, the smallest step.
            .fold(None, |best: Option<Choice>, next| match best {
                Some(best) if gain_per_flop(&next) <= gain_per_flop(&best) => Some(best),
                _ => Some(next),
            })?;
        self.step_cost = choice.cost;
        let mut active = vec![false; self.components.len()];
        choice.active.iter().for_each(|&i| active[i] = true);
        let fresh: Vec<bool> = self.components.iter().map(|component| component.fresh).collect();
        let weights = lr_rule::weights(self.lr_rule, &self.map.energies(), &active, &fresh);
        Some(Plan { cut: choice.cut, active: choice.active, weights })
    }

    fn expire(&mut self) {
        self.next_plan = 0;
    }

    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        self.previous.as_ref()?;
        Some((self.map_step, self.map.raw()))
    }

    fn allowance(&self) -> f64 {
        self.allowance
    }
}

fn gain_per_flop(choice: &Choice) -> f64 {
    choice.gain / choice.cost.max(1) as f64
}
