//! From a model folder to a [`Model`].

use std::collections::BTreeMap;

use std::path::Path;
use std::sync::Arc;

use rgft_core::ComponentKind;
use serde_json::{Value, json};

use super::config::{Config, Member};
use crate::NnError;
use crate::layers::Stem;
use crate::layers::linear::Linear;
use crate::layers::pre_norm::{Neurons, PreNorm, PreNormAttention, PreNormFeedForward, Rotary};
use crate::layers::rms_norm::RmsNorm;
use crate::layers::token_stem::TokenStem;
use crate::models::build::{Builder, push_layer};
use crate::models::{HeadRequest, Level, Model, SiteKind};
use crate::weights::{Init, Weights};

impl Builder<'_> {
    fn rms_norm(&mut self, path: &str, width: usize, epsilon: f32) -> Result<RmsNorm, NnError> {
        let weight = self.parameter(&format!("{path}.weight"), &[width], Init::Constant(1.0))?;
        let site = self.site(path, SiteKind::Norm { weight, bias: None });
        Ok(RmsNorm { site, weight, width, epsilon })
    }

    fn llama_layer(
        &mut self,
        config: &Config,
        l: usize,
        rotary: &Arc<Rotary>,
    ) -> Result<(PreNormAttention, PreNormFeedForward), NnError> {
        let path = |part: &str| format!("model.layers.{l}.{part}");
        let (hidden, inner, init) =
            (config.hidden, config.intermediate, Init::Normal(config.initializer_range));
        let norm = |builder: &mut Self, part: &str, width: usize| {
            builder.rms_norm(&path(part), width, config.epsilon)
        };
        let linear = |builder: &mut Self, part: &str, input, output, bias| -> Result<Linear, NnError> {
            builder.linear(&path(part), input, output, bias, init)
        };
        let (wide, narrow) = (config.heads * config.width, config.kv_heads * config.width);
        let attention = PreNormAttention {
            norm: PreNorm::Rms(norm(self, "input_layernorm", hidden)?),
            query: linear(self, "self_attn.q_proj", hidden, wide, config.input_bias)?,
            key: linear(self, "self_attn.k_proj", hidden, narrow, config.input_bias)?,
            value: linear(self, "self_attn.v_proj", hidden, narrow, config.input_bias)?,
            output: linear(self, "self_attn.o_proj", wide, hidden, config.output_bias)?,
            head_norms: match config.member {
                Member::Qwen3 => Some([
                    norm(self, "self_attn.q_norm", config.width)?,
                    norm(self, "self_attn.k_norm", config.width)?,
                ]),
                _ => None,
            },
            rotary: Some(Arc::clone(rotary)),
            heads: config.heads,
            kv_heads: config.kv_heads,
            causal: true,
            attention_dropout: config.attention_dropout,
            dropout: 0.0,
        };
        let feed_forward = PreNormFeedForward {
            norm: PreNorm::Rms(norm(self, "post_attention_layernorm", hidden)?),
            neurons: Neurons::Gated(linear(self, "mlp.gate_proj", hidden, inner, config.mlp_bias)?),
            up: linear(self, "mlp.up_proj", hidden, inner, config.mlp_bias)?,
            down: linear(self, "mlp.down_proj", inner, hidden, config.mlp_bias)?,
            dropout: 0.0,
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
    }
    let files = Weights::files(folder, request)?;
    let weights = Weights::new(folder, &files, request);
    let mut builder = Builder::new(weights, "model.");

    let (rows, width) = (config.vocabulary, config.hidden);
    let words = builder.table("model.embed_tokens", rows, width, Init::Normal(config.initializer_range))?;
    let table = words.weight;
    let stem = TokenStem { words, positions: None, width, dropout: 0.0, longest: config.positions };
    let kind = ComponentKind::Embedding;
    let stem = Level { name: "embeddings".into(), kind, layer: None, block: Box::new(stem) as Box<dyn Stem> };

    let rotary = Arc::new(Rotary::new(config.rope.frequencies.clone(), config.rope.magnitude));
    let mut blocks = Vec::new();
    for l in 0..config.layers {
        let (attention, feed_forward) = builder.llama_layer(&config, l, &rotary)?;
        push_layer(&mut blocks, l, &format!("layers.{l}"), attention, feed_forward);
    }
    let norm = PreNorm::Rms(builder.rms_norm("model.norm", width, config.epsilon)?);
    let init = Init::Normal(config.initializer_range);
    let head =
        Box::new(builder.lm_head(norm, config.tied.then_some(table), width, config.vocabulary, init)?);
    blocks.push(Level { name: "head".into(), kind: ComponentKind::TaskHead, layer: None, block: head });

    let unused = builder.unused(&["lm_head."])?;
    let Builder { parameters, sites, .. } = builder;
    let mut saved = values;
    saved["architectures"] = json!([config.architecture()]);
    Ok(Model {
        parameters,
        sites,
        stem,
        blocks,
        longest: config.positions,
        config: saved,
        unused,
        adapters: BTreeMap::new(),
        recompute: false,
    })
}
