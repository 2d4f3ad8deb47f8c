//! Models: one folder each, and the registry that reads a model folder.
//!
//! To add a model: a folder here with a function that builds a [`Model`] from `config.json` and weights, and a line in
//! [`MODELS`]. Methods, planner and optimizer see nothing of a model but its levels, sites, components and products.

pub mod bert;
pub(crate) mod build;
pub(crate) mod chain;
pub(crate) mod config_keys;
mod encoder_blocks;
pub mod gpt2;
mod image_classifier;
pub mod llama;
pub mod mobilenet;
mod passes;
pub mod patch_transformer;
pub mod resnet;
pub mod rnn;
mod stand_in;
pub mod vit;

use std::path::Path;

use rgft_core::{Component, Granularity, Slices};
use serde_json::Value;

use crate::NnError;
use crate::engine::Engine;
use crate::parameters::Parameters;
pub use chain::{Level, Model};
pub use passes::Hidden;

/// Builds the model that a `config.json` describes, with the weights of a folder.
type Load = fn(&Path, Value, &HeadRequest) -> Result<Model, NnError>;

/// What a family of models is for, by what it reads and what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Labels or numbers for texts.
    Text,
    /// The next token of texts.
    Language,
    /// Labels for pictures.
    Images,
    /// The coming steps of series.
    Series,
}

/// Every `model_type` that [`load`] knows, what it is for, and what builds it.
pub const MODELS: &[(&str, Purpose, Load)] = &[
    ("bert", Purpose::Text, bert::load),
    ("distilbert", Purpose::Text, bert::load),
    ("gru-classifier", Purpose::Text, rnn::load),
    ("lstm-classifier", Purpose::Text, rnn::load),
    ("roberta", Purpose::Text, bert::load),
    ("gpt2", Purpose::Language, gpt2::load),
    ("gru-lm", Purpose::Language, rnn::load),
    ("llama", Purpose::Language, llama::load),
    ("lstm-lm", Purpose::Language, rnn::load),
    ("qwen2", Purpose::Language, llama::load),
    ("qwen3", Purpose::Language, llama::load),
    ("mobilenet_v2", Purpose::Images, mobilenet::load),
    ("resnet", Purpose::Images, resnet::load),
    ("resnet-cifar", Purpose::Images, resnet::load),
    ("vit", Purpose::Images, vit::load),
    ("gru-forecaster", Purpose::Series, rnn::load),
    ("lstm-forecaster", Purpose::Series, rnn::load),
    ("patch-transformer", Purpose::Series, patch_transformer::load),
];

/// What the model of `folder`, whose `config.json` says `config`, is for, and what builds it.
fn entry(folder: &Path, config: &Value) -> Result<(Purpose, Load), NnError> {
    let found = config.get("model_type").and_then(Value::as_str).unwrap_or("").to_string();
    match MODELS.iter().find(|(name, ..)| *name == found) {
        Some((_, purpose, load)) => Ok((*purpose, *load)),
        None => Err(NnError::UnknownModelType {
            path: folder.join("config.json"),
            found,
            known: MODELS.iter().map(|(name, ..)| (*name).to_string()).collect(),
        }),
    }
}

/// What the model of `folder`, whose `config.json` says `config`, is for.
///
/// # Errors
/// [`NnError::UnknownModelType`].
pub fn purpose(folder: &Path, config: &Value) -> Result<Purpose, NnError> {
    entry(folder, config).map(|(purpose, _)| purpose)
}

/// Goes on with one sequence, token by token.
pub trait Decoder {
    /// Appends `ids`, at least one, to the sequence; returns the logits `[vocabulary]` after the last of them.
    ///
    /// # Errors
    /// [`NnError::OutOfRange`] for a token that does not exist, or where the sequence grows longer than the model reads.
    fn feed(&mut self, engine: &Engine, ids: &[u32]) -> Result<Vec<f32>, NnError>;
}

/// What kind of parametric operation a site is, with its parameters' indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// `x·Wᵀ + b`.
    Linear {
        /// `W` `[out, in]`.
        weight: usize,
        /// `b` `[out]`, if there is one.
        bias: Option<usize>,
    },
    /// `γ·ẑ + β`.
    Norm {
        /// γ.
        weight: usize,
        /// β, if there is one.
        bias: Option<usize>,
    },
    /// Rows of a table.
    Embedding {
        /// The table `[rows, width]`.
        weight: usize,
    },
    /// A convolution.
    Conv {
        /// `W` `[out, height, width, in]`.
        weight: usize,
        /// `b` `[out]`, if there is one.
        bias: Option<usize>,
    },
}

