//! Documents as sequences of tokens, with the next tokens as targets; and parts of them held out.

use std::collections::BTreeMap;
use std::sync::Arc;

use rgft_core::{Extent, Inputs, Tokens};

use super::{Corpus, CorpusSpec, Document, grouped};
use crate::DataError;
use crate::dataset::{Augmentation, Dataset, IGNORED, PackedBatch, Targets};
use crate::files::is_table;
use crate::split::Split;
use crate::text_codec::{EncodedText, TextCodec};

/// Documents that are encoded at a time: bounds the memory for what is known of each token only then.
const DOCUMENTS_AT_A_TIME: usize = 64;

/// Sequences of a corpus. An example is one sequence.
#[derive(Debug, Clone)]
pub struct CorpusDataset {
    /// Tokens of all documents, one after the other; parts of a data set share them.
    ids: Arc<Vec<u32>>,
    sequences: Vec<Sequence>,
    outputs: usize,
    notes: Vec<String>,
}

/// `inputs + 1` tokens from `start`; all but the last are inputs, all but the first are targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sequence {
    start: usize,
    inputs: usize,
    /// Targets at the front without loss.
    ignored: usize,
    document: usize,
    /// Of text, that the targets with a loss stand for.
    bytes: usize,
}

impl CorpusDataset {
    /// Tokenises documents and cuts them. A document starts with [`TextCodec::bos`] and ends with
    /// [`TextCodec::eos`], where the codec has them; running text has no end. A prompt and its completion are encoded
    /// as one text, of which a token belongs to the prompt if all of it does.
    ///
    /// # Errors
    /// [`DataError::BadContext`] for a context or stride that cannot be, [`DataError::NoSequences`] where nothing is
    /// to be predicted, [`DataError::TokenOutOfRange`] where tokenizer and model do not fit together,
    /// [`DataError::UnknownCharacter`] with file and line, and what [`TextCodec::encode_all`] says.
    pub fn new(corpus: &Corpus, codec: &TextCodec, spec: &CorpusSpec) -> Result<Self, DataError> {
        let (context, stride) = (spec.context, spec.stride.unwrap_or(spec.context));
        if !(1..=context).contains(&stride) {
            return Err(DataError::BadContext { context, stride });
        }
        let (mut ids, mut sequences, mut tally) = (Vec::new(), Vec::new(), Tally::default());
        let end = codec.eos().filter(|_| spec.predict_end && !corpus.running);
        for (group, documents) in corpus.documents.chunks(DOCUMENTS_AT_A_TIME).enumerate() {
            let texts: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
            let encoded = codec.encode_all_at(&texts, |text, line| place(&documents[text], line))?;
            for (within, (document, text)) in documents.iter().zip(encoded).enumerate() {
                tally.add(document, &text);
                let tokens = DocumentTokens::new(codec.bos(), text, end, document.prompt);
                let number = group * DOCUMENTS_AT_A_TIME + within;
                sequences.extend(tokens.cut(context, stride).map(|mut sequence| {
                    sequence.start += ids.len();
                    sequence.document = number;
                    sequence
                }));
                ids.extend_from_slice(&tokens.ids);
            }
        }
        let outputs = codec.vocabulary_size();
        if let Some(id) = ids.iter().copied().find(|id| *id as usize >= outputs) {
            return Err(DataError::TokenOutOfRange { path: codec.path().to_owned(), id, outputs });
        }
        if sequences.is_empty() {
            return Err(DataError::NoSequences { path: corpus.path.clone() });
        }
        let notes = corpus.notes.iter().cloned().chain(tally.notes(codec.replacement())).collect();
        Ok(Self { ids: Arc::new(ids), sequences, outputs, notes })
    }

    /// Holds out a part: `(the rest, the part)`, the same whatever the seed. Of many documents whole ones, as
    /// [`split_documents`] chooses them; of so few that this gives none, the last sequences of each. The part is
    /// `None` where there is nothing to hold out.
    #[must_use]
    pub fn split(&self, part: f64) -> (Self, Option<Self>) {
        let documents = self.documents();
        let split = split_documents(documents.len(), part);
        let held: Vec<bool> = if split.validation.is_empty() {
            let of_document = self.sequences.chunk_by(|a, b| a.document == b.document);
            of_document.flat_map(|of| (0..of.len()).map(|at| at >= of.len() - tail(of.len(), part))).collect()
        } else {
            let held: Vec<usize> = split.validation.iter().map(|at| documents[*at]).collect();
            self.sequences.iter().map(|s| held.binary_search(&s.document).is_ok()).collect()
        };
        let those = |wanted: bool| self.subset((0..held.len()).filter(|at| held[*at] == wanted));
        (those(false), Some(those(true)).filter(|part| !part.is_empty()))
    }

