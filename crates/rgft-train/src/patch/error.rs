//! What can be wrong with a patch, with what it is applied to, and with where it is written.

use std::path::PathBuf;

use rgft_nn::NnError;

/// Errors of making, applying, reverting, merging and showing patches.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    // ---- the input was wrong ----
    /// A model folder, or a file of tensors.
    #[error(transparent)]
    Model(#[from] NnError),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No patch, or one whose parts contradict each other or their checksum.
    #[error("{}: no sound patch: {reason}\nhint: copy it again, or make one with rgft patch diff", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it is known.
        reason: String,
    },
    /// The patch was made from another base.
    #[error("{}: not the base of {}: {difference}\nhint: the patch was made from {base:?}", folder.display(), patch.display())]
    WrongBase {
        /// The model folder that was given.
        folder: PathBuf,
        /// The patch.
        patch: PathBuf,
        /// How it is known.
        difference: String,
        /// What the base was called when the patch was made.
        base: String,
    },
    /// The model is not what the patch makes of its base.
    #[error("{}: not what {} makes of its base: {difference}\nhint: revert the very model that the patch was made from or applied to", folder.display(), patch.display())]
    WrongTuned {
        /// The model folder that was given.
        folder: PathBuf,
        /// The patch.
        patch: PathBuf,
        /// How it is known.
        difference: String,
    },
    /// Two patches that cannot be merged.
    #[error("{} and {}: patches of different bases: {difference}\nhint: patches of one and the same base can be merged", first.display(), second.display())]
    OtherBase {
        /// One patch.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// How it is known.
        difference: String,
    },
    /// Two patches that change the same scalars in different ways.
    #[error("{} and {} differ in {conflicts}\nhint: choose whose values to take with --prefer first or --prefer second", first.display(), second.display())]
    Conflict {
        /// One patch.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Where.
        conflicts: String,
    },
    /// The place for the result cannot be used.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Out {
        /// File or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: &'static str,
    },

    // ---- it failed ----
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
