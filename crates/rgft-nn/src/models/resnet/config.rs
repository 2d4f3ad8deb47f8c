//! `config.json` of a residual network.

use std::path::Path;

use serde_json::Value;

use crate::NnError;
use crate::models::config_keys::ConfigKeys;

/// What joins where maps shrink or widen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShortcutKind {
    /// Zero channels: option A.
    Pad,
    /// A 1×1 convolution: option B.
    Projection,
}

/// The shape of the network.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Whether it starts with a 7×7 convolution and max pooling.
    pub(super) imagenet: bool,
    /// Blocks of each stage.
    pub(super) depths: Vec<usize>,
    /// Channels of each stage, inside of its blocks.
    pub(super) widths: Vec<usize>,
    /// Whether blocks are bottlenecks, which leave with four times their width.
    pub(super) bottleneck: bool,
    pub(super) shortcut: ShortcutKind,
}

/// Blocks or channels of a stage, at most: more is a typing mistake.
const LARGEST: usize = 1 << 16;

impl Config {
    pub(super) fn read(folder: &Path, values: &Value) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let sizes = |key: &str| match values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(list) => {
                let numbers = list.as_array().map(|list| list.iter().map(Value::as_u64).collect::<Vec<_>>());
                let sizes: Option<Vec<usize>> = numbers
                    .filter(|numbers| !numbers.is_empty())
                    .and_then(|numbers| numbers.into_iter().map(|n| Some(n? as usize)).collect());
                match sizes {
                    Some(sizes) if sizes.iter().all(|n| (1..=LARGEST).contains(n)) => Ok(Some(sizes)),
                    _ => {
                        Err(keys
                            .error(key, format!("is {list}, expected a list of numbers from 1 to {LARGEST}")))
                    }
                }
            }
        };
        let imagenet = keys.word("model_type") != Some("resnet-cifar");
        let widths = sizes("widths")?;
        let config = if imagenet {
            let depths = match sizes("depths")? {
                Some(depths) => Some(depths),
                None => sizes("layers")?,
            };
            let bottleneck = match keys.word("block").or_else(|| keys.word("layer_type")) {
                Some("basic") => false,
                Some("bottleneck") => true,
                found => {
                    let found = found.map_or("is missing".into(), |word| format!("is {word:?}"));
                    return Err(keys.error("block", format!("{found}, expected \"basic\" or \"bottleneck\"")));
                }
            };
            Self {
                imagenet,
                depths: depths.ok_or_else(|| keys.error("depths", "is missing".into()))?,
                widths: widths.unwrap_or_else(|| vec![64, 128, 256, 512]),
                bottleneck,
                shortcut: ShortcutKind::Projection,
            }
        } else {
            let depth = keys.size("depth", None)?;
            if depth < 8 || depth % 6 != 2 {
                return Err(keys.error("depth", format!("is {depth}, expected 6n + 2: 20, 32, 44, …")));
            }
            let shortcut = match keys.word("shortcut") {
                None | Some("option-a-pad") => ShortcutKind::Pad,
                Some("option-b-projection") => ShortcutKind::Projection,
                Some(word) => {
                    let expected = "expected \"option-a-pad\" or \"option-b-projection\"";
                    return Err(keys.error("shortcut", format!("is {word:?}, {expected}")));
                }
            };
            let widths = widths.unwrap_or_else(|| vec![16, 32, 64]);
            Self { imagenet, depths: vec![depth / 6; widths.len()], widths, bottleneck: false, shortcut }
        };
        if config.depths.len() != config.widths.len() {
            let (found, expected) = (config.depths.len(), config.widths.len());
            return Err(
                keys.error("depths", format!("has {found} stages, expected as many as widths: {expected}"))
            );
        }
        Ok(config)
    }
}
