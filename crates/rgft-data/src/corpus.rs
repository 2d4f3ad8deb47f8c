//! Text for language models: documents out of files and folders, cut into sequences of tokens.
//!
//! [`read_corpus`] reads documents, [`CorpusDataset::new`] makes them sequences. A document of `m` tokens (with those
//! that start and end it) gives sequences that overlap by one token, so that every token but the first is predicted
//! exactly once: `inputs = t[s .. s+n]`, `targets = t[s+1 .. s+n+1]`, `n ≤ context`, the next `s` = this `s + context`.
//! With a `stride` below the context they overlap by more, and tokens that were predicted before have no loss.
//! Sequences of a batch are packed end to end and never see each other, so there is no padding and no mask.

mod dataset;
mod folder;
mod read;

use std::path::PathBuf;

pub use dataset::{CorpusDataset, split_documents};
pub use folder::locate_corpus;
pub use read::{parse_corpus, read_corpus};

/// How text becomes sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusSpec {
    /// Column of a table that holds the text of a document.
    pub text_column: String,
    /// Columns of a prompt, and of what should follow it: the loss is on the latter alone. `text_column` is not read.
    pub completion: Option<Completion>,
    /// Input tokens of a sequence at most.
    pub context: usize,
    /// Tokens from the start of a sequence to that of the next; `context` where there is none.
    pub stride: Option<usize>,
    /// Whether the end of a document is a token to predict, where the model has one. Running text has no end.
    pub predict_end: bool,
    /// Extensions of the files to read in a folder, without dot; all where there are none.
    pub extensions: Vec<String>,
    /// Larger files of a folder are passed over.
    pub max_file_bytes: u64,
    /// Documents to read at most, from the first.
    pub limit_documents: Option<usize>,
    /// Bytes of text to read at most: whole documents, or the beginning of running text.
    pub limit_bytes: Option<usize>,
}

impl Default for CorpusSpec {
    fn default() -> Self {
        Self {
            text_column: "text".to_owned(),
            completion: None,
            context: 256,
            stride: None,
            predict_end: true,
            extensions: Vec::new(),
            max_file_bytes: 1 << 20,
            limit_documents: None,
            limit_bytes: None,
        }
    }
}

/// Where prompts and completions are, and what stands between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Column of the prompts.
    pub prompt_column: String,
    /// Column of the completions.
    pub completion_column: String,
    /// What follows the prompt and belongs to it.
    pub separator: String,
}

impl Completion {
    /// The text in front of a completion: what a model is given to generate from.
    #[must_use]
    pub fn prompt(&self, prompt: &str) -> String {
        format!("{prompt}{}", self.separator)
    }
}

/// A text of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Its path in the folder, or its `path` in the table; empty where it has none.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Line on which it starts, from 1.
    pub line: usize,
    /// The whole text.
    pub text: String,
    /// Bytes of it that are a prompt, without loss.
    pub prompt: usize,
}

impl Document {
    /// The prompt, with what separates it from the completion; empty where all is to be learnt.
    #[must_use]
    pub fn prompt(&self) -> &str {
        &self.text[..self.prompt]
    }

    /// What is to be learnt.
    #[must_use]
    pub fn completion(&self) -> &str {
        &self.text[self.prompt..]
    }
}

/// The documents of a file or folder, at least one, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// Where they come from.
    pub path: PathBuf,
    /// In the order of the file; of a folder by path.
    pub documents: Vec<Document>,
    /// Whether this is one text without a natural end: a file of plain text.
    pub running: bool,
    /// What was passed over, as sentences for the user.
    pub notes: Vec<String>,
}

/// `1234567` as "1,234,567", for notes.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
