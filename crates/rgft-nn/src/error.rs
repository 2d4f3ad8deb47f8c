//! What can be wrong with a model folder.

use std::path::PathBuf;

/// Errors of loading, checking and saving models.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    // ---- files ----
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model folder lacks a file.
    #[error("{}: no {file} in this model folder\nhint: a model folder holds config.json, model.safetensors and tokenizer.json; `rgft data get OWNER/NAME` fetches one", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        file: String,
    },
    /// A safetensors file is damaged or truncated.
    #[error("{}: not a whole safetensors file: {reason}\nhint: download it again and compare its size", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    // ---- config.json ----
    /// A JSON file does not parse.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What serde found.
        source: serde_json::Error,
    },
    /// A key of config.json is missing or has a wrong value.
    #[error("{}: {key} {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What was found, and what was expected.
        problem: String,
    },
    /// No model of this type is registered.
    #[error("{}: unknown model_type {found:?}\nhint: known model types are {}", path.display(), known.join(", "))]
    UnknownModelType {
        /// The file.
        path: PathBuf,
        /// The type found.
        found: String,
        /// The types that are known.
        known: Vec<String>,
    },

    // ---- tensors ----
    /// A tensor that the model needs is in no file.
    #[error("{}: tensor {name:?} is missing{}", folder.display(), nearest.as_ref().map(|n| format!("\nhint: there is {n:?}")).unwrap_or_default())]
    MissingTensor {
        /// The model folder.
        folder: PathBuf,
        /// The tensor's name.
        name: String,
        /// The name in the file that is most like it.
        nearest: Option<String>,
    },
    /// A tensor has another shape than config.json implies.
    #[error("{}: tensor {name:?} has shape {found:?}, config.json implies {expected:?}", folder.display())]
    Shape {
        /// The model folder.
        folder: PathBuf,
        /// The tensor's name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the model needs.
        expected: Vec<usize>,
    },
    /// A tensor has a type that weights cannot have.
    #[error("{}: tensor {name:?} has type {found}, expected F32, F16, BF16 or F64", folder.display())]
    Dtype {
        /// The model folder.
        folder: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type in the file.
        found: String,
    },
    /// A tensor holds NaN or infinity, or a negative variance.
    #[error("{}: tensor {name:?} holds {value} at position {position}\nhint: the checkpoint is damaged or its training diverged", folder.display())]
    NotFinite {
        /// The model folder.
        folder: PathBuf,
        /// The tensor's name.
        name: String,
        /// Position of the first such value.
        position: usize,
        /// The value.
        value: f32,
    },
    /// config.json asks for a tensor that no machine holds.
    #[error("{}: config.json makes tensor {name:?} {shape:?} large\nhint: is one of its sizes mistyped?", folder.display())]
    TooLarge {
        /// The model folder.
        folder: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A token lies outside the vocabulary, or a text is longer than the model's positions.
    #[error("{what} {found} does not fit the model, which has {limit}")]
    OutOfRange {
        /// What was too large.
        what: &'static str,
        /// The value found.
        found: usize,
        /// The model's limit.
        limit: usize,
    },
    /// Windows of series of another length than the model's.
    #[error("windows of {found} steps, the model reads {expected}\nhint: set `context` to {expected}")]
    Context {
        /// Steps of the window.
        found: usize,
        /// Steps that the model reads.
        expected: usize,
    },
    /// Pictures of another size than the model's.
    #[error("images are {found:?}, the model reads {expected:?} (height, width, channels)")]
    ImageShape {
        /// Height, width and channels of the images.
        found: [usize; 3],
        /// What the model reads.
        expected: [usize; 3],
    },
    /// Inputs of a kind that the model does not read.
    #[error("the model reads {expected}\nhint: is this the right --task for the model?")]
    Inputs {
        /// What it reads.
        expected: &'static str,
    },
}
