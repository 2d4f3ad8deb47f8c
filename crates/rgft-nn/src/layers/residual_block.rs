//! A chain of convolutions with batch norms, and a shortcut past it: `y = clip(branch(x) + shortcut(x))`.
//!
//! Basic and bottleneck blocks (He et al. 2015): two or three convolutions, ReLU after the sum. Inverted residuals
//! (Sandler et al. 2018): expansion, depthwise, projection, nothing after the sum. Without a shortcut it is just a chain.
//!
//! Backward goes through the branch only as far down as something there, or below the block, needs it; the shortcut
//! gets its `δ` from the clip alone.

use rgft_core::{Extent, Slices};
use rgft_kernels::cpu::image_pool::MapShape;

use super::conv::maps;
use super::conv_norm::ConvNorm;
use super::{Block, Context, Part, Sinks};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// What joins the branch at its end.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// Nothing.
    None,
    /// The input.
    Identity,
    /// Every second pixel of the input, with zero channels before and behind: option A.
    Pad {
        /// Zero channels before the input's.
        before: usize,
    },
    /// A 1×1 convolution with a norm: option B.
    Projection(ConvNorm),
}

/// A block of a convolutional network.
#[derive(Clone, Debug)]
pub struct ResidualBlock {
    /// The convolutions, in order; the last one's clip comes after the sum.
    pub branch: Vec<ConvNorm>,
    /// What joins.
    pub shortcut: Shortcut,
}

impl ResidualBlock {
    fn units(&self) -> impl Iterator<Item = &ConvNorm> {
        let projection = match &self.shortcut {
            Shortcut::Projection(unit) => Some(unit),
            _ => None,
        };
        self.branch.iter().chain(projection)
    }

    /// Extents that enter the units of the branch, and what leaves.
    fn extents(&self, entering: &Extent) -> Vec<Extent> {
        let mut extents = vec![entering.clone()];
        for (i, unit) in self.branch.iter().enumerate() {
            extents.push(unit.extent(&extents[i]));
        }
        extents
    }

    /// Whether backward computes anything in the block.
    fn is_reached(&self, needs: &[Needs]) -> bool {
        self.units().any(|unit| unit.is_reached(needs))
    }

    /// Whether backward reads the block's input.
    fn reads_input(&self, needs: &[Needs]) -> bool {
        let projection = match &self.shortcut {
            Shortcut::Projection(unit) => unit.conv.reads_input(needs),
            _ => false,
        };
        projection || self.branch.first().is_some_and(|unit| unit.conv.reads_input(needs))
    }

    /// Whether backward passes unit `i`: the last one's clip stands before the shortcut too.
    fn passes_back(&self, needs: &[Needs], i: usize) -> bool {
        if i + 1 == self.branch.len() { self.is_reached(needs) } else { self.branch[i].is_reached(needs) }
    }

    fn map_shape(&self, extent: &Extent) -> MapShape {
        let [examples, height, width] = maps(extent);
        MapShape { examples, height, width, channels: self.branch.first().map_or(0, |unit| unit.conv.input) }
    }

    fn width(&self) -> usize {
        self.branch.last().map_or(0, |unit| unit.conv.output)
    }
}

impl Block for ResidualBlock {
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let extents = self.extents(cx.extent);
        let joined = match &self.shortcut {
            Shortcut::None | Shortcut::Identity => None,
            Shortcut::Pad { before } => {
                let mut padded = cx.engine.tensor(extents[self.branch.len()].rows(), self.width());
                let shape = self.map_shape(cx.extent);
                cx.engine.kernels.pad_channels(shape, x.data(), *before, self.width(), padded.data_mut());
                Some(padded)
            }
            Shortcut::Projection(unit) => {
                Some(unit.forward(cx, x.data(), None, unit.is_reached(cx.needs), tape))
            }
        };
        let mut hidden: Option<Tensor> = None;
        for (i, unit) in self.branch.iter().enumerate() {
            let residual = match &self.shortcut {
                _ if i + 1 < self.branch.len() => None,
                Shortcut::Identity => Some(x.data()),
                _ => joined.as_ref().map(Tensor::data),
            };
            let passes_back = self.passes_back(cx.needs, i);
            let input = hidden.as_ref().unwrap_or(&x);
            let inner = Context { extent: &extents[i], ..cx };
            let y = unit.forward(inner, input.data(), residual, passes_back, tape);
            match hidden.replace(y) {
                Some(input) if unit.conv.reads_input(cx.needs) => tape.push(input),
                _ => {}
            }
        }
        match hidden {
            Some(y) => {
                if self.reads_input(cx.needs) {
                    tape.push(x);
                }
                y
            }
            None => x,
        }
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        if !self.is_reached(cx.needs) {
            return None;
        }
        let extents = self.extents(cx.extent);
        let x = self.reads_input(cx.needs).then(|| tape.pop());
        let (mut around, mut d) = (None, Some(dy));
        for (i, unit) in self.branch.iter().enumerate().rev() {
            let Some(dy) = d.take().filter(|_| self.passes_back(cx.needs, i)) else { break };
            let own = (i > 0 && unit.conv.reads_input(cx.needs)).then(|| tape.pop());
            let input = if i > 0 { own.as_ref() } else { x.as_ref() };
            let inner = Context { extent: &extents[i], ..cx };
            let passes_back = self.passes_back(cx.needs, i);
            let (g, delta) = unit.backward(inner, input.map(Tensor::data), dy, passes_back, tape, sinks);
            if i + 1 == self.branch.len() {
                around = Some(g);
            }
            // At the bottom the input's other readers are added to.
            let identity = i == 0 && matches!(self.shortcut, Shortcut::Identity);
            let onto = if identity { around.take() } else { None };
            d = delta.and_then(|delta| unit.conv.backward_input(inner, &delta, onto));
        }
        match &self.shortcut {
            Shortcut::None | Shortcut::Identity => d,
            Shortcut::Pad { before } => {
                let (mut dx, around) = (d?, around?);
                let shape = self.map_shape(cx.extent);
                cx.engine.kernels.pad_channels_backward(
                    shape,
                    around.data(),
                    *before,
                    self.width(),
                    dx.data_mut(),
                );
                Some(dx)
            }
            Shortcut::Projection(unit) => {
                let reached = unit.is_reached(cx.needs);
                let around = around.filter(|_| reached)?;
                let input = x.as_ref().map(Tensor::data);
                let (_, delta) = unit.backward(cx, input, around, reached, tape, sinks);
                unit.conv.backward_input(cx, &delta?, d)
            }
        }
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        for (unit, extent) in self.branch.iter().zip(self.extents(extent)) {
            unit.products(needs, &extent, out);
        }
        if let Shortcut::Projection(unit) = &self.shortcut {
            unit.products(needs, extent, out);
        }
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        self.branch.iter().fold(below, |below, unit| unit.set_needs(needs, below, observe));
        if let Shortcut::Projection(unit) = &self.shortcut {
            unit.set_needs(needs, below, observe);
        }
    }

    /// Where the shortcut changes nothing.
    fn is_residual(&self) -> bool {
        matches!(self.shortcut, Shortcut::Identity)
    }

    fn adaptable(&self) -> Vec<usize> {
        self.units().filter_map(|unit| unit.conv.adaptable()).collect()
    }

    fn parts(&self, _: &Parameters, grain: Grain) -> Vec<Part> {
        self.units().flat_map(|unit| unit.parts(grain)).collect()
    }

    fn extent(&self, entering: &Extent) -> Extent {
        self.branch.iter().fold(entering.clone(), |extent, unit| unit.extent(&extent))
    }
}
