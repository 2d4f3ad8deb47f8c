//! From a model folder to a residual network.

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::batch_norm::Clip;
use serde_json::Value;

use super::config::{Config, ShortcutKind};
use crate::NnError;
use crate::layers::Block;
use crate::layers::image_stem::ImageStem;
use crate::layers::residual_block::{ResidualBlock, Shortcut};
use crate::models::build::Builder;
use crate::models::image_classifier::{Common, square};
use crate::models::{HeadRequest, Level, Model};
use crate::weights::Weights;

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let config = Config::read(folder, &values)?;
    let common = Common::read(folder, &values, request)?;
    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let mut builder = Builder::new(weights, "");

    let width = config.widths[0];
    let (kernel, stride) = if config.imagenet { (7, 2) } else { (3, 1) };
    let shape = square(common.colours, width, kernel, stride, 1);
    let unit = builder.conv_norm("", ["conv1", "bn1"], shape, common.epsilon, Clip::Relu)?;
    let stem = Box::new(ImageStem { unit, max_pool: config.imagenet });

    let (mut blocks, mut channels) = (Vec::new(), width);
    for (stage, (&depth, &width)) in config.depths.iter().zip(&config.widths).enumerate() {
        for b in 0..depth {
            let name = format!("layer{}.{b}", stage + 1);
            let stride = if b == 0 && stage > 0 { 2 } else { 1 };
            let block =
                residual_block(&mut builder, &config, &name, [channels, width, stride], common.epsilon)?;
            channels = if config.bottleneck { 4 * width } else { width };
            let layer = Some((blocks.len(), name.clone()));
            let block: Box<dyn Block> = Box::new(block);
            blocks.push(Level { name, kind: ComponentKind::Layer, layer, block });
        }
    }
    let classifier = if config.imagenet { "fc" } else { "linear" };
    common.finish(builder, stem, blocks, (classifier, channels, 0.0), values)
}

fn residual_block(
    builder: &mut Builder,
    config: &Config,
    name: &str,
    [input, width, stride]: [usize; 3],
    epsilon: f32,
) -> Result<ResidualBlock, NnError> {
    let shapes = if config.bottleneck {
        let (inner, out) = (square(width, width, 3, stride, 1), square(width, 4 * width, 1, 1, 1));
        vec![square(input, width, 1, 1, 1), inner, out]
    } else {
        vec![square(input, width, 3, stride, 1), square(width, width, 3, 1, 1)]
    };
    let output = shapes.last().map_or(width, |shape| shape.output);
    let mut branch = Vec::new();
    for (i, shape) in (1..).zip(shapes) {
        let (own, paths) = (format!("conv{i}"), [format!("{name}.conv{i}"), format!("{name}.bn{i}")]);
        let paths = [&paths[0][..], &paths[1][..]];
        branch.push(builder.conv_norm(&own, paths, shape, epsilon, Clip::Relu)?);
    }
    let shortcut = match config.shortcut {
        _ if stride == 1 && input == output => Shortcut::Identity,
        // Where only the width changes there is no stride, and so no pixel to leave out: projected in any case.
        ShortcutKind::Pad if stride == 2 && output >= input => Shortcut::Pad { before: (output - input) / 2 },
        _ => {
            // Other implementations of the CIFAR form say `shortcut`.
            let cifar = builder.weights.contains(&format!("{name}.shortcut.0.weight"));
            let word = if cifar { "shortcut" } else { "downsample" };
            let paths = [0, 1].map(|part| format!("{name}.{word}.{part}"));
            let shape = square(input, output, 1, stride, 1);
            let paths = [&paths[0][..], &paths[1][..]];
            Shortcut::Projection(builder.conv_norm(word, paths, shape, epsilon, Clip::None)?)
        }
    };
    Ok(ResidualBlock { branch, shortcut })
}
