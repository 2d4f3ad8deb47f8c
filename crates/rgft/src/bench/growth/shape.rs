//! The encoders that are measured: along each axis one of four numbers grows, or the first two together.

use std::path::Path;

use anyhow::Result;
use rgft_core::{Inputs, Tokens};
use rgft_kernels::Precision;
use rgft_nn::models::{self, HeadRequest};
use serde::Serialize;
use serde_json::json;

use super::super::Patience;
use super::super::peak::Peak;
use super::super::subject::Subject;
use crate::args::GrowthAxis;

/// Words that there are: few, so that small encoders are no tables.
const VOCABULARY: usize = 1024;
/// Positions that there are, if no text is longer.
const POSITIONS: usize = 512;
/// Width of a head.
const HEAD: usize = 64;
/// Labels.
const OUTPUTS: usize = 2;

/// An encoder and its batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    /// Tokens of a text.
    pub(super) length: usize,
    /// Texts.
    pub(super) batch: usize,
}

/// What does not grow.
const BASE: Shape = Shape { layers: 4, hidden: 256, length: 64, batch: 8 };

impl GrowthAxis {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Width => "width",
            Self::Length => "length",
            Self::Batch => "batch",
            Self::Size => "size",
        }
    }

    /// What is counted along it.
    pub(super) fn along(self) -> &'static str {
        match self {
            Self::Depth => "layers",
            Self::Width => "hidden units",
            Self::Length => "tokens of a text",
            Self::Batch => "texts of a batch",
            Self::Size => "parameters",
        }
    }

    /// How far `shape` is along it.
    pub(super) fn of(self, shape: Shape, parameters: usize) -> usize {
        match self {
            Self::Depth => shape.layers,
            Self::Width => shape.hidden,
            Self::Length => shape.length,
            Self::Batch => shape.batch,
            Self::Size => parameters,
        }
    }

    /// What is measured, each larger than the one before.
    pub(super) fn shapes(self, quick: bool) -> Vec<Shape> {
        let doubled = |from: usize, to: usize| {
            std::iter::successors(Some(from), |n| Some(2 * n)).take_while(move |n| *n <= to)
        };
        let size = |(layers, hidden)| Shape { layers, hidden, batch: 2, ..BASE };
        let sizes = [(4, 64), (4, 128), (6, 192), (8, 320), (10, 512), (14, 768), (28, 1024)];
        let shapes: Vec<Shape> = match self {
            Self::Depth => doubled(1, 16).map(|layers| Shape { layers, ..BASE }).collect(),
            Self::Width => doubled(HEAD, 1024).map(|hidden| Shape { hidden, ..BASE }).collect(),
            Self::Length => doubled(16, 1024).map(|length| Shape { length, ..BASE }).collect(),
            Self::Batch => doubled(1, 32).map(|batch| Shape { batch, ..BASE }).collect(),
            Self::Size => sizes.map(size).to_vec(),
        };
        shapes.into_iter().take(if quick { 2 } else { usize::MAX }).collect()
    }
}

impl Shape {
    /// `4 layers of 256, 8 texts of 64 tokens`.
    pub(super) fn in_words(self) -> String {
        let Self { layers, hidden, length, batch } = self;
        format!("{layers} layers of {hidden}, {batch} texts of {length} tokens")
    }

    /// GFLOP of the products of a full step, about.
    fn gflop(self) -> f64 {
        let Self { layers, hidden, length, batch } = self;
        let of_token = 12 * hidden * hidden + 2 * length * hidden;
        6.0 * (layers * of_token * length * batch) as f64 / 1e9
    }

    /// What measuring it in one precision takes, about: random weights are drawn at 30 million in a second, and a forward
    /// pass is a third of a step, at half of the peak.
    pub(super) fn seconds(self, patience: Patience, peak: Peak) -> f64 {
        let runs = (patience.runs + patience.runs.div_ceil(3)) as f64;
        let drawn = (12 * self.layers * self.hidden * self.hidden) as f64 / 30e6;
        2.0 * patience.time.as_secs_f64() + drawn + runs * 4.0 / 3.0 * self.gflop() / (0.5 * peak.f32_gflops)
    }

    pub(super) fn build(self) -> Result<Subject> {
        let Self { layers, hidden, length, batch } = self;
        let config = json!({
            "model_type": "bert", "num_hidden_layers": layers, "hidden_size": hidden,
            "num_attention_heads": hidden / HEAD, "intermediate_size": 4 * hidden, "vocab_size": VOCABULARY,
            "max_position_embeddings": POSITIONS.max(length),
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        });
        let request = HeadRequest { outputs: Some(OUTPUTS), random: true, ..HeadRequest::default() };
        let model = models::build(Path::new("."), config, &request)?;
        let tokens = length * batch;
        let ids = (0..tokens as u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCABULARY as u32).collect();
        let tokens = Tokens { ids, types: vec![0; tokens], lengths: vec![length; batch] };
        Subject::new(model, Inputs::Tokens(tokens), OUTPUTS, Precision::F32)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn each_axis_grows_from_shape_to_shape() {
        for axis in [GrowthAxis::Depth, GrowthAxis::Width, GrowthAxis::Length, GrowthAxis::Batch] {
            let shapes = axis.shapes(false);
            assert!(shapes.len() >= 5 && axis.shapes(true).len() == 2, "{axis:?}");
            assert!(shapes.windows(2).all(|w| 2 * axis.of(w[0], 0) == axis.of(w[1], 0)), "{axis:?}");
            assert!(shapes.windows(2).all(|w| w[0].gflop() < w[1].gflop()), "{axis:?}");
        }
    }

    #[test]
    fn the_smallest_has_a_third_of_a_million_parameters_and_the_estimate_is_near() {
        let shape = GrowthAxis::Size.shapes(true)[0];
        let mut subject = shape.build().unwrap();
        assert!((290_000..310_000).contains(&subject.model.parameters().scalars()));
        let step = subject.step(&subject.full_step(), Patience { time: Duration::ZERO, runs: 1 });
        assert!((0.8..1.3).contains(&(step.products_gflop / shape.gflop())), "{step:?}");
    }
}
