//! Parquet files, column by column: strings, integers, floats, booleans and bytes, also inside of structs
//! (`image.bytes`), as the Hugging Face hub stores text and pictures.
//!
//! The crate `parquet` decodes pages; its compression by zstd is a C library, so pages of that codec pass through
//! [`zstd`] on their way. Codecs: none, snappy, gzip, lz4, zstd. Files are read row group by row group, so that no
//! more than one needs to be in memory. Lists and maps are not read.
//!
//! The crate trusts lengths inside of decompressed pages, and panics where they lie: a damaged file is caught here
//! and told like any other.
//!
//! What a column means (a text, a picture, a label) is not known here.

mod zstd;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{CompressionCodec, Type};
use ::parquet::column::page::PageReader;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::serialized_reader::SerializedPageReader;
use serde_json::Value;

use crate::error::{DataError, listed};

/// Rows that are decoded at a time: what a file claims to hold is no reason to reserve memory for it.
const STEP: usize = 8192;

/// An open file, of which nothing but the footer has been read.
#[derive(Debug)]
pub struct ParquetFile {
    path: PathBuf,
    file: Arc<File>,
    metadata: ParquetMetaData,
}

/// The values of a column, `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum ParquetValues {
    /// Bytes, or strings before their encoding is checked.
    Bytes(Vec<Option<Vec<u8>>>),
    /// Integers of at most 64 bits.
    Integers(Vec<Option<i64>>),
    /// Floats of 32 or 64 bits.
    Floats(Vec<Option<f64>>),
    /// True or false.
    Booleans(Vec<Option<bool>>),
}

impl ParquetValues {
    /// What the values are, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::Integers(_) => "integers",
            Self::Floats(_) => "floats",
            Self::Booleans(_) => "booleans",
        }
    }
}

