//! CSV and TSV, RFC 4180 quoting; the first row is the header. Blank lines are no rows.

use super::{Labels, Lines, RawLabel, Row, Source};
use crate::error::{DataError, listed};

/// The rows of a delimited table.
pub(super) fn rows(source: &Source<'_>, delimiter: u8) -> Result<Vec<Row>, DataError> {
    let text = source.text;
    let mut lines = Lines::new(text.as_bytes());
    let mut reader = reader(text, delimiter);
    let mut record = csv::StringRecord::new();
    let mut columns: Option<Columns> = None;
    let mut rows = Vec::new();
    let mut last = 0;
    while read(source, &mut reader, &mut record)? {
        let start = record.position().map_or(0, |p| p.byte() as usize);
        last = start + leading_breaks(&text[start..]);
        let line = lines.line_of(last);
        match &columns {
            None => columns = Some(Columns::find(source, &record, line)?),
            Some(columns) if columns.names.len() == record.len() => {
                rows.push(columns.row(source, &record, line));
            }
            Some(_) if swallows_the_rest(&text[last..], delimiter) => break,
            Some(columns) => return Err(columns.ragged(source, record.len(), line)),
        }
    }
    if swallows_the_rest(&text[last..], delimiter) {
        return Err(DataError::UnclosedQuote { path: source.path.to_owned(), line: lines.line_of(last) });
    }
    Ok(rows)
}

/// Whether a quoted cell of the first row never closes. The parser takes the end of the file for its end, so
/// this puts one more line there: it is a row of its own unless the cell swallows it.
fn swallows_the_rest(rows: &str, delimiter: u8) -> bool {
    let text = format!("{rows}\nx\n");
    reader(&text, delimiter).byte_records().take(2).count() < 2
}

/// Where the wanted columns are.
struct Columns {
    names: Vec<String>,
    texts: Vec<usize>,
    label: Option<usize>,
}

impl Columns {
    fn find(source: &Source<'_>, header: &csv::StringRecord, line: usize) -> Result<Self, DataError> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let find = |column: &str| -> Result<Option<usize>, DataError> {
            match names.iter().filter(|name| *name == column).count() {
                0 => Ok(None),
                1 => Ok(names.iter().position(|name| name == column)),
                times => Err(DataError::DuplicateColumn {
                    path: source.path.to_owned(),
                    line,
                    column: column.to_owned(),
                    times,
                }),
            }
        };
        let missing = |column: &str| source.missing_column(line, column, listed(&names, 12));
        let texts = source
            .spec
            .text
            .iter()
            .map(|column| find(column)?.ok_or_else(|| missing(column)))
            .collect::<Result<Vec<_>, _>>()?;
        let label = find(&source.spec.label)?;
        if label.is_none() && source.labels == Labels::Required {
            return Err(missing(&source.spec.label));
        }
        Ok(Self { names, texts, label })
    }

    /// The row of a record that has as many cells as the header.
    fn row(&self, source: &Source<'_>, record: &csv::StringRecord, line: usize) -> Row {
        Row {
            line,
            texts: self.texts.iter().map(|&column| record[column].to_owned()).collect(),
            label: self.label.map_or(RawLabel::None, |column| source.label(&record[column])),
        }
    }

    fn ragged(&self, source: &Source<'_>, found: usize, line: usize) -> DataError {
        DataError::Ragged {
            path: source.path.to_owned(),
            line,
            found,
            expected: self.names.len(),
            columns: listed(&self.names, 12),
        }
    }
}

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
}

fn read(
    source: &Source<'_>,
    reader: &mut csv::Reader<&[u8]>,
    record: &mut csv::StringRecord,
) -> Result<bool, DataError> {
    // The text is UTF-8, in memory, and rows may have any length: nothing is left that the parser refuses.
    reader
        .read_record(record)
        .map_err(|error| DataError::Io { path: source.path.to_owned(), reason: std::io::Error::other(error) })
}

/// Bytes of line breaks before the first cell: the parser's position is in front of them.
fn leading_breaks(text: &str) -> usize {
    text.bytes().take_while(|b| matches!(b, b'\n' | b'\r')).count()
}
