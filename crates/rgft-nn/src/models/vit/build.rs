//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::pooling::Pool;
use serde_json::{Value, json};

use crate::NnError;
use crate::layers::Stem;
use crate::layers::embedding::Table;
use crate::layers::head::Head;
use crate::layers::linear::Linear;
use crate::layers::patch_embedding::PatchEmbedding;
use crate::layers::patch_stem::PatchStem;
use crate::models::build::Builder;
use crate::models::config_keys::ConfigKeys;
use crate::models::encoder_blocks::{EncoderShape, LayerNames};
use crate::models::{HeadRequest, Level, Model, Pooling, SiteKind};
use crate::parameters::Stored;
use crate::weights::{Init, Weights};

/// Key under which `config.json` remembers how the head pools, which `transformers` has no word for.
const POOLING_KEY: &str = "rgft_pooling";

const NAMES: LayerNames = LayerNames {
    attention_norm: "layernorm_before",
    attention: [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ],
    feed_forward_norm: "layernorm_after",
    feed_forward: ["intermediate.dense", "output.dense"],
};

/// The pictures that a model reads.
struct Pictures {
    height: usize,
    width: usize,
    channels: usize,
    patch: usize,
}

impl Pictures {
    fn read(keys: &ConfigKeys, values: &Value) -> Result<Self, NnError> {
        let sizes = match values.get("image_size") {
            Some(Value::Array(sides)) => {
                let sides: Vec<_> = sides.iter().filter_map(|side| Some(side.as_u64()? as usize)).collect();
                <[usize; 2]>::try_from(sides).ok().filter(|sides| !sides.contains(&0))
            }
            _ => Some([keys.size("image_size", Some(224))?; 2]),
        };
        let Some([height, width]) = sizes else {
            return Err(keys.error("image_size", "is a list, expected a number or [height, width]".into()));
        };
        let (channels, patch) = (keys.size("num_channels", Some(3))?, keys.size("patch_size", Some(16))?);
        if height % patch != 0 || width % patch != 0 {
            let problem = format!("is {height} × {width}, expected multiples of patch_size {patch}");
            return Err(keys.error("image_size", problem));
        }
        Ok(Self { height, width, channels, patch })
    }

    fn stem(&self, builder: &mut Builder, shape: &EncoderShape) -> Result<PatchStem, NnError> {
        let (hidden, init) = (shape.hidden, Init::Normal(shape.deviation));
        let tokens = 1 + (self.height / self.patch) * (self.width / self.patch);
        let mut table = |name: &str, rows: usize| -> Result<Table, NnError> {
            let path = format!("vit.embeddings.{name}");
            let stored = Stored::Reshaped(vec![1, rows, hidden]);
            let weight = builder.stored(&path, &[rows, hidden], init, stored)?;
            Ok(Table { site: builder.site(&path, SiteKind::Embedding { weight }), weight })
        };
        let (class, positions) = (Some(table("cls_token", 1)?), table("position_embeddings", tokens)?);
        let path = "vit.embeddings.patch_embeddings.projection";
        let kernel = [hidden, self.patch, self.patch, self.channels];
        let weight = builder.stored(&format!("{path}.weight"), &kernel, init, Stored::ChannelsLast)?;
        let bias = Some(builder.parameter(&format!("{path}.bias"), &[hidden], Init::Constant(0.0))?);
        let site = builder.site(path, SiteKind::Linear { weight, bias });
        let input = self.patch * self.patch * self.channels;
        let projection = Linear { site, weight, bias, input, output: hidden };
        let embedding = PatchEmbedding { projection, class, positions, tokens, dropout: shape.dropout };
        let Self { height, width, channels, patch } = *self;
        Ok(PatchStem { embedding, height, width, channels, patch })
    }
}

fn pooling_of(keys: &ConfigKeys, request: &HeadRequest) -> Result<Pool, NnError> {
    match (request.pooling, keys.word(POOLING_KEY).or(keys.word("pooling"))) {
        (Pooling::Mean, _) | (Pooling::Auto, Some("mean")) => Ok(Pool::Mean),
        (Pooling::Cls, _) | (Pooling::Auto, None | Some("cls")) => Ok(Pool::First),
        (Pooling::Pooler, _) => Err(keys.error(POOLING_KEY, "is \"pooler\", expected cls or mean".into())),
        (Pooling::Auto, Some(other)) => {
            Err(keys.error(POOLING_KEY, format!("is {other:?}, expected cls or mean")))
        }
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
    let hidden = keys.size("hidden_size", Some(768))?;
    let shape = EncoderShape {
        hidden,
        heads: keys.size("num_attention_heads", Some(12))?,
        inner: keys.size("intermediate_size", Some(4 * hidden))?,
        epsilon: keys.number("layer_norm_eps", Some(1e-12))? as f32,
        activation: keys.activation("hidden_act", "gelu")?,
        dropout: probability("hidden_dropout_prob")?,
        attention_dropout: probability("attention_probs_dropout_prob")?,
        deviation: keys.number("initializer_range", Some(0.02))? as f32,
    };
    shape.check(&keys, "hidden_size")?;
    if !keys.flag("qkv_bias", true)? {
        return Err(keys.error("qkv_bias", "is false, expected true".into()));
    }
    let (pictures, pool) = (Pictures::read(&keys, &values)?, pooling_of(&keys, request)?);
    let stored = keys.labels(2)?;
    let outputs = request.outputs.unwrap_or(stored);
    let layers = keys.size("num_hidden_layers", Some(12))?;

    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let mut builder = Builder::new(weights, "vit.");
    let stem = Box::new(pictures.stem(&mut builder, &shape)?) as Box<dyn Stem>;
    let longest = 1 + (pictures.height / pictures.patch) * (pictures.width / pictures.patch);
    let stem = Level { name: "embeddings".into(), kind: ComponentKind::Embedding, layer: None, block: stem };
    let mut blocks = Vec::new();
    for l in 0..layers {
        shape.push_layer(&mut builder, &format!("vit.encoder.layer.{l}"), &NAMES, l, &mut blocks)?;
    }
    shape.push_norm(&mut builder, "vit.layernorm", &mut blocks)?;
    let classifier = builder.linear("classifier", hidden, outputs, true, Init::Outputs(shape.deviation))?;
    let head = Box::new(Head { pool, dense: None, classifier, dropout: 0.0 });
    blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });

    let unused = builder.unused(&["classifier."])?;
    let Builder { parameters, sites, .. } = builder;
    let mut config = values;
    config["architectures"] = json!(["ViTForImageClassification"]);
    if stored != outputs {
        // Names of other classes.
        config.as_object_mut().into_iter().for_each(|keys| {
            keys.shift_remove("id2label");
            keys.shift_remove("label2id");
        });
        config["num_labels"] = json!(outputs);
    }
    config[POOLING_KEY] = json!(if pool == Pool::Mean { "mean" } else { "cls" });
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest,
        config,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
