//! What `config.json` says, and how the family's members name the same things.

use std::path::Path;

use rgft_kernels::cpu::activation::Activation;
use serde_json::Value;

use crate::NnError;
use crate::models::config_keys::ConfigKeys;

/// Which member of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Bert,
    Roberta,
    DistilBert,
}

/// The numbers that shape an encoder.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) member: Member,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) intermediate: usize,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) types: usize,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
    pub(super) hidden_dropout: f32,
    pub(super) attention_dropout: f32,
    pub(super) head_dropout: f32,
    pub(super) initializer_range: f32,
    pub(super) first_position: u32,
}

impl Config {
    pub(super) fn read(folder: &Path, values: &Value) -> Result<Self, NnError> {
        let keys = ConfigKeys::new(folder, values);
        let member = match values.get("model_type").and_then(Value::as_str) {
            Some("roberta") => Member::Roberta,
            Some("distilbert") => Member::DistilBert,
            _ => Member::Bert,
        };
        let distil = member == Member::DistilBert;
        let name = |bert, distilbert| if distil { distilbert } else { bert };
        let hidden = keys.size(name("hidden_size", "dim"), None)?;
        let heads = keys.size(name("num_attention_heads", "n_heads"), None)?;
        if hidden % heads != 0 {
            let problem = format!("is {hidden}, expected a multiple of the {heads} attention heads");
            return Err(keys.error(name("hidden_size", "dim"), problem));
        }
        let activation = keys.activation(name("hidden_act", "activation"), "gelu")?;
        if let Some(kind @ ("relative_key" | "relative_key_query")) =
            values.get("position_embedding_type").and_then(Value::as_str)
        {
            return Err(keys.error("position_embedding_type", format!("is {kind:?}, expected \"absolute\"")));
        }
        let hidden_dropout = keys.probability(name("hidden_dropout_prob", "dropout"), 0.1)?;
        let own_head = if distil { "seq_classif_dropout" } else { "classifier_dropout" };
        let roberta = member == Member::Roberta;
        let padding = keys.number("pad_token_id", Some(1.0))?;
        let first_position = if roberta { (padding as u32).saturating_add(1) } else { 0 };
        let config = Self {
            member,
            layers: keys.size(name("num_hidden_layers", "n_layers"), None)?,
            hidden,
            heads,
            intermediate: keys.size(name("intermediate_size", "hidden_dim"), None)?,
            vocabulary: keys.size("vocab_size", None)?,
            positions: keys.size("max_position_embeddings", Some(512))?,
            types: keys.size("type_vocab_size", Some(2))?,
            epsilon: keys.number("layer_norm_eps", Some(1e-12))? as f32,
            activation,
            hidden_dropout,
            attention_dropout: keys
                .probability(name("attention_probs_dropout_prob", "attention_dropout"), 0.1)?,
            head_dropout: keys.probability(own_head, if distil { 0.2 } else { hidden_dropout.into() })?,
            initializer_range: keys.number("initializer_range", Some(0.02))? as f32,
            first_position,
        };
        if config.positions <= config.first_position as usize {
            let problem = format!("is {}, too few for pad_token_id", config.positions);
            return Err(keys.error("max_position_embeddings", problem));
        }
        Ok(config)
    }

    /// What stands before every encoder tensor in a task model's checkpoint.
    pub(super) fn prefix(&self) -> &'static str {
        match self.member {
            Member::Bert => "bert.",
            Member::Roberta => "roberta.",
            Member::DistilBert => "distilbert.",
        }
    }

    /// The path of a part of layer `l`, named as BERT names it.
    pub(super) fn layer_path(&self, l: usize, part: &str) -> String {
        if self.member != Member::DistilBert {
            return format!("encoder.layer.{l}.{part}");
        }
        let part = match part {
            "attention.self.query" => "attention.q_lin",
            "attention.self.key" => "attention.k_lin",
            "attention.self.value" => "attention.v_lin",
            "attention.output.dense" => "attention.out_lin",
            "attention.output.LayerNorm" => "sa_layer_norm",
            "intermediate.dense" => "ffn.lin1",
            "output.dense" => "ffn.lin2",
            _ => "output_layer_norm",
        };
        format!("transformer.layer.{l}.{part}")
    }

    /// The task head's dense layer before the classifier, its activation, and the classifier.
    pub(super) fn head_paths(&self) -> (&'static str, Activation, &'static str) {
        match self.member {
            Member::Bert => ("bert.pooler.dense", Activation::Tanh, "classifier"),
            Member::Roberta => ("classifier.dense", Activation::Tanh, "classifier.out_proj"),
            Member::DistilBert => ("pre_classifier", Activation::Relu, "classifier"),
        }
    }

    /// The class that `transformers` loads the saved folder with.
    pub(super) fn architecture(&self) -> &'static str {
        match self.member {
            Member::Bert => "BertForSequenceClassification",
            Member::Roberta => "RobertaForSequenceClassification",
            Member::DistilBert => "DistilBertForSequenceClassification",
        }
    }
}