impl ParquetFile {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Empty`] for a file of no bytes, [`DataError::BadParquet`] for one that is
    /// cut short, damaged or of another kind.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let io = |reason| DataError::Io { path: path.to_owned(), reason };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(DataError::Empty { path: path.to_owned() });
        }
        let copy = file.try_clone().map_err(io)?;
        let read = || SerializedFileReader::new(copy).map(|reader| reader.metadata().clone());
        let metadata = caught(path, read)?.map_err(|error| bad(path, error))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), metadata })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many groups of rows there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    /// Rows of a group, by the account of the footer.
    #[must_use]
    pub fn group_rows(&self, group: usize) -> usize {
        usize::try_from(self.metadata.row_group(group).num_rows()).unwrap_or(0)
    }

    /// The columns by their dotted paths: `text`, `label`, `image.bytes`.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let schema = self.metadata.file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.path().string()).collect()
    }

    /// The first of `names` that is a column.
    #[must_use]
    pub fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let columns = self.columns();
        names.iter().copied().find(|name| columns.iter().any(|column| column == name))
    }

    /// The value of a key of the footer, such as `huggingface`.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// The names of the classes of a column, where the Hugging Face library wrote any: class *i* has the *i*-th.
    #[must_use]
    pub fn class_names(&self, column: &str) -> Option<Vec<String>> {
        let note: Value = serde_json::from_str(self.note("huggingface")?).ok()?;
        let names = note.pointer("/info/features")?.get(column)?.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// A column of a group of rows; one value for each row.
    ///
    /// # Errors
    /// [`DataError::BadParquet`] for a damaged file, [`DataError::NoColumn`] and [`DataError::ColumnKind`] for a
    /// column that is not there, is a list or of a type that is not read. `option` names the column in messages.
    ///
    /// # Panics
    /// If there is no such group.
    pub fn values(
        &self,
        group: usize,
        column: &str,
        option: &'static str,
    ) -> Result<ParquetValues, DataError> {
        assert!(group < self.groups(), "group {group} of {}", self.groups());
        caught(&self.path, || self.read(group, column, option))?
    }

    fn read(&self, group: usize, column: &str, option: &'static str) -> Result<ParquetValues, DataError> {
        let schema = self.metadata.file_metadata().schema_descr();
        let place = schema.columns().iter().position(|leaf| leaf.path().string() == column);
        let place = place.ok_or_else(|| self.no_column(column, option))?;
        let descriptor = schema.column(place);
        if descriptor.max_rep_level() > 0 {
            return Err(self.wrong_kind(column, "a list", "one value for each row"));
        }
        let rows = self.group_rows(group);
        let chunk = self.metadata.row_group(group).column(place);
        let pages = self.pages(chunk, rows).map_err(|error| self.bad(error))?;
        let levels = descriptor.max_def_level();
        let values = match get_column_reader(descriptor.clone(), pages) {
            ColumnReader::ByteArrayColumnReader(reader) => {
                ParquetValues::Bytes(self.drain(reader, levels, rows, |bytes| bytes.data().to_vec())?)
            }
            ColumnReader::Int32ColumnReader(reader) => {
                ParquetValues::Integers(self.drain(reader, levels, rows, |n| i64::from(*n))?)
            }
            ColumnReader::Int64ColumnReader(reader) => {
                ParquetValues::Integers(self.drain(reader, levels, rows, |n| *n)?)
            }
            ColumnReader::FloatColumnReader(reader) => {
                ParquetValues::Floats(self.drain(reader, levels, rows, |x| f64::from(*x))?)
            }
            ColumnReader::DoubleColumnReader(reader) => {
                ParquetValues::Floats(self.drain(reader, levels, rows, |x| *x)?)
            }
            ColumnReader::BoolColumnReader(reader) => {
                ParquetValues::Booleans(self.drain(reader, levels, rows, |b| *b)?)
            }
            _ => {
                let found = match descriptor.physical_type() {
                    Type::INT96 => "a column of 96-bit times",
                    _ => "a column of values of a fixed number of bytes",
                };
                return Err(self.wrong_kind(column, found, "strings, numbers, booleans or bytes"));
            }
        };
        Ok(values)
    }

    /// A column of strings of the whole file.
    ///
    /// # Errors
    /// As [`ParquetFile::values`]; [`DataError::ColumnKind`] for a column of other values or bytes that are not
    /// UTF-8.
    pub fn strings(&self, column: &str, option: &'static str) -> Result<Vec<Option<String>>, DataError> {
        let mut strings = Vec::new();
        for group in 0..self.groups() {
            let values = self.values(group, column, option)?;
            let ParquetValues::Bytes(values) = values else {
                return Err(self.wrong_kind(column, values.kind(), "strings"));
            };
            for value in values {
                let string = value.map(String::from_utf8).transpose();
                strings.push(
                    string.map_err(|_| self.wrong_kind(column, "bytes that are not UTF-8", "strings"))?,
                );
            }
        }
        Ok(strings)
    }

    /// A column of integers of the whole file.
    ///
    /// # Errors
    /// As [`ParquetFile::values`]; [`DataError::ColumnKind`] for a column of other values.
    pub fn integers(&self, column: &str, option: &'static str) -> Result<Vec<Option<i64>>, DataError> {
        let mut integers = Vec::new();
        for group in 0..self.groups() {
            match self.values(group, column, option)? {
                ParquetValues::Integers(values) => integers.extend(values),
                values => return Err(self.wrong_kind(column, values.kind(), "integers")),
            }
        }
        Ok(integers)
    }

    /// The column is not there.
    pub(crate) fn no_column(&self, column: &str, option: &'static str) -> DataError {
        DataError::NoColumn {
            path: self.path.clone(),
            column: column.to_owned(),
            available: listed(self.columns(), 20),
            option,
        }
    }

    /// The column holds something else.
    pub(crate) fn wrong_kind(&self, column: &str, found: &'static str, expected: &'static str) -> DataError {
        DataError::ColumnKind { path: self.path.clone(), column: column.to_owned(), found, expected }
    }

    fn bad(&self, error: ParquetError) -> DataError {
        bad(&self.path, error)
    }

    fn pages(&self, chunk: &ColumnChunkMetaData, rows: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        if !matches!(chunk.compression_codec(), CompressionCodec::ZSTD) {
            return Ok(Box::new(SerializedPageReader::new(self.file.clone(), chunk, rows, None)?));
        }
        let plain =
            chunk.clone().into_builder().set_compression_codec(CompressionCodec::UNCOMPRESSED).build()?;
        let pages = SerializedPageReader::new(self.file.clone(), &plain, rows, None)?;
        let limit = usize::try_from(chunk.uncompressed_size()).unwrap_or(0);
        Ok(Box::new(zstd::ZstdPages::new(pages, limit)))
    }

    /// All values of a column chunk. A value is there where its definition level is the highest.
    fn drain<T: DataType, V>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        highest: i16,
        rows: usize,
        convert: impl Fn(&T::T) -> V,
    ) -> Result<Vec<Option<V>>, DataError> {
        let mut all = Vec::new();
        loop {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (records, _, _) = reader
                .read_records(STEP, Some(&mut levels), None, &mut values)
                .map_err(|error| self.bad(error))?;
            if records == 0 {
                break;
            }
            let mut values = values.iter().map(&convert);
            match highest {
                0 => all.extend(values.map(Some)),
                _ => all.extend(levels.iter().map(
                    |&level| {
                        if level == highest { values.next() } else { None }
                    },
                )),
            }
        }
        match all.len() == rows {
            true => Ok(all),
            false => Err(DataError::BadParquet {
                path: self.path.clone(),
                message: format!("{} values in a column of {rows} rows", all.len()),
            }),
        }
    }
}

/// What `read` gives, or its panic as an error. It leaves nothing half done: it owns what it changes.
fn caught<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| DataError::BadParquet {
        path: path.to_owned(),
        message: "lengths inside of it contradict each other".to_owned(),
    })
}

fn bad(path: &Path, error: ParquetError) -> DataError {
    let message = match error {
        ParquetError::General(message) | ParquetError::NYI(message) | ParquetError::EOF(message) => message,
        other => other.to_string(),
    };
    DataError::BadParquet { path: path.to_owned(), message }
}
