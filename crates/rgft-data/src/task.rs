//! The text tasks: what a label means and which metric decides.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// What is predicted for a text, or for a pair of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TextTask {
    /// One class out of `classes`: softmax and cross-entropy over `[batch, classes]`.
    #[serde(rename = "text-classification")]
    Classification,
    /// Any subset of the labels: sigmoid and binary cross-entropy over `[batch, labels]`.
    #[serde(rename = "text-multi-label")]
    MultiLabel,
    /// A number: squared error over `[batch, 1]`.
    #[serde(rename = "text-regression")]
    Regression,
}

impl TextTask {
    /// The name on the command line and in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "text-classification",
            Self::MultiLabel => "text-multi-label",
            Self::Regression => "text-regression",
        }
    }

    /// The metric that chooses the best checkpoint; a key of what [`crate::metrics::evaluate`] returns.
    #[must_use]
    pub fn primary_metric(self) -> &'static str {
        match self {
            Self::Classification => "accuracy",
            Self::MultiLabel => "micro_f1",
            Self::Regression => "mse",
        }
    }

    /// Whether a larger [`TextTask::primary_metric`] is the better one.
    #[must_use]
    pub fn larger_is_better(self) -> bool {
        !matches!(self, Self::Regression)
    }

    /// Columns of the head's output `[batch, outputs]` for a label map of `labels` names.
    #[must_use]
    pub fn outputs(self, labels: usize) -> usize {
        match self {
            Self::Classification | Self::MultiLabel => labels,
            Self::Regression => 1,
        }
    }
}

impl fmt::Display for TextTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TextTask {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        [Self::Classification, Self::MultiLabel, Self::Regression]
            .into_iter()
            .find(|task| task.name() == text)
            .ok_or_else(|| DataError::UnknownTask { found: text.to_owned() })
    }
}
