//! What `config.json` says about a recurrent network.

use std::path::Path;

use serde_json::Value;

use crate::NnError;
use crate::layers::recurrent::Cell;
use crate::layers::series_stem::InstanceNorm;
use crate::models::config_keys::ConfigKeys;
use crate::models::{HeadRequest, Pooling};

/// ε of the instance norm.
const EPSILON: f32 = 1e-5;

/// What a network is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Task {
    /// The next token.
    Language { vocabulary: usize, embedding: usize },
    /// A label.
    Classes {
        vocabulary: usize,
        embedding: usize,
        classes: usize,
        /// Whether the final states are read instead of the mean of the tokens.
        last: bool,
    },
    /// The coming steps.
    Forecast { context: usize, horizon: usize, patch: usize, instance_norm: Option<InstanceNorm> },
}

/// The numbers that make a recurrent network.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) cell: Cell,
    pub(super) task: Task,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) both_directions: bool,
    pub(super) dropout: f32,
}

impl Config {
    /// Reads `values`, which stand in `config.json` of `folder`; `request` changes what it asks for.
    pub(super) fn read(folder: &Path, values: &Value, request: &HeadRequest) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let model_type = keys.word("model_type").unwrap_or_default();
        let (cell, purpose) = model_type.split_once('-').unwrap_or((model_type, ""));
        let cell = if cell == "gru" { Cell::Gru } else { Cell::Lstm };
        let order = cell.gates().join(",");
        if let Some(found) = keys.word("gate_order").filter(|found| found.replace(' ', "") != order) {
            return Err(keys.error("gate_order", format!("is {found}, expected {order}")));
        }
        let hidden = keys.size("hidden_size", None)?;
        let text = || Ok((keys.size("vocab_size", None)?, keys.size("embedding_size", Some(hidden))?));
        let both_directions = keys.flag("bidirectional", false)?;
        let task = match purpose {
            "lm" if both_directions => {
                let problem = "is true, but a language model reads in one direction".into();
                return Err(keys.error("bidirectional", problem));
            }
            "lm" => {
                let (vocabulary, embedding) = text()?;
                Task::Language { vocabulary, embedding }
            }
            "classifier" => {
                let (vocabulary, embedding) = text()?;
                let classes = match request.outputs {
                    Some(classes) => classes.max(1),
                    None => keys.labels(2)?,
                };
                Task::Classes { vocabulary, embedding, classes, last: reads_final_states(&keys, request)? }
            }
            _ => {
                let (context, patch) = (keys.size("context", None)?, keys.size("patch", Some(1))?);
                if context % patch != 0 {
                    return Err(
                        keys.error("patch", format!("is {patch}, which does not divide context {context}"))
                    );
                }
                let horizon = match request.outputs {
                    Some(horizon) => horizon,
                    None => keys.size("horizon", None)?,
                };
                let instance_norm =
                    keys.flag("instance_norm", false)?.then_some(InstanceNorm { epsilon: EPSILON });
                Task::Forecast { context, horizon, patch, instance_norm }
            }
        };
        let dropout = match request.dropout {
            Some(dropout) => dropout,
            None => keys.probability("dropout", 0.0)?,
        };
        Ok(Self { cell, task, layers: keys.size("num_layers", Some(1))?, hidden, both_directions, dropout })
    }

    /// `lstm` or `gru`: what its layers are called.
    pub(super) fn prefix(&self) -> &'static str {
        if self.cell == Cell::Lstm { "lstm" } else { "gru" }
    }

    /// Columns of what enters the first layer.
    pub(super) fn input(&self) -> usize {
        match self.task {
            Task::Language { embedding, .. } | Task::Classes { embedding, .. } => embedding,
            Task::Forecast { patch, .. } => patch,
        }
    }

    /// Directions of each layer.
    pub(super) fn directions(&self) -> usize {
        1 + usize::from(self.both_directions)
    }

    /// Columns of what leaves a layer.
    pub(super) fn width(&self) -> usize {
        self.directions() * self.hidden
    }
}

fn reads_final_states(keys: &ConfigKeys, request: &HeadRequest) -> Result<bool, NnError> {
    match (request.pooling, keys.word("pooling")) {
        (Pooling::Mean, _) | (Pooling::Auto, None | Some("mean")) => Ok(false),
        (Pooling::Auto, Some("last")) => Ok(true),
        (Pooling::Auto, Some(found)) => {
            Err(keys.error("pooling", format!("is {found}, expected mean or last")))
        }
        (Pooling::Cls | Pooling::Pooler, _) => {
            let problem = "of a recurrent classifier is mean or last: it has no class token".into();
            Err(keys.error("pooling", problem))
        }
    }
}
