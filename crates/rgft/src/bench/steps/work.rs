//! What steps are measured on: models of common shapes with random weights, and a batch for each.

use std::path::Path;

use anyhow::Result;
use rgft_core::{Component, ComponentKind, Images, Inputs, Series, Tokens};
use rgft_kernels::Precision;
use rgft_nn::models::{self, HeadRequest};
use serde_json::{Value, json};

use super::super::subject::{Case, Subject};
use crate::args::Work;

/// Tokens of every text.
const LENGTH: usize = 64;

impl Work {
    /// What `steps.py` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minilm => "minilm",
            Self::Bertbase => "bertbase",
            Self::Resnet20 => "resnet20",
            Self::Resnet18 => "resnet18",
            Self::Lstm => "lstm",
        }
    }

    fn config(self) -> Value {
        let bert = |layers: usize, hidden: usize| {
            json!({
                "model_type": "bert", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": 12,
                "intermediate_size": 4 * hidden, "vocab_size": 30522, "max_position_embeddings": 512,
                "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            })
        };
        match self {
            Self::Minilm => bert(6, 384),
            Self::Bertbase => bert(12, 768),
            Self::Resnet20 => {
                json!({ "model_type": "resnet-cifar", "depth": 20, "shortcut": "option-b-projection" })
            }
            Self::Resnet18 => json!({ "model_type": "resnet", "depths": [2, 2, 2, 2], "block": "basic" }),
            Self::Lstm => json!({
                "model_type": "lstm-forecaster", "hidden_size": 256, "context": 96 * 32, "patch": 32, "horizon": 2,
            }),
        }
    }

    fn inputs(self) -> Inputs {
        let numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 1000) as f32 * 2e-3 - 1.0).collect() };
        let texts = |batch: usize| {
            let tokens = batch * LENGTH;
            let ids = (0..tokens as u32).map(|i| i.wrapping_mul(2_654_435_761) % 30_522).collect();
            Inputs::Tokens(Tokens { ids, types: vec![0; tokens], lengths: vec![LENGTH; batch] })
        };
        let pictures = |batch: usize, side: usize| {
            let pixels = numbers(batch * side * side * 3);
            Inputs::Images(Images { pixels, height: side, width: side, channels: 3 })
        };
        match self {
            Self::Minilm => texts(32),
            Self::Bertbase => texts(16),
            Self::Resnet20 => pictures(128, 32),
            Self::Resnet18 => pictures(32, 64),
            Self::Lstm => Inputs::Series(Series { values: numbers(64 * 96 * 32), steps: 96 * 32 }),
        }
    }

    pub(super) fn build(self, precision: Precision) -> Result<Subject> {
        let outputs = if matches!(self, Self::Resnet20 | Self::Resnet18) { 10 } else { 2 };
        let request = HeadRequest { outputs: Some(outputs), random: true, ..HeadRequest::default() };
        let model = models::build(Path::new("."), self.config(), &request)?;
        Subject::new(model, self.inputs(), outputs, precision)
    }
}

/// The full step first.
pub(super) fn cases(subject: &Subject) -> Vec<Case> {
    let (components, top) = (&subject.components, subject.model.levels() - 1);
    let of =
        |is: &dyn Fn(&Component) -> bool| (0..components.len()).filter(|&i| is(&components[i])).collect();
    let head = |c: &Component| c.kind == ComponentKind::TaskHead;
    let mut cases = vec![subject.full_step(), Case { what: "head step", cut: top, active: of(&head) }];
    if matches!(subject.inputs, Inputs::Tokens(_)) {
        let last = components.iter().filter_map(|c| c.layer).max();
        // A layer has two levels.
        let above_third = 1 + 2 * 3;
        cases.extend([
            Case { what: "last layer step", cut: top - 2, active: of(&|c| head(c) || c.layer == last) },
            Case { what: "half from layer 3 step", cut: above_third, active: half_from(components, 3) },
        ]);
    }
    cases
}

/// Every second of the heads and neuron groups from layer `from` up, with all norms there and the task head.
fn half_from(components: &[Component], from: usize) -> Vec<usize> {
    let is_half = |i: usize, component: &Component| match component.kind {
        ComponentKind::TaskHead => true,
        ComponentKind::Norm => component.layer.is_some_and(|layer| layer >= from),
        _ => component.layer.is_some_and(|layer| layer >= from) && i.is_multiple_of(2),
    };
    (0..components.len()).filter(|&i| is_half(i, &components[i])).collect()
}
