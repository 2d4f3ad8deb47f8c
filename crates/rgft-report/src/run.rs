//! One run, gathered from its events: what the sections of a page read.
//!
//! Nothing is trusted: lists of a wrong length are left out, indices beyond the components are dropped, and a
//! run that never started or never finished is still a run.

use std::collections::BTreeMap;

use rgft_core::events::{ComponentInfo, Event, Level, RunSummary};

/// An error map at a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'a> {
    pub(crate) step: usize,
    pub(crate) shares: &'a [f64],
    pub(crate) rank_correlation: Option<f64>,
}

/// A plan and the steps `[first, end)` that followed it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) cut: usize,
    pub(crate) active: Vec<usize>,
    pub(crate) step_flops_ratio: f64,
}

/// A step's point on the loss curve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) step: usize,
    pub(crate) epoch: f64,
    pub(crate) loss: f64,
    pub(crate) flops: u64,
    pub(crate) seconds: f64,
}

/// A point on the validation curve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validation<'a> {
    pub(crate) step: usize,
    pub(crate) epoch: f64,
    pub(crate) metrics: &'a BTreeMap<String, f64>,
    pub(crate) flops: u64,
    pub(crate) seconds: f64,
    pub(crate) best: bool,
}

/// Everything that a page shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run<'a> {
    pub(crate) method: &'a str,
    pub(crate) model: &'a str,
    pub(crate) data: &'a str,
    pub(crate) task: &'a str,
    pub(crate) budget: Option<f64>,
    pub(crate) full_equivalent: u64,
    pub(crate) trainable: usize,
    pub(crate) parameters: usize,
    pub(crate) components: &'a [ComponentInfo],
    /// Names and values for the table of settings.
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) maps: Vec<Map<'a>>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) steps: Vec<Step>,
    pub(crate) validations: Vec<Validation<'a>>,
    pub(crate) notes: Vec<(Level, &'a str)>,
    pub(crate) summary: Option<&'a RunSummary>,
}

impl<'a> Run<'a> {
    /// Gathers `events`; of several starts or ends the last one counts.
    pub(crate) fn new(events: &'a [Event]) -> Self {
        let mut run = Self::default();
        for event in events {
            run.take(event);
        }
        let components = run.components.len();
        run.maps.retain(|map| components > 0 && map.shares.len() == components);
        let last = run.steps.iter().map(|step| step.step + 1).max().unwrap_or(0);
        for i in 0..run.plans.len() {
            let next = run.plans.get(i + 1).map(|plan| plan.first);
            let plan = &mut run.plans[i];
            plan.end = next.unwrap_or(last).max(plan.first);
            plan.active.retain(|&index| index < components);
        }
        if let Some(summary) = run.summary.filter(|_| run.method.is_empty()) {
            run.method = &summary.method;
            run.model = &summary.model;
            run.data = &summary.data;
            run.task = &summary.task;
            run.budget = Some(summary.budget);
            run.full_equivalent = summary.flops.full_equivalent;
        }
        run
    }

    fn take(&mut self, event: &'a Event) {
        match event {
            Event::RunStarted { .. } => self.start(event),
            Event::Plan { step, cut, active, step_flops_ratio, .. } => self.plans.push(Plan {
                first: *step,
                end: *step,
                cut: *cut,
                active: active.clone(),
                step_flops_ratio: *step_flops_ratio,
            }),
            Event::Map { step, shares, rank_correlation, .. } => {
                self.maps.push(Map { step: *step, shares, rank_correlation: *rank_correlation });
            }
            Event::Step { step, epoch, loss, flops, seconds, .. } => self.steps.push(Step {
                step: *step,
                epoch: *epoch,
                loss: *loss,
                flops: *flops,
                seconds: *seconds,
            }),
            Event::Validation { step, epoch, metrics, flops, seconds, best } => {
                self.validations.push(Validation {
                    step: *step,
                    epoch: *epoch,
                    metrics,
                    flops: *flops,
                    seconds: *seconds,
                    best: *best,
                });
            }
            Event::Note { level, message } => self.notes.push((*level, message)),
            Event::Finished { summary } => self.summary = Some(summary),
        }
    }

