//! A convolution and its batch norm: the unit that convolutional networks are made of.
//!
//! A group of output channels is rows of `W` and the same entries of γ and β.

use rgft_core::{ComponentKind, Extent};

use super::batch_norm::BatchNorm;
use super::conv::Conv;
use super::{Context, Part, Sinks, groups, rows};
use crate::models::Grain;
use crate::needs::Needs;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Groups of channels in one convolution, where the grain does not say how large one is.
const GROUPS: usize = 4;
/// Fewer channels than this make no group.
const LEAST: usize = 4;

/// `clip(BN(conv(x)) + residual)`.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    /// What its components' names begin with, inside of its block: `conv1`.
    pub name: String,
    /// The convolution.
    pub conv: Conv,
    /// The norm, and what it clips to.
    pub norm: BatchNorm,
}

impl ConvNorm {
    /// The extent of what leaves it.
    pub fn extent(&self, entering: &Extent) -> Extent {
        self.conv.extent(entering)
    }

    /// Whether backward computes anything here.
    pub fn is_reached(&self, needs: &[Needs]) -> bool {
        !needs[self.conv.site].is_empty() || !needs[self.norm.site].is_empty()
    }

    /// `x` `[N·H·W, in]` → `[N·H'·W', out]`. `passes_back` as in [`BatchNorm::forward`]. The input is the caller's to
    /// save, where [`Conv::reads_input`].
    pub fn forward(
        &self,
        cx: Context,
        x: &[f32],
        residual: Option<&[f32]>,
        passes_back: bool,
        tape: &mut Tape,
    ) -> Tensor {
        let z = self.conv.forward(cx, x);
        let leaving = self.extent(cx.extent);
        self.norm.forward(Context { extent: &leaving, ..cx }, z, residual, passes_back, tape)
    }

    /// Accumulates the parameters' gradients. Returns what the residual receives, and `δ` of the convolution where it
    /// is needed: for [`Conv::backward_input`].
    pub fn backward(
        &self,
        cx: Context,
        x: Option<&[f32]>,
        dy: Tensor,
        passes_back: bool,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> (Tensor, Option<Tensor>) {
        let leaving = self.extent(cx.extent);
        let (g, delta) = self.norm.backward(Context { extent: &leaving, ..cx }, dy, passes_back, tape, sinks);
        if let Some(delta) = &delta {
            self.conv.backward_parameters(cx, x, delta, sinks);
        }
        (g, delta)
    }

    /// Sets the needs of both sites; returns whether backward computes anything here.
    pub fn set_needs(&self, needs: &mut [Needs], below: bool, observe: bool) -> bool {
        let conv = &mut needs[self.conv.site];
        conv.dx = super::all_if(below);
        conv.observe = observe;
        let through = super::all_if(!conv.is_empty());
        let norm = &mut needs[self.norm.site];
        norm.dx = through;
        norm.observe = observe;
        self.is_reached(needs)
    }

    /// As [`Conv::products`].
    pub fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.conv.products(needs, extent, out);
    }

    /// Groups of output channels.
    pub fn parts(&self, grain: Grain) -> Vec<Part> {
        let size = match grain.neuron_group {
            0 => grain.group_size(self.conv.output, GROUPS).max(LEAST),
            size => size,
        };
        let parameters = [self.conv.weight, self.norm.weight, self.norm.bias];
        let part = |(g, range): (usize, std::ops::Range<usize>)| {
            let slices = parameters.map(|parameter| rows(parameter, range.clone())).to_vec();
            let dot = if self.name.is_empty() { "" } else { "." };
            Part::new(format!("{}{dot}channels.{g}", self.name), ComponentKind::Channels, slices)
        };
        groups(self.conv.output, size).enumerate().map(part).collect()
    }
}
