//! Pre-norm encoder layers with biases throughout, as ViT and the patch transformer have them.

use rgft_core::ComponentKind;
use rgft_kernels::cpu::activation::Activation;

use super::build::{Builder, push_layer};
use super::config_keys::ConfigKeys;
use crate::NnError;
use crate::layers::Block;
use crate::layers::final_norm::FinalNorm;
use crate::layers::pre_norm::{Neurons, PreNorm, PreNormAttention, PreNormFeedForward};
use crate::models::Level;
use crate::weights::Init;

/// Numbers that all layers of an encoder share.
pub(super) struct EncoderShape {
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) inner: usize,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
    /// Probability of dropping an element of a branch.
    pub(super) dropout: f32,
    pub(super) attention_dropout: f32,
    pub(super) deviation: f32,
}

/// How the parts of a layer are called behind its path.
pub(super) struct LayerNames {
    pub(super) attention_norm: &'static str,
    /// Query, key, value, output.
    pub(super) attention: [&'static str; 4],
    pub(super) feed_forward_norm: &'static str,
    /// Up, down.
    pub(super) feed_forward: [&'static str; 2],
}

impl EncoderShape {
    /// Refuses a hidden state that its heads do not divide.
    pub(super) fn check(&self, keys: &ConfigKeys, key: &str) -> Result<(), NnError> {
        if self.hidden.is_multiple_of(self.heads) {
            return Ok(());
        }
        let problem = format!("is {}, expected a multiple of the {} heads", self.hidden, self.heads);
        Err(keys.error(key, problem))
    }

    fn norm(&self, builder: &mut Builder, path: &str) -> Result<PreNorm, NnError> {
        Ok(PreNorm::Layer(builder.norm(path, self.hidden, self.epsilon, 0.0)?))
    }

    /// Pushes the two levels of layer `l`, whose parameters' names begin with `path`.
    pub(super) fn push_layer(
        &self,
        builder: &mut Builder,
        path: &str,
        names: &LayerNames,
        l: usize,
        blocks: &mut Vec<Level<Box<dyn Block>>>,
    ) -> Result<(), NnError> {
        let (hidden, inner, init) = (self.hidden, self.inner, Init::Normal(self.deviation));
        let at = |part: &str| format!("{path}.{part}");
        let [query, key, value, output] = names.attention.map(at);
        let attention = PreNormAttention {
            norm: self.norm(builder, &at(names.attention_norm))?,
            query: builder.linear(&query, hidden, hidden, true, init)?,
            key: builder.linear(&key, hidden, hidden, true, init)?,
            value: builder.linear(&value, hidden, hidden, true, init)?,
            output: builder.linear(&output, hidden, hidden, true, init)?,
            head_norms: None,
            rotary: None,
            heads: self.heads,
            kv_heads: self.heads,
            causal: false,
            attention_dropout: self.attention_dropout,
            dropout: self.dropout,
        };
        let [up, down] = names.feed_forward.map(at);
        let feed_forward = PreNormFeedForward {
            norm: self.norm(builder, &at(names.feed_forward_norm))?,
            up: builder.linear(&up, hidden, inner, true, init)?,
            neurons: Neurons::Plain(self.activation),
            down: builder.linear(&down, inner, hidden, true, init)?,
            dropout: self.dropout,
            groups: self.heads,
        };
        push_layer(blocks, l, &format!("encoder.layer.{l}"), attention, feed_forward);
        Ok(())
    }

    /// Pushes the norm behind the last layer.
    pub(super) fn push_norm(
        &self,
        builder: &mut Builder,
        path: &str,
        blocks: &mut Vec<Level<Box<dyn Block>>>,
    ) -> Result<(), NnError> {
        let block: Box<dyn Block> = Box::new(FinalNorm(self.norm(builder, path)?));
        blocks.push(Level { name: "norm".into(), kind: ComponentKind::Norm, layer: None, block });
        Ok(())
    }
}
