//! What `config.json` says, and where the family's members differ.

use std::path::Path;

use serde_json::Value;

use super::rope::{self, Rope};
use crate::NnError;
use crate::models::config_keys::ConfigKeys;

/// Which member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Llama,
    Qwen2,
    Qwen3,
}

/// The numbers that shape a decoder.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) member: Member,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Width of one head.
    pub(super) width: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) epsilon: f32,
    /// Whether the output map is the table of words.
    pub(super) tied: bool,
    /// Whether queries, keys and values have biases.
    pub(super) input_bias: bool,
    /// Whether attention's output has one.
    pub(super) output_bias: bool,
    /// Whether the feed-forward block has them.
    pub(super) mlp_bias: bool,
    pub(super) attention_dropout: f32,
    pub(super) initializer_range: f32,
    pub(super) rope: Rope,
}

impl Config {
    pub(super) fn read(folder: &Path, values: &Value) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let member = match values.get("model_type").and_then(Value::as_str) {
            Some("qwen2") => Member::Qwen2,
            Some("qwen3") => Member::Qwen3,
            _ => Member::Llama,
        };
        let hidden = keys.size("hidden_size", None)?;
        let heads = keys.size("num_attention_heads", None)?;
        let kv_heads = keys.size("num_key_value_heads", Some(heads))?;
        if heads % kv_heads != 0 {
            let problem = format!("is {kv_heads}, expected a divisor of the {heads} attention heads");
            return Err(keys.error("num_key_value_heads", problem));
        }
        let width = match (values.get("head_dim").filter(|value| !value.is_null()), member) {
            (None, Member::Qwen3) => 128,
            (None, _) if hidden % heads != 0 => {
                let problem = format!("is {hidden}, expected a multiple of the {heads} attention heads");
                return Err(keys.error("hidden_size", problem));
            }
            _ => keys.size("head_dim", Some((hidden / heads).max(1)))?,
        };
        refuse_what_is_not_there(&keys, values)?;
        let positions = keys.size("max_position_embeddings", Some(2048))?;
        let attention_bias = keys.flag("attention_bias", false)?;
        Ok(Self {
            member,
            layers: keys.size("num_hidden_layers", None)?,
            hidden,
            heads,
            kv_heads,
            width,
            intermediate: keys.size("intermediate_size", None)?,
            vocabulary: keys.size("vocab_size", None)?,
            positions,
            epsilon: keys.number("rms_norm_eps", Some(1e-6))? as f32,
            tied: keys.flag("tie_word_embeddings", false)?,
            input_bias: member == Member::Qwen2 || attention_bias,
            output_bias: member != Member::Qwen2 && attention_bias,
            mlp_bias: member == Member::Llama && keys.flag("mlp_bias", false)?,
            attention_dropout: keys.probability("attention_dropout", 0.0)?,
            initializer_range: keys.number("initializer_range", Some(0.02))? as f32,
            rope: rope::read(&keys, values, width, positions)?,
        })
    }

    /// The class that `transformers` loads the saved folder with.
    pub(super) fn architecture(&self) -> &'static str {
        match self.member {
            Member::Llama => "LlamaForCausalLM",
            Member::Qwen2 => "Qwen2ForCausalLM",
            Member::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// Attention over windows, and other activations than SiLU, would be computed wrongly without a word.
fn refuse_what_is_not_there(keys: &ConfigKeys, values: &Value) -> Result<(), NnError> {
    if let Some(other) = keys.word("hidden_act").filter(|word| !["silu", "swish"].contains(word)) {
        return Err(keys.error("hidden_act", format!("is {other:?}, expected \"silu\"")));
    }
    if keys.flag("use_sliding_window", false)? {
        return Err(keys.error("use_sliding_window", "is true, and windows are not supported".into()));
    }
    let kinds = values.get("layer_types").and_then(Value::as_array);
    if let Some(other) = kinds.into_iter().flatten().find(|kind| kind.as_str() != Some("full_attention")) {
        return Err(keys.error("layer_types", format!("has {other}, expected \"full_attention\"")));
    }
    Ok(())
}
