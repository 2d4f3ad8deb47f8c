//! Passes through the chain: forward and backward, of all levels or between two, and the products of both.
//!
//! What lies below the cut is a function of each example alone. So a forward pass may end with the hidden state that
//! enters a level, and another one may begin there, now or in a later step: [`Model::forward_between`]. Rows of a hidden
//! state that belong to one example lie together, example after example; [`Model::rows_at`] says how many they are.

use std::ops::Range;

use rgft_core::{Extent, Inputs};

use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::layers::{Context, Sinks};
use crate::models::{Model, Site};
use crate::needs::Needs;
use crate::probe::Probe;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A hidden state of a batch, and where it belongs.
#[derive(Debug)]
pub struct Hidden {
    /// The level that it enters, at least 1: what enters level 0 are the inputs.
    pub level: usize,
    /// `[rows, channels]`, with as many rows as [`Model::extent_at`] says.
    pub state: Tensor,
}

impl Model {
    /// The extent of what enters `level` for inputs of this one; of the outputs, if it is [`Model::levels`].
    pub fn extent_at(&self, inputs: &Extent, level: usize) -> Extent {
        if level == 0 {
            return inputs.clone();
        }
        let first = self.stem.block.extent(inputs);
        self.blocks[..level - 1].iter().fold(first, |extent, level| level.block.extent(&extent))
    }

    /// Rows of each example in the hidden state that enters `level`, for inputs of this extent.
    pub fn rows_at(&self, inputs: &Extent, level: usize) -> Vec<usize> {
        match self.extent_at(inputs, level) {
            Extent::Sequences(lengths) => lengths,
            Extent::Maps { examples, height, width } => vec![height * width; examples],
        }
    }

    /// Needs of every site when nothing is trained: forward saves nothing.
    pub fn no_needs(&self) -> Vec<Needs> {
        let adapter = |site: &Site| self.adapters.get(&site.kind.weight()).copied();
        self.sites.iter().map(|site| Needs { adapter: adapter(site), ..Needs::default() }).collect()
    }

    fn context<'a>(
        &'a self,
        engine: &'a Engine,
        inputs: &'a Inputs,
        needs: &'a [Needs],
        extent: &'a Extent,
    ) -> Context<'a> {
        Context { engine, parameters: &self.parameters, needs, extent, inputs: Some(inputs) }
    }

    /// Outputs `[rows, outputs]`, a row per example (or per token, for language models); saves on the tape what
    /// `needs` ask for.
    pub fn forward(&self, engine: &Engine, inputs: &Inputs, needs: &[Needs], tape: &mut Tape) -> Tensor {
        self.forward_between(engine, inputs, None, self.levels(), needs, tape)
    }

    /// The hidden state that enters level `to`, or the outputs if that is [`Model::levels`]; computed from the bottom,
    /// or from the hidden state `from`, which is that of the same inputs. Saves on the tape what `needs` ask for.
    ///
    /// With [`Model::no_needs`] and an engine that evaluates ([`Engine::set_dropout`]) it is the state that every step
    /// finds whose cut is not below `to`, if what is frozen runs without dropout.
    ///
    /// # Panics
    /// If `to` is 0 or lies below `from`.
    pub fn forward_between(
        &self,
        engine: &Engine,
        inputs: &Inputs,
        from: Option<Hidden>,
        to: usize,
        needs: &[Needs],
        tape: &mut Tape,
    ) -> Tensor {
        let entering = inputs.extent();
        let Hidden { level: first, state: mut x } = from.unwrap_or_else(|| {
            let cx = self.context(engine, inputs, needs, &entering);
            Hidden { level: 1, state: self.stem.block.forward(cx, inputs, tape) }
        });
        assert!(1 <= first && first <= to, "a pass from level {first} to level {to}");
        let mut extent = self.extent_at(&entering, first);
        for level in &self.blocks[first - 1..to - 1] {
            debug_assert_eq!(x.rows(), extent.rows(), "rows that enter {}", level.name);
            x = level.block.forward(self.context(engine, inputs, needs, &extent), x, tape);
            extent = level.block.extent(&extent);
        }
        x
    }

    /// Carries the output residual `[rows, outputs]` back as far as `needs` ask: after a forward that did not begin at
    /// the bottom, no further than where it began.
    pub fn backward(
        &self,
        engine: &Engine,
        inputs: &Inputs,
        needs: &[Needs],
        residual: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) {
        let entering = inputs.extent();
        let mut extents = vec![self.stem.block.extent(&entering)];
        for (i, level) in self.blocks.iter().enumerate() {
            extents.push(level.block.extent(&extents[i]));
        }
        let mut d = residual;
        for (level, extent) in self.blocks.iter().zip(&extents).rev() {
            let cx = self.context(engine, inputs, needs, extent);
            let Some(below) = level.block.backward(cx, d, tape, sinks) else { return };
            d = below;
        }
        self.stem.block.backward(self.context(engine, inputs, needs, &entering), inputs, d, tape, sinks);
    }

    /// The products that forward and backward run under `needs` for inputs of this extent.
    pub fn products(&self, inputs: &Extent, needs: &[Needs]) -> Vec<Product> {
        self.products_between(inputs, needs, 0..self.levels())
    }

    /// Those of them that run in these levels, the last one excluded: what a pass runs that begins with the hidden state
    /// that enters `levels.start` and ends with the one that enters `levels.end`.
    pub fn products_between(&self, inputs: &Extent, needs: &[Needs], levels: Range<usize>) -> Vec<Product> {
        let mut products = Vec::new();
        if levels.contains(&0) {
            self.stem.block.products(needs, inputs, &mut products);
        }
        let first = levels.start.max(1);
        let mut extent = self.extent_at(inputs, first);
        for level in &self.blocks[first - 1..levels.end.max(first) - 1] {
            level.block.products(needs, &extent, &mut products);
            extent = level.block.extent(&extent);
        }
        products
    }

    /// One forward and backward pass: returns what `loss` made of the outputs. `loss` turns the outputs into the
    /// output residual in place and returns the loss.
    pub fn forward_backward(
        &self,
        engine: &Engine,
        inputs: &Inputs,
        needs: &[Needs],
        gradients: &mut Gradients,
        probe: &mut dyn Probe,
        loss: impl FnOnce(&mut Tensor) -> f64,
    ) -> f64 {
        self.forward_backward_from(engine, inputs, None, needs, gradients, probe, loss)
    }

    /// [`Model::forward_backward`] that begins with the hidden state `from`, which is that of the same inputs, and ends
    /// there; at the bottom, if there is none.
    ///
    /// # Panics
    /// If `needs` ask for anything below `from`: the cut must not be lower.
    pub fn forward_backward_from(
        &self,
        engine: &Engine,
        inputs: &Inputs,
        from: Option<Hidden>,
        needs: &[Needs],
        gradients: &mut Gradients,
        probe: &mut dyn Probe,
        loss: impl FnOnce(&mut Tensor) -> f64,
    ) -> f64 {
        let mut tape = Tape::default();
        let mut outputs = self.forward_between(engine, inputs, from, self.levels(), needs, &mut tape);
        let value = loss(&mut outputs);
        self.backward(engine, inputs, needs, outputs, &mut tape, &mut Sinks { gradients, probe });
        debug_assert!(tape.is_empty(), "forward saved {} tensors that backward did not read", tape.len());
        value
    }
}
