//! Residual-guided fine-tuning: probes find where the errors come from, the planner spends the budget there.
//!
//! ```text
//! a new head       phase 0: the head alone, many times over a part of the examples, from their cached features
//! every K steps    probe → energies → map (EMA, α)                       K adapts to how stable the map is
//! every `refresh`  map, costs, what is left → planner → cut, active components, examples → learning-rate weights
//! ```
//!
//! The planner is asked what the *rest* of the budget is best spent on, so nothing needs to be paced: a plan of cheap steps
//! makes more of them. What a component is worth follows from the map: an Adam step moves each parameter by η
//! times its gradient over the root of its mean square, so the loss falls by about `η·√E` for each parameter, with E the
//! energy per parameter; a step along the gradient lowers it by `η·E`.
//!
//! Weights and plans of step k rest on data of other steps than k. The residuals behind an untrained head say nothing,
//! therefore phase 0.
//!
//! `random` draws its map, `static` keeps the first one: controls that only differ in what they know.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rgft_core::planner::MOST_REPETITIONS;
use rgft_core::{
    Alpha, Candidate, Choice, Component, Cut, ErrorMap, ErrorMapSettings, LrRule, ProbeInterval, Problem,
    Signal, lr_rule, rank_correlation,
};

use super::{ENERGY_MAX, Found, MapReport, Method, Plan, ProbeRequest, Standing, task_heads};
use crate::TrainError;
use crate::recipe::{MethodName, OptimizerName, Recipe};

/// The largest part of a budget that phase 0 may take, unless a single batch takes more.
const HEAD_FIRST_MOST: f64 = 0.5;
/// A later probe of fewer examples tells nothing.
const LEAST_LOOK: usize = 8;

pub(super) struct Rgft {
    method: MethodName,
    components: Vec<Component>,
    heads: Vec<usize>,
    /// What makes the outputs.
    outputs: Vec<usize>,
    /// What is active whatever it is worth.
    forced: Vec<usize>,
    /// The part of the gradient that batches agree on: of each component, and of all together last.
    coherence: ErrorMap,
    map: ErrorMap,
    /// The step before which the map was made.
    map_step: Option<usize>,
    previous: Option<Vec<f64>>,
    rank_correlation: Option<f64>,
    interval: ProbeInterval,
    next_probe: usize,
    /// FLOPs of the looks so far.
    looks: f64,
    next_plan: usize,
    phase: Phase,
    /// How often phase 0 passes its examples.
    head_passes: f64,
    choice: Option<Choice>,
    /// How often the working set was passed with the cut where it is.
    passes: f64,
    /// Cuts from here on are exhausted.
    exhausted: usize,
    random: ChaCha8Rng,
    settings: Settings,
}

struct Settings {
    adam: bool,
    lr_rule: LrRule,
    focus: f64,
    breadth: f64,
    repetition: f64,
    refresh: usize,
    hysteresis: f64,
    explore: f64,
    batch: usize,
    head_first: f64,
    head_first_passes: f64,
    first_probe_batches: usize,
    probe_examples: usize,
    probe_share: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// A new head is to be trained first.
    HeadFirst,
    /// That is being done.
    HeadLearns,
    /// The whole model is looked at.
    Planning,
}

impl Rgft {
    pub(super) fn new(
        recipe: &Recipe,
        components: &[Component],
        outputs: Vec<usize>,
    ) -> Result<Self, TrainError> {
        let head_is_new = components.iter().any(|component| component.fresh);
        // While there is something left for probes, every component is probed within the coverage window.
        let mut interval = ProbeInterval::new(recipe.probe_interval);
        interval.most = recipe.coverage_window.saturating_sub(1).saturating_mul(recipe.refresh).max(1);
        // What batches agree on is averaged where it is estimated.
        let beta = if recipe.signal == Signal::Coherent { 0.0 } else { recipe.beta };
        let settings = ErrorMapSettings { beta, alpha: recipe.alpha.clone(), max: ENERGY_MAX };
        Ok(Self {
            method: recipe.method,
            components: components.to_vec(),
            heads: task_heads(components),
            outputs,
            forced: task_heads(components),
            coherence: overall_and_each(components, beta)?,
            map: ErrorMap::new(components, settings)?,
            map_step: None,
            previous: None,
            rank_correlation: None,
            interval,
            next_probe: 0,
            looks: 0.0,
            next_plan: 0,
            head_passes: recipe.head_first_passes,
            phase: if head_is_new { Phase::HeadFirst } else { Phase::Planning },
            choice: None,
            passes: 0.0,
            exhausted: usize::MAX,
            random: ChaCha8Rng::seed_from_u64(recipe.seed ^ 0x7267_6674),
            settings: Settings {
                adam: recipe.optimizer == OptimizerName::AdamW,
                lr_rule: recipe.lr_rule,
                focus: recipe.focus,
                breadth: recipe.breadth,
                repetition: recipe.repetition,
                refresh: recipe.refresh,
                hysteresis: recipe.hysteresis,
                explore: recipe.explore,
                batch: recipe.batch_size,
                head_first: recipe.head_first,
                head_first_passes: recipe.head_first_passes,
                first_probe_batches: recipe.first_probe_batches,
                probe_examples: recipe.probe_examples,
                probe_share: recipe.probe_share,
            },
        })
    }

