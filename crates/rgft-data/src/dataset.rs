//! Data sets: examples that can be laid out as batches, whatever they are made of; and texts with labels.

use std::collections::BTreeMap;

use rgft_core::{Extent, Inputs, Tokens};

use crate::error::DataError;
use crate::label::{LabelMap, Target, encode};
use crate::objective::Objective;
use crate::table::Table;
use crate::tokenizer::TextTokenizer;

/// In a list of classes: no target here, and no loss.
pub const IGNORED: u32 = u32::MAX;

/// The targets of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// The class of each row of the output, `[rows]`: of examples or of tokens. Rows of class [`IGNORED`] have none.
    Classes(Vec<u32>),
    /// Multi-label, row-major `[batch, labels]` of 0 and 1, and the number of labels.
    MultiHot(Vec<f32>, usize),
    /// Row-major `[batch, values]`, and the number of values: 1, or a forecast's horizon.
    Values(Vec<f32>, usize),
    /// Rows to predict.
    Unknown,
}

impl Targets {
    /// Rows that have a target: what a mean loss is the mean over.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.iter().filter(|class| **class != IGNORED).count(),
            Self::MultiHot(hot, labels) => hot.len() / (*labels).max(1),
            Self::Values(values, n) => values.len() / (*n).max(1),
            Self::Unknown => 0,
        }
    }
}

/// A batch: what enters the model, and what should come out.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedBatch {
    /// Inputs of the examples.
    pub inputs: Inputs,
    /// Their targets.
    pub targets: Targets,
    /// Which examples of the data set these are, `[batch]`.
    pub rows: Vec<usize>,
}

/// Which random variation of the examples to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// The run's seed.
    pub seed: u64,
    /// The pass over the data: the same example varies from pass to pass, and in the same way in each repetition.
    pub epoch: u64,
}

/// Examples in memory.
pub trait Dataset: Send + Sync {
    /// How many examples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How large an example is (tokens, pixels, time steps): examples of like size share a batch.
    fn size(&self, example: usize) -> usize;

    /// The extent of a batch of these examples.
    fn extent(&self, examples: &[usize]) -> Extent;

    /// Lays out examples as a batch, in the order given; varied where `augmentation` is given and the data set has
    /// any to offer.
    fn pack(&self, examples: &[usize], augmentation: Option<Augmentation>) -> PackedBatch;

    /// Columns of the model's output.
    fn outputs(&self) -> usize;

    /// Bytes of text that the targets stand for: what bits per byte are counted over. 0 where it is no text.
    fn text_bytes(&self) -> usize {
        0
    }

    /// Metrics of naive forecasts on this data set, by name; what a model's own are measured against.
    fn baselines(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// One example: ids in, target out.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids, `[tokens]`, at least one.
    pub ids: Vec<u32>,
    /// Segment of each token, `[tokens]`.
    pub type_ids: Vec<u32>,
    /// What to learn.
    pub target: Target,
}

/// The examples of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct TextDataset {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// What the targets are.
    pub objective: Objective,
    /// Columns of the head's output: classes, labels, or 1 for regression.
    pub outputs: usize,
    /// How many texts were cut at the maximal length.
    pub truncated: usize,
}

impl TextDataset {
    /// Tokenises and encodes a table.
    ///
    /// # Errors
    /// As [`encode`] and [`TextTokenizer::encode`].
    pub fn labelled(
        table: &Table,
        objective: Objective,
        labels: &LabelMap,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, DataError> {
        // Labels first: they are cheap, and wrong ones should be told before a long tokenisation.
        let targets = encode(table, objective, labels)?;
        Self::new(table, objective, labels, tokenizer, targets)
    }

    /// Tokenises a table to predict on: every target is [`Target::Unknown`].
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn unlabelled(
        table: &Table,
        objective: Objective,
        labels: &LabelMap,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, DataError> {
        Self::new(table, objective, labels, tokenizer, vec![Target::Unknown; table.rows.len()])
    }

    fn new(
        table: &Table,
        objective: Objective,
        labels: &LabelMap,
        tokenizer: &TextTokenizer,
        targets: Vec<Target>,
    ) -> Result<Self, DataError> {
        let texts = tokenizer.encode(table)?;
        let truncated = texts.iter().filter(|text| text.truncated).count();
        let examples = texts
            .into_iter()
            .zip(targets)
            .map(|(text, target)| Example { ids: text.ids, type_ids: text.type_ids, target })
            .collect();
        let outputs = labels.outputs(objective);
        Ok(Self { examples, objective, outputs, truncated })
    }

    /// The data set of some of the examples, in the order given. `truncated` counts texts of the whole file.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn subset(&self, examples: impl IntoIterator<Item = usize>) -> Self {
        let examples = examples.into_iter().map(|example| self.examples[example].clone()).collect();
        Self { examples, objective: self.objective, outputs: self.outputs, truncated: self.truncated }
    }
}

impl Dataset for TextDataset {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn size(&self, example: usize) -> usize {
        self.examples[example].ids.len()
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        Extent::Sequences(examples.iter().map(|&example| self.size(example)).collect())
    }

    fn pack(&self, examples: &[usize], _: Option<Augmentation>) -> PackedBatch {
        let mut tokens = Tokens::default();
        let (mut classes, mut hot, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for &row in examples {
            let example = &self.examples[row];
            tokens.ids.extend_from_slice(&example.ids);
            tokens.types.extend_from_slice(&example.type_ids);
            tokens.lengths.push(example.ids.len());
            match &example.target {
                Target::Class(class) => classes.push(*class),
                Target::Classes(held) => hot.extend_from_slice(held),
                Target::Value(value) => values.push(*value),
                Target::Unknown => {}
            }
        }
        let n = examples.len();
        let targets = match self.objective {
            Objective::Classification if classes.len() == n => Targets::Classes(classes),
            Objective::MultiLabel if hot.len() == n * self.outputs => Targets::MultiHot(hot, self.outputs),
            Objective::Regression if values.len() == n => Targets::Values(values, 1),
            _ => Targets::Unknown,
        };
        PackedBatch { inputs: Inputs::Tokens(tokens), targets, rows: examples.to_vec() }
    }

    fn outputs(&self) -> usize {
        self.outputs
    }
}
