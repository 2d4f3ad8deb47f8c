//! Files that are wrong: each must give the error that says where and what, never a panic or a guess.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use rgft_data::{
    DataError, LabelMap, Labels, Objective, Table, TableSpec, TextTokenizer, encode, locate, parse_table,
    read_table,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

fn read(name: &str) -> Result<Table, DataError> {
    read_table(&folder().join(name), &TableSpec::default(), Labels::Required)
}

/// The message, without the folder.
fn message<T>(result: Result<T, DataError>) -> String {
    let folder = format!("{}/", folder().display());
    result.err().unwrap().to_string().replace(&folder, "")
}

#[track_caller]
fn refused(name: &str, expected: &str) {
    assert_eq!(message(read(name)), expected);
}

fn ab() -> LabelMap {
    LabelMap::from_id2label([(0, "a"), (1, "b")]).unwrap()
}

#[test]
fn files_without_rows() {
    refused("empty.csv", "empty.csv: the file is empty");
    refused("blank.jsonl", "blank.jsonl: the file is empty");
    refused("header_only.csv", "header_only.csv: no rows, expected at least one");
    refused("empty_array.json", "empty_array.json: no rows, expected at least one");
}

#[test]
fn files_that_are_no_text() {
    refused(
        "invalid_utf8.csv",
        "invalid_utf8.csv:3: byte 4 of the line is not UTF-8\nhint: save the file with UTF-8 encoding",
    );
    refused(
        "utf16.csv",
        "utf16.csv:1: byte 1 of the line is not UTF-8\nhint: save the file with UTF-8 encoding",
    );
    refused(
        "nul.csv",
        "nul.csv:3: a NUL byte, expected text\nhint: is this a binary file, or one in UTF-16?",
    );
    refused("notes.txt", "notes.txt: unknown kind of table, expected .csv, .tsv, .jsonl, .json or .parquet");
}

#[test]
fn columns_that_are_not_there() {
    refused(
        "wrong_column.csv",
        "wrong_column.csv:1: no column `text`, there are sentence, class, \
         a_very_long_header_which_is_in_truth_the…\nhint: name the column with --text-column",
    );
    let spec = TableSpec { text: vec!["sentence".into()], ..TableSpec::default() };
    let path = folder().join("wrong_column.csv");
    assert!(
        message(read_table(&path, &spec, Labels::Required)).ends_with("name the column with --label-column")
    );
    assert!(read_table(&path, &spec, Labels::Optional).is_ok());
    refused(
        "duplicated_header.csv",
        "duplicated_header.csv:1: column `text` appears 2 times in the header, expected once",
    );
    refused(
        "missing_key.jsonl",
        "missing_key.jsonl:2: no column `label`, there are text, class\nhint: name the column with --label-column",
    );
    for count in [0, 3] {
        let spec = TableSpec { text: vec!["text".into(); count], ..TableSpec::default() };
        let path = folder().join("one_class.csv");
        let expected = format!("{count} text columns, expected one, or two for pairs of texts");
        assert_eq!(message(read_table(&path, &spec, Labels::Required)), expected);
    }
}

#[test]
fn rows_that_are_cut_or_torn() {
    let hint = "hint: a cell that holds a separator, a quote or a line break must be quoted";
    refused("ragged.csv", &format!("ragged.csv:5: 3 columns, expected 2 (text, label)\n{hint}"));
    refused("too_short.tsv", &format!("too_short.tsv:3: 1 columns, expected 2 (text, label)\n{hint}"));
    let hint = "a quote opens in this row and never closes\nhint: a quote inside a quoted cell is written twice (\"\")";
    refused("unclosed_quote.csv", &format!("unclosed_quote.csv:3: {hint}"));
    refused("unclosed_last_cell.csv", &format!("unclosed_last_cell.csv:3: {hint}"));
}

#[test]
fn json_that_is_none() {
    refused(
        "bad_line.jsonl",
        "bad_line.jsonl:3: expected value at column 28, expected one JSON object per row",
    );
    refused(
        "array_line.jsonl",
        "array_line.jsonl:2: invalid type: sequence, expected a map, expected one JSON object per row",
    );
    refused("wrong_type.jsonl", "wrong_type.jsonl:2: `text` is a number, expected a string");
    refused(
        "object_label.jsonl",
        "object_label.jsonl:1: `label` is an object, expected a string, a number or an array of them",
    );
    refused("open_array.json", "open_array.json:4: the array has no end, expected one JSON object per row");
    refused(
        "bad_array.json",
        "bad_array.json:5: expected value at column 13, expected one JSON object per row",
    );
    refused(
        "after_array.json",
        "after_array.json:2: text after the end of the array, expected one JSON object per row",
    );
}

