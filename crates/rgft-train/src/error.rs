//! What can go wrong in a run, and whose fault it was.

use std::path::PathBuf;

use rgft_core::CoreError;
use rgft_data::DataError;
use rgft_nn::NnError;

use crate::patch::PatchError;
use crate::recipe::RecipeError;

/// Errors of training, evaluating and predicting.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    // ---- the input was wrong ----
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model folder.
    #[error(transparent)]
    Model(#[from] NnError),
    /// A setting of the method.
    #[error(transparent)]
    Method(#[from] CoreError),
    /// A patch, or what it was applied to; or it could not be written.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The out folder cannot be used.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    OutFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// The model is not one for the task.
    #[error("{}: a {model_type} reads {reads}, the task is {task}\nhint: set task to {tasks}, or take another model", folder.display())]
    WrongTask {
        /// The model folder.
        folder: PathBuf,
        /// Its architecture.
        model_type: String,
        /// What that reads.
        reads: &'static str,
        /// The recipe's task.
        task: &'static str,
        /// What the model can do.
        tasks: &'static str,
    },
    /// Model and data do not fit together.
    #[error("{problem}\nhint: {hint}")]
    Mismatch {
        /// What does not fit.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// More memory is needed than the run may hold.
    #[error(
        "the run needs about {} MiB, memory-limit is {} MiB\nhint: raise memory-limit, lower max-length, image-size or budget, or take a method that updates less (rgft, lora)",
        needed.div_ceil(1 << 20), mebibytes
    )]
    MemoryLimit {
        /// Bytes, with everything that can be spared spared.
        needed: u64,
        /// The limit.
        mebibytes: usize,
    },

    // ---- the run failed ----
    /// The loss is no longer a number.
    #[error(
        "the loss is {loss} at step {step}: training diverged\nhint: lower learning-rate or head-learning-rate, or set clip"
    )]
    Diverged {
        /// The step.
        step: usize,
        /// The loss there.
        loss: f64,
    },
    /// The model could not be saved.
    #[error(transparent)]
    Save(NnError),
    /// A file could not be written during the run.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The prefix cache's temporary file could not be read.
    #[error(
        "a temporary file in {} could not be read: {source}\nhint: set TMPDIR to another folder, or raise cache-memory",
        std::env::temp_dir().display()
    )]
    PrefixCache {
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread pool could not be made.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What rayon said.
        reason: String,
    },
}

impl TrainError {
    /// Whether the caller's input was at fault (exit status 2), not the run (1).
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Self::Diverged { .. }
                | Self::Save(_)
                | Self::Write { .. }
                | Self::PrefixCache { .. }
                | Self::Patch(PatchError::Write { .. })
                | Self::Threads { .. }
                | Self::Method(CoreError::NotAnEnergy { .. })
        )
    }
}
