//! Watching carried-back residuals. A probe sees what passes a site; it never changes numbers.

use rgft_kernels::cpu::conv::ConvShape;

use crate::engine::Engine;
use crate::tensor::Tensor;

/// What entered a site in forward.
#[derive(Clone, Copy, Debug)]
pub enum Activation<'a> {
    /// A matrix `[rows, in]`; for a norm, its normalised input.
    Dense(&'a Tensor),
    /// Rows of an embedding table, one per token.
    Rows(&'a [u32]),
    /// The maps that a convolution slides over.
    Maps {
        /// `[examples, height, width, in]`.
        x: &'a [f32],
        /// How it slides.
        shape: ConvShape,
    },
}

/// Sees `(site, a, δ)` in backward order: the site's input and `δ = ∂ℓ/∂output` `[rows, out]`.
pub trait Probe {
    /// Called once per observed site and backward pass.
    fn see(&mut self, engine: &Engine, site: usize, input: Activation, delta: &Tensor);
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind;

impl Probe for Blind {
    fn see(&mut self, _: &Engine, _: usize, _: Activation, _: &Tensor) {}
}
