//! Pictures from the disk to batches.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod augmentation;
mod corruption;
mod hostile;
mod made;
mod parquet;
mod real;
mod sources;
