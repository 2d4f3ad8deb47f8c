//! The guard: watches the conditions of the theorems of THEORY.md during a run, and writes the certificate.
//!
//! ```text
//! energies             E_i finite, 0 ≤ E_i ≤ E_max
//! weights              w_i = 0 (skipped), or w_min ≤ w_i ≤ w_max
//! predictable          the map behind step k was made of batches before k only
//! coverage             each component active or probed at least once in any T refreshes
//! alignment            A_k = n · Σ w_i e_i / (Σ w_i · Σ e_i) ≥ 1: no worse than uniform weights (T1b)
//! captured share       ϑ = Σ_active e_i / Σ e_i: what the map shows of the gradient where the plan updates (T1d)
//! step size            η·w_max ≤ (1 − β)/L̂, L̂ a secant along the gradient: L is as large at least (Lemmas 1 and 3)
//! spread               1/Σ p_i²: over how many components the error is spread
//! loss                 finite; no spike of more than 6 standard deviations
//! ```
//!
//! It only looks: nothing here changes a run.

mod loss;
mod record;

use crate::certificate::{Certificate, Condition, Status};
use crate::coverage::Coverage;
use crate::error_map::{effective_components, shares};
use crate::theory::{self, Smooth, Spending, recommended_learning_rate};
use loss::SpikeDetector;
use record::{Extent, Record};

/// The optimizer's step, as far as the theory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateRule {
    /// `x ← x − η w ĝ`: what the theorems are about.
    Sgd,
    /// SGD with momentum.
    Momentum,
    /// Gradient steps that are clipped or decay the weights.
    ModifiedSgd,
    /// AdamW.
    AdamW,
}

/// What a run promises to keep.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// Names of the components; every list given to the guard has one entry for each.
    pub components: Vec<String>,
    /// E_max.
    pub energy_max: f64,
    /// w_min of an active component.
    pub weight_min: f64,
    /// w_max.
    pub weight_max: f64,
    /// The coverage window T, in refreshes.
    pub window: usize,
    /// The optimizer's step.
    pub update_rule: UpdateRule,
    /// β of its momentum.
    pub momentum: f64,
}

/// Records what a run does, condition by condition.
#[derive(Clone, Debug)]
pub struct Guard {
    settings: GuardSettings,
    energies_valid: Record,
    energies_bounded: Record,
    weights_in_range: Record,
    predictable: Record,
    coverage: Coverage,
    refreshes: usize,
    alignment: Extent,
    captured: Extent,
    spread: Extent,
    loss_finite: Record,
    loss_spikes: Record,
    step_size: Record,
    spike_detector: SpikeDetector,
}

impl Guard {
    /// A guard that has seen nothing yet.
    pub fn new(settings: GuardSettings) -> Self {
        Self {
            coverage: Coverage::new(settings.components.len()),
            settings,
            energies_valid: Record::default(),
            energies_bounded: Record::default(),
            weights_in_range: Record::default(),
            predictable: Record::default(),
            refreshes: 0,
            alignment: Extent::default(),
            captured: Extent::default(),
            spread: Extent::default(),
            loss_finite: Record::default(),
            loss_spikes: Record::default(),
            step_size: Record::default(),
            spike_detector: SpikeDetector::default(),
        }
    }

    /// A refreshed map: the energies E, before step `step`.
    pub fn observe_map(&mut self, step: usize, energies: &[f64]) {
        let max = self.settings.energy_max;
        let invalid = first(energies, |energy| !(energy.is_finite() && energy >= 0.0));
        self.energies_valid.see(self.describe(step, "energy", invalid));
        self.energies_bounded.see(self.describe(step, "energy", first(energies, |energy| energy > max)));
        if invalid.is_none() {
            self.spread.add(effective_components(&shares(energies)));
        }
    }

    /// A refreshed plan: the components that are active in the coming steps, or were probed for it.
    pub fn observe_plan(&mut self, active_or_probed: &[usize]) {
        self.coverage.record(active_or_probed);
        self.refreshes += 1;
    }

    /// The weights used at step `step`, from a map whose last batch was that of step `map_step` (`None`: made
    /// before the first step), and the block gradient energies `e_i ≈ ‖∇_i f‖²`, without α, of that map.
    pub fn observe_weights(
        &mut self,
        step: usize,
        map_step: Option<usize>,
        weights: &[f64],
        energies: &[f64],
    ) {
        let (min, max) = (self.settings.weight_min, self.settings.weight_max);
        let outside = first(weights, |weight| weight != 0.0 && !(min <= weight && weight <= max));
        self.weights_in_range.see(self.describe(step, "weight", outside));

        let ahead = map_step.filter(|&map_step| map_step >= step);
        self.predictable
            .see(ahead.map(|map_step| {
                format!("step {step} used a map that contains the batch of step {map_step}")
            }));

        let whole: f64 = energies.iter().sum();
        if whole > 0.0 && whole.is_finite() && weights.iter().any(|&weight| weight > 0.0) {
            let active = weights.iter().zip(energies).filter(|(weight, _)| **weight > 0.0);
            self.captured.add(active.map(|(_, energy)| energy).sum::<f64>() / whole);
            self.alignment.add(theory::alignment(weights, energies));
        }
    }

    /// Before step `step` the loss is as curved as `smoothness` along its gradient, and the component that goes farthest has
    /// the learning rate `rate`, its weight included.
    pub fn observe_smoothness(&mut self, step: usize, smoothness: f64, rate: f64) {
        let GuardSettings { momentum, .. } = self.settings;
        let smooth = Smooth { smoothness, least: 1.0, most: 1.0, momentum };
        let limit = recommended_learning_rate(&smooth, Spending::All);
        let breach = limit.is_nan() || rate.is_nan() || rate > limit;
        self.step_size.see(breach.then(|| {
            format!(
                "step {step}: η·w_max = {rate:.3e} where L is {smoothness:.3e} at least: {limit:.3e} is allowed"
            )
        }));
    }

