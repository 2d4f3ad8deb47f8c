//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::pooling::Pool;
use serde_json::{Value, json};

use super::config::{Config, Member};
use crate::NnError;
use crate::layers::Stem;
use crate::layers::attention::Attention;
use crate::layers::embedding::{Embeddings, Table};
use crate::layers::feed_forward::FeedForward;
use crate::layers::head::Head;
use crate::layers::linear::Linear;
use crate::layers::norm::Norm;
use crate::models::build::{Builder, push_layer};
use crate::models::config_keys::ConfigKeys;
use crate::models::{HeadRequest, Level, Model, Pooling};
use crate::weights::{Init, Weights};

/// Key under which `config.json` remembers how the head pools, which `transformers` has no word for.
const POOLING_KEY: &str = "rgft_pooling";

impl Builder<'_> {
    fn encoder_linear(
        &mut self,
        config: &Config,
        path: &str,
        input: usize,
        output: usize,
    ) -> Result<Linear, NnError> {
        let path = format!("{}{path}", config.prefix());
        self.linear(&path, input, output, true, Init::Normal(config.initializer_range))
    }

    fn encoder_norm(&mut self, config: &Config, path: &str, dropout: f32) -> Result<Norm, NnError> {
        self.norm(&format!("{}{path}", config.prefix()), config.hidden, config.epsilon, dropout)
    }

    fn encoder_table(&mut self, config: &Config, path: &str, rows: usize) -> Result<Table, NnError> {
        let path = format!("{}{path}", config.prefix());
        self.table(&path, rows, config.hidden, Init::Normal(config.initializer_range))
    }

    fn embeddings(&mut self, config: &Config) -> Result<Embeddings, NnError> {
        let words = self.encoder_table(config, "embeddings.word_embeddings", config.vocabulary)?;
        let positions = self.encoder_table(config, "embeddings.position_embeddings", config.positions)?;
        let types = match config.member {
            Member::DistilBert => None,
            _ => Some(self.encoder_table(config, "embeddings.token_type_embeddings", config.types)?),
        };
        let norm = self.encoder_norm(config, "embeddings.LayerNorm", 0.0)?;
        let (dropout, first_position) = (config.hidden_dropout, config.first_position);
        Ok(Embeddings { words, positions, types, norm, dropout, first_position })
    }

    fn layer(&mut self, config: &Config, l: usize) -> Result<(Attention, FeedForward), NnError> {
        let path = |part| config.layer_path(l, part);
        let (hidden, inner, dropout) = (config.hidden, config.intermediate, config.hidden_dropout);
        let attention = Attention {
            query: self.encoder_linear(config, &path("attention.self.query"), hidden, hidden)?,
            key: self.encoder_linear(config, &path("attention.self.key"), hidden, hidden)?,
            value: self.encoder_linear(config, &path("attention.self.value"), hidden, hidden)?,
            output: self.encoder_linear(config, &path("attention.output.dense"), hidden, hidden)?,
            norm: self.encoder_norm(config, &path("attention.output.LayerNorm"), dropout)?,
            heads: config.heads,
            dropout: config.attention_dropout,
        };
        let feed_forward = FeedForward {
            up: self.encoder_linear(config, &path("intermediate.dense"), hidden, inner)?,
            activation: config.activation,
            down: self.encoder_linear(config, &path("output.dense"), inner, hidden)?,
            norm: self.encoder_norm(config, &path("output.LayerNorm"), dropout)?,
            groups: config.heads,
        };
        Ok((attention, feed_forward))
    }

    fn head(&mut self, config: &Config, pooling: Pooling, outputs: usize) -> Result<Head, NnError> {
        let (dense_path, activation, classifier_path) = config.head_paths();
        let (hidden, deviation) = (config.hidden, config.initializer_range);
        let dense = match pooling {
            Pooling::Pooler => {
                Some((self.linear(dense_path, hidden, hidden, true, Init::Fresh(deviation))?, activation))
            }
            _ => None,
        };
        let classifier = self.linear(classifier_path, hidden, outputs, true, Init::Outputs(deviation))?;
        let pool = if pooling == Pooling::Mean { Pool::Mean } else { Pool::First };
        Ok(Head { pool, dense, classifier, dropout: config.head_dropout })
    }
}

fn pooling_of(config: &Config, values: &Value, weights: &Weights, request: &HeadRequest) -> Pooling {
    if request.pooling != Pooling::Auto {
        return request.pooling;
    }
    match values.get(POOLING_KEY).and_then(Value::as_str) {
        Some("mean") => Pooling::Mean,
        Some("cls") => Pooling::Cls,
        Some("pooler") => Pooling::Pooler,
        // A folder that has a task head uses the head that its architecture has.
        _ if weights.contains(&format!("{}.weight", config.head_paths().2)) => Pooling::Pooler,
        _ => Pooling::Mean,
    }
}

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let mut config = Config::read(folder, &values)?;
    if let Some(dropout) = request.dropout {
        config.hidden_dropout = dropout;
        config.attention_dropout = dropout;
        config.head_dropout = dropout;
    }
    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let pooling = pooling_of(&config, &values, &weights, request);
    let outputs = match request.outputs {
        Some(outputs) => outputs,
        None => ConfigKeys::new(folder, &values).labels(2)?,
    };
    let mut builder = Builder::new(weights, config.prefix());

    let embeddings = builder.embeddings(&config)?;
    let longest = embeddings.longest(&builder.parameters);
    let kind = ComponentKind::Embedding;
    let stem =
        Level { name: "embeddings".into(), kind, layer: None, block: Box::new(embeddings) as Box<dyn Stem> };
    let mut blocks = Vec::new();
    for l in 0..config.layers {
        let (attention, feed_forward) = builder.layer(&config, l)?;
        push_layer(&mut blocks, l, &format!("encoder.layer.{l}"), attention, feed_forward);
    }
    let head = Box::new(builder.head(&config, pooling, outputs)?);
    blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });

    let (dense, _, classifier) = config.head_paths();
    let unused = builder.unused(&[dense, classifier, "cls."])?;
    let Builder { parameters, sites, .. } = builder;
    let mut saved = values;
    saved["architectures"] = json!([config.architecture()]);
    saved[POOLING_KEY] = json!(match pooling {
        Pooling::Cls => "cls",
        Pooling::Pooler => "pooler",
        _ => "mean",
    });
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest,
        config: saved,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
