//! Text to ids and back, for language models: with the tokenizer of a model's folder, with a vocabulary of
//! characters, or byte by byte.
//!
//! Special tokens are kept apart from text: [`TextCodec::encode`] gives the ids of the text alone, and [`bos`]
//! starts a text exactly where the model's own tokenizer would put it, in training and in generation alike. Every id
//! knows the span of text that it stands for, so that bits per byte are counted over the bytes of the text.
//!
//! [`bos`]: TextCodec::bos

mod characters;
mod special;
mod stream;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::DataError;
pub use characters::UnknownCharacters;
use characters::{Characters, Encoding};
use special::SpecialTokens;
pub use stream::StreamingDecoder;

/// Ids of the byte vocabulary.
const BYTES: usize = 256;

/// Texts that are encoded at a time: bounds what the library's rich encodings occupy.
const TEXTS_AT_A_TIME: usize = 64;

/// A text as ids, without special tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// `[tokens]`.
    pub ids: Vec<u32>,
    /// The bytes of the text that each id stands for, `[tokens]`: in order, without overlap, and all bytes but those
    /// of dropped characters. Empty for an id that only completes what those before it began.
    pub spans: Vec<Range<usize>>,
    /// Characters outside the vocabulary that were replaced, and how often.
    pub replaced: BTreeMap<char, usize>,
    /// Characters outside the vocabulary that were dropped, and how often.
    pub dropped: BTreeMap<char, usize>,
}

/// Text ↔ ids of one model.
#[derive(Debug, Clone)]
pub struct TextCodec {
    kind: Kind,
    special: SpecialTokens,
    vocabulary_size: usize,
    path: PathBuf,
}

#[derive(Debug, Clone)]
enum Kind {
    Tokenizer(Box<Tokenizer>),
    Characters(Characters),
    Bytes,
}

impl TextCodec {
    /// Reads what a model's folder holds: bytes where `config.json` says `"tokenizer": "bytes"`, else
    /// `tokenizer.json`, else `vocab.json` as a map from characters to ids. Special tokens are those of
    /// `config.json`, `generation_config.json` and `tokenizer_config.json`, each where it is there.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Tokenizer`] or [`DataError::BadVocabulary`] for a file that cannot be used,
    /// [`DataError::NoTokenizer`] where there is none.
    pub fn from_folder(folder: &Path) -> Result<Self, DataError> {
        let config = read_object(&folder.join("config.json"))?;
        let (tokenizer, vocabulary) = (folder.join("tokenizer.json"), folder.join("vocab.json"));
        let (kind, path) = if config.get("tokenizer").and_then(Value::as_str) == Some("bytes") {
            (Kind::Bytes, folder.join("config.json"))
        } else if tokenizer.is_file() {
            (Kind::Tokenizer(Box::new(read_tokenizer(&tokenizer)?)), tokenizer)
        } else if vocabulary.is_file() {
            (Kind::Characters(Characters::read(&vocabulary)?), vocabulary)
        } else {
            return Err(DataError::NoTokenizer { folder: folder.to_owned() });
        };
        let special = SpecialTokens::read(
            folder,
            &config,
            match &kind {
                Kind::Tokenizer(tokenizer) => Some(tokenizer),
                _ => None,
            },
        )?;
        let own = match &kind {
            Kind::Tokenizer(tokenizer) => {
                tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
            }
            Kind::Characters(characters) => characters.len(),
            Kind::Bytes => BYTES,
        };
        let rows =
            config.get("vocab_size").and_then(Value::as_u64).and_then(|rows| usize::try_from(rows).ok());
        Ok(Self { kind, special, vocabulary_size: rows.unwrap_or(own), path })
    }

    /// Every byte of the text's UTF-8 is an id, without special tokens: for models that have no vocabulary yet.
    #[must_use]
    pub fn bytes() -> Self {
        let special = SpecialTokens::default();
        Self { kind: Kind::Bytes, special, vocabulary_size: BYTES, path: PathBuf::from("bytes") }
    }

    /// Says what becomes of characters that a vocabulary of characters lacks; the others know all characters.
    #[must_use]
    pub fn with_unknown_characters(mut self, unknown: UnknownCharacters) -> Self {
        if let Kind::Characters(characters) = &mut self.kind {
            characters.unknown = unknown;
        }
        self
    }