    /// The data set of some of the sequences, in the order given.
    ///
    /// # Panics
    /// If there is no such sequence.
    #[must_use]
    pub fn subset(&self, examples: impl IntoIterator<Item = usize>) -> Self {
        Self {
            ids: Arc::clone(&self.ids),
            sequences: examples.into_iter().map(|example| self.sequences[example]).collect(),
            outputs: self.outputs,
            notes: self.notes.clone(),
        }
    }

    /// Numbers of the documents that the sequences come from, each once.
    #[must_use]
    pub fn documents(&self) -> Vec<usize> {
        let mut documents: Vec<usize> = self.sequences.iter().map(|sequence| sequence.document).collect();
        documents.sort_unstable();
        documents.dedup();
        documents
    }

    /// The tokens of a sequence: its inputs, and the last target.
    ///
    /// # Panics
    /// If there is no such sequence.
    #[must_use]
    pub fn tokens(&self, example: usize) -> &[u32] {
        let Sequence { start, inputs, .. } = self.sequences[example];
        &self.ids[start..=start + inputs]
    }

    /// Tokens with a loss.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.inputs - sequence.ignored).sum()
    }

    /// What was passed over, replaced or dropped, as sentences for the user.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Dataset for CorpusDataset {
    fn len(&self) -> usize {
        self.sequences.len()
    }

    fn size(&self, example: usize) -> usize {
        self.sequences[example].inputs
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        Extent::Sequences(examples.iter().map(|&example| self.size(example)).collect())
    }

    fn pack(&self, examples: &[usize], _: Option<Augmentation>) -> PackedBatch {
        let rows = examples.iter().map(|&example| self.size(example)).sum();
        let (mut tokens, mut targets) = (Tokens::default(), Vec::with_capacity(rows));
        tokens.ids.reserve_exact(rows);
        for &example in examples {
            let (of, ignored) = (self.tokens(example), self.sequences[example].ignored);
            tokens.ids.extend_from_slice(&of[..of.len() - 1]);
            tokens.lengths.push(of.len() - 1);
            targets.extend(std::iter::repeat_n(IGNORED, ignored));
            targets.extend_from_slice(&of[1 + ignored..]);
        }
        tokens.types = vec![0; rows];
        let targets = Targets::Classes(targets);
        PackedBatch { inputs: Inputs::Tokens(tokens), targets, rows: examples.to_vec() }
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn text_bytes(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.bytes).sum()
    }
}

/// One document, tokenised.
struct DocumentTokens {
    ids: Vec<u32>,
    /// Bytes of text that each id stands for.
    bytes: Vec<usize>,
    /// The first token with a loss.
    first: usize,
}

impl DocumentTokens {
    /// `prompt` are bytes of the text without loss.
    fn new(bos: Option<u32>, text: EncodedText, eos: Option<u32>, prompt: usize) -> Self {
        let first = usize::from(bos.is_some()) + text.spans.partition_point(|span| span.end <= prompt);
        let ids = bos.into_iter().chain(text.ids).chain(eos).collect();
        let bytes = text.spans.iter().map(ExactSizeIterator::len);
        let bytes = bos.map(|_| 0).into_iter().chain(bytes).chain(eos.map(|_| 0)).collect();
        Self { ids, bytes, first: if prompt == 0 { 0 } else { first } }
    }

    /// Its sequences that have a loss, as if it stood at 0.
    fn cut(&self, context: usize, stride: usize) -> impl Iterator<Item = Sequence> {
        let tokens = self.ids.len();
        // The tokens below are predicted, or need not be; nothing predicts the first.
        let mut predicted = self.first.max(1);
        let starts = (0..tokens.saturating_sub(1)).step_by(stride);
        starts.filter_map(move |start| {
            let end = (start + context + 1).min(tokens);
            if end <= predicted {
                return None;
            }
            let ignored = predicted.saturating_sub(start + 1);
            let bytes = self.bytes[start + 1 + ignored..end].iter().sum();
            predicted = end;
            Some(Sequence { start, inputs: end - start - 1, ignored, document: 0, bytes })
        })
    }
}

