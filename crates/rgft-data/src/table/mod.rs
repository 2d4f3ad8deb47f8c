//! Tables of text: CSV, TSV, JSONL, JSON and Parquet files to [`Table`], the same rows whatever the format.
//!
//! Text is kept as it stands; labels stay raw here, because what a label means depends on the task.

mod columns;
mod delimited;
mod json;

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::files::extension;

/// Which columns to read, and how labels are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// One column, or two for pairs of texts.
    pub text: Vec<String>,
    /// The column of labels.
    pub label: String,
    /// Where set, a label cell holds several labels with this between them.
    pub label_separator: Option<String>,
}

impl Default for TableSpec {
    fn default() -> Self {
        Self { text: vec!["text".to_owned()], label: "label".to_owned(), label_separator: None }
    }
}

/// Whether the label column has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// A table without it is an error. (A row with an empty label is for [`crate::encode`] to judge.)
    Required,
    /// Read where present: for predictions.
    Optional,
}

/// A label as the file gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum RawLabel {
    /// An empty cell, a JSON null, or no such column.
    None,
    /// A cell, a JSON string, boolean or integer (the integer 5 is the same label as the string "5").
    One(String),
    /// A JSON array, or a cell that was split at the separator; possibly empty.
    Many(Vec<String>),
    /// A JSON number that is no integer.
    Number(f64),
}

/// One example.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Line on which it starts, from 1.
    pub line: usize,
    /// One text, or two for pairs.
    pub texts: Vec<String>,
    /// Its label.
    pub label: RawLabel,
}

/// The rows of one file, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Where they come from, for messages.
    pub path: PathBuf,
    /// In the order of the file.
    pub rows: Vec<Row>,
}

/// Reads a table; its extension says how: `.csv` and `.tsv` (RFC 4180 quoting, first row is the header),
/// `.jsonl` (one object per line), `.json` (an array of objects, or as `.jsonl`), all in UTF-8, with or without BOM;
/// `.parquet`.
///
/// # Errors
/// Anything that is wrong with the file, with file and line.
pub fn read_table(path: &Path, spec: &TableSpec, labels: Labels) -> Result<Table, DataError> {
    if extension(path) == "parquet" {
        check_columns(spec)?;
        return not_empty(path, columns::rows(path, spec, labels)?);
    }
    let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    parse_table(path, &bytes, spec, labels)
}

/// [`read_table`] for text that is already in memory; `path` names it and gives the extension. Parquet is no text.
///
/// # Errors
/// As [`read_table`].
pub fn parse_table(path: &Path, bytes: &[u8], spec: &TableSpec, labels: Labels) -> Result<Table, DataError> {
    check_columns(spec)?;
    let parse = match extension(path).as_str() {
        "csv" => |source: &Source<'_>| delimited::rows(source, b','),
        "tsv" => |source: &Source<'_>| delimited::rows(source, b'\t'),
        "jsonl" => json::rows_of_lines,
        "json" => json::rows_of_document,
        _ => return Err(DataError::UnknownExtension { path: path.to_owned() }),
    };
    let text = decode(path, bytes)?;
    not_empty(path, parse(&Source { path, text, spec, labels })?)
}

fn check_columns(spec: &TableSpec) -> Result<(), DataError> {
    match spec.text.len() {
        1..=2 => Ok(()),
        found => Err(DataError::TextColumns { found }),
    }
}

fn not_empty(path: &Path, rows: Vec<Row>) -> Result<Table, DataError> {
    if rows.is_empty() {
        return Err(DataError::NoRows { path: path.to_owned() });
    }
    Ok(Table { path: path.to_owned(), rows })
}

/// What a format's reader gets.
struct Source<'a> {
    path: &'a Path,
    /// Without BOM, not blank, no NUL.
    text: &'a str,
    spec: &'a TableSpec,
    labels: Labels,
}

impl Source<'_> {
    fn missing_column(&self, line: usize, column: &str, available: String) -> DataError {
        let option = if column == self.spec.label { "label-column" } else { "text-column" };
        DataError::MissingColumn {
            path: self.path.to_owned(),
            line,
            column: column.to_owned(),
            available,
            option,
        }
    }

    fn label(&self, cell: &str) -> RawLabel {
        label_of_cell(self.spec, cell)
    }
}

/// A label cell: trimmed, and split where the specification says so.
fn label_of_cell(spec: &TableSpec, cell: &str) -> RawLabel {
    let cell = cell.trim();
    match spec.label_separator.as_deref() {
        Some(separator) if !separator.is_empty() => RawLabel::Many(
            cell.split(separator).map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
        ),
        _ if cell.is_empty() => RawLabel::None,
        _ => RawLabel::One(cell.to_owned()),
    }
}

/// Bytes to text: strips the BOM, refuses what is not text.
pub(crate) fn decode<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, byte) = line_and_byte(bytes, error.valid_up_to());
        DataError::NotUtf8 { path: path.to_owned(), line, byte }
    })?;
    if let Some(at) = text.bytes().position(|b| b == 0) {
        return Err(DataError::NulByte { path: path.to_owned(), line: line_and_byte(bytes, at).0 });
    }
    if text.trim().is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(text)
}

/// Line and byte in the line of an offset, both from 1.
fn line_and_byte(bytes: &[u8], offset: usize) -> (usize, usize) {
    let mut lines = Lines::new(bytes);
    let line = lines.line_of(offset);
    let start = bytes[..offset].iter().rposition(|b| matches!(b, b'\n' | b'\r')).map_or(0, |at| at + 1);
    (line, offset - start + 1)
}

/// Line numbers of growing offsets; `\n`, `\r\n` and `\r` each end a line.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0, line: 1 }
    }

    /// The line of `offset`, which must not be smaller than in the call before.
    pub(crate) fn line_of(&mut self, offset: usize) -> usize {
        for at in self.offset..offset.min(self.bytes.len()) {
            let ends = match self.bytes[at] {
                b'\n' => true,
                b'\r' => self.bytes.get(at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += usize::from(ends);
        }
        self.offset = self.offset.max(offset);
        self.line
    }
}
