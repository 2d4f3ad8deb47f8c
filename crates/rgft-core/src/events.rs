//! What a run tells while it runs. A report of any kind is a pure consumer of these events, at any later time.
//!
//! One event is one line of `events.jsonl`: `{"event":"step","step":12,"loss":0.83, …}`. JSON has no NaN, so a
//! number that is not finite (the loss of a run that diverged) is written as `null` and read back as NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::component::{Component, ComponentKind};

pub use crate::summary::{Convergence, Flops, Memory, Metrics, RunSummary, Seconds};

/// Something that happened in a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // The large ones come once per run.
pub enum Event {
    /// The first event: what is about to be done, on what.
    RunStarted {
        /// Fine-tuning method: `full`, `head`, `last-k`, `rgft` …
        method: String,
        /// Folder or name of the model.
        model: String,
        /// File or folder of the training data.
        data: String,
        /// Task: `text-classification` …
        task: String,
        /// Share of full fine-tuning's compute that may be spent, 0 < ρ ≤ 1.
        budget: f64,
        /// Seed of everything random.
        seed: u64,
        /// Version of the program.
        version: String,
        /// Precision of the products: `f32`, `bf16`.
        precision: String,
        /// Threads in use.
        threads: usize,
        /// Planned optimizer steps; 0 where the budget decides.
        total_steps: usize,
        /// Scalars in the model.
        parameters: usize,
        /// Scalars that the method may change at all.
        trainable_parameters: usize,
        /// FLOPs of full fine-tuning for the same epochs on the same examples.
        full_equivalent_flops: u64,
        /// The components, in the order that every list "per component" follows.
        components: Vec<ComponentInfo>,
        /// Examples trained on.
        train_examples: usize,
        /// Examples validated on.
        validation_examples: usize,
        /// Examples tested on, 0 without a test set.
        test_examples: usize,
        /// Names of the classes; empty for regression.
        labels: Vec<String>,
    },
    /// A plan for the coming steps.
    Plan {
        /// First step that follows it.
        step: usize,
        /// Depth at which backward ends.
        cut: usize,
        /// Indices of the active components, ascending.
        active: Vec<usize>,
        /// Learning-rate weight per component, 0 where skipped.
        weights: Vec<f64>,
        /// FLOPs of a planned step over those of a full one.
        step_flops_ratio: f64,
        /// Different examples that the coming steps learn from.
        examples: usize,
    },
    /// A refreshed error map.
    Map {
        /// Steps completed before it.
        step: usize,
        /// E per component.
        energies: Vec<f64>,
        /// p per component, sum 1.
        shares: Vec<f64>,
        /// FLOPs spent on the probe behind it.
        probe_flops: u64,
        /// Spearman correlation with the map before; `None` for the first.
        rank_correlation: Option<f64>,
        /// Steps until the next probe.
        next_interval: usize,
    },
    /// One optimizer step.
    Step {
        /// Index of the step.
        step: usize,
        /// Epochs completed, with fraction.
        epoch: f64,
        /// Mean loss of the batch.
        #[serde(deserialize_with = "null_as_nan")]
        loss: f64,
        /// Learning rate before component weights.
        #[serde(deserialize_with = "null_as_nan")]
        learning_rate: f64,
        /// Norm of the gradient over the active components, before clipping.
        #[serde(deserialize_with = "null_as_nan")]
        gradient_norm: f64,
        /// Examples in the batch.
        examples: usize,
        /// Tokens in the batch; 0 where there are none.
        tokens: usize,
        /// FLOPs of the run so far.
        flops: u64,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// A pass over the validation set.
    Validation {
        /// Steps completed.
        step: usize,
        /// Epochs completed, with fraction.
        epoch: f64,
        /// Metrics by name.
        #[serde(deserialize_with = "nulls_as_nan")]
        metrics: BTreeMap<String, f64>,
        /// FLOPs of the run so far.
        flops: u64,
        /// Seconds of training so far.
        seconds: f64,
        /// Whether the main metric is the best so far.
        best: bool,
    },
    /// Something the user should know.
    Note {
        /// How much it matters.
        level: Level,
        /// One sentence.
        message: String,
    },
    /// The last event.
    Finished {
        /// The content of `run.json`.
        summary: Box<RunSummary>,
    },
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Results may not be what was asked for.
    Warning,
}

/// What a report needs to know of a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentInfo {
    /// Path in the model.
    pub name: String,
    /// What it is.
    pub kind: ComponentKind,
    /// Row of the heat map; `None` for embeddings and the task head.
    pub layer: Option<usize>,
    /// The highest cut at which it can still be updated.
    pub depth: usize,
    /// Number of scalars.
    pub parameters: usize,
}

impl From<&Component> for ComponentInfo {
    fn from(component: &Component) -> Self {
        Self {
            name: component.name.clone(),
            kind: component.kind,
            layer: component.layer,
            depth: component.depth,
            parameters: component.parameters,
        }
    }
}

fn null_as_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same for a table of metrics.
pub(crate) fn nulls_as_nan<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, f64>, D::Error> {
    let metrics = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(metrics.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_tagged_line() {
        let note = Event::Note { level: Level::Warning, message: "cache off".to_owned() };
        assert_eq!(
            serde_json::to_string(&note).unwrap(),
            r#"{"event":"note","level":"warning","message":"cache off"}"#
        );
        let plan = Event::Plan {
            step: 3,
            cut: 1,
            active: vec![0, 2],
            weights: vec![1.0, 0.0, 0.5],
            step_flops_ratio: 0.25,
            examples: 100,
        };
        let line = serde_json::to_string(&plan).unwrap();
        assert!(line.starts_with(r#"{"event":"plan","step":3,"cut":1,"active":[0,2]"#), "{line}");
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Event>(&line).unwrap()).unwrap(), line);
    }

    #[test]
    fn a_diverged_loss_survives_json() {
        let step = Event::Step {
            step: 1,
            epoch: 0.1,
            loss: f64::NAN,
            learning_rate: 1e-4,
            gradient_norm: f64::INFINITY,
            examples: 32,
            tokens: 900,
            flops: 1 << 60,
            seconds: 0.5,
        };
        let line = serde_json::to_string(&step).unwrap();
        let Event::Step { loss, gradient_norm, flops, .. } = serde_json::from_str(&line).unwrap() else {
            panic!("not a step: {line}")
        };
        assert!(loss.is_nan() && gradient_norm.is_nan());
        assert_eq!(flops, 1 << 60);
    }

    #[test]
    fn the_last_event_holds_run_json() {
        let summary = RunSummary {
            method: "rgft".to_owned(),
            model: "minilm".to_owned(),
            data: "banking77".to_owned(),
            task: "text-classification".to_owned(),
            budget: 0.3,
            seed: 0,
            metrics: Metrics::default(),
            flops: Flops::default(),
            seconds: Seconds::default(),
            memory: Memory::default(),
            convergence: Convergence::default(),
            steps: 10,
            epochs: 1.0,
            threads: 2,
            precision: "f32".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let run_json = serde_json::to_value(&summary).unwrap();
        assert_eq!(run_json["flops"]["full_equivalent"], 0);
        let event = Event::Finished { summary: Box::new(summary) };
        let line = serde_json::to_value(&event).unwrap();
        assert_eq!(line["event"], "finished");
        assert_eq!(line["summary"], run_json);
        assert!(matches!(serde_json::from_value(line).unwrap(), Event::Finished { .. }));
    }
}
