//! Patches to tokens, for pictures and series alike: `x = patch·Wᵀ + b + position`, behind a class token where there is
//! one, then dropout.
//!
//! Backward: `dW = δᵀ·patches` over the tokens of patches; positions and the class token are rows of tables that every
//! example looks up.

use rgft_core::{ComponentKind, Slices};

use super::embedding::Table;
use super::linear::Linear;
use super::{Context, Part, Sinks, whole};
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::{Activation, Passed};
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// The embedding of patches.
#[derive(Clone, Debug)]
pub struct PatchEmbedding {
    /// W `[hidden, scalars of a patch]`, b.
    pub projection: Linear,
    /// The token in front, `[1, hidden]`.
    pub class: Option<Table>,
    /// Positions `[tokens, hidden]`.
    pub positions: Table,
    /// Tokens of an example.
    pub tokens: usize,
    /// Probability of dropping an element of the output.
    pub dropout: f32,
}

impl PatchEmbedding {
    fn width(&self) -> usize {
        self.projection.output
    }

    /// Tokens of an example that are none of its patches.
    fn leading(&self) -> usize {
        usize::from(self.class.is_some())
    }

    /// Patches of an example.
    pub fn patches(&self) -> usize {
        self.tokens - self.leading()
    }

    /// The position of each token.
    fn places(&self, examples: usize) -> Vec<u32> {
        (0..examples).flat_map(|_| 0..self.tokens as u32).collect()
    }

    /// `[examples · patches, scalars]` → `[examples · tokens, hidden]`.
    pub(super) fn forward(&self, cx: Context, patches: Tensor, tape: &mut Tape) -> Tensor {
        let projected = self.projection.forward_without_bias(cx, &patches);
        let mut x = cx.engine.tensor(patches.rows() / self.patches() * self.tokens, self.width());
        self.projection.save_input(cx, patches, tape);
        let class = self.class.as_ref().map_or(&[][..], |table| cx.parameters.data(table.weight));
        let (bias, positions) = (self.projection.bias(cx), cx.parameters.data(self.positions.weight));
        cx.engine.kernels.tokens_of_patches(
            projected.data(),
            bias,
            class,
            positions,
            self.width(),
            x.data_mut(),
        );
        let examples = x.rows() / self.tokens;
        cx.engine.pass(self.positions.site, Passed::Rows(&self.places(examples)));
        if let Some(class) = &self.class {
            cx.engine.pass(class.site, Passed::Rows(&vec![0; examples]));
        }
        if let Some(dropout) = cx.engine.dropout(self.projection.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
        x
    }

    /// `d` `[examples · tokens, hidden]`.
    pub(super) fn backward(&self, cx: Context, mut d: Tensor, tape: &mut Tape, sinks: &mut Sinks) {
        if let Some(dropout) = cx.engine.dropout(self.projection.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, d.data_mut());
        }
        let patches = self.projection.saved_input(cx, tape);
        let examples = d.rows() / self.tokens;
        look_up_backward(cx, &self.positions, &self.places(examples), &d, sinks);
        if let Some(class) = &self.class {
            if !cx.needs[class.site].is_empty() {
                let own = self.tokens_of(cx, &d, 0..1);
                look_up_backward(cx, class, &vec![0; examples], &own, sinks);
            }
            if !cx.needs[self.projection.site].is_empty() {
                let own = self.tokens_of(cx, &d, 1..self.tokens);
                self.projection.backward_parameters(cx, patches.as_ref(), &own, sinks);
            }
        } else {
            self.projection.backward_parameters(cx, patches.as_ref(), &d, sinks);
        }
    }

    /// Rows of some tokens of each example.
    fn tokens_of(&self, cx: Context, d: &Tensor, tokens: std::ops::Range<usize>) -> Tensor {
        let (width, examples) = (self.width(), d.rows() / self.tokens);
        let mut own = cx.engine.tensor(examples * tokens.len(), width);
        let columns = tokens.start * width..tokens.end * width;
        cx.engine.kernels.gather_columns(d.data(), self.tokens * width, &[columns], own.data_mut());
        own
    }

    pub(super) fn products(&self, needs: &[Needs], examples: usize, out: &mut Vec<Product>) {
        self.projection.products(&needs[self.projection.site], examples * self.patches(), out);
    }

    /// Inputs have no gradient.
    pub(super) fn set_needs(&self, needs: &mut [Needs], observe: bool) {
        let tables = self.class.iter().chain([&self.positions]).map(|table| table.site);
        for site in tables.chain([self.projection.site]) {
            needs[site].observe = observe;
            needs[site].dx = Slices::None;
        }
    }

    pub(super) fn parts(&self, parameters: &Parameters) -> Vec<Part> {
        let part = |name: &str, all: Vec<usize>| {
            let slices = all.into_iter().map(|parameter| whole(parameters, parameter)).collect();
            Part::new(name, ComponentKind::Embedding, slices)
        };
        let places = self.class.iter().chain([&self.positions]).map(|table| table.weight);
        vec![part("patches", self.projection.parameters().collect()), part("positions", places.collect())]
    }
}

/// Shows `δ` `[ids.len(), hidden]` to the probe and adds it to the rows of a table that were looked up.
fn look_up_backward(cx: Context, table: &Table, ids: &[u32], d: &Tensor, sinks: &mut Sinks) {
    let needs = &cx.needs[table.site];
    if needs.observe {
        sinks.probe.see(cx.engine, table.site, Activation::Rows(ids), d);
    }
    if !needs.dw.is_none() {
        sinks.gradients.scatter(cx.engine, table.weight, ids, d);
    }
}