impl SiteKind {
    /// Its first parameter.
    pub fn weight(self) -> usize {
        match self {
            Self::Linear { weight, .. }
            | Self::Norm { weight, .. }
            | Self::Conv { weight, .. }
            | Self::Embedding { weight } => weight,
        }
    }

    /// Its bias, if it has one.
    pub fn bias(self) -> Option<usize> {
        match self {
            Self::Linear { bias, .. } | Self::Norm { bias, .. } | Self::Conv { bias, .. } => bias,
            Self::Embedding { .. } => None,
        }
    }
}

/// One parametric operation of a model.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its path, without the parameter's last part.
    pub name: String,
    /// What it is.
    pub kind: SiteKind,
}

/// How components are cut out of a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grain {
    /// Layers, modules or groups.
    pub granularity: Granularity,
    /// Neurons, channels or hidden units in one group; 0: as the architecture divides them.
    pub neuron_group: usize,
}

impl Grain {
    /// How many of `n` neurons make a group where the architecture divides them into `groups`.
    pub fn group_size(&self, n: usize, groups: usize) -> usize {
        if self.neuron_group == 0 { n.div_ceil(groups.max(1)).max(1) } else { self.neuron_group }
    }
}

/// Slices of every parameter that the components `active` cover: what a plan hands to [`Model::needs`].
///
/// # Panics
/// If components cut one parameter both by rows and by columns, which no model may do.
pub fn update_of(parameters: &Parameters, components: &[Component], active: &[usize]) -> Vec<Slices> {
    let mut update = vec![Slices::None; parameters.len()];
    for slice in active.iter().flat_map(|&i| &components[i].slices) {
        let parameter = &parameters[slice.parameter];
        let own = &mut update[slice.parameter];
        *own = std::mem::take(own)
            .union(&slice.into(), parameter.rows(), parameter.cols())
            .expect("a parameter is cut either by rows or by columns");
    }
    update
}

/// How the head turns tokens into one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// As config.json says if the folder was written here; the architecture's own head if the folder has one;
    /// else the mean.
    #[default]
    Auto,
    /// The mean of the tokens.
    Mean,
    /// The first token.
    Cls,
    /// The first token through the architecture's dense layer.
    Pooler,
}

/// What the task asks of a model that is being loaded.
#[derive(Clone, Debug, Default)]
pub struct HeadRequest {
    /// Number of outputs. `None`: as the folder has it.
    pub outputs: Option<usize>,
    /// Pooling.
    pub pooling: Pooling,
    /// Overrides every dropout probability of config.json.
    pub dropout: Option<f32>,
    /// Seed of freshly initialised parameters.
    pub seed: u64,
    /// Initialise everything instead of reading weights.
    pub random: bool,
    /// Initialise what makes the task's outputs, also where the folder has it in this size: it was made for others.
    pub new_head: bool,
}

/// Reads a model folder: `config.json` and, unless everything is to be initialised, its safetensors.
///
/// # Errors
/// Every way in which a folder can be wrong: see [`NnError`].
pub fn load(folder: &Path, head: &HeadRequest) -> Result<Model, NnError> {
    build(folder, read_config(folder)?, head)
}

/// As [`load`], with what stands in `config.json` given.
///
/// # Errors
/// As [`load`].
pub fn build(folder: &Path, config: Value, head: &HeadRequest) -> Result<Model, NnError> {
    let (_, load) = entry(folder, &config)?;
    load(folder, config, head)
}

/// `config.json` of a model folder.
///
/// # Errors
/// If it is missing or no JSON object.
pub fn read_config(folder: &Path) -> Result<Value, NnError> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Err(NnError::MissingFile { folder: folder.into(), file: "config.json".into() });
    }
    let bytes = std::fs::read(&path).map_err(|source| NnError::Io { path: path.clone(), source })?;
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|source| NnError::Json { path: path.clone(), source })?;
    match config.get("model_type") {
        Some(_) => Ok(config),
        None => Err(NnError::Config { path, key: "model_type".into(), problem: "is missing".into() }),
    }
}
