//! Everything that can go wrong in this crate. A message says what was found and what was expected.

use thiserror::Error;

/// The error of every fallible function of this crate.
#[derive(Debug, Error)]
pub enum CoreError {
    // ---- settings ----
    /// A word that is not one of a setting's values.
    #[error("{setting}: found `{found}`, expected one of {expected}")]
    UnknownWord {
        /// The setting that was given the word.
        setting: &'static str,
        /// The word as given.
        found: String,
        /// The words that exist, comma-separated.
        expected: String,
    },
    /// A number outside of what a setting allows.
    #[error("{setting}: found {found}, expected {expected}")]
    OutOfRange {
        /// The setting that was given the number.
        setting: &'static str,
        /// The number as given.
        found: f64,
        /// The interval that is allowed, in words.
        expected: &'static str,
    },
    /// A component pattern that is no valid glob.
    #[error("alpha: `{pattern}` is no valid glob: {source}")]
    Glob {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },

    // ---- numbers from a run ----
    /// A list that must have one entry per component has another length.
    #[error("{what}: found {found} entries, expected {expected}, one per component")]
    Length {
        /// The list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The number of components.
        expected: usize,
    },
    /// A value that is NaN, infinite or negative where the error map needs a non-negative number.
    #[error(
        "component `{component}`: found {what} {found}, expected a finite number ≥ 0\n\
         hint: the loss has probably diverged; lower the learning rate"
    )]
    NotAnEnergy {
        /// Name of the component.
        component: String,
        /// Which of its values.
        what: &'static str,
        /// The value.
        found: f64,
    },

    // ---- slices ----
    /// One parameter was asked for rows and for columns at the same time.
    #[error(
        "a [{rows}, {cols}] parameter is asked for some of its rows and some of its columns, expected one kind"
    )]
    MixedSlices {
        /// Rows of the parameter.
        rows: usize,
        /// Columns of the parameter.
        cols: usize,
    },
}