    /// A high cut on stored states makes steps that cost next to nothing. Once its examples have passed more often than the
    /// planner values, what is left of the budget goes lower.
    fn count_passes(&mut self, passes: f64) {
        if let (true, Some(choice)) = (self.is_exhausted(passes), &self.choice) {
            self.exhausted = choice.cut;
        }
        self.passes += passes;
    }

    /// After so many passes since the last plan.
    fn is_exhausted(&self, passes: f64) -> bool {
        self.passes + passes >= MOST_REPETITIONS && self.choice.as_ref().is_some_and(|choice| choice.cut > 0)
    }

    /// What each use of a parameter of each component is worth.
    fn worths(&mut self) -> Vec<f64> {
        if self.method == MethodName::Random {
            return self.components.iter().map(|_| self.random.random::<f64>()).collect();
        }
        if self.previous.is_none() {
            // Nothing pays for a look: as far as is known the error pulls alike everywhere.
            return vec![1.0; self.components.len()];
        }
        let adam = self.settings.adam;
        self.map.energies().into_iter().map(|energy| if adam { energy.sqrt() } else { energy }).collect()
    }

    /// The head alone, for as many examples as `head-first` and half of the budget allow.
    fn head_plan(&mut self, standing: &Standing) -> Plan {
        let cut = standing.costs.cut.len() - 1;
        let costs = standing.costs;
        let head: f64 = self.heads.iter().map(|&i| costs.component_at_cut[i]).sum();
        // Without a prefix cache each pass costs a forward through everything.
        self.head_passes = if standing.stored.is_some() { self.settings.head_first_passes } else { 1.0 };
        let each = costs.prefix[cut] + self.head_passes * (costs.cut[cut] + head);
        let affordable = HEAD_FIRST_MOST * standing.left / each;
        // A working set is whole batches: the last one may go up to one less than a batch beyond what is asked for.
        let affordable = affordable - (self.settings.batch as f64 - 1.0);
        let wanted = self.settings.head_first * standing.examples as f64;
        self.plan_of(cut, self.heads.clone(), Some(wanted.min(affordable).max(1.0) as usize))
    }

    /// The head: it maps to the outputs, so nothing else can stand in for it, and on top of all it costs next to nothing.
    /// A table at the bottom that makes the outputs too is not cheap: it must be plainly wrong, batches agreeing on more
    /// than half of its gradient.
    fn is_forced(&self, i: usize) -> bool {
        self.heads.contains(&i) || (self.outputs.contains(&i) && self.coherence.raw()[i] > 0.5)
    }

    /// Of the whole gradient.
    fn overall_coherence(&self) -> f64 {
        self.coherence.raw().last().copied().unwrap_or(0.0)
    }

    fn plan_of(&self, cut: usize, active: Vec<usize>, examples: Option<usize>) -> Plan {
        let mut is_active = vec![false; self.components.len()];
        active.iter().for_each(|&i| is_active[i] = true);
        let fresh: Vec<bool> = self.components.iter().map(|component| component.fresh).collect();
        let weights = match self.previous {
            Some(_) => lr_rule::weights(self.settings.lr_rule, &self.map.energies(), &is_active, &fresh),
            None => is_active.iter().map(|&active| f64::from(u8::from(active))).collect(),
        };
        Plan { cut, active, weights, examples, restarts: false }
    }

    fn choose(&mut self, standing: &Standing) -> Choice {
        let Standing { costs, stored, .. } = *standing;
        let worths = self.worths();
        let candidate = |(i, component): (usize, &Component)| Candidate {
            worth: worths[i],
            // A fresh head's energy measures its random start: it is paid for, and counts for nothing.
            amount: if component.fresh { 0.0 } else { costs.amount[i] },
            cost: costs.component[i],
            cost_at_cut: costs.component_at_cut[i],
            depth: component.depth,
        };
        let candidates: Vec<Candidate> = self.components.iter().enumerate().map(candidate).collect();
        let cut = |level: usize| match stored {
            Some(stored) => Cut {
                step: costs.cut[level],
                fill: costs.prefix[level],
                stored: brought_to(level, stored, &costs.prefix),
            },
            None => Cut { step: costs.cut[level] + costs.prefix[level], fill: 0.0, stored: 0.0 },
        };
        let cuts: Vec<Cut> = (0..costs.cut.len().min(self.exhausted)).map(cut).collect();
        let problem = Problem {
            candidates: &candidates,
            cuts: &cuts,
            forced: &self.forced,
            examples: standing.examples,
            left: standing.left,
            // Where batches agree, everything that they ask for generalises; where they do not, spreading fits noise.
            focus: self.settings.focus * (1.0 - self.overall_coherence()),
            breadth: self.settings.breadth,
            repetition: self.settings.repetition,
        };
        let best = problem.solve();
        // States that are kept are priced by the problem; changing over costs momentum besides.
        match &self.choice {
            Some(old) if old.cut <= problem.highest_cut() => {
                let kept = problem.of(old.cut, &old.active);
                if best.value > kept.value * (1.0 + self.settings.hysteresis) { best } else { kept }
            }
            _ => best,
        }
    }
}

