//! What every convolutional classifier has in common: its head, its saved config, its convolutions.

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::conv::ConvShape;
use serde_json::{Value, json};

use super::build::Builder;
use super::config_keys::ConfigKeys;
use crate::NnError;
use crate::layers::image_head::ImageHead;
use crate::layers::{Block, Stem};
use crate::models::{HeadRequest, Level, Model};
use crate::weights::Init;

/// A square convolution that keeps the size of maps but for its stride.
pub(super) fn square(input: usize, output: usize, kernel: usize, stride: usize, groups: usize) -> ConvShape {
    let padding = kernel / 2;
    ConvShape { examples: 0, height: 0, width: 0, input, output, kernel, stride, padding, groups }
}

/// Keys that all of them have.
pub(super) struct Common {
    /// Colours of a picture.
    pub(super) colours: usize,
    /// ε of the batch norms.
    pub(super) epsilon: f32,
    outputs: usize,
}

impl Common {
    /// Reads them from `config.json` of `folder`, which says `values`.
    pub(super) fn read(folder: &Path, values: &Value, request: &HeadRequest) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let stored = keys.labels(1000)?;
        Ok(Self {
            colours: keys.size("num_channels", Some(3))?,
            epsilon: positive(&keys, "batch_norm_eps", 1e-5)?,
            outputs: request.outputs.unwrap_or(stored),
        })
    }

    /// Puts a head on what is built, and makes a model of it.
    pub(super) fn finish(
        self,
        mut builder: Builder,
        stem: Box<dyn Stem>,
        mut blocks: Vec<Level<Box<dyn Block>>>,
        (classifier, channels, dropout): (&str, usize, f32),
        values: Value,
    ) -> Result<Model, NnError> {
        let init = Init::Outputs((1.0 / (3 * channels) as f32).sqrt());
        let classifier = builder.linear(classifier, channels, self.outputs, true, init)?;
        let head = Box::new(ImageHead { classifier, dropout });
        blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });
        let unused = builder.weights.unused(str::to_string)?;
        let Builder { parameters, sites, .. } = builder;
        let mut config = values;
        config["num_labels"] = json!(self.outputs);
        if let Some(saved) = config.as_object_mut() {
            let fits = |labels: &Value| labels.as_array().is_some_and(|labels| labels.len() == self.outputs);
            if saved.get("labels").is_some_and(|labels| !fits(labels)) {
                saved.shift_remove("labels");
            }
        }
        let stem = Level { name: "stem".into(), kind: ComponentKind::Channels, layer: None, block: stem };
        Ok(Model {
            parameters,
            sites,
            stem,
            blocks,
            longest: usize::MAX,
            config,
            unused,
            adapters: BTreeMap::new(),
            recompute: false,
        })
    }
}

/// A number above 0 that f32 holds.
fn positive(keys: &ConfigKeys, key: &str, default: f64) -> Result<f32, NnError> {
    let found = keys.number(key, Some(default))? as f32;
    if found > 0.0 && found.is_finite() {
        return Ok(found);
    }
    Err(keys.error(key, format!("is {found}, expected a number above 0")))
}
