//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;

use rgft_core::ComponentKind;
use rgft_kernels::cpu::activation::Activation;
use serde_json::{Value, json};

use crate::NnError;
use crate::layers::Stem;
use crate::layers::linear::Linear;
use crate::layers::pre_norm::{Neurons, PreNorm, PreNormAttention, PreNormFeedForward};
use crate::layers::token_stem::TokenStem;
use crate::models::build::{Builder, push_layer};
use crate::models::config_keys::ConfigKeys;
use crate::models::{HeadRequest, Level, Model, SiteKind};
use crate::parameters::Stored;
use crate::weights::{Init, Weights};

/// The numbers that shape the model.
#[derive(Clone, Debug)]
struct Config {
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
    positions: usize,
    epsilon: f32,
    activation: Activation,
    tied: bool,
    attention_dropout: f32,
    residual_dropout: f32,
    embedding_dropout: f32,
    initializer_range: f32,
}

impl Config {
    fn read(folder: &Path, values: &Value) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let hidden = keys.size("n_embd", None)?;
        let heads = keys.size("n_head", None)?;
        if hidden % heads != 0 {
            let problem = format!("is {hidden}, expected a multiple of the {heads} attention heads");
            return Err(keys.error("n_embd", problem));
        }
        let activation = keys.activation("activation_function", "gelu_new")?;
        for (key, only) in [
            ("scale_attn_weights", true),
            ("scale_attn_by_inverse_layer_idx", false),
            ("add_cross_attention", false),
        ] {
            if keys.flag(key, only)? != only {
                return Err(keys.error(key, format!("is {}, expected {only}", !only)));
            }
        }
        Ok(Self {
            layers: keys.size("n_layer", None)?,
            hidden,
            heads,
            intermediate: keys.size("n_inner", Some(4 * hidden))?,
            vocabulary: keys.size("vocab_size", None)?,
            positions: keys.size("n_positions", Some(1024))?,
            epsilon: keys.number("layer_norm_epsilon", Some(1e-5))? as f32,
            activation,
            tied: keys.flag("tie_word_embeddings", true)?,
            attention_dropout: keys.probability("attn_pdrop", 0.1)?,
            residual_dropout: keys.probability("resid_pdrop", 0.1)?,
            embedding_dropout: keys.probability("embd_pdrop", 0.1)?,
            initializer_range: keys.number("initializer_range", Some(0.02))? as f32,
        })
    }
}

impl Builder<'_> {
    /// The map that block `block` of the columns of `path` holds, where files hold `blocks` maps transposed side by side.
    fn transposed(
        &mut self,
        path: &str,
        part: &str,
        (block, blocks): (usize, usize),
        (input, output): (usize, usize),
        init: Init,
    ) -> Result<Linear, NnError> {
        let mut parameter = |kind: &str, shape: &[usize], init| {
            let stored = Stored::TransposedBlock { tensor: format!("{path}.{kind}"), block, blocks };
            self.stored(&format!("{path}{part}.{kind}"), shape, init, stored)
        };
        let weight = parameter("weight", &[output, input], init)?;
        let bias = Some(parameter("bias", &[output], Init::Constant(0.0))?);
        let site = self.site(&format!("{path}{part}"), SiteKind::Linear { weight, bias });
        Ok(Linear { site, weight, bias, input, output })
    }

    fn gpt2_layer(
        &mut self,
        config: &Config,
        l: usize,
    ) -> Result<(PreNormAttention, PreNormFeedForward), NnError> {
        let path = |part: &str| format!("transformer.h.{l}.{part}");
        let (hidden, init) = (config.hidden, Init::Normal(config.initializer_range));
        // What joins the residual starts smaller, by the number of branches.
        let joining = Init::Normal(config.initializer_range / (2.0 * config.layers as f32).sqrt());
        let square = (hidden, hidden);
        let attention = PreNormAttention {
            norm: PreNorm::Layer(self.norm(&path("ln_1"), hidden, config.epsilon, 0.0)?),
            query: self.transposed(&path("attn.c_attn"), ".query", (0, 3), square, init)?,
            key: self.transposed(&path("attn.c_attn"), ".key", (1, 3), square, init)?,
            value: self.transposed(&path("attn.c_attn"), ".value", (2, 3), square, init)?,
            output: self.transposed(&path("attn.c_proj"), "", (0, 1), square, joining)?,
            head_norms: None,
            rotary: None,
            heads: config.heads,
            kv_heads: config.heads,
            causal: true,
            attention_dropout: config.attention_dropout,
            dropout: config.residual_dropout,
        };
        let inner = config.intermediate;
        let feed_forward = PreNormFeedForward {
            norm: PreNorm::Layer(self.norm(&path("ln_2"), hidden, config.epsilon, 0.0)?),
            up: self.transposed(&path("mlp.c_fc"), "", (0, 1), (hidden, inner), init)?,
            neurons: Neurons::Plain(config.activation),
            down: self.transposed(&path("mlp.c_proj"), "", (0, 1), (inner, hidden), joining)?,
            dropout: config.residual_dropout,
            groups: config.heads,
        };
        Ok((attention, feed_forward))
    }
}

/// Builds the model that `values` (`config.json`) describes, with weights from `folder`.
///
/// # Errors
/// If a key, tensor or shape is wrong.
pub(crate) fn load(folder: &Path, values: Value, request: &HeadRequest) -> Result<Model, NnError> {
    let mut config = Config::read(folder, &values)?;
    if let Some(dropout) = request.dropout {
        config.attention_dropout = dropout;
        config.residual_dropout = dropout;
        config.embedding_dropout = dropout;
    }
    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let mut builder = Builder::new(weights, "transformer.");

    let (width, longest, init) = (config.hidden, config.positions, Init::Normal(config.initializer_range));
    let words = builder.table("transformer.wte", config.vocabulary, width, init)?;
    let table = words.weight;
    let positions = Some(builder.table("transformer.wpe", longest, width, init)?);
    let stem = TokenStem { words, positions, width, dropout: config.embedding_dropout, longest };
    let kind = ComponentKind::Embedding;
    let stem = Level { name: "embeddings".into(), kind, layer: None, block: Box::new(stem) as Box<dyn Stem> };

    let mut blocks = Vec::new();
    for l in 0..config.layers {
        let (attention, feed_forward) = builder.gpt2_layer(&config, l)?;
        push_layer(&mut blocks, l, &format!("h.{l}"), attention, feed_forward);
    }
    let norm = PreNorm::Layer(builder.norm("transformer.ln_f", width, config.epsilon, 0.0)?);
    let init = Init::Normal(config.initializer_range);
    let head =
        Box::new(builder.lm_head(norm, config.tied.then_some(table), width, config.vocabulary, init)?);
    blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });

    let unused = builder.unused(&["lm_head."])?;
    let Builder { parameters, sites, .. } = builder;
    let mut saved = values;
    saved["architectures"] = json!(["GPT2LMHeadModel"]);
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest,
        config: saved,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
