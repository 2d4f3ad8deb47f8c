//! RGFT's data: tables of text, labels, splits, tokenisation, batches, metrics.
//!
//! Data flows one way: [`locate`] finds the files, [`read_table`] turns each into rows of raw text and raw
//! labels, [`LabelMap`] and [`encode`] turn labels into targets, [`TextTokenizer`] turns text into ids,
//! [`TextDataset`] holds both, [`batches`] orders examples, [`pack`] lays a batch out without padding, and
//! [`metrics`] compares outputs with targets.
//!
//! No tensor, model or setting of the training loop may come in here; every failure is a [`DataError`] that
//! says which file, which line, what was found and what was expected.

mod batches;
mod dataset;
mod error;
mod files;
mod label;
pub mod metrics;
mod split;
mod table;
mod task;
mod tokenizer;

pub use batches::{batches, batches_in_order};
pub use dataset::{Example, PackedBatch, Targets, TextDataset, pack};
pub use error::DataError;
pub use files::{Files, locate};
pub use label::{LabelMap, Target, encode};
pub use split::{Split, split_stratified};
pub use table::{Labels, RawLabel, Row, Table, TableSpec, parse_table, read_table};
pub use task::TextTask;
pub use tokenizer::{TOKENIZER_FILES, TextTokenizer, TokenizedText};
