//! Which tokens start and end a text, as a model's folder tells it.
//!
//! Configurations name a BOS token even where the tokenizer never writes it (GPT-2, Qwen), so the name alone does not
//! count: a text starts with it where `tokenizer_config.json` says `add_bos_token`, or, where that is silent, where the
//! template in `tokenizer.json` puts it. Without a tokenizer `bos_token_id` of `config.json` is all there is.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::read_object;
use crate::DataError;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SpecialTokens {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) stops: Vec<u32>,
}

impl SpecialTokens {
    pub(super) fn read(
        folder: &Path,
        config: &Value,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, DataError> {
        let generation = read_object(&folder.join("generation_config.json"))?;
        let of_tokenizer = read_object(&folder.join("tokenizer_config.json"))?;
        // A token by name, as a string or as an object with `content`.
        let named = |key: &str| {
            let name = of_tokenizer.get(key)?;
            tokenizer?.token_to_id(name.as_str().or_else(|| name.get("content")?.as_str())?)
        };
        let (ids, generation_ids) = (ids_of(config, "eos_token_id"), ids_of(&generation, "eos_token_id"));
        let eos = named("eos_token").or_else(|| ids.first().or(generation_ids.first()).copied());
        let mut stops: Vec<u32> = eos.into_iter().chain(ids).chain(generation_ids).collect();
        stops.sort_unstable();
        stops.dedup();

        let bos = named("bos_token")
            .or_else(|| ids_of(config, "bos_token_id").first().copied())
            .or_else(|| ids_of(&generation, "bos_token_id").first().copied());
        let starts = match (of_tokenizer.get("add_bos_token").and_then(Value::as_bool), tokenizer) {
            (Some(says), _) => says,
            (None, None) => true,
            (None, Some(tokenizer)) => {
                let empty = tokenizer.encode("", true).ok();
                empty.is_some_and(|empty| bos.is_some() && empty.get_ids().first().copied() == bos)
            }
        };
        Ok(Self { bos: bos.filter(|_| starts), eos, stops })
    }
}

/// An id, or a list of them.
fn ids_of(config: &Value, key: &str) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(key) {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
