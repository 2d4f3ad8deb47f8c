//! What is learnt: what a target means, which loss and which metric go with it.

/// What a model learns to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Objective {
    /// One class out of `classes`: softmax and cross-entropy over `[batch, classes]`.
    Classification,
    /// Any subset of the labels: sigmoid and binary cross-entropy over `[batch, labels]`.
    MultiLabel,
    /// A number: squared error over `[batch, 1]`.
    Regression,
    /// The next token at every token: softmax and cross-entropy over `[tokens, vocabulary]`.
    NextToken,
    /// The coming steps of a series: squared error over `[windows, horizon]`.
    Forecast,
}

impl Objective {
    /// The metric that chooses the best checkpoint; a key of what evaluation returns.
    #[must_use]
    pub fn primary_metric(self) -> &'static str {
        match self {
            Self::Classification => "accuracy",
            Self::MultiLabel => "micro_f1",
            Self::Regression | Self::Forecast => "mse",
            Self::NextToken => "loss",
        }
    }

    /// Whether a larger [`Objective::primary_metric`] is the better one.
    #[must_use]
    pub fn larger_is_better(self) -> bool {
        matches!(self, Self::Classification | Self::MultiLabel)
    }
}
