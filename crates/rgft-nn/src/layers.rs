//! Layers: one file each, formula on top, forward and backward side by side, and the products both run.
//!
//! Convention: parameter gradients accumulate, activation gradients are assigned. A layer owns no numbers: it
//! knows which parameters it uses and which [`Needs`] are its own.

pub mod attention;
pub mod embedding;
pub mod feed_forward;
pub mod head;
pub mod linear;
pub mod norm;

use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::Probe;

/// What every layer reads, forward and backward.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Runs the kernels.
    pub engine: &'a Engine,
    /// The model's numbers.
    pub parameters: &'a Parameters,
    /// What is asked of each site.
    pub needs: &'a [Needs],
    /// Rows (tokens) of each sequence of the packed batch.
    pub lengths: &'a [usize],
}

/// Where backward puts what it finds.
pub struct Sinks<'a> {
    /// Parameter gradients.
    pub gradients: &'a mut Gradients,
    /// Sees `(site, a, δ)`.
    pub probe: &'a mut dyn Probe,
}
