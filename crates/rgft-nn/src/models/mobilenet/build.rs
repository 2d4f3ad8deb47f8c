//! From a model folder to a MobileNetV2.

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::batch_norm::Clip;
use serde_json::Value;

use crate::NnError;
use crate::layers::Block;
use crate::layers::image_stem::ImageStem;
use crate::layers::residual_block::{ResidualBlock, Shortcut};
use crate::models::build::Builder;
use crate::models::config_keys::ConfigKeys;
use crate::models::image_classifier::{Common, square};
use crate::models::{HeadRequest, Level, Model};
use crate::weights::Weights;

/// Expansion, channels, blocks and stride of each stage, as published.
const STAGES: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

/// `channels · multiplier`, to the nearest multiple of 8 that is not more than a tenth smaller.
fn divisible(channels: usize, multiplier: f64) -> usize {
    let wanted = channels as f64 * multiplier;
    let nearest = (((wanted + 4.0) / 8.0) as usize * 8).max(8);
    if (nearest as f64) < 0.9 * wanted { nearest + 8 } else { nearest }
}

/// Any number of a stage, at most: more is a typing mistake.
const LARGEST: usize = 1 << 12;

fn stages(keys: &ConfigKeys, values: &Value) -> Result<Vec<[usize; 4]>, NnError> {
    let key = "inverted_residual_setting";
    let Some(found) = values.get(key).filter(|found| !found.is_null()) else { return Ok(STAGES.to_vec()) };
    let stage = |row: &Value| -> Option<[usize; 4]> {
        let row: Vec<usize> = row.as_array()?.iter().filter_map(Value::as_u64).map(|n| n as usize).collect();
        let sane = |row: &[usize; 4]| row.iter().all(|n| (1..=LARGEST).contains(n)) && row[3] <= 2;
        <[usize; 4]>::try_from(row).ok().filter(sane)
    };
    let rows = found.as_array().and_then(|rows| rows.iter().map(stage).collect::<Option<Vec<_>>>());
    rows.filter(|rows| !rows.is_empty()).ok_or_else(|| {
        keys.error(
            key,
            format!("is {found}, expected a list of [expansion, channels, blocks, stride 1 or 2]"),
        )
    })
}

/// Paths of a convolution and its norm.
type Paths = [String; 2];

/// Where a library keeps the tensors of a network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Torchvision,
    Timm,
}

impl Names {
    fn stem(self) -> Paths {
        match self {
            Self::Torchvision => ["features.0.0", "features.0.1"].map(String::from),
            Self::Timm => ["conv_stem", "bn1"].map(String::from),
        }
    }

    fn block(self, stage: usize, of_stage: usize, of_all: usize) -> String {
        match self {
            Self::Torchvision => format!("features.{}", of_all + 1),
            Self::Timm => format!("blocks.{stage}.{of_stage}"),
        }
    }

    /// The units of a block, bottom up; `n` is 2 where nothing expands, else 3.
    fn unit(self, block: &str, i: usize, n: usize) -> Paths {
        match self {
            // The last one has no activation around it, and so no level of its own.
            Self::Torchvision if i + 1 == n => [format!("{block}.conv.{i}"), format!("{block}.conv.{n}")],
            Self::Torchvision => [0, 1].map(|part| format!("{block}.conv.{i}.{part}")),
            Self::Timm => {
                let conv =
                    if n == 2 { ["conv_dw", "conv_pw"][i] } else { ["conv_pw", "conv_dw", "conv_pwl"][i] };
                [format!("{block}.{conv}"), format!("{block}.bn{}", i + 1)]
            }
        }
    }

    fn last(self, blocks: usize) -> Paths {
        match self {
            Self::Torchvision => [0, 1].map(|part| format!("features.{}.{part}", blocks + 1)),
            Self::Timm => ["conv_head", "bn2"].map(String::from),
        }
    }

    fn classifier(self) -> &'static str {
        match self {
            Self::Torchvision => "classifier.1",
            Self::Timm => "classifier",
        }
    }
}

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let keys = ConfigKeys::new(folder, &values);
    let stages = stages(&keys, &values)?;
    let multiplier = keys.number("width_mult", Some(1.0))?;
    if !(1e-3..=100.0).contains(&multiplier) {
        return Err(keys.error("width_mult", format!("is {multiplier}, expected a number from 0.001 to 100")));
    }
    let dropout = match request.dropout {
        Some(dropout) => dropout,
        None => keys.probability("dropout", 0.2)?,
    };
    let stem_channels = divisible(keys.size("stem_channels", Some(32))?, multiplier);
    let last_channels = divisible(keys.size("last_channel", Some(1280))?, multiplier.max(1.0));
    let common = Common::read(folder, &values, request)?;
    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let names = if weights.contains("conv_stem.weight") { Names::Timm } else { Names::Torchvision };
    let mut builder = Builder::new(weights, "");
    let mut unit = |name: &str, paths: Paths, shape, clip| {
        builder.conv_norm(name, [&paths[0], &paths[1]], shape, common.epsilon, clip)
    };

    let shape = square(common.colours, stem_channels, 3, 2, 1);
    let stem = Box::new(ImageStem { unit: unit("", names.stem(), shape, Clip::Relu6)?, max_pool: false });
    let mut blocks: Vec<Level<Box<dyn Block>>> = Vec::new();
    let mut push = |name: String, block: ResidualBlock| {
        let layer = Some((blocks.len(), name.clone()));
        blocks.push(Level { name, kind: ComponentKind::Layer, layer, block: Box::new(block) });
        blocks.len()
    };
    let (mut channels, mut count) = (stem_channels, 0);
    for (s, &[expansion, width, repeats, stride]) in stages.iter().enumerate() {
        let width = divisible(width, multiplier);
        for b in 0..repeats {
            let stride = if b == 0 { stride } else { 1 };
            let (name, inner) = (names.block(s, b, count), channels * expansion);
            let depthwise = ("depthwise", square(inner, inner, 3, stride, inner), Clip::Relu6);
            let project = ("project", square(inner, width, 1, 1, 1), Clip::None);
            let expand = ("expand", square(channels, inner, 1, 1, 1), Clip::Relu6);
            let units =
                if expansion == 1 { vec![depthwise, project] } else { vec![expand, depthwise, project] };
            let n = units.len();
            let branch = (units.into_iter().enumerate())
                .map(|(i, (own, shape, clip))| unit(own, names.unit(&name, i, n), shape, clip))
                .collect::<Result<Vec<_>, _>>()?;
            let is_residual = stride == 1 && channels == width;
            let shortcut = if is_residual { Shortcut::Identity } else { Shortcut::None };
            count = push(name, ResidualBlock { branch, shortcut });
            channels = width;
        }
    }
    let paths = names.last(count);
    let name = paths[0].trim_end_matches(".0").to_string();
    let last = unit("", paths, square(channels, last_channels, 1, 1, 1), Clip::Relu6)?;
    push(name, ResidualBlock { branch: vec![last], shortcut: Shortcut::None });
    common.finish(builder, stem, blocks, (names.classifier(), last_channels, dropout), values)
}
