//! Blocks of a pre-norm transformer, `y = x + branch(n(x))`: shared by decoders, vision and time series.
//!
//! `n` is a layer norm or an RMS norm. `δ` passes a block along the residual as it is, plus what the branch adds; where
//! it need not leave the block, backward goes through the active heads or neurons alone.

mod attention;
mod feed_forward;
mod rotary;

pub use attention::PreNormAttention;
pub use feed_forward::{Neurons, PreNormFeedForward};
pub use rotary::{Rotary, Tables};

use rgft_core::ComponentKind;

use super::norm::Norm;
use super::rms_norm::RmsNorm;
use super::{Context, Part, Sinks, all_if, whole};
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// The norm before a branch.
#[derive(Clone, Debug)]
pub enum PreNorm {
    /// `γ·(x − mean x)/√(var x + ε) + β`; dropout of its own must be 0.
    Layer(Norm),
    /// `γ·x/√(mean x² + ε)`.
    Rms(RmsNorm),
}

impl PreNorm {
    /// Its site.
    pub fn site(&self) -> usize {
        match self {
            Self::Layer(norm) => norm.site,
            Self::Rms(norm) => norm.site,
        }
    }

    /// γ, and β if there is one.
    pub fn parameters(&self) -> Vec<usize> {
        match self {
            Self::Layer(norm) => vec![norm.weight, norm.bias],
            Self::Rms(norm) => vec![norm.weight],
        }
    }

    /// `x`, `n(x)` `[rows, width]`.
    pub fn forward(&self, cx: Context, x: &Tensor, tape: &mut Tape) -> Tensor {
        match self {
            Self::Layer(norm) => norm.forward(cx, x, None, None, tape),
            Self::Rms(norm) => norm.forward(cx, x, tape),
        }
    }

    /// Accumulates dγ and dβ; returns dx `[rows, width]` where something below needs it.
    pub fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        match self {
            Self::Layer(norm) => norm.backward(cx, dy, tape, sinks),
            Self::Rms(norm) => norm.backward(cx, dy, tape, sinks),
        }
    }

    /// Sets what its site needs; returns whether that is anything: then `δ` must come to it.
    pub fn set_needs(&self, needs: &mut [Needs], below: bool, observe: bool) -> bool {
        let own = &mut needs[self.site()];
        own.dx = all_if(below);
        own.observe = observe;
        !own.is_empty()
    }
}

/// The part of a block that is its norms, with the bias that is added to the residual.
fn norm_part(parameters: &Parameters, all: impl IntoIterator<Item = usize>) -> Part {
    let slices = all.into_iter().map(|parameter| whole(parameters, parameter)).collect();
    Part::new("norm", ComponentKind::Norm, slices)
}

/// What `dy` means for a branch with dropout at `place`: a new tensor, or `None` where dropout is off and the branch
/// receives `dy` itself.
fn branch_delta(cx: Context, place: usize, probability: f32, dy: &Tensor) -> Option<Tensor> {
    let dropout = cx.engine.dropout(place, probability)?;
    let mut branch = cx.engine.tensor(dy.rows(), dy.cols());
    cx.engine.kernels.drop_into(dropout, dy.data(), branch.data_mut());
    Some(branch)
}

/// `x + dropout(branch + bias)`.
fn joined(
    cx: Context,
    mut x: Tensor,
    branch: &Tensor,
    bias: &[f32],
    place: usize,
    probability: f32,
) -> Tensor {
    let (cols, dropout) = (x.cols(), cx.engine.dropout(place, probability));
    cx.engine.kernels.add_branch(x.data_mut(), cols, branch.data(), bias, dropout);
    x
}