    fn start(&mut self, event: &'a Event) {
        let Event::RunStarted {
            method,
            model,
            data,
            task,
            budget,
            seed,
            version,
            precision,
            threads,
            total_steps,
            parameters,
            trainable_parameters,
            full_equivalent_flops,
            components,
            train_examples,
            validation_examples,
            test_examples,
            labels,
        } = event
        else {
            return;
        };
        (self.method, self.model, self.data, self.task) = (method, model, data, task);
        self.budget = Some(*budget);
        self.full_equivalent = *full_equivalent_flops;
        (self.trainable, self.parameters) = (*trainable_parameters, *parameters);
        self.components = components;
        let count = crate::units::count;
        let shown = 12.min(labels.len());
        let mut classes = labels[..shown].join(", ");
        if labels.len() > shown {
            classes.push_str(&format!(", … {} more", labels.len() - shown));
        }
        self.settings = vec![
            ("method", method.clone()),
            ("model", model.clone()),
            ("data", data.clone()),
            ("task", task.clone()),
            ("budget", format!("{} of full fine-tuning", crate::units::percent_round(*budget))),
            ("seed", seed.to_string()),
            (
                "planned steps",
                if *total_steps == 0 { "as the budget allows".into() } else { count(*total_steps) },
            ),
            ("train examples", count(*train_examples)),
            ("validation examples", count(*validation_examples)),
            ("test examples", count(*test_examples)),
            ("parameters", count(*parameters)),
            ("trainable parameters", count(*trainable_parameters)),
            ("components", count(components.len())),
            ("full fine-tuning", crate::units::flops(*full_equivalent_flops)),
            ("precision", precision.clone()),
            ("threads", threads.to_string()),
            ("version", version.clone()),
        ];
        if !labels.is_empty() {
            self.settings.push(("classes", format!("{}: {classes}", labels.len())));
        }
    }

    /// FLOPs spent so far, by the summary or else by the last step.
    pub(crate) fn spent(&self) -> u64 {
        let steps = self.steps.iter().map(|step| step.flops);
        let validations = self.validations.iter().map(|validation| validation.flops);
        let curve = steps.chain(validations).max().unwrap_or(0);
        self.summary.map_or(curve, |summary| summary.flops.total)
    }

    /// The metric by which the run is judged, if any was measured.
    pub(crate) fn metric(&self) -> Option<&'a str> {
        const KNOWN: [&str; 7] = ["accuracy", "macro_f1", "micro_f1", "mse", "mae", "bits_per_byte", "loss"];
        let measured = |name: &str| {
            self.validations.iter().any(|v| v.metrics.contains_key(name))
                || self.summary.is_some_and(|s| {
                    s.metrics.validation.contains_key(name) || s.metrics.test.contains_key(name)
                })
        };
        let judged = self.summary.map(|s| s.convergence.metric.as_str());
        judged
            .into_iter()
            .chain(KNOWN)
            .find(|name| measured(name))
            .or_else(|| self.validations.iter().find_map(|v| v.metrics.keys().next()).map(String::as_str))
    }

    /// Fraction of the steps in which each component was updated; `None` without plans.
    pub(crate) fn active_fractions(&self) -> Option<Vec<f64>> {
        let total: usize = self.plans.iter().map(|plan| plan.end - plan.first).sum();
        if total == 0 || self.components.is_empty() {
            return None;
        }
        let mut steps = vec![0usize; self.components.len()];
        for plan in &self.plans {
            for &index in &plan.active {
                steps[index] += plan.end - plan.first;
            }
        }
        Some(steps.into_iter().map(|steps| steps as f64 / total as f64).collect())
    }
}
