//! Examples in memory, and batches without padding.

use crate::error::DataError;
use crate::label::{LabelMap, Target, encode};
use crate::table::Table;
use crate::task::TextTask;
use crate::tokenizer::TextTokenizer;

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
    pub task: TextTask,
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
        task: TextTask,
        labels: &LabelMap,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, DataError> {
        // Labels first: they are cheap, and wrong ones should be told before a long tokenisation.
        let targets = encode(table, task, labels)?;
        Self::new(table, task, labels, tokenizer, targets)
    }

    /// Tokenises a table to predict on: every target is [`Target::Unknown`].
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn unlabelled(
        table: &Table,
        task: TextTask,
        labels: &LabelMap,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, DataError> {
        Self::new(table, task, labels, tokenizer, vec![Target::Unknown; table.rows.len()])
    }

    fn new(
        table: &Table,
        task: TextTask,
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
        Ok(Self { examples, task, outputs: task.outputs(labels.len()), truncated })
    }

    /// How many examples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Tokens of an example.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn tokens(&self, example: usize) -> usize {
        self.examples[example].ids.len()
    }

    /// Tokens of each example: what [`crate::batches`] wants.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.ids.len()).collect()
    }

    /// The targets in order: what [`crate::split_stratified`] wants.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        self.examples.iter().map(|example| example.target.clone()).collect()
    }

    /// The data set of some of the examples, in the order given. `truncated` counts texts of the whole file.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn subset(&self, examples: impl IntoIterator<Item = usize>) -> Self {
        let examples = examples.into_iter().map(|example| self.examples[example].clone()).collect();
        Self { examples, task: self.task, outputs: self.outputs, truncated: self.truncated }
    }
}

/// The targets of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Classification, `[batch]`.
    Classes(Vec<u32>),
    /// Multi-label, row-major `[batch, labels]` of 0 and 1, and the number of labels.
    MultiHot(Vec<f32>, usize),
    /// Regression, `[batch]`.
    Values(Vec<f32>),
    /// Rows to predict.
    Unknown,
}

/// A batch: the tokens of its examples one after another, with nothing between them.
///
/// `tokens` = Σ `lengths`; the position of a token in its text is implied.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedBatch {
    /// `[tokens]`.
    pub ids: Vec<u32>,
    /// `[tokens]`.
    pub type_ids: Vec<u32>,
    /// Tokens per example, `[batch]`.
    pub lengths: Vec<usize>,
    /// Targets of the examples.
    pub targets: Targets,
    /// Which examples of the data set these are, `[batch]`.
    pub rows: Vec<usize>,
}

impl PackedBatch {
    /// Tokens of the whole batch.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// Lays out some examples of a data set as a batch, in the order given.
///
/// # Panics
/// If there is no such example.
#[must_use]
pub fn pack(dataset: &TextDataset, rows: &[usize]) -> PackedBatch {
    let lengths: Vec<usize> = rows.iter().map(|&row| dataset.tokens(row)).collect();
    let tokens = lengths.iter().sum();
    let mut ids = Vec::with_capacity(tokens);
    let mut type_ids = Vec::with_capacity(tokens);
    let (mut classes, mut hot, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for &row in rows {
        let example = &dataset.examples[row];
        ids.extend_from_slice(&example.ids);
        type_ids.extend_from_slice(&example.type_ids);
        match &example.target {
            Target::Class(class) => classes.push(*class),
            Target::Classes(held) => hot.extend_from_slice(held),
            Target::Value(value) => values.push(*value),
            Target::Unknown => {}
        }
    }
    let targets = match dataset.task {
        TextTask::Classification if classes.len() == rows.len() => Targets::Classes(classes),
        TextTask::MultiLabel if hot.len() == rows.len() * dataset.outputs => {
            Targets::MultiHot(hot, dataset.outputs)
        }
        TextTask::Regression if values.len() == rows.len() => Targets::Values(values),
        _ => Targets::Unknown,
    };
    PackedBatch { ids, type_ids, lengths, targets, rows: rows.to_vec() }
}
