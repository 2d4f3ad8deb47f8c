//! Layers: one file each, formula on top, forward and backward side by side, and the products both run.
//!
//! Convention: parameter gradients accumulate, activation gradients are assigned. A layer owns no numbers: it
//! knows which parameters it uses and which [`Needs`] are its own. What a model is a chain of are [`Block`]s, on top
//! of one [`Stem`]; a hidden state is a matrix `[rows, channels]` with the rows that an [`Extent`] says.

pub mod attention;
pub mod batch_norm;
pub mod conv;
pub mod conv_norm;
pub mod embedding;
pub mod feed_forward;
pub mod final_norm;
pub mod final_state_head;
pub mod forecast_head;
pub mod head;
pub mod image_head;
pub mod image_stem;
pub mod linear;
pub mod lm_head;
pub mod norm;
pub mod patch_embedding;
pub mod patch_stem;
pub mod pre_norm;
pub mod recurrent;
pub mod residual_block;
pub mod rms_norm;
pub mod series_stem;
pub(crate) mod softmax_attention;
pub mod token_stem;
pub mod window_stem;

use std::fmt::Debug;
use std::ops::Range;

use rgft_core::{Axis, ComponentKind, Extent, Inputs, Slice, Slices};

use crate::NnError;
use crate::decoding::Cache;
use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::Probe;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// What every layer reads, forward and backward.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Runs the kernels.
    pub engine: &'a Engine,
    /// The model's numbers.
    pub parameters: &'a Parameters,
    /// What is asked of each site.
    pub needs: &'a [Needs],
    /// How large what enters is.
    pub extent: &'a Extent,
    /// What the batch reads, for blocks that bring outputs back to its units; `None` where tokens come one by one.
    pub inputs: Option<&'a Inputs>,
}

impl<'a> Context<'a> {
    /// Rows of each sequence that enters.
    ///
    /// # Panics
    /// If maps enter: a model is built so that they do not.
    pub fn lengths(&self) -> &'a [usize] {
        lengths(self.extent)
    }
}

/// Rows of each sequence.
///
/// # Panics
/// If the extent is one of maps.
pub fn lengths(extent: &Extent) -> &[usize] {
    match extent {
        Extent::Sequences(lengths) => lengths,
        Extent::Maps { .. } => panic!("this layer reads sequences"),
    }
}

/// Where backward puts what it finds.
pub struct Sinks<'a> {
    /// Parameter gradients.
    pub gradients: &'a mut Gradients,
    /// Sees `(site, a, δ)`.
    pub probe: &'a mut dyn Probe,
}

/// One cut level of a model: what turns one hidden state into the next. The last one makes the outputs.
pub trait Block: Debug + Send + Sync {
    /// `x` `[extent.rows(), channels]` → y; saves on the tape what backward will read under the needs.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor;

    /// `dy` → dx, where something below the block needs it.
    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor>;

    /// The products that forward and backward run under `needs` for a batch of which `extent` enters.
    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>);

    /// Sets what the block's sites need: `update` by parameter, `below` whether `δ` must leave the block, `observe`
    /// whether a probe sees every site. Their `dw` and `db` are set already.
    fn set_needs(&self, needs: &mut [Needs], update: &[Slices], below: bool, observe: bool);

    /// The components at the finest grain: disjoint slices that together cover all parameters of the block.
    fn parts(&self, parameters: &Parameters, grain: Grain) -> Vec<Part>;

    /// The sites that take an adapter beside their weight.
    fn adaptable(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The extent of what leaves the block.
    fn extent(&self, entering: &Extent) -> Extent {
        entering.clone()
    }

    /// Whether the input is added to what the block makes of it, so that `δ` passes it along an identity.
    fn is_residual(&self) -> bool {
        false
    }

    /// An empty memory of a sequence; `None` where the block cannot go on from the tokens before, one by one.
    fn cache(&self) -> Option<Cache> {
        None
    }

    /// `x` `[new tokens, channels]`, which follow those in `cache`, → y; without a backward. A block that remembers
    /// nothing runs forward.
    fn decode(&self, cx: Context, x: Tensor, cache: &mut Cache) -> Tensor {
        cache.tokens += x.rows();
        self.forward(cx, x, &mut Tape::default())
    }
}

/// The lowest cut level of a model: what turns inputs into the first hidden state.
pub trait Stem: Debug + Send + Sync {
    /// Inputs → `[extent.rows(), channels]`.
    fn forward(&self, cx: Context, inputs: &Inputs, tape: &mut Tape) -> Tensor;

    /// The end of every backward that comes this far.
    fn backward(&self, cx: Context, inputs: &Inputs, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks);

    /// As [`Block::products`].
    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>);

    /// As [`Block::set_needs`].
    fn set_needs(&self, needs: &mut [Needs], update: &[Slices], observe: bool);

    /// As [`Block::parts`].
    fn parts(&self, parameters: &Parameters, grain: Grain) -> Vec<Part>;

    /// As [`Block::adaptable`].
    fn adaptable(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The extent of the first hidden state for inputs of this one.
    fn extent(&self, entering: &Extent) -> Extent {
        entering.clone()
    }

    /// Refuses inputs that do not fit.
    ///
    /// # Errors
    /// [`NnError::OutOfRange`], [`NnError::Inputs`].
    fn check(&self, parameters: &Parameters, inputs: &Inputs) -> Result<(), NnError>;

    /// The hidden state of tokens that follow `first` others; `None` where the inputs are none.
    fn decode(&self, _: Context, _ids: &[u32], _first: usize) -> Option<Tensor> {
        None
    }
}

/// A component in the making.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What follows its block's name: `head.5`, `neurons.2`, `norm`; nothing for the block itself.
    pub name: String,
    /// What it is.
    pub kind: ComponentKind,
    /// The parts of parameters that it owns.
    pub slices: Vec<Slice>,
}

impl Part {
    /// A part that owns these slices.
    pub fn new(name: impl Into<String>, kind: ComponentKind, slices: Vec<Slice>) -> Self {
        Self { name: name.into(), kind, slices }
    }
}

/// All of a parameter.
pub fn whole(parameters: &Parameters, parameter: usize) -> Slice {
    rows(parameter, 0..parameters[parameter].rows())
}

/// Rows of a parameter.
pub fn rows(parameter: usize, range: Range<usize>) -> Slice {
    Slice { parameter, axis: Axis::Rows, range }
}

/// Columns of a parameter.
pub fn columns(parameter: usize, range: Range<usize>) -> Slice {
    Slice { parameter, axis: Axis::Cols, range }
}

/// `0..n` in groups of `size`, the last one perhaps smaller.
pub fn groups(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

/// All or nothing.
pub(crate) fn all_if(condition: bool) -> Slices {
    if condition { Slices::All } else { Slices::None }
}

/// The columns that these rows of the maps before it make of a hidden activation, taken together: what backward must
/// bring to those rows.
pub(crate) fn columns_of_rows<'a>(parts: impl IntoIterator<Item = &'a Slices>) -> Slices {
    let columns = parts.into_iter().map(|part| match part {
        Slices::Rows(ranges) => Slices::Cols(ranges.clone()),
        other if other.is_none() => Slices::None,
        _ => Slices::All,
    });
    columns.fold(Slices::None, union_of_columns)
}

/// Columns, taken together.
pub(crate) fn union_of_columns(one: Slices, other: Slices) -> Slices {
    match (one, other) {
        (Slices::Cols(a), Slices::Cols(b)) => Slices::Cols(a.union(&b)),
        (Slices::None, part) | (part, Slices::None) => part,
        _ => Slices::All,
    }
}
