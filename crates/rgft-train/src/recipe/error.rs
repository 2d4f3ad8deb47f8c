//! What can be wrong with a recipe. Every message names the place, the key, what was found and what was
//! expected; a second line `hint: …` says what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where a setting was written: shown in front of a message as `recipe.toml:7: `, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(Option<(PathBuf, usize)>);

impl Place {
    /// A flag, `--set`, or a value given in code: the key alone says enough.
    pub fn flag() -> Self {
        Place(None)
    }

    /// Line `line` (from 1) of a recipe file.
    pub fn line(file: &Path, line: usize) -> Self {
        Place(Some((file.to_path_buf(), line)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((file, line)) => write!(f, "{}:{line}: ", file.display()),
            None => Ok(()),
        }
    }
}

/// A recipe that cannot be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecipeError {
    // --- reading ---------------------------------------------------------------------------------
    /// The recipe file cannot be read.
    #[error("{}: cannot read the recipe", file.display())]
    Read {
        /// The file given with `--config`.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The file is not TOML.
    #[error("{place}not TOML: {message}")]
    Syntax {
        /// File and line.
        place: Place,
        /// What the parser said.
        message: String,
    },

    /// `--set` without `=`.
    #[error("--set {found}: expected key=value\nhint: for example --set learning-rate=2e-4")]
    Assignment {
        /// What was typed after `--set`.
        found: String,
    },

    // --- keys and values -------------------------------------------------------------------------
    /// A key that no recipe has.
    #[error("{place}unknown key `{key}`\nhint: the closest key is `{closest}`")]
    UnknownKey {
        /// Where it was written.
        place: Place,
        /// The key as written.
        key: String,
        /// The known key that resembles it most.
        closest: &'static str,
    },

    /// A value of the wrong type or out of its range.
    #[error("{place}{key} = {found}: expected {expected}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The key.
        key: &'static str,
        /// The value as written.
        found: String,
        /// What the key takes.
        expected: &'static str,
    },

    /// A key without a default is not set.
    #[error("{key} is missing: expected {expected}\nhint: add --{key}, or the key `{key}` to the recipe")]
    Missing {
        /// The key.
        key: &'static str,
        /// What the key takes.
        expected: &'static str,
    },

    /// Two values that do not go together.
    #[error("{key} = {found}: {reason}\nhint: {hint}")]
    Conflict {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// Why it cannot stand.
        reason: String,
        /// What to change.
        hint: String,
    },

    /// A setting that the method itself refuses, such as a pattern that is no glob.
    #[error(transparent)]
    Core(#[from] rgft_core::CoreError),
}
