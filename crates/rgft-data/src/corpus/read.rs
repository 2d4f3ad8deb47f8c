//! Files to documents: a table gives one for each row, plain text is one.

use std::path::Path;

use super::{Corpus, CorpusSpec, Document, folder, grouped};
use crate::DataError;
use crate::files::is_table;
use crate::table::{Labels, RawLabel, Table, TableSpec, decode, parse_table, read_table};

/// The column of a table that names its documents, where there is one.
const NAME_COLUMN: &str = "path";

/// Reads a corpus: a table (`.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`) with a document in each row, a folder of
/// text files, any other file as plain text. UTF-8, with or without BOM. Empty documents are passed over.
///
/// # Errors
/// Anything that is wrong with the file, with file and line; [`DataError::NoDocuments`] where no text is left.
pub fn read_corpus(path: &Path, spec: &CorpusSpec) -> Result<Corpus, DataError> {
    if path.is_dir() {
        return finish(folder::read(path, spec)?, spec);
    }
    if is_table(path) {
        let table = read_table(path, &columns(spec), Labels::Optional);
        return of_table(table.map_err(|error| name_option(error, spec))?, spec);
    }
    let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    parse_corpus(path, &bytes, spec)
}

/// [`read_corpus`] for text that is already in memory; `path` names it and gives the extension. Parquet is no text.
///
/// # Errors
/// As [`read_corpus`].
pub fn parse_corpus(path: &Path, bytes: &[u8], spec: &CorpusSpec) -> Result<Corpus, DataError> {
    if is_table(path) {
        let table = parse_table(path, bytes, &columns(spec), Labels::Optional);
        return of_table(table.map_err(|error| name_option(error, spec))?, spec);
    }
    let text = decode(path, bytes)?.to_owned();
    let documents = vec![Document { path: path.to_owned(), line: 1, text, ..Document::default() }];
    finish(Corpus { path: path.to_owned(), documents, running: true, notes: Vec::new() }, spec)
}

fn columns(spec: &CorpusSpec) -> TableSpec {
    let text = match &spec.completion {
        Some(completion) => vec![completion.prompt_column.clone(), completion.completion_column.clone()],
        None => vec![spec.text_column.clone()],
    };
    TableSpec { text, label: NAME_COLUMN.to_owned(), label_separator: None }
}

fn of_table(table: Table, spec: &CorpusSpec) -> Result<Corpus, DataError> {
    let path = table.path;
    let documents = table.rows.into_iter().map(|row| {
        let name = match row.label {
            RawLabel::One(name) => name,
            _ => String::new(),
        };
        let mut texts = row.texts.into_iter();
        let first = texts.next().unwrap_or_default();
        let (text, prompt) = match (&spec.completion, texts.next()) {
            // Without a completion nothing is to be learnt: an empty document.
            (Some(_), Some(second)) if second.is_empty() => (String::new(), 0),
            (Some(completion), Some(second)) => {
                let prompt = completion.prompt(&first);
                (format!("{prompt}{second}"), prompt.len())
            }
            _ => (first, 0),
        };
        Document { name, path: path.clone(), line: row.line, text, prompt }
    });
    let documents = documents.collect();
    finish(Corpus { path, documents, running: false, notes: Vec::new() }, spec)
}

/// Names the option of the column that is missing.
fn name_option(mut error: DataError, spec: &CorpusSpec) -> DataError {
    let Some(completion) = &spec.completion else { return error };
    if let DataError::MissingColumn { column, option, .. } | DataError::NoColumn { column, option, .. } =
        &mut error
    {
        *option = match *column == completion.prompt_column {
            true => "prompt-column",
            false => "completion-column",
        };
    }
    error
}

/// Leaves out empty documents and what is beyond the limits.
fn finish(mut corpus: Corpus, spec: &CorpusSpec) -> Result<Corpus, DataError> {
    let all = corpus.documents.len();
    corpus.documents.retain(|document| !document.text.is_empty());
    let empty = all - corpus.documents.len();
    if empty > 0 {
        corpus.notes.push(format!("{} of {} documents are empty", grouped(empty), grouped(all)));
    }
    if let Some(limit) = spec.limit_documents {
        corpus.documents.truncate(limit);
    }
    if let Some(limit) = spec.limit_bytes {
        if corpus.running {
            for document in &mut corpus.documents {
                truncate(&mut document.text, limit);
            }
            corpus.documents.retain(|document| !document.text.is_empty());
        } else {
            let mut bytes = 0usize;
            corpus.documents.retain(|document| {
                bytes = bytes.saturating_add(document.text.len());
                bytes <= limit
            });
        }
    }
    if corpus.documents.is_empty() {
        return Err(DataError::NoDocuments { path: corpus.path });
    }
    Ok(corpus)
}

/// Cuts a text at `bytes`, or at the beginning of the character that is there.
fn truncate(text: &mut String, bytes: usize) {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}
