//! Components: the units that are tracked and updated, as sets of slices of the model's parameters.
//!
//! An attention head is its rows of Wq, Wk, Wv (with their biases) and its columns of Wo; a group of feed-forward
//! neurons is its rows of the up-projection and its columns of the down-projection. A parameter may be shared
//! out over many components; each of its scalars belongs to one component only.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ranges::{Ranges, Slices};
use crate::words::words;

/// How finely a model is divided into components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One component per layer.
    Layer,
    /// Attention, feed-forward and norm of each layer.
    Module,
    /// Each attention head, group of neurons, norm.
    #[default]
    Group,
    /// Each weight and each bias, whole.
    Tensor,
}

impl Granularity {
    /// Every granularity, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Layer, Self::Module, Self::Group, Self::Tensor];
}

words!(Granularity, "granularity", {
    "layer" => Granularity::Layer,
    "module" => Granularity::Module,
    "group" => Granularity::Group,
    "tensor" => Granularity::Tensor,
});

/// What a component is: the column of the heat map that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ComponentKind {
    /// Token, position and type embeddings.
    Embedding,
    /// One attention head: its rows of Wq, Wk, Wv and its columns of Wo.
    AttentionHead,
    /// All of an attention block.
    Attention,
    /// A group of feed-forward neurons: rows of the up-projection, columns of the down-projection.
    Neurons,
    /// All of a feed-forward block.
    FeedForward,
    /// A gate of a recurrent layer × a group of its hidden units: rows of W_ih, W_hh and of their biases.
    Gate,
    /// A group of a convolution's output channels: rows of its weight, with the norm's entries for them.
    Channels,
    /// A normalisation's scale and shift, with the bias that is added to the same hidden state.
    Norm,
    /// A low-rank adapter beside a linear map.
    Adapter,
    /// A whole layer.
    Layer,
    /// The head that maps hidden states to the task's output.
    TaskHead,
}

words!(ComponentKind, "component kind", {
    "embedding" => ComponentKind::Embedding,
    "attention-head" => ComponentKind::AttentionHead,
    "attention" => ComponentKind::Attention,
    "neurons" => ComponentKind::Neurons,
    "feed-forward" => ComponentKind::FeedForward,
    "gate" => ComponentKind::Gate,
    "channels" => ComponentKind::Channels,
    "norm" => ComponentKind::Norm,
    "adapter" => ComponentKind::Adapter,
    "layer" => ComponentKind::Layer,
    "task-head" => ComponentKind::TaskHead,
});

/// The side of a parameter's `[rows, cols]` view that a slice runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Output features of a linear map; entries of a vector, which is `[n, 1]`.
    Rows,
    /// Input features of a linear map.
    Cols,
}

/// Contiguous rows or columns of one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// Index into the model's list of parameters.
    pub parameter: usize,
    /// Whether `range` counts rows or columns.
    pub axis: Axis,
    /// The rows or columns.
    pub range: Range<usize>,
}

impl From<&Slice> for Slices {
    fn from(slice: &Slice) -> Self {
        let ranges = Ranges::single(slice.range.clone());
        match slice.axis {
            Axis::Rows => Self::Rows(ranges),
            Axis::Cols => Self::Cols(ranges),
        }
    }
}

/// A unit that is tracked, and updated or skipped, as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Path in the model: `encoder.layer.3.attention.head.5`.
    pub name: String,
    /// What it is.
    pub kind: ComponentKind,
    /// Row of the heat map; `None` for embeddings and the task head.
    pub layer: Option<usize>,
    /// The cut at or below which this component can be updated: backward reaches it if and only if
    /// `cut ≤ depth`. 0 is the lowest.
    pub depth: usize,
    /// The parts of parameters that it owns.
    pub slices: Vec<Slice>,
    /// Number of scalars in `slices`.
    pub parameters: usize,
    /// Freshly initialised (a new task head): always active, with weight 1.
    pub fresh: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parsed_printed_and_serialised_alike() {
        for word in ["layer", "module", "group", "tensor"] {
            let granularity: Granularity = word.parse().unwrap();
            assert_eq!(granularity.to_string(), word);
            assert_eq!(serde_json::to_value(granularity).unwrap(), word);
        }
        for word in [
            "embedding",
            "attention-head",
            "attention",
            "neurons",
            "feed-forward",
            "gate",
            "channels",
            "norm",
            "adapter",
            "layer",
            "task-head",
        ] {
            let kind: ComponentKind = word.parse().unwrap();
            assert_eq!(kind.to_string(), word);
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
        }
        let error = "head".parse::<Granularity>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "granularity: found `head`, expected one of layer, module, group, tensor"
        );
    }

    #[test]
    fn a_slice_selects_along_its_axis() {
        let columns = Slice { parameter: 3, axis: Axis::Cols, range: 2..5 };
        assert_eq!(Slices::from(&columns).elements(10, 8), 30);
        let rows = Slice { axis: Axis::Rows, ..columns };
        assert_eq!(Slices::from(&rows).elements(10, 8), 24);
    }
}
