//! A vocabulary of words for classifiers that are trained from scratch, as a `tokenizer.json`.
//!
//! Text is lower-cased and split into runs of letters and digits, and runs of other signs; a word that is not in the
//! vocabulary is `[UNK]`. There are no special tokens around a text.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use crate::DataError;

/// The token of unknown words; its id is 0.
const UNKNOWN: &str = "[UNK]";

/// `tokenizer.json` with `[UNK]` and the `size - 1` most frequent words of the texts, the more frequent first, equally
/// frequent ones in the order of their characters.
///
/// # Errors
/// [`DataError::Tokenizer`] for what the tokenizer refuses, and where `size` leaves room for no word.
pub fn build_word_vocabulary<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    size: usize,
) -> Result<Vec<u8>, DataError> {
    let failed = |message: String| DataError::Tokenizer { path: PathBuf::from("tokenizer.json"), message };
    if size < 2 {
        return Err(failed(format!("a vocabulary of {size}, expected at least 2")));
    }
    let refused = |e: tokenizers::Error| failed(e.to_string());
    let empty = tokenizer_json(&[]).to_string();
    let tokenizer = Tokenizer::from_bytes(empty.as_bytes()).map_err(refused)?;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for text in texts {
        // The same parts that will read the text later say what a word is.
        let mut split = PreTokenizedString::from(text.to_lowercase());
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split).map_err(refused)?;
        }
        for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    let mut words: Vec<(String, usize)> = counts.into_iter().filter(|(word, _)| word != UNKNOWN).collect();
    words.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    words.truncate(size - 1);
    let words: Vec<String> = words.into_iter().map(|(word, _)| word).collect();
    Ok(tokenizer_json(&words).to_string().into_bytes())
}

fn tokenizer_json(words: &[String]) -> Value {
    let names = std::iter::once(UNKNOWN).chain(words.iter().map(String::as_str));
    let vocabulary: Map<String, Value> =
        names.zip(0u32..).map(|(word, id)| (word.to_owned(), id.into())).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN },
    })
}
