//! A BERT encoder without dropout.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, activation, module};
use peers::{POSITIONS, VOCABULARY};

#[derive(Module, Debug)]
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

fn norm(hidden: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(hidden).with_epsilon(1e-12).init(device)
}

impl Layer {
    fn new(hidden: usize, heads: usize, device: &Device) -> Self {
        let linear = |from: usize, to: usize| LinearConfig::new(from, to).init(device);
        Self {
            heads,
            query: linear(hidden, hidden),
            key: linear(hidden, hidden),
            value: linear(hidden, hidden),
            out: linear(hidden, hidden),
            up: linear(hidden, 4 * hidden),
            down: linear(4 * hidden, hidden),
            after_attention: norm(hidden, device),
            after_feed_forward: norm(hidden, device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, hidden] = x.dims();
        let split = |map: &Linear| {
            map.forward(x.clone()).reshape([batch, length, self.heads, hidden / self.heads]).swap_dims(1, 2)
        };
        let (query, key, value) = (split(&self.query), split(&self.key), split(&self.value));
        let seen = module::attention(query, key, value, None, None, Default::default());
        let seen = seen.swap_dims(1, 2).reshape([batch, length, hidden]);
        let x = self.after_attention.forward(x + self.out.forward(seen));
        let inner = self.down.forward(activation::gelu(self.up.forward(x.clone())));
        self.after_feed_forward.forward(x + inner)
    }
}

#[derive(Module, Debug)]
pub(crate) struct Encoder {
    word: Embedding,
    position: Embedding,
    kind: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    head: Linear,
}

impl Encoder {
    pub(crate) fn new(layers: usize, hidden: usize, heads: usize, outputs: usize, device: &Device) -> Self {
        let table = |rows: usize| EmbeddingConfig::new(rows, hidden).init(device);
        Self {
            word: table(VOCABULARY),
            position: table(POSITIONS),
            kind: table(2),
            norm: norm(hidden, device),
            layers: (0..layers).map(|_| Layer::new(hidden, heads, device)).collect(),
            head: LinearConfig::new(hidden, outputs).init(device),
        }
    }

    /// From `[texts, tokens]` to `[texts, classes]`.
    pub(crate) fn logits(&self, batch: Tensor<2, Int>) -> Tensor<2> {
        let length = batch.dims()[1];
        let place = self.position.weight.val().narrow(0, 0, length) + self.kind.weight.val().narrow(0, 0, 1);
        let x = self.norm.forward(self.word.forward(batch) + place.unsqueeze());
        let x = self.layers.iter().fold(x, |x, layer| layer.forward(x));
        self.head.forward(x.mean_dim(1).squeeze_dim(1))
    }
}
