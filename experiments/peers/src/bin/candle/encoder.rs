//! A BERT encoder without dropout.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, VarBuilder, embedding, layer_norm, linear, ops};
use peers::{POSITIONS, VOCABULARY};

use crate::Model;

const EPSILON: f64 = 1e-12;

/// The fused norm has no backward.
fn normed(norm: &LayerNorm, x: &Tensor, train: bool) -> Result<Tensor> {
    match norm.bias() {
        Some(bias) if train => ops::layer_norm_slow(x, norm.weight(), bias, EPSILON as f32),
        _ => norm.forward(x),
    }
}

struct Layer {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    after_attention: LayerNorm,
    after_feed_forward: LayerNorm,
}

impl Layer {
    fn new(hidden: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            heads,
            query: linear(hidden, hidden, vb.pp("query"))?,
            key: linear(hidden, hidden, vb.pp("key"))?,
            value: linear(hidden, hidden, vb.pp("value"))?,
            out: linear(hidden, hidden, vb.pp("out"))?,
            up: linear(hidden, 4 * hidden, vb.pp("up"))?,
            down: linear(4 * hidden, hidden, vb.pp("down"))?,
            after_attention: layer_norm(hidden, EPSILON, vb.pp("after_attention"))?,
            after_feed_forward: layer_norm(hidden, EPSILON, vb.pp("after_feed_forward"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (batch, length, hidden) = x.dims3()?;
        let width = hidden / self.heads;
        let split = |map: &Linear| {
            map.forward(x)?.reshape((batch, length, self.heads, width))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let scores = (query.matmul(&key.t()?)? * (width as f64).sqrt().recip())?;
        let shares = if train { ops::softmax(&scores, 3)? } else { ops::softmax_last_dim(&scores)? };
        let seen = shares.matmul(&value)?.transpose(1, 2)?.reshape((batch, length, hidden))?;
        let x = normed(&self.after_attention, &(x + self.out.forward(&seen)?)?, train)?;
        let inner = self.down.forward(&self.up.forward(&x)?.gelu_erf()?)?;
        normed(&self.after_feed_forward, &(x + inner)?, train)
    }
}

pub(crate) struct Encoder {
    word: Embedding,
    position: Embedding,
    kind: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    head: Linear,
}

impl Encoder {
    pub(crate) fn new(
        layers: usize,
        hidden: usize,
        heads: usize,
        outputs: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            word: embedding(VOCABULARY, hidden, vb.pp("word"))?,
            position: embedding(POSITIONS, hidden, vb.pp("position"))?,
            kind: embedding(2, hidden, vb.pp("kind"))?,
            norm: layer_norm(hidden, EPSILON, vb.pp("norm"))?,
            layers: (0..layers).map(|i| Layer::new(hidden, heads, vb.pp(i))).collect::<Result<_>>()?,
            head: linear(hidden, outputs, vb.pp("head"))?,
        })
    }
}

impl Model for Encoder {
    fn logits(&self, batch: &Tensor, train: bool) -> Result<Tensor> {
        let position = self.position.embeddings().narrow(0, 0, batch.dim(1)?)?;
        let place = position.broadcast_add(&self.kind.embeddings().narrow(0, 0, 1)?)?;
        let mut x = normed(&self.norm, &self.word.forward(batch)?.broadcast_add(&place)?, train)?;
        for layer in &self.layers {
            x = layer.forward(&x, train)?;
        }
        self.head.forward(&x.mean(1)?)
    }
}
