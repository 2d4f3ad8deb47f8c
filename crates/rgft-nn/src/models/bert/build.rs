//! From a model folder to a [`Bert`]: parameters under their public names, sites in forward order.

use std::path::Path;

use rgft_kernels::cpu::pooling::Pool;
use serde_json::{Value, json};

use super::Bert;
use super::config::{Config, Member};
use crate::NnError;
use crate::layers::attention::Attention;
use crate::layers::embedding::{Embeddings, Table};
use crate::layers::feed_forward::FeedForward;
use crate::layers::head::Head;
use crate::layers::linear::Linear;
use crate::layers::norm::Norm;
use crate::models::{HeadRequest, Pooling, Site, SiteKind};
use crate::parameters::{Parameter, Parameters};
use crate::weights::{Checkpoint, Init, Weights};

/// Key under which `config.json` remembers how the head pools, which `transformers` has no word for.
const POOLING_KEY: &str = "rgft_pooling";

/// Parameters and sites, growing in forward order.
struct Builder<'a> {
    config: &'a Config,
    weights: Weights<'a>,
    parameters: Parameters,
    sites: Vec<Site>,
}

impl Builder<'_> {
    fn site(&mut self, name: &str, kind: SiteKind) -> usize {
        self.sites.push(Site { name: name.into(), kind });
        self.sites.len() - 1
    }

    /// An encoder parameter: saved under the family's prefix, loaded with or without it.
    fn parameter(&mut self, path: &str, shape: &[usize], init: Init) -> Result<usize, NnError> {
        let prefix = self.config.prefix();
        let full = if path.starts_with(prefix) { path.into() } else { format!("{prefix}{path}") };
        let bare = full.strip_prefix(prefix).unwrap_or_default().to_string();
        self.named(&full, &[&full, &bare], shape, init)
    }

    fn named(&mut self, name: &str, aliases: &[&str], shape: &[usize], init: Init) -> Result<usize, NnError> {
        let (data, fresh) = self.weights.take(aliases, shape, init)?;
        Ok(self.parameters.push(Parameter { name: name.into(), shape: shape.to_vec(), data, fresh }))
    }

    fn linear(&mut self, path: &str, input: usize, output: usize) -> Result<Linear, NnError> {
        let init = Init::Normal(self.config.initializer_range);
        let weight = self.parameter(&format!("{path}.weight"), &[output, input], init)?;
        let bias = self.parameter(&format!("{path}.bias"), &[output], Init::Constant(0.0))?;
        let site = self.site(path, SiteKind::Linear { weight, bias });
        Ok(Linear { site, weight, bias, input, output })
    }

    /// A head layer: outside the encoder's prefix, fresh where the folder lacks it.
    fn head_linear(&mut self, path: &str, input: usize, output: usize) -> Result<Linear, NnError> {
        let normal = Init::Fresh(self.config.initializer_range);
        let name = format!("{path}.weight");
        let bare = path.strip_prefix(self.config.prefix()).unwrap_or(path);
        let weight = self.named(&name, &[&name, &format!("{bare}.weight")], &[output, input], normal)?;
        let name = format!("{path}.bias");
        let bias = self.named(&name, &[&name, &format!("{bare}.bias")], &[output], Init::Fresh(0.0))?;
        let site = self.site(path, SiteKind::Linear { weight, bias });
        Ok(Linear { site, weight, bias, input, output })
    }

    fn norm(&mut self, path: &str, dropout: f32) -> Result<Norm, NnError> {
        let width = self.config.hidden;
        let weight = self.parameter(&format!("{path}.weight"), &[width], Init::Constant(1.0))?;
        let bias = self.parameter(&format!("{path}.bias"), &[width], Init::Constant(0.0))?;
        let site = self.site(path, SiteKind::Norm { weight, bias });
        Ok(Norm { site, weight, bias, width, epsilon: self.config.epsilon, dropout })
    }

    fn table(&mut self, path: &str, rows: usize) -> Result<Table, NnError> {
        let init = Init::Normal(self.config.initializer_range);
        let weight = self.parameter(&format!("{path}.weight"), &[rows, self.config.hidden], init)?;
        Ok(Table { site: self.site(path, SiteKind::Embedding { weight }), weight })
    }

    fn embeddings(&mut self) -> Result<Embeddings, NnError> {
        let words = self.table("embeddings.word_embeddings", self.config.vocabulary)?;
        let positions = self.table("embeddings.position_embeddings", self.config.positions)?;
        let types = match self.config.member {
            Member::DistilBert => None,
            _ => Some(self.table("embeddings.token_type_embeddings", self.config.types)?),
        };
        let norm = self.norm("embeddings.LayerNorm", 0.0)?;
        Ok(Embeddings { words, positions, types, norm, dropout: self.config.hidden_dropout })
    }

    fn layer(&mut self, l: usize) -> Result<(Attention, FeedForward), NnError> {
        let config = self.config;
        let path = |part| config.layer_path(l, part);
        let (hidden, inner, dropout) = (config.hidden, config.intermediate, config.hidden_dropout);
        let attention = Attention {
            query: self.linear(&path("attention.self.query"), hidden, hidden)?,
            key: self.linear(&path("attention.self.key"), hidden, hidden)?,
            value: self.linear(&path("attention.self.value"), hidden, hidden)?,
            output: self.linear(&path("attention.output.dense"), hidden, hidden)?,
            norm: self.norm(&path("attention.output.LayerNorm"), dropout)?,
            heads: config.heads,
            dropout: config.attention_dropout,
        };
        let feed_forward = FeedForward {
            up: self.linear(&path("intermediate.dense"), hidden, inner)?,
            activation: config.activation,
            down: self.linear(&path("output.dense"), inner, hidden)?,
            norm: self.norm(&path("output.LayerNorm"), dropout)?,
        };
        Ok((attention, feed_forward))
    }

    fn head(&mut self, pooling: Pooling, outputs: usize) -> Result<Head, NnError> {
        let hidden = self.config.hidden;
        let (dense_path, activation, classifier_path) = self.config.head_paths();
        let dense = match pooling {
            Pooling::Pooler => Some((self.head_linear(dense_path, hidden, hidden)?, activation)),
            _ => None,
        };
        let classifier = self.head_linear(classifier_path, hidden, outputs)?;
        let pool = if pooling == Pooling::Mean { Pool::Mean } else { Pool::First };
        Ok(Head { pool, dense, classifier, dropout: self.config.head_dropout })
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

fn labels_of(values: &Value) -> usize {
    let named = values.get("id2label").and_then(Value::as_object).map(serde_json::Map::len);
    named.or_else(|| values.get("num_labels").and_then(Value::as_u64).map(|n| n as usize)).unwrap_or(2).max(1)
}

impl Bert {
    /// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
    ///
    /// # Errors
    /// If a key, tensor or shape is wrong.
    pub fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Self, NnError> {
        let mut config = Config::read(folder, &values)?;
        if let Some(dropout) = request.dropout {
            config.hidden_dropout = dropout;
            config.attention_dropout = dropout;
            config.head_dropout = dropout;
        }
        let checkpoint = if request.random { Checkpoint::default() } else { Checkpoint::read(folder)? };
        let weights = Weights::new(folder, &checkpoint, request.seed, request.random);
        let pooling = pooling_of(&config, &values, &weights, request);
        let outputs = request.outputs.unwrap_or_else(|| labels_of(&values));
        let mut builder =
            Builder { config: &config, weights, parameters: Parameters::default(), sites: Vec::new() };
        let embeddings = builder.embeddings()?;
        let layers = (0..config.layers).map(|l| builder.layer(l)).collect::<Result<_, _>>()?;
        let head = builder.head(pooling, outputs)?;
        let unused = unused(&config, &builder.weights);
        let Builder { parameters, sites, .. } = builder;
        let mut saved = values;
        saved["architectures"] = json!([config.architecture()]);
        saved[POOLING_KEY] = json!(match pooling {
            Pooling::Cls => "cls",
            Pooling::Pooler => "pooler",
            _ => "mean",
        });
        Ok(Self {
            parameters,
            sites,
            embeddings,
            layers,
            head,
            first_position: config.first_position,
            config: saved,
            unused,
        })
    }
}

/// What is written back untouched: under the encoder's prefix, as in a task model's checkpoint.
fn unused(config: &Config, weights: &Weights) -> Checkpoint<'static> {
    let (prefix, (dense, _, classifier)) = (config.prefix(), config.head_paths());
    weights.unused(|name| {
        let of_the_head = name.starts_with(classifier) || name.starts_with(dense) || name.starts_with("cls.");
        let stays = name.starts_with(prefix) || of_the_head;
        if stays { name.to_string() } else { format!("{prefix}{name}") }
    })
}
