//! Text to ids, with the tokenizer that came with the model.
//!
//! Padding does not exist here: every text keeps its own length, and batches are packed.

use std::path::{Path, PathBuf};

use tokenizers::{
    EncodeInput, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::DataError;
use crate::table::Table;

/// The files of a tokenizer in a model's folder; a fine-tuned model takes along those that are there.
pub const TOKENIZER_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Rows that are encoded at a time: bounds what the library's rich encodings occupy.
const ROWS_AT_A_TIME: usize = 4096;

/// A text, or a pair of texts, as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedText {
    /// Token ids with the special tokens, `[tokens]`.
    pub ids: Vec<u32>,
    /// 0 for the first text, 1 for the second where the tokenizer's template says so, `[tokens]`.
    pub type_ids: Vec<u32>,
    /// Whether tokens were cut off at the end.
    pub truncated: bool,
}

/// A model's tokenizer, set to truncate and never to pad.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    max_length: usize,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of a model's folder. Texts are cut at `max_length` tokens, special tokens
    /// included; of a pair the longer text is cut first. What the file says about both is replaced.
    ///
    /// # Errors
    /// [`DataError::Io`] or [`DataError::Tokenizer`] for the file, [`DataError::MaxLength`] where the length
    /// leaves no room for a token of text.
    pub fn from_folder(folder: &Path, max_length: usize) -> Result<Self, DataError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|reason| DataError::Io { path: path.clone(), reason })?;
        let failed = |message: String| DataError::Tokenizer { path: path.clone(), message };
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| failed(e.to_string()))?;
        check_length(&tokenizer, max_length, 1)?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { tokenizer, path, max_length })
    }

    /// The longest a text can be, in tokens.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// One more than the largest id: the least number of rows of the token embedding.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Encodes the rows of a table, in parallel on rayon's current pool; the result is in row order.
    ///
    /// # Errors
    /// [`DataError::NoTokens`] for a row without tokens, [`DataError::MaxLength`] where a pair has no room,
    /// [`DataError::Tokenizer`] for what the tokenizer refuses.
    pub fn encode(&self, table: &Table) -> Result<Vec<TokenizedText>, DataError> {
        if let Some(row) = table.rows.first() {
            check_length(&self.tokenizer, self.max_length, row.texts.len())?;
        }
        let mut encoded = Vec::with_capacity(table.rows.len());
        for rows in table.rows.chunks(ROWS_AT_A_TIME) {
            let inputs: Vec<EncodeInput<'_>> = rows
                .iter()
                .map(|row| match &row.texts[..] {
                    [first, second, ..] => (first.as_str(), second.as_str()).into(),
                    [only] => only.as_str().into(),
                    [] => "".into(),
                })
                .collect();
            let encodings = self
                .tokenizer
                .encode_batch_fast(inputs, true)
                .map_err(|e| DataError::Tokenizer { path: self.path.clone(), message: e.to_string() })?;
            for (row, encoding) in rows.iter().zip(encodings) {
                if encoding.is_empty() {
                    return Err(DataError::NoTokens { path: table.path.clone(), line: row.line });
                }
                encoded.push(TokenizedText {
                    ids: encoding.get_ids().to_vec(),
                    type_ids: encoding.get_type_ids().to_vec(),
                    truncated: !encoding.get_overflowing().is_empty(),
                });
            }
        }
        Ok(encoded)
    }
}

/// The library subtracts without looking, so a length below the number of special tokens must not reach it.
fn check_length(tokenizer: &Tokenizer, max_length: usize, texts: usize) -> Result<(), DataError> {
    let special = tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(texts > 1));
    let least = special + texts;
    if max_length < least {
        return Err(DataError::MaxLength { max_length, special, least });
    }
    Ok(())
}
