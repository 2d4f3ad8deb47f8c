//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::patches::patches_of;
use serde_json::{Value, json};

use crate::NnError;
use crate::layers::Stem;
use crate::layers::forecast_head::ForecastHead;
use crate::layers::patch_embedding::PatchEmbedding;
use crate::layers::series_stem::{InstanceNorm, SeriesStem};
use crate::models::build::Builder;
use crate::models::config_keys::ConfigKeys;
use crate::models::encoder_blocks::{EncoderShape, LayerNames};
use crate::models::{HeadRequest, Level, Model};
use crate::weights::{Init, Weights};

const NAMES: LayerNames = LayerNames {
    attention_norm: "attention_norm",
    attention: ["attention.query", "attention.key", "attention.value", "attention.output"],
    feed_forward_norm: "feed_forward_norm",
    feed_forward: ["feed_forward.up", "feed_forward.down"],
};

/// How windows become patches.
struct Windows {
    context: usize,
    patch: usize,
    stride: usize,
    instance_norm: Option<InstanceNorm>,
}

impl Windows {
    fn read(keys: &ConfigKeys) -> Result<Self, NnError> {
        let (context, patch) = (keys.size("context", None)?, keys.size("patch", None)?);
        if patch > context {
            return Err(keys.error("patch", format!("is {patch}, expected at most context {context}")));
        }
        let epsilon = keys.number("instance_norm_eps", Some(1e-5))? as f32;
        if epsilon <= 0.0 {
            // A window that does not vary would be divided by 0.
            return Err(keys.error("instance_norm_eps", "is 0, expected a positive number".into()));
        }
        let instance_norm = keys.flag("instance_norm", true)?.then_some(InstanceNorm { epsilon });
        Ok(Self { context, patch, stride: keys.size("stride", Some(patch))?, instance_norm })
    }

    fn tokens(&self) -> usize {
        patches_of(self.context, self.patch, self.stride)
    }

    fn stem(&self, builder: &mut Builder, shape: &EncoderShape) -> Result<SeriesStem, NnError> {
        let init = Init::Normal(shape.deviation);
        let projection = builder.linear("embeddings.patches", self.patch, shape.hidden, true, init)?;
        let tokens = self.tokens();
        let positions = builder.table("embeddings.positions", tokens, shape.hidden, init)?;
        let embedding = PatchEmbedding { projection, class: None, positions, tokens, dropout: shape.dropout };
        let Self { context, patch, stride, instance_norm } = *self;
        Ok(SeriesStem { embedding, context, patch, stride, instance_norm })
    }
}

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let keys = ConfigKeys::new(folder, &values);
    let probability = |key| match request.dropout {
        Some(dropout) => Ok(dropout),
        None => keys.probability(key, 0.0),
    };
    let hidden = keys.size("hidden_size", None)?;
    let shape = EncoderShape {
        hidden,
        heads: keys.size("num_heads", None)?,
        inner: keys.size("ffn", Some(4 * hidden))?,
        epsilon: keys.number("norm_eps", Some(1e-5))? as f32,
        activation: keys.activation("activation", "gelu")?,
        dropout: probability("dropout")?,
        attention_dropout: probability("attention_dropout")?,
        deviation: keys.number("initializer_range", Some(0.02))? as f32,
    };
    shape.check(&keys, "hidden_size")?;
    let windows = Windows::read(&keys)?;
    let (tokens, context) = (windows.tokens(), windows.context);
    let stored = keys.size("horizon", request.outputs)?;
    let horizon = request.outputs.unwrap_or(stored);
    let (layers, head_dropout) = (keys.size("num_layers", None)?, probability("head_dropout")?);

    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let mut builder = Builder::new(weights, "");
    let block = Box::new(windows.stem(&mut builder, &shape)?) as Box<dyn Stem>;
    let stem = Level { name: "embeddings".into(), kind: ComponentKind::Embedding, layer: None, block };
    let mut blocks = Vec::new();
    for l in 0..layers {
        shape.push_layer(&mut builder, &format!("encoder.layer.{l}"), &NAMES, l, &mut blocks)?;
    }
    shape.push_norm(&mut builder, "norm", &mut blocks)?;
    let map = builder.linear("head", tokens * hidden, horizon, true, Init::Outputs(shape.deviation))?;
    let instance_norm = windows.instance_norm;
    let head = Box::new(ForecastHead { map, instance_norm, dropout: head_dropout });
    blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });

    let unused = builder.weights.unused(str::to_string)?;
    let Builder { parameters, sites, .. } = builder;
    let mut config = values;
    config["horizon"] = json!(horizon);
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest: context,
        config,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
