//! Passes through the chain: forward and backward, of all levels or between two, and the products of both.
//!
//! What lies below the cut is a function of each example alone. So a forward pass may end with the hidden state that
//! enters a level, and another one may begin there, now or in a later step: [`Model::forward_between`]. Rows of a hidden
//! state that belong to one example lie together, example after example; [`Model::rows_at`] says how many they are.

use std::ops::Range;

use rgft_core::{Extent, Inputs, Slices};

use crate::engine::Engine;
use crate::gradients::Gradients;
use crate::layers::{Context, Sinks};
use crate::models::{Model, Site};
use crate::needs::Needs;
use crate::probe::Probe;
use crate::product::{Pass, Product};
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
        for (i, level) in self.blocks.iter().enumerate().take(to - 1).skip(first - 1) {
            debug_assert_eq!(x.rows(), extent.rows(), "rows that enter {}", level.name);
            x = self.block_forward(i, self.context(engine, inputs, needs, &extent), x, tape);
            extent = level.block.extent(&extent);
        }
        x
    }

    /// Whether block `i` keeps only what enters it and runs forward again before backward goes through it: not where it
    /// saves nothing, nor the last one, which backward goes through at once.
    fn recomputes(&self, i: usize, needs: &[Needs]) -> bool {
        let last = i + 1 == self.blocks.len();
        self.recompute && !last && self.sites_of(i).into_iter().any(|site| !needs[site].is_empty())
    }

    /// The sites of block `i`: those that a probe sees there.
    fn sites_of(&self, i: usize) -> Vec<usize> {
        let mut needs = self.no_needs();
        let nothing = vec![Slices::None; self.parameters.len()];
        self.blocks[i].block.set_needs(&mut needs, &nothing, false, true);
        (0..needs.len()).filter(|&site| needs[site].observe).collect()
    }

    /// Block `i` forward; on the tape comes what it saves or, where it is recomputed, what enters it.
    pub(super) fn block_forward(&self, i: usize, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let block = &self.blocks[i].block;
        if !self.recomputes(i, cx.needs) {
            return block.forward(cx, x, tape);
        }
        let kept = cx.engine.copy(&x);
        let y = block.forward(cx, x, &mut Tape::default());
        tape.push(kept);
        y
    }

    /// Block `i` backward, after [`Model::block_forward`].
    pub(super) fn block_backward(
        &self,
        i: usize,
        cx: Context,
        dy: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> Option<Tensor> {
        let block = &self.blocks[i].block;
        if !self.recomputes(i, cx.needs) {
            return block.backward(cx, dy, tape, sinks);
        }
        let mut own = Tape::default();
        cx.engine.again(|| drop(block.forward(cx, tape.pop(), &mut own)));
        block.backward(cx, dy, &mut own, sinks)
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
        for (i, extent) in extents.iter().enumerate().take(self.blocks.len()).rev() {
            let cx = self.context(engine, inputs, needs, extent);
            let Some(below) = self.block_backward(i, cx, d, tape, sinks) else { return };
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
        self.list(inputs, needs, levels, true)
    }

    /// The products of [`Model::products`] without those that recomputation runs once more.
    pub fn products_once(&self, inputs: &Extent, needs: &[Needs]) -> Vec<Product> {
        self.list(inputs, needs, 0..self.levels(), false)
    }

    fn list(&self, inputs: &Extent, needs: &[Needs], levels: Range<usize>, again: bool) -> Vec<Product> {
        let mut products = Vec::new();
        if levels.contains(&0) {
            self.stem.block.products(needs, inputs, &mut products);
        }
        let first = levels.start.max(1);
        let mut extent = self.extent_at(inputs, first);
        let through = self.blocks.iter().enumerate().take(levels.end.max(first) - 1).skip(first - 1);
        for (i, level) in through {
            let before = products.len();
            level.block.products(needs, &extent, &mut products);
            if again && self.recomputes(i, needs) {
                let forward = |product: &&Product| product.pass == Pass::Forward;
                let forward: Vec<_> = products[before..].iter().filter(forward).copied().collect();
                products.extend(forward);
            }
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
