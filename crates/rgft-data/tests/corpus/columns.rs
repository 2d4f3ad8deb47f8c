//! Parquet as a table of texts.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rgft_data::{
    Completion, CorpusSpec, DataError, Labels, RawLabel, Table, TableSpec, locate, parse_table, read_corpus,
    read_table,
};

use super::message;

type Rows<'a> = [(&'a str, &'a str, i64)];

/// Writes columns `text`, `topic` and `label`, in groups of two rows; with names of classes where there are any.
fn put(path: &Path, rows: &Rows<'_>, names: Option<&str>) {
    let schema = "message t { REQUIRED BYTE_ARRAY text (UTF8); OPTIONAL BYTE_ARRAY topic (UTF8); REQUIRED INT64 label; }";
    let note = |names| {
        let note = format!("{{\"info\": {{\"features\": {{\"label\": {{\"names\": {names}}}}}}}}}");
        KeyValue::new("huggingface".to_owned(), note)
    };
    let properties =
        WriterProperties::builder().set_key_value_metadata(names.map(|names| vec![note(names)])).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(2) {
        let mut group = file.next_row_group().unwrap();
        let strings = |of: &dyn Fn(&(&str, &str, i64)) -> String| -> Vec<ByteArray> {
            rows.iter().map(|row| of(row).as_str().into()).collect()
        };
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&strings(&|row| row.0.to_owned()), None, None).unwrap();
        column.close().unwrap();
        // An empty topic is none.
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(!row.1.is_empty())).collect();
        let mut topics = strings(&|row| row.1.to_owned());
        topics.retain(|topic| !topic.data().is_empty());
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&topics, Some(&levels), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().map(|row| row.2).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.close().unwrap();
}

fn labels(table: &Table) -> Vec<RawLabel> {
    table.rows.iter().map(|row| row.label.clone()).collect()
}

const ROWS: &Rows<'static> = &[("a", "x, y", 1), ("b", "", 0), ("é", " z ", -1)];

#[test]
fn texts_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let one = |name: &str| RawLabel::One(name.to_owned());
    let many = |names: &[&str]| RawLabel::Many(names.iter().map(|name| (*name).to_owned()).collect());
    put(&path, ROWS, None);
    assert_eq!(locate(folder.path(), None, None).unwrap().train, path);
    let table = read_table(&path, &TableSpec::default(), Labels::Required).unwrap();
    let texts: Vec<(usize, &str)> = table.rows.iter().map(|row| (row.line, row.texts[0].as_str())).collect();
    assert_eq!(texts, [(1, "a"), (2, "b"), (3, "é")]);
    assert_eq!(labels(&table), [one("1"), one("0"), one("-1")]);
    put(&path, ROWS, Some(r#"["no", "yes"]"#));
    let table = read_table(&path, &TableSpec::default(), Labels::Required).unwrap();
    assert_eq!(labels(&table), [one("yes"), one("no"), RawLabel::None]);

    let mut spec = TableSpec { label: "topic".into(), ..TableSpec::default() };
    let table = read_table(&path, &spec, Labels::Optional).unwrap();
    assert_eq!(labels(&table), [one("x, y"), RawLabel::None, one("z")]);
    spec.label_separator = Some(",".into());
    let table = read_table(&path, &spec, Labels::Optional).unwrap();
    assert_eq!(labels(&table), [many(&["x", "y"]), RawLabel::None, many(&["z"])]);
}

#[test]
fn columns_and_files_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    put(&path, ROWS, None);
    let refused = |text: &[&str], label: &str| {
        let text = text.iter().map(|name| (*name).to_owned()).collect();
        let spec = TableSpec { text, label: label.to_owned(), label_separator: None };
        message(read_table(&path, &spec, Labels::Required), folder.path())
    };
    let there = "there are text, topic, label\nhint: name the column with";
    assert_eq!(refused(&["body"], "label"), format!("t.parquet: no column `body`, {there} --text-column"));
    assert_eq!(refused(&["text"], "class"), format!("t.parquet: no column `class`, {there} --label-column"));
    assert_eq!(refused(&["label"], "label"), "t.parquet: column `label` is integers, expected strings");
    assert_eq!(refused(&["text", "topic"], "label"), "t.parquet:2: `topic` is null, expected a string");
    assert_eq!(refused(&[], "label"), "0 text columns, expected one, or two for pairs of texts");
    put(&path, &[], None);
    assert_eq!(refused(&["text"], "label"), "t.parquet: no rows, expected at least one");
    std::fs::write(&path, b"PAR1 and no more").unwrap();
    assert!(refused(&["text"], "label").starts_with("t.parquet: no Parquet file that can be read: "));
    std::fs::write(&path, b"").unwrap();
    assert_eq!(refused(&["text"], "label"), "t.parquet: the file is empty");
    let in_memory = parse_table(&path, b"PAR1", &TableSpec::default(), Labels::Required);
    assert!(matches!(in_memory, Err(DataError::UnknownExtension { .. })));
}

#[test]
fn documents_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    put(&path, &[("ask", "answer", 0), ("more", "else", 0)], None);
    let corpus = read_corpus(&path, &CorpusSpec::default()).unwrap();
    assert_eq!(
        (corpus.running, corpus.documents.len(), corpus.documents[1].text.as_str()),
        (false, 2, "more")
    );
    let mut completion = Completion {
        prompt_column: "text".into(),
        completion_column: "topic".into(),
        separator: ": ".into(),
    };
    let read = |completion: &Completion| {
        read_corpus(&path, &CorpusSpec { completion: Some(completion.clone()), ..CorpusSpec::default() })
    };
    let corpus = read(&completion).unwrap();
    assert_eq!((corpus.documents[0].prompt(), corpus.documents[0].completion()), ("ask: ", "answer"));
    completion.prompt_column = "question".into();
    assert!(message(read(&completion), folder.path()).ends_with("name the column with --prompt-column"));
}
