//! From pictures to the first hidden state: a convolution with its norm, and, in the ImageNet form, max pooling.

use rgft_core::{Extent, Inputs, Slices};
use rgft_kernels::cpu::image_pool::MapShape;

use super::conv::maps;
use super::conv_norm::ConvNorm;
use super::patch_stem::images;
use super::{Context, Part, Sinks, Stem};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Rows and columns of the smallest pictures that are read.
const SMALLEST: usize = 8;

/// The lowest level of a convolutional network.
#[derive(Clone, Debug)]
pub struct ImageStem {
    /// The first convolution.
    pub unit: ConvNorm,
    /// Whether 3×3 neighbourhoods, two pixels apart, are pooled to their largest value.
    pub max_pool: bool,
}

impl ImageStem {
    fn map_shape(&self, entering: &Extent) -> MapShape {
        let [examples, height, width] = maps(&self.unit.extent(entering));
        MapShape { examples, height, width, channels: self.unit.conv.output }
    }
}

impl Stem for ImageStem {
    fn forward(&self, cx: Context, inputs: &Inputs, tape: &mut Tape) -> Tensor {
        let reached = self.unit.is_reached(cx.needs);
        let x = self.unit.forward(cx, &images(inputs).pixels, None, reached, tape);
        if !self.max_pool {
            return x;
        }
        let rows = self.extent(cx.extent).rows();
        let mut pooled = cx.engine.tensor(rows, x.cols());
        let mut winners = cx.engine.tensor(rows, x.cols());
        let shape = self.map_shape(cx.extent);
        cx.engine.kernels.max_pool(shape, x.data(), pooled.data_mut(), winners.data_mut());
        if reached {
            tape.push(winners);
        }
        pooled
    }

    fn backward(&self, cx: Context, inputs: &Inputs, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) {
        if !self.unit.is_reached(cx.needs) {
            return;
        }
        let mut d = dy;
        if self.max_pool {
            let (shape, winners) = (self.map_shape(cx.extent), tape.pop());
            let mut dx = cx.engine.tensor(self.unit.extent(cx.extent).rows(), d.cols());
            cx.engine.kernels.max_pool_backward(shape, d.data(), winners.data(), dx.data_mut());
            d = dx;
        }
        let reads = self.unit.conv.reads_input(cx.needs);
        let pixels = reads.then_some(&images(inputs).pixels[..]);
        self.unit.backward(cx, pixels, d, true, tape, sinks);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.unit.products(needs, extent, out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], observe: bool) {
        self.unit.set_needs(needs, false, observe);
    }

    fn adaptable(&self) -> Vec<usize> {
        self.unit.conv.adaptable().into_iter().collect()
    }

    fn parts(&self, _: &Parameters, grain: Grain) -> Vec<Part> {
        self.unit.parts(grain)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        match (self.unit.extent(entering), self.max_pool) {
            (Extent::Maps { examples, height, width }, true) => {
                Extent::Maps { examples, height: height.div_ceil(2), width: width.div_ceil(2) }
            }
            (extent, _) => extent,
        }
    }

    fn check(&self, _: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Images(images) = inputs else { return Err(NnError::Inputs { expected: "images" }) };
        if images.channels != self.unit.conv.input {
            let (what, found) = ("number of colours", images.channels);
            return Err(NnError::OutOfRange { what, found, limit: self.unit.conv.input });
        }
        match images.height.min(images.width) {
            0..SMALLEST => Err(NnError::Inputs { expected: "images of at least 8 by 8 pixels" }),
            _ => Ok(()),
        }
    }
}
