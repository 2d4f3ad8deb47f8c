//! RGFT's data: tables of text, labels, splits, tokenisation, batches, metrics.
//!
//! Data flows one way: [`locate`] finds the files, [`read_table`] turns each into rows of raw text and raw
//! labels, [`LabelMap`] and [`encode`] turn labels into targets.
//!
//! No tensor, model or setting of the training loop may come in here; every failure is a [`DataError`] that
//! says which file, which line, what was found and what was expected.

mod error;
mod files;
mod label;
mod table;
mod task;

pub use error::DataError;
pub use files::{Files, locate};
pub use label::{LabelMap, Target, encode};
pub use table::{Labels, RawLabel, Row, Table, TableSpec, parse_table, read_table};
pub use task::TextTask;