    /// The loss of step `step`; whether it is a number and no spike.
    pub fn observe_loss(&mut self, step: usize, loss: f64) -> bool {
        let finite = loss.is_finite();
        self.loss_finite.see((!finite).then(|| format!("step {step}: loss {loss}")));
        if !finite {
            return false;
        }
        let spike = self.spike_detector.observe(loss);
        self.loss_spikes
            .see(spike.map(|z| format!("step {step}: loss {loss:.4}, {z:.1} standard deviations up")));
        spike.is_none()
    }

    /// The run took its weights back: losses begin anew, and the first ones are no spikes.
    pub fn went_back(&mut self) {
        self.spike_detector = SpikeDetector::default();
    }

    /// What is known so far.
    pub fn certificate(&self) -> Certificate {
        let GuardSettings { energy_max, weight_min, weight_max, .. } = self.settings;
        let range = format!("{weight_min} ≤ w ≤ {weight_max} where active");
        Certificate {
            conditions: vec![
                self.energies_valid.condition("energies finite and non-negative", "0 ≤ E < ∞"),
                self.energies_bounded.condition("energies bounded", &format!("E ≤ {energy_max:e}")),
                self.weights_in_range.condition("weights in range", &range),
                self.predictable.condition("weights predictable", "map older than the step"),
                self.coverage_condition(),
                self.alignment_condition(),
                self.captured_condition(),
                self.spread_condition(),
                self.loss_finite.condition("loss finite", "a finite loss"),
                self.loss_spikes.condition("no loss spikes", "no spike"),
                update_rule_condition(self.settings.update_rule),
                self.step_size_condition(),
            ],
        }
    }

    fn describe(&self, step: usize, what: &str, found: Option<(usize, f64)>) -> Option<String> {
        let (i, value) = found?;
        let name = self.settings.components.get(i).map_or("?", String::as_str);
        Some(format!("step {step}: `{name}` has {what} {value}"))
    }

    fn coverage_condition(&self) -> Condition {
        let window = self.settings.window;
        let name = "coverage window";
        if self.refreshes == 0 {
            return not_covered(name, "never observed");
        }
        let longest = self.coverage.longest();
        Condition {
            condition: name.to_owned(),
            status: if longest < window { Status::Holds } else { Status::DoesNotHold },
            detail: format!(
                "at most {longest} of {} refreshes in a row without some component; the window is {window}",
                self.refreshes
            ),
            value: Some(longest as f64),
        }
    }

    fn alignment_condition(&self) -> Condition {
        let name = "weights aligned with energies";
        let Some((min, mean, max)) = self.alignment.summary() else {
            return not_covered(name, "never observed");
        };
        Condition {
            condition: name.to_owned(),
            // Uniform weights have A = 1 up to rounding.
            status: if min >= 1.0 - 1e-9 { Status::Holds } else { Status::DoesNotHold },
            detail: format!("A between {min:.3} and {max:.3}, mean {mean:.3}; uniform weights have 1"),
            value: Some(mean),
        }
    }

    /// T1d asks for no more than that it is not 0, if the map's energies are those of the gradient.
    fn captured_condition(&self) -> Condition {
        let name = "captured share";
        let Some((min, mean, max)) = self.captured.summary() else {
            return not_covered(name, "never observed");
        };
        Condition {
            condition: name.to_owned(),
            status: if min > 0.0 { Status::Holds } else { Status::DoesNotHold },
            detail: format!(
                "of what the map shows, steps update between {min:.3} and {max:.3}, mean {mean:.3}"
            ),
            value: Some(min),
        }
    }

    fn step_size_condition(&self) -> Condition {
        let name = "step size below 1/(L·w_max)";
        match self.settings.update_rule {
            UpdateRule::AdamW => not_covered(name, "AdamW takes no multiple of the gradient"),
            _ => self.step_size.condition(name, "η·w_max ≤ (1 − β)/L, with L as seen along the gradient"),
        }
    }

    /// A measurement, not a condition: it tells how much there is to gain by selecting.
    fn spread_condition(&self) -> Condition {
        let (name, n) = ("effective components", self.settings.components.len());
        let Some((min, mean, max)) = self.spread.summary() else {
            return not_covered(name, "never observed");
        };
        let detail = format!("between {min:.1} and {max:.1}, mean {mean:.1}, of {n}");
        Condition { condition: name.to_owned(), status: Status::Holds, detail, value: Some(mean) }
    }
}

fn update_rule_condition(rule: UpdateRule) -> Condition {
    let name = "update rule within the theorems";
    match rule {
        UpdateRule::Sgd => Condition {
            condition: name.to_owned(),
            status: Status::Holds,
            detail: "plain gradient steps".to_owned(),
            value: None,
        },
        UpdateRule::Momentum => {
            not_covered(name, "T5 covers momentum without the noise of batches, at rates that never rise")
        }
        UpdateRule::ModifiedSgd => {
            not_covered(name, "each is covered without the noise of batches, not both")
        }
        UpdateRule::AdamW => not_covered(name, "AdamW is outside of the theorems"),
    }
}

fn not_covered(condition: &str, detail: &str) -> Condition {
    let (condition, detail) = (condition.to_owned(), detail.to_owned());
    Condition { condition, status: Status::NotCovered, detail, value: None }
}

/// The first value that is `bad`, with its index.
fn first(values: &[f64], bad: impl Fn(f64) -> bool) -> Option<(usize, f64)> {
    values.iter().copied().enumerate().find(|&(_, value)| bad(value))
}

#[cfg(test)]
mod tests;
