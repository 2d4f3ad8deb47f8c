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

/// What a site turned its input into, in forward.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'a> {
    /// What a linear map multiplied, `[rows, in]`: its output is `x·Wᵀ + b`, whoever adds `b`.
    Input(&'a Tensor),
    /// What came out of a convolution or a norm, `[rows, out]`.
    Output(&'a Tensor),
    /// Rows of an embedding table, one per token.
    Rows(&'a [u32]),
}

/// Sees what passes each site in forward, without any backward: see [`Engine::observe`]. A convolution's batch norm is
/// not shown, because it is fused with what follows.
pub trait Observer {
    /// Called once per site and forward pass.
    fn pass(&mut self, engine: &Engine, site: usize, passed: Passed);
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind;

impl Probe for Blind {
    fn see(&mut self, _: &Engine, _: usize, _: Activation, _: &Tensor) {}
}
