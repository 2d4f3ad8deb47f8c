//! A look at all depths that carries `δ` to the cut only: below it, the `δ` that left the cut stands in for what would
//! have been carried further.
//!
//! In a residual block `y = x + f(x)` the identity passes `δ` on as it is, `∂ℓ/∂x = δ + (∂f/∂x)ᵀ·δ`. Below the cut the
//! second term is left out: each residual block is given the same `δ`, brings it to its own sites, and hands nothing
//! down. What that saves is the products that carry `δ` out of each block's branch. A block without an identity (a
//! change of width, a recurrent layer, the head) carries `δ` through as usual, and what leaves it stands in below.

use rgft_core::{Inputs, Slices};

use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::layers::{Context, Sinks};
use crate::models::Model;
use crate::needs::Needs;
use crate::probe::Probe;
use crate::tape::Tape;
use crate::tensor::Tensor;

impl Model {
    /// Whether block `i` hands on the `δ` that it is given.
    fn hands_on(&self, i: usize, cut: usize) -> bool {
        i < cut && self.blocks[i].block.is_residual()
    }

    /// Needs of each site when nothing is updated and a probe sees every site, with `δ` carried back to `cut` and
    /// standing in below. With cut 0 they are those of [`Model::needs`].
    pub fn needs_standing_in(&self, cut: usize) -> Vec<Needs> {
        let nothing = vec![Slices::None; self.parameters.len()];
        let mut needs = self.no_needs();
        for (i, level) in self.blocks.iter().enumerate().rev() {
            level.block.set_needs(&mut needs, &nothing, !self.hands_on(i, cut), true);
        }
        self.stem.block.set_needs(&mut needs, &nothing, true);
        needs
    }

    /// One forward and one backward pass under [`Model::needs_standing_in`]; returns what `loss` made of the outputs, as
    /// in [`Model::forward_backward`].
    pub fn look_standing_in(
        &self,
        engine: &Engine,
        inputs: &Inputs,
        cut: usize,
        probe: &mut dyn Probe,
        loss: impl FnOnce(&mut Tensor) -> f64,
    ) -> f64 {
        let needs = self.needs_standing_in(cut);
        let (mut tape, mut gradients) = (Tape::default(), Gradients::default());
        let mut delta = self.forward(engine, inputs, &needs, &mut tape);
        let value = loss(&mut delta);
        let entering = inputs.extent();
        let mut extents = vec![self.stem.block.extent(&entering)];
        for (i, level) in self.blocks.iter().enumerate() {
            extents.push(level.block.extent(&extents[i]));
        }
        let cx = |extent| Context {
            engine,
            parameters: &self.parameters,
            needs: &needs,
            extent,
            inputs: Some(inputs),
        };
        let sinks = &mut Sinks { gradients: &mut gradients, probe };
        for i in (0..self.blocks.len()).rev() {
            let kept = self.hands_on(i, cut).then(|| engine.copy(&delta));
            let carried = self.block_backward(i, cx(&extents[i]), delta, &mut tape, sinks);
            let Some(below) = kept.or(carried) else { return value };
            delta = below;
        }
        self.stem.block.backward(cx(&entering), inputs, delta, &mut tape, sinks);
        value
    }
}
