//! The CIFAR form of ResNet-20.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, activation};

/// A convolution and its norm.
#[derive(Module, Debug)]
struct Map {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Map {
    fn new(from: usize, to: usize, side: usize, stride: usize, device: &Device) -> Self {
        let around = side / 2;
        let conv = Conv2dConfig::new([from, to], [side, side])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
            .with_bias(false);
        Self { conv: conv.init(device), norm: BatchNormConfig::new(to).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

#[derive(Module, Debug)]
struct Block {
    first: Map,
    second: Map,
    short: Option<Map>,
}

#[derive(Module, Debug)]
pub(crate) struct ResNet {
    stem: Map,
    blocks: Vec<Block>,
    pool: AdaptiveAvgPool2d,
    head: Linear,
}

impl ResNet {
    pub(crate) fn new(outputs: usize, device: &Device) -> Self {
        let (mut blocks, mut from) = (Vec::new(), 16);
        for (stage, to) in [16, 32, 64].into_iter().enumerate() {
            for place in 0..3 {
                let stride = if stage > 0 && place == 0 { 2 } else { 1 };
                blocks.push(Block {
                    first: Map::new(from, to, 3, stride, device),
                    second: Map::new(to, to, 3, 1, device),
                    short: (stride > 1).then(|| Map::new(from, to, 1, stride, device)),
                });
                from = to;
            }
        }
        Self {
            stem: Map::new(3, 16, 3, 1, device),
            blocks,
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(64, outputs).init(device),
        }
    }

    /// From `[pictures, channels, height, width]` to `[pictures, classes]`.
    pub(crate) fn logits(&self, batch: Tensor<4>) -> Tensor<2> {
        let mut x = activation::relu(self.stem.forward(batch));
        for block in &self.blocks {
            let inner = block.second.forward(activation::relu(block.first.forward(x.clone())));
            let beside = match &block.short {
                Some(short) => short.forward(x),
                None => x,
            };
            x = activation::relu(inner + beside);
        }
        self.head.forward(self.pool.forward(x).flatten(1, 3))
    }
}
