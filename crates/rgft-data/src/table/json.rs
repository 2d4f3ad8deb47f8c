//! JSONL (one object per line) and JSON (an array of objects). Blank lines are no rows.

use serde_json::{Map, Value};

use super::{Labels, Lines, RawLabel, Row, Source};
use crate::error::{DataError, listed};

type Object = Map<String, Value>;

/// The rows of a `.jsonl` file.
pub(super) fn rows_of_lines(source: &Source<'_>) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for (index, text) in source.text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let object: Object = serde_json::from_str(text).map_err(|e| bad(source, line, &e))?;
        rows.push(row(source, &object, line)?);
    }
    Ok(rows)
}

/// The rows of a `.json` file: an array of objects, or lines as in `.jsonl`.
pub(super) fn rows_of_document(source: &Source<'_>) -> Result<Vec<Row>, DataError> {
    let text = source.text;
    let blank = |at: usize| at + (text[at..].len() - text[at..].trim_start().len());
    let mut at = blank(0);
    if !text[at..].starts_with('[') {
        return rows_of_lines(source);
    }
    let mut lines = Lines::new(text.as_bytes());
    let broken = |line: usize, message: &str| DataError::BadJson {
        path: source.path.to_owned(),
        line,
        message: message.to_owned(),
    };
    let mut rows = Vec::new();
    at = blank(at + 1);
    let mut ends = text[at..].starts_with(']');
    // Element by element, because the line of each is wanted, which a parse of the whole does not give.
    while !ends {
        let line = lines.line_of(at);
        let mut elements = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Object>();
        let object = match elements.next() {
            Some(Ok(object)) => object,
            Some(Err(error)) => return Err(bad(source, line + error.line().saturating_sub(1), &error)),
            None => return Err(broken(line, "the array has no end")),
        };
        let next = blank(at + elements.byte_offset());
        rows.push(row(source, &object, line)?);
        let line = lines.line_of(next);
        ends = match text[next..].chars().next() {
            Some(']') => true,
            Some(',') => false,
            Some(_) => return Err(broken(line, "no `,` or `]` after an object")),
            None => return Err(broken(line, "the array has no end")),
        };
        at = if ends { next } else { blank(next + 1) };
    }
    match blank(at + 1) {
        end if end == text.len() => Ok(rows),
        end => Err(broken(lines.line_of(end), "text after the end of the array")),
    }
}

fn row(source: &Source<'_>, object: &Object, line: usize) -> Result<Row, DataError> {
    let missing = |column: &str| source.missing_column(line, column, listed(object.keys(), 12));
    let wrong = |column: &str, value: &Value, expected| DataError::WrongType {
        path: source.path.to_owned(),
        line,
        column: column.to_owned(),
        found: type_of(value),
        expected,
    };
    let texts = source
        .spec
        .text
        .iter()
        .map(|column| match object.get(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(column, other, "a string")),
            None => Err(missing(column)),
        })
        .collect::<Result<_, _>>()?;
    let column = &source.spec.label;
    let label = match object.get(column) {
        None if source.labels == Labels::Required => return Err(missing(column)),
        None | Some(Value::Null) => RawLabel::None,
        Some(Value::String(text)) => source.label(text),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(value) if number.is_f64() => RawLabel::Number(value),
            _ => RawLabel::One(number.to_string()),
        },
        Some(Value::Bool(value)) => RawLabel::One(value.to_string()),
        Some(Value::Array(values)) => RawLabel::Many(
            values
                .iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text.trim().to_owned()),
                    Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
                    other => Err(wrong(column, other, "an array of strings or integers")),
                })
                .collect::<Result<_, _>>()?,
        ),
        Some(other @ Value::Object(_)) => {
            return Err(wrong(column, other, "a string, a number or an array of them"));
        }
    };
    Ok(Row { line, texts, label })
}

fn bad(source: &Source<'_>, line: usize, error: &serde_json::Error) -> DataError {
    // The parser counts lines from the start of what it was given; `line` is the file's.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    let message = match error.column() {
        0 => message.to_owned(),
        column => format!("{message} at column {column}"),
    };
    DataError::BadJson { path: source.path.to_owned(), line, message }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
