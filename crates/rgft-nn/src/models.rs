//! Models: one folder each, and the registry that reads a model folder.
//!
//! To add a model: a folder here with a type that implements [`Model`], and a line in [`MODEL_TYPES`] and [`load`].
//! Methods, planner and optimizer see nothing of a model but this trait.

pub mod bert;

use std::path::Path;

use rgft_core::{Component, Granularity, Slices};
use serde_json::Value;

use crate::NnError;
use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::layers::Sinks;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::Probe;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weights::Checkpoint;

/// The `model_type`s that [`load`] knows.
pub const MODEL_TYPES: [&str; 3] = ["bert", "distilbert", "roberta"];

/// A packed batch of token sequences: no padding, sequences one after the other.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch<'a> {
    /// Token ids of all sequences, `[tokens]`.
    pub ids: &'a [u32],
    /// Segment of each token, `[tokens]`.
    pub types: &'a [u32],
    /// Tokens of each sequence; they sum to `tokens`.
    pub lengths: &'a [usize],
}

/// What kind of parametric operation a site is, with its parameters' indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// `x·Wᵀ + b`.
    Linear {
        /// `W` `[out, in]`.
        weight: usize,
        /// `b` `[out]`.
        bias: usize,
    },
    /// `γ·ẑ + β`.
    Norm {
        /// γ.
        weight: usize,
        /// β.
        bias: usize,
    },
    /// Rows of a table.
    Embedding {
        /// The table `[rows, width]`.
        weight: usize,
    },
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
    /// Neurons in one feed-forward group; 0: as many as make one group per attention head.
    pub neuron_group: usize,
}

/// A network that is trained selectively.
pub trait Model: Send {
    /// Its numbers.
    fn parameters(&self) -> &Parameters;

    /// Its numbers, writable.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Its sites, in forward order; needs and probes refer to them by index.
    fn sites(&self) -> &[Site];

    /// The components of the given grain; their slices cover every parameter exactly once.
    fn components(&self, grain: Grain) -> Vec<Component>;

    /// Number of cut levels. Level 0 is the lowest; with the cut at the last one only the head is computed
    /// backward.
    fn levels(&self) -> usize;

    /// Whether parameter `index` is an embedding table, whose gradient holds looked-up rows only.
    fn is_table(&self, index: usize) -> bool;

    /// Needs of each site when the slices in `update` (one entry per parameter) are computed, `δ` is carried back
    /// to `cut`, and, where `observe`, a probe sees every site at and above it.
    fn needs(&self, update: &[Slices], cut: usize, observe: bool) -> Vec<Needs>;

    /// Tokens of the longest text that it can read.
    fn positions(&self) -> usize;

    /// Refuses a batch that does not fit: token ids outside the vocabulary, sequences longer than the positions.
    ///
    /// # Errors
    /// [`NnError::OutOfRange`].
    fn check(&self, batch: TokenBatch) -> Result<(), NnError>;

    /// Logits `[sequences, outputs]`; saves on the tape what `needs` ask for.
    fn forward(&self, engine: &Engine, batch: TokenBatch, needs: &[Needs], tape: &mut Tape) -> Tensor;

    /// Carries the output residual `[sequences, outputs]` back as far as `needs` ask.
    fn backward(
        &self,
        engine: &Engine,
        batch: TokenBatch,
        needs: &[Needs],
        residual: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    );

    /// The products that forward and backward run under `needs` for sequences of these lengths.
    fn products(&self, lengths: &[usize], needs: &[Needs]) -> Vec<Product>;

    /// `config.json` as it should be written back.
    fn config(&self) -> &Value;

    /// The tensors to write back: name, shape, scalars.
    fn checkpoint(&self) -> Checkpoint<'_>;
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

/// One forward and backward pass: returns what `loss` made of the logits. `loss` turns the logits into the output
/// residual in place and returns the loss.
pub fn forward_backward(
    model: &dyn Model,
    engine: &Engine,
    batch: TokenBatch,
    needs: &[Needs],
    gradients: &mut Gradients,
    probe: &mut dyn Probe,
    loss: impl FnOnce(&mut Tensor) -> f64,
) -> f64 {
    let mut tape = Tape::default();
    let mut logits = model.forward(engine, batch, needs, &mut tape);
    let value = loss(&mut logits);
    model.backward(engine, batch, needs, logits, &mut tape, &mut Sinks { gradients, probe });
    debug_assert!(tape.is_empty(), "forward saved {} tensors that backward did not read", tape.len());
    value
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
}

/// Reads a model folder: `config.json` and, unless everything is to be initialised, its safetensors.
///
/// # Errors
/// Every way in which a folder can be wrong: see [`NnError`].
pub fn load(folder: &Path, head: &HeadRequest) -> Result<Box<dyn Model>, NnError> {
    let config = read_config(folder)?;
    let found = config.get("model_type").and_then(Value::as_str).unwrap_or("");
    match found {
        "bert" | "distilbert" | "roberta" => Ok(Box::new(bert::Bert::load(folder, config, head)?)),
        _ => Err(NnError::UnknownModelType {
            path: folder.join("config.json"),
            found: found.into(),
            known: MODEL_TYPES.map(String::from).to_vec(),
        }),
    }
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
