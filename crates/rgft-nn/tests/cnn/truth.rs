//! Blocks and stems in f64.

use rgft_core::Extent;
use rgft_kernels::cpu::batch_norm::Clip;
use rgft_kernels::reference::images as reference;
use rgft_nn::layers::conv_norm::ConvNorm;
use rgft_nn::layers::image_stem::ImageStem;
use rgft_nn::layers::residual_block::{ResidualBlock, Shortcut};

/// What is evaluated: parameters, and which norms (by their site) use the batch's statistics.
pub struct Truth<'a> {
    pub parameters: &'a [Vec<f64>],
    pub batch: &'a dyn Fn(usize) -> bool,
}

impl Truth<'_> {
    fn unit(&self, unit: &ConvNorm, extent: &Extent, x: &[f64], residual: Option<&[f64]>) -> Vec<f64> {
        let (conv, norm) = (&unit.conv, &unit.norm);
        let z = reference::conv(conv.shape(extent), x, &self.parameters[conv.weight]);
        let parameter = |index: usize| &self.parameters[index][..];
        let running = (parameter(norm.mean), parameter(norm.variance));
        let (gamma, beta, batch) =
            (parameter(norm.weight), parameter(norm.bias), vec![(self.batch)(norm.site); norm.width]);
        let mut y = reference::batch_norm(&z, gamma, beta, running, &batch, norm.epsilon.into());
        y.iter_mut().zip(residual.into_iter().flatten()).for_each(|(y, r)| *y += r);
        let clip = |y: f64| match norm.clip {
            Clip::None => y,
            Clip::Relu => y.max(0.0),
            Clip::Relu6 => y.clamp(0.0, 6.0),
        };
        y.into_iter().map(clip).collect()
    }

    pub fn block(&self, block: &ResidualBlock, extent: &Extent, x: &[f64]) -> Vec<f64> {
        let residual = match &block.shortcut {
            Shortcut::None => None,
            Shortcut::Identity => Some(x.to_vec()),
            Shortcut::Projection(unit) => Some(self.unit(unit, extent, x, None)),
            Shortcut::Pad { before } => Some(pad(block, extent, *before, x)),
        };
        let (mut y, mut extent) = (x.to_vec(), extent.clone());
        for (i, unit) in block.branch.iter().enumerate() {
            let joins = residual.as_deref().filter(|_| i + 1 == block.branch.len());
            y = self.unit(unit, &extent, &y, joins);
            extent = unit.extent(&extent);
        }
        y
    }

    pub fn stem(&self, stem: &ImageStem, extent: &Extent, x: &[f64]) -> Vec<f64> {
        let y = self.unit(&stem.unit, extent, x, None);
        match stem.unit.extent(extent) {
            Extent::Maps { examples, height, width } if stem.max_pool => {
                reference::max_pool(&y, examples, [height, width], stem.unit.conv.output)
            }
            _ => y,
        }
    }
}

/// Every second pixel, with zero channels around.
fn pad(block: &ResidualBlock, extent: &Extent, before: usize, x: &[f64]) -> Vec<f64> {
    let Extent::Maps { examples, height, width } = *extent else { panic!() };
    let (input, output) = (block.branch[0].conv.input, block.branch.last().unwrap().conv.output);
    let mut y = Vec::new();
    for n in 0..examples {
        for (i, j) in (0..height).step_by(2).flat_map(|i| (0..width).step_by(2).map(move |j| (i, j))) {
            let pixel = ((n * height + i) * width + j) * input;
            let channel = |c: usize| match c.checked_sub(before) {
                Some(c) if c < input => x[pixel + c],
                _ => 0.0,
            };
            y.extend((0..output).map(channel));
        }
    }
    y
}