/// A map of as many numbers as there are components, and one more.
fn overall_and_each(components: &[Component], beta: f64) -> Result<ErrorMap, TrainError> {
    let one_more = components.iter().chain(components.first()).cloned().collect::<Vec<_>>();
    Ok(ErrorMap::new(&one_more, ErrorMapSettings { beta, alpha: Alpha::Uniform, max: 1.0 })?)
}

/// How many examples would be stored at `level` for what bringing those there to where they are stored took.
fn brought_to(level: usize, stored: &[usize], prefix: &[f64]) -> f64 {
    let (mut examples, mut credit) = (0, 0.0);
    // On the way to a level that is not known yet an example is stored at several.
    for below in (0..=level).rev() {
        let more = stored[below].saturating_sub(examples);
        examples += more;
        credit += more as f64 * prefix[below] / prefix[level].max(f64::MIN_POSITIVE);
    }
    credit
}

impl Method for Rgft {
    fn probe(&self, standing: Standing) -> Option<ProbeRequest> {
        if self.phase != Phase::Planning
            || standing.step < self.next_probe
            || self.method == MethodName::Random
        {
            return None;
        }
        let share = self.settings.probe_share * standing.budget;
        // A map that no step follows is worth nothing.
        let left = share - self.looks;
        if standing.left <= share {
            return None;
        }
        if self.previous.is_none() {
            // All of the share, if its batches take so much: chance in a map falls with the square of the examples. Two
            // batches at least, or there is nothing to agree on.
            let affordable = (left / standing.look) as usize;
            let batches = self.settings.first_probe_batches.min(affordable);
            return (affordable >= 2).then_some(ProbeRequest { batches, examples: usize::MAX, flops: left });
        }
        // In two halves, because a mean gradient is what two batches agree on.
        let affordable = (left / standing.look) as usize;
        let examples = self.settings.probe_examples.min(affordable);
        let due = self.method == MethodName::Rgft && examples >= LEAST_LOOK.min(self.settings.probe_examples);
        due.then_some(ProbeRequest { batches: 2, examples: examples.div_ceil(2), flops: left })
    }

    fn observe(&mut self, step: usize, found: &Found) -> Result<Option<MapReport>, TrainError> {
        // Gradients shrink while a model learns and grow where a rate is high: looks of different times are comparable by shares.
        let total: f64 = found.energies.iter().sum();
        let scale = if total > 0.0 && total.is_finite() { total } else { 1.0 };
        let seen: Vec<Option<f64>> = found.energies.iter().map(|energy| Some(energy / scale)).collect();
        // What was seen of more examples counts for more.
        let weight = found.examples as f64 / self.settings.probe_examples.max(1) as f64;
        self.map.observe(&seen, &found.norms, weight)?;
        let coherence: Vec<Option<f64>> =
            found.coherence.iter().chain([&found.overall_coherence]).copied().map(Some).collect();
        self.coherence.observe(&coherence, &[], weight)?;
        self.forced = (0..self.components.len()).filter(|&i| self.is_forced(i)).collect();
        self.map_step = step.checked_sub(1);
        self.looks += found.flops as f64;
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
            rank_correlation: self.rank_correlation,
            next_interval: self.interval.steps,
        })
    }

    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        match self.phase {
            Phase::HeadFirst => {
                self.phase = Phase::HeadLearns;
                return Some(self.head_plan(&standing));
            }
            Phase::HeadLearns => {
                if standing.passes >= self.head_passes {
                    (self.phase, self.next_plan) = (Phase::Planning, standing.step);
                }
                return None;
            }
            Phase::Planning if standing.step < self.next_plan && !self.is_exhausted(standing.passes) => {
                return None;
            }
            Phase::Planning => {}
        }
        self.next_plan = standing.step.saturating_add(self.settings.refresh);
        self.count_passes(standing.passes);
        let mut choice = self.choose(&standing);
        if self.choice.as_ref().is_none_or(|before| before.cut != choice.cut) {
            self.passes = 0.0;
        }
        self.choice = Some(choice.clone());
        if self.settings.explore > 0.0 {
            for i in 0..self.components.len() {
                let drawn = self.random.random::<f64>() < self.settings.explore;
                if drawn && self.components[i].depth >= choice.cut && !choice.active.contains(&i) {
                    choice.active.push(i);
                }
            }
            choice.active.sort_unstable();
        }
        // What is there already costs nothing, and without a prefix to fill every example costs the same.
        let examples = match standing.stored {
            Some(stored) if choice.cut > 0 => choice.examples.max(stored[choice.cut]),
            _ => standing.examples,
        };
        Some(self.plan_of(choice.cut, choice.active, Some(examples)))
    }

    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        self.previous.as_ref()?;
        Some((self.map_step, self.map.raw()))
    }

    fn is_planning(&self) -> bool {
        self.phase == Phase::Planning
    }

    fn ends_with_epochs(&self) -> bool {
        false
    }
}