#[test]
fn labels_that_do_not_fit() {
    let regression =
        |name| message(encode(&read(name).unwrap(), Objective::Regression, &LabelMap::default()));
    assert_eq!(regression("nan_label.csv"), "nan_label.csv:3: label `NaN`, expected a finite number");
    assert_eq!(
        regression("infinite_label.csv"),
        "infinite_label.csv:2: label `1e39`, expected a finite number"
    );
    assert_eq!(
        regression("word_for_number.csv"),
        "word_for_number.csv:3: label `good`, expected a finite number"
    );

    let class = |name| message(encode(&read(name).unwrap(), Objective::Classification, &ab()));
    assert_eq!(class("unknown_label.csv"), "unknown_label.csv:3: unknown label `c`, the known ones are a, b");
    assert_eq!(class("no_label.csv"), "no_label.csv:3: no label");

    let one = read("one_class.csv").unwrap();
    assert_eq!(
        message(LabelMap::from_table(&one, Objective::Classification)),
        "one_class.csv: one class (`a`), expected at least two classes"
    );
    assert!(LabelMap::from_table(&one, Objective::MultiLabel).is_ok());

    let spec = TableSpec { label_separator: Some("|".into()), ..TableSpec::default() };
    let several = parse_table(Path::new("t.csv"), b"text,label\nx,a|b\n", &spec, Labels::Required).unwrap();
    assert_eq!(
        message(encode(&several, Objective::Classification, &ab())),
        "t.csv:2: 2 labels, expected one\nhint: --task text-multi-label takes several"
    );
    assert!(message(LabelMap::from_id2label([(0, "a"), (2, "b")])).contains("id 2 in place of 1"));
    assert!(message(LabelMap::from_id2label([(0, "a"), (1, "a")])).contains("`a` twice"));
}

#[test]
fn empty_texts_become_special_tokens_where_there_are_any() {
    let table = read("empty_text.csv").unwrap();
    let tests = folder().parent().unwrap().to_owned();
    let encoded = TextTokenizer::from_folder(&tests.join("tokenizer"), 8).unwrap().encode(&table).unwrap();
    assert!(encoded.iter().all(|text| text.ids == [2, 3]));
    assert_eq!(
        message(TextTokenizer::from_folder(&tests.join("tokenizer_bare"), 8).unwrap().encode(&table)),
        "empty_text.csv:2: the text has no tokens, and this tokenizer adds none of its own"
    );
}

#[test]
fn folders_without_a_training_file() {
    assert_eq!(
        message(locate(&folder().join("no_train"), None, None)),
        "no_train: no train.csv, train.tsv, train.jsonl, train.json or train.parquet in this folder, which holds all.csv\n\
         hint: name the training file itself"
    );
    assert_eq!(
        message(locate(&folder().join("two_trains"), None, None)),
        "two_trains: train.csv, train.jsonl could each be the train file, expected one\n\
         hint: keep one, or name the file itself"
    );
    assert!(message(locate(&folder().join("nowhere"), None, None)).starts_with("nowhere: "));
    let file = folder().join("one_class.csv");
    assert!(message(locate(&file, Some(&folder().join("gone.csv")), None)).starts_with("gone.csv: "));
}

#[test]
fn tokenizers_that_cannot_work() {
    let tests = folder().parent().unwrap().to_owned();
    assert!(message(TextTokenizer::from_folder(&folder(), 8)).starts_with("tokenizer.json: "));
    assert_eq!(
        message(TextTokenizer::from_folder(&tests.join("tokenizer"), 2)),
        "max-length 2: 2 of these are special tokens, expected at least 3"
    );
    let spec = TableSpec { text: vec!["text".into(), "label".into()], ..TableSpec::default() };
    let pairs = read_table(&folder().join("one_class.csv"), &spec, Labels::Required).unwrap();
    let tokenizer = TextTokenizer::from_folder(&tests.join("tokenizer"), 4).unwrap();
    assert_eq!(
        message(tokenizer.encode(&pairs)),
        "max-length 4: 3 of these are special tokens, expected at least 5"
    );
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(TextTokenizer::from_folder(broken.path(), 8), Err(DataError::Tokenizer { .. })));
}
