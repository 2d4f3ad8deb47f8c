//! The CIFAR form of ResNet-20.

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, VarBuilder, batch_norm, conv2d_no_bias, linear};

use crate::Model;

/// A convolution and its norm.
struct Map(Conv2d, BatchNorm);

impl Map {
    fn new(from: usize, to: usize, side: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { padding: side / 2, stride, ..Conv2dConfig::default() };
        Ok(Self(conv2d_no_bias(from, to, side, config, vb.pp("conv"))?, batch_norm(to, 1e-5, vb.pp("norm"))?))
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.1.forward_t(&self.0.forward(x)?, train)
    }
}

struct Block {
    first: Map,
    second: Map,
    short: Option<Map>,
}

pub(crate) struct ResNet {
    stem: Map,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    pub(crate) fn new(outputs: usize, vb: VarBuilder) -> Result<Self> {
        let (mut blocks, mut from) = (Vec::new(), 16);
        for (stage, to) in [16, 32, 64].into_iter().enumerate() {
            for place in 0..3 {
                let (vb, stride) = (vb.pp(stage).pp(place), if stage > 0 && place == 0 { 2 } else { 1 });
                blocks.push(Block {
                    first: Map::new(from, to, 3, stride, vb.pp("first"))?,
                    second: Map::new(to, to, 3, 1, vb.pp("second"))?,
                    short: (stride > 1).then(|| Map::new(from, to, 1, stride, vb.pp("short"))).transpose()?,
                });
                from = to;
            }
        }
        Ok(Self {
            stem: Map::new(3, 16, 3, 1, vb.pp("stem"))?,
            blocks,
            head: linear(64, outputs, vb.pp("head"))?,
        })
    }
}

impl Model for ResNet {
    fn logits(&self, batch: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.stem.forward(batch, train)?.relu()?;
        for block in &self.blocks {
            let inner = block.second.forward(&block.first.forward(&x, train)?.relu()?, train)?;
            let beside = match &block.short {
                Some(short) => short.forward(&x, train)?,
                None => x,
            };
            x = (inner + beside)?.relu()?;
        }
        self.head.forward(&x.flatten_from(2)?.mean(2)?)
    }
}
