//! `y = n(x)`: the norm behind the last block of a pre-norm network, a level of its own, so that a fresh head can be
//! trained without it.

use rgft_core::{ComponentKind, Extent, Slices};

use super::pre_norm::PreNorm;
use super::{Block, Context, Part, Sinks, whole};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A norm as a block.
#[derive(Clone, Debug)]
pub struct FinalNorm(pub PreNorm);

impl Block for FinalNorm {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        self.0.forward(cx, &x, tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.0.backward(cx, dy, tape, sinks)
    }

    /// A norm runs no product.
    fn products(&self, _: &[Needs], _: &Extent, _: &mut Vec<Product>) {}

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        self.0.set_needs(needs, below, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let slices = self.0.parameters().into_iter().map(|parameter| whole(parameters, parameter)).collect();
        vec![Part::new("", ComponentKind::Norm, slices)]
    }
}
