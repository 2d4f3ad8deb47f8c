//! The head of a language model: `z = n(x)·Wᵀ + b`, a row of logits per token; norm and bias are optional.
//!
//! Where W is the table of words too (*tied*), it belongs to the embeddings: a component of level 0, whose gradient is the
//! sum of both uses. The head is then its norm alone.

use rgft_core::{ComponentKind, Extent, Slices};

use super::linear::Linear;
use super::pre_norm::PreNorm;
use super::{Block, Context, Part, Sinks, all_if, whole};
use crate::decoding::Cache;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// The last norm and the map to the vocabulary.
#[derive(Clone, Debug)]
pub struct LmHead {
    /// The norm before it.
    pub norm: Option<PreNorm>,
    /// W `[vocabulary, hidden]`, b.
    pub output: Linear,
    /// Whether W is the table of words.
    pub tied: bool,
}

impl Block for LmHead {
    /// `x` `[tokens, hidden]` → logits `[tokens, vocabulary]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let h = match &self.norm {
            Some(norm) => norm.forward(cx, &x, tape),
            None => x,
        };
        let logits = self.output.forward(cx, &h);
        self.output.save_input(cx, h, tape);
        logits
    }

    fn backward(&self, cx: Context, residual: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let h = self.output.saved_input(cx, tape);
        self.output.backward_parameters(cx, h.as_ref(), &residual, sinks);
        let dh = self.output.backward_input(cx, &residual)?;
        match &self.norm {
            Some(norm) => norm.backward(cx, dh, tape, sinks),
            None => Some(dh),
        }
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.output.products(&needs[self.output.site], extent.rows(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        let below = self.norm.as_ref().map_or(below, |norm| norm.set_needs(needs, below, observe));
        let own = &mut needs[self.output.site];
        own.dx = all_if(below);
        own.observe = observe;
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let norm = self.norm.iter().flat_map(PreNorm::parameters);
        let own: Vec<usize> = if self.tied {
            norm.chain(self.output.bias).collect()
        } else {
            norm.chain(self.output.parameters()).collect()
        };
        let slices = own.into_iter().map(|parameter| whole(parameters, parameter)).collect::<Vec<_>>();
        let name = if self.tied { "norm" } else { "" };
        let part = Part::new(name, ComponentKind::TaskHead, slices);
        Some(part).filter(|part| !part.slices.is_empty()).into_iter().collect()
    }

    /// Remembers nothing: every token goes through alone.
    fn cache(&self) -> Option<Cache> {
        Some(Cache::default())
    }
}
