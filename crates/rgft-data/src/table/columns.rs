//! Parquet: the wanted columns of all row groups. The line of a row is its number, from 1.

use std::path::Path;

use super::{Labels, RawLabel, Row, TableSpec, label_of_cell};
use crate::DataError;
use crate::parquet::{ParquetFile, ParquetValues};

/// The rows of a `.parquet` file. Integer labels get their names where the file has any, as the Hugging Face library
/// writes them; there, -1 is no label.
pub(super) fn rows(path: &Path, spec: &TableSpec, labels: Labels) -> Result<Vec<Row>, DataError> {
    let file = ParquetFile::open(path)?;
    let mut texts = Vec::with_capacity(spec.text.len());
    for column in &spec.text {
        texts.push(file.strings(column, "text-column")?.into_iter());
    }
    let has_labels = labels == Labels::Required || file.columns().contains(&spec.label);
    let mut labels = if has_labels { labels_of(&file, spec)?.into_iter() } else { Vec::new().into_iter() };
    let n: usize = (0..file.groups()).map(|group| file.group_rows(group)).sum();
    let mut rows = Vec::with_capacity(texts.first().map_or(0, ExactSizeIterator::len));
    for line in 1..=n {
        let cells = texts.iter_mut().zip(&spec.text).map(|(cells, column)| {
            cells.next().flatten().ok_or_else(|| DataError::WrongType {
                path: path.to_owned(),
                line,
                column: column.clone(),
                found: "null",
                expected: "a string",
            })
        });
        let texts = cells.collect::<Result<_, _>>()?;
        rows.push(Row { line, texts, label: labels.next().unwrap_or(RawLabel::None) });
    }
    Ok(rows)
}

fn labels_of(file: &ParquetFile, spec: &TableSpec) -> Result<Vec<RawLabel>, DataError> {
    let column = spec.label.as_str();
    let names = file.class_names(column);
    let of_integer = |value: i64| match &names {
        None => RawLabel::One(value.to_string()),
        Some(_) if value == -1 => RawLabel::None,
        Some(names) => {
            let name = usize::try_from(value).ok().and_then(|class| names.get(class));
            RawLabel::One(name.cloned().unwrap_or_else(|| value.to_string()))
        }
    };
    let none = RawLabel::None;
    let mut labels = Vec::new();
    for group in 0..file.groups() {
        match file.values(group, column, "label-column")? {
            ParquetValues::Bytes(values) => {
                for value in values {
                    let text = value.map(String::from_utf8).transpose();
                    let text =
                        text.map_err(|_| file.wrong_kind(column, "bytes that are not UTF-8", "strings"))?;
                    labels.push(text.map_or(RawLabel::None, |text| label_of_cell(spec, &text)));
                }
            }
            ParquetValues::Integers(values) => {
                labels.extend(values.into_iter().map(|value| value.map_or(none.clone(), of_integer)));
            }
            ParquetValues::Floats(values) => {
                labels.extend(values.into_iter().map(|value| value.map_or(none.clone(), RawLabel::Number)));
            }
            ParquetValues::Booleans(values) => {
                let name = |value: bool| RawLabel::One(value.to_string());
                labels.extend(values.into_iter().map(|value| value.map_or(none.clone(), name)));
            }
        }
    }
    Ok(labels)
}