    /// Rows of the model's output: `vocab_size` of its configuration, or one more than the largest id.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The file that the vocabulary comes from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token that starts every text, where the model's tokenizer starts texts with one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a document.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// Every token that ends a generated text.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.special.stops
    }

    /// What stands in for unknown characters in a note: "a space", "`<unk>`".
    #[must_use]
    pub fn replacement(&self) -> Option<&str> {
        match &self.kind {
            Kind::Characters(characters) => Some(characters.replacement()),
            _ => None,
        }
    }

    /// The ids of a text, without special tokens.
    ///
    /// # Errors
    /// As [`TextCodec::encode_all`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        Ok(self.encode_all(&[text])?.pop().unwrap_or_default().ids)
    }

    /// The ids of a text to go on with: [`TextCodec::bos`], where there is one, and those of the text.
    ///
    /// # Errors
    /// As [`TextCodec::encode_all`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, DataError> {
        Ok(self.bos().into_iter().chain(self.encode(text)?).collect())
    }

    /// Encodes texts, in parallel on rayon's current pool; the result is in their order.
    ///
    /// # Errors
    /// [`DataError::UnknownCharacter`] where such are refused, [`DataError::Tokenizer`] for what a tokenizer refuses.
    pub fn encode_all(&self, texts: &[&str]) -> Result<Vec<EncodedText>, DataError> {
        self.encode_all_at(texts, |_, line| (PathBuf::from("text"), line + 1))
    }

    /// [`TextCodec::encode_all`], with errors at the file and line that `place` gives for a text and a line of it, both
    /// from 0.
    pub(crate) fn encode_all_at(
        &self,
        texts: &[&str],
        place: impl Fn(usize, usize) -> (PathBuf, usize),
    ) -> Result<Vec<EncodedText>, DataError> {
        match &self.kind {
            Kind::Bytes => Ok(texts.iter().map(|text| bytes_of(text)).collect()),
            Kind::Characters(characters) => {
                let encode = |(number, text): (usize, &&str)| match characters.encode(text) {
                    Encoding::Text(encoded) => Ok(encoded),
                    Encoding::Refused { character, at } => {
                        let (path, line) = place(number, text[..at].matches('\n').count());
                        let character = character.escape_debug().to_string();
                        Err(DataError::UnknownCharacter { path, line, character })
                    }
                };
                texts.iter().enumerate().map(encode).collect()
            }
            Kind::Tokenizer(tokenizer) => {
                let mut encoded = Vec::with_capacity(texts.len());
                for texts in texts.chunks(TEXTS_AT_A_TIME) {
                    let encodings = tokenizer
                        .encode_batch(texts.to_vec(), false)
                        .map_err(|e| self.refused(&e.to_string()))?;
                    encoded.extend(texts.iter().zip(encodings).map(|(text, encoding)| EncodedText {
                        ids: encoding.get_ids().to_vec(),
                        spans: spans_of(encoding.get_offsets(), text.len()),
                        ..EncodedText::default()
                    }));
                }
                Ok(encoded)
            }
        }
    }

    /// The text of ids, without special tokens. Bytes that are no UTF-8 become U+FFFD, ids that do not exist nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        match &self.kind {
            Kind::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Kind::Characters(characters) => ids.iter().map(|id| characters.name(*id)).collect(),
            // A tokenizer's decoders take any tokens; what one of them cannot read has no text.
            Kind::Tokenizer(tokenizer) => tokenizer.decode(ids, true).unwrap_or_default(),
        }
    }

    /// Decodes ids one by one, as they are generated behind `context`: the ids of the text so far.
    #[must_use]
    pub fn decoder_after<'a>(&'a self, context: &[u32]) -> StreamingDecoder<'a> {
        StreamingDecoder::new(self, context)
    }

    fn refused(&self, message: &str) -> DataError {
        DataError::Tokenizer { path: self.path.clone(), message: message.to_owned() }
    }
}

fn bytes_of(text: &str) -> EncodedText {
    EncodedText {
        ids: text.bytes().map(u32::from).collect(),
        spans: (0..text.len()).map(|at| at..at + 1).collect(),
        ..EncodedText::default()
    }
}

/// Spans without overlap or gap, out of a tokenizer's offsets: several tokens may share a character, and none may
/// want the white space between two. Each byte goes to the first token that reaches it, those at the end to the last.
fn spans_of(offsets: &[(usize, usize)], bytes: usize) -> Vec<Range<usize>> {
    let mut reached = 0;
    let last = offsets.len().saturating_sub(1);
    let span = |(place, (_, end)): (usize, &(usize, usize))| {
        let start = reached;
        reached = if place == last { bytes } else { reached.max(*end).min(bytes) };
        start..reached
    };
    offsets.iter().enumerate().map(span).collect()
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer, DataError> {
    let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    let failed = |message: String| DataError::Tokenizer { path: path.to_owned(), message };
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| failed(e.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| failed(e.to_string()))?;
    Ok(tokenizer)
}

/// The JSON object of a configuration; null where the file is not there.
fn read_object(path: &Path) -> Result<Value, DataError> {
    let bytes = match std::fs::read(path) {
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        read => read.map_err(|reason| DataError::Io { path: path.to_owned(), reason })?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(DataError::Tokenizer { path: path.to_owned(), message: "not a JSON object".into() }),
        Err(error) => Err(DataError::Tokenizer { path: path.to_owned(), message: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_spans_that_cover_each_byte_once() {
        // "é  a " with é as two bytes that share its offsets, and white space that no token wants.
        assert_eq!(spans_of(&[(0, 2), (0, 2), (4, 5)], 6), [0..2, 2..2, 2..6]);
        // The second reaches back, as a token that begins with the space before it does.
        assert_eq!(spans_of(&[(0, 1), (0, 2)], 2), [0..1, 1..2]);
        assert!(spans_of(&[], 0).is_empty());
    }
}