/// Documents `0 … n` in two parts, the same whatever the seed: of `n · part` (rounded) documents at even distances,
/// the last of each stretch is for validation. Never all of them.
#[must_use]
pub fn split_documents(n: usize, part: f64) -> Split {
    let k = share(n, part);
    let validation: Vec<usize> = (1..=k).map(|i| i * n / k - 1).collect();
    let train = (0..n).filter(|document| validation.binary_search(document).is_err()).collect();
    Split { train, validation }
}

fn share(n: usize, part: f64) -> usize {
    ((n as f64 * part.clamp(0.0, 1.0)).round() as usize).min(n.saturating_sub(1))
}

/// Sequences at the end of a document to hold out: at least one of two.
fn tail(n: usize, part: f64) -> usize {
    if part > 0.0 { share(n, part).max(usize::from(n > 1)) } else { 0 }
}

/// File and line, for a line of a document that counts from 0. The lines of a cell are not those of its file.
fn place(document: &Document, line: usize) -> (std::path::PathBuf, usize) {
    let within = if is_table(&document.path) { 0 } else { line };
    (document.path.clone(), document.line + within)
}

/// Characters that the vocabulary lacks.
#[derive(Default)]
struct Tally {
    characters: usize,
    replaced: BTreeMap<char, usize>,
    dropped: BTreeMap<char, usize>,
}

impl Tally {
    fn add(&mut self, document: &Document, text: &EncodedText) {
        self.characters += document.text.chars().count();
        for (all, of) in [(&mut self.replaced, &text.replaced), (&mut self.dropped, &text.dropped)] {
            for (character, times) in of {
                *all.entry(*character).or_default() += times;
            }
        }
    }

    fn notes(&self, replacement: Option<&str>) -> Vec<String> {
        let replaced = format!("replaced by {}", replacement.unwrap_or("another"));
        let note = |of: &BTreeMap<char, usize>, what: &str| {
            let times: usize = of.values().sum();
            let mut most: Vec<(usize, char)> =
                of.iter().map(|(character, times)| (*times, *character)).collect();
            most.sort_by_key(|(times, character)| (std::cmp::Reverse(*times), *character));
            let most: Vec<String> = most
                .iter()
                .take(5)
                .map(|(times, character)| format!("`{}` {}", character.escape_debug(), grouped(*times)))
                .collect();
            (times > 0).then(|| {
                format!(
                    "{} of {} characters ({:.2} %: {}{}) are outside the model's vocabulary and were {what}",
                    grouped(times),
                    grouped(self.characters),
                    100.0 * times as f64 / self.characters as f64,
                    most.join(", "),
                    if of.len() > most.len() { " …" } else { "" },
                )
            })
        };
        [note(&self.replaced, &replaced), note(&self.dropped, "dropped")].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokens: usize, first: usize, context: usize, stride: usize) -> Vec<(usize, usize, usize)> {
        let ids = (0u32..).take(tokens).collect();
        let document = DocumentTokens { ids, bytes: vec![1; tokens], first };
        document.cut(context, stride).map(|s| (s.start, s.inputs, s.ignored)).collect()
    }

    #[test]
    fn cuts_by_hand() {
        // (start, inputs, ignored). Nine tokens: 4 + 4 are predicted; the tenth needs a sequence of its own.
        assert_eq!(cut(9, 0, 4, 4), [(0, 4, 0), (4, 4, 0)]);
        assert_eq!(cut(10, 0, 4, 4), [(0, 4, 0), (4, 4, 0), (8, 1, 0)]);
        // Half of each sequence is context only.
        assert_eq!(cut(9, 0, 4, 2), [(0, 4, 0), (2, 4, 2), (4, 4, 2)]);
        // A prompt of five tokens: the first sequence would have no loss.
        assert_eq!(cut(9, 5, 4, 4), [(4, 4, 0)]);
        assert_eq!(cut(9, 6, 8, 8), [(0, 8, 5)]);
        assert_eq!(cut(9, 9, 8, 8), []);
        assert_eq!((cut(1, 0, 4, 4), cut(0, 0, 4, 4)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn documents_at_even_distances_are_held_out() {
        assert_eq!(split_documents(20, 0.1).validation, [9, 19]);
        assert_eq!(split_documents(4, 0.1).validation, [0usize; 0]);
        assert_eq!(split_documents(2, 1.0), Split { train: vec![0], validation: vec![1] });
        assert_eq!(split_documents(0, 0.5), Split { train: vec![], validation: vec![] });
    }
}
