//! RGFT's data: tables of text, labels, splits, tokenisation, batches, metrics.
//!
//! Data flows one way: [`locate`] finds the files, [`read_table`] turns each into rows of raw text and raw
//! labels, [`LabelMap`] and [`encode`] turn labels into targets, [`TextTokenizer`] turns text into ids,
//! [`TextDataset`] holds both. For language models [`read_corpus`] reads documents, [`TextCodec`] turns text into
//! ids and back, [`CorpusDataset`] holds sequences of them. [`batches`] orders the examples of any [`Dataset`], which
//! lays a batch out without padding, and [`metrics`] compares outputs with targets.
//!
//! No tensor, model or setting of the training loop may come in here; every failure is a [`DataError`] that
//! says which file, which line, what was found and what was expected.

mod batches;
mod corpus;
mod dataset;
mod error;
mod files;
mod image;
mod joined;
mod label;
pub mod metrics;
mod objective;
mod parquet;
mod series;
pub mod snippets;
mod split;
mod table;
mod text_codec;
mod tokenizer;
mod word_vocabulary;

pub use batches::batches;
pub use corpus::{
    Completion, Corpus, CorpusDataset, CorpusSpec, Document, locate_corpus, parse_corpus, read_corpus,
    split_documents,
};
pub use dataset::{Augmentation, Dataset, Example, IGNORED, PackedBatch, Targets, TextDataset};
pub use error::DataError;
pub use files::{Files, locate};
pub use image::{
    Augment, BlurWidth, Corruption, ImageDataset, ImageFiles, ImageSource, ImageSpec, ImageTable, Resize,
    Severity, locate_images, read_images,
};
pub use joined::joined;
pub use label::{LabelMap, Target, encode};
pub use objective::Objective;
pub use parquet::{ParquetFile, ParquetValues};
pub use series::{
    Missing, Scaling, SeriesDataset, SeriesParts, SeriesScaling, SeriesSpec, SeriesTable, SeriesUnit,
    parse_series, read_series, series_files,
};
pub use split::{Split, sample_stratified, split_stratified};
pub use table::{Labels, RawLabel, Row, Table, TableSpec, parse_table, read_table};
pub use text_codec::{EncodedText, StreamingDecoder, TextCodec, UnknownCharacters};
pub use tokenizer::{TOKENIZER_FILES, TextTokenizer, TokenizedText};
pub use word_vocabulary::build_word_vocabulary;
