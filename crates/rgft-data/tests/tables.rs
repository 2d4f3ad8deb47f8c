//! Tables, labels, tokens and batches of small files, with what they should be written out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rgft_core::{Extent, Inputs};
use rgft_data::{
    Dataset, Files, LabelMap, Labels, Objective, RawLabel, Table, TableSpec, Target, Targets, TextDataset,
    TextTokenizer, encode, locate, parse_table, read_table,
};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn read(name: &str, spec: &TableSpec) -> Table {
    read_table(&tests().join("tables").join(name), spec, Labels::Required).unwrap()
}

fn parse(name: &str, text: &str) -> Table {
    parse_table(Path::new(name), text.as_bytes(), &TableSpec::default(), Labels::Required).unwrap()
}

fn one(label: &str) -> RawLabel {
    RawLabel::One(label.to_owned())
}

#[test]
fn csv_with_bom_quotes_and_crlf() {
    let table = read("quoted.csv", &TableSpec::default());
    let rows: Vec<_> = table.rows.iter().map(|r| (r.line, r.texts[0].as_str(), r.label.clone())).collect();
    assert_eq!(
        rows,
        [(2, "a, \"b\"\r\nc", one("10")), (5, "  kept as is ", one("9")), (6, "last", one("2"))]
    );
    let labels = LabelMap::from_table(&table, Objective::Classification).unwrap();
    assert_eq!(labels.names(), ["2", "9", "10"], "integers are sorted by value");
    assert_eq!((labels.index("10"), labels.index("11")), (Some(2), None));
}

#[test]
fn pairs_of_texts_with_numbers() {
    let spec = TableSpec {
        text: vec!["question".into(), "answer".into()],
        label: "score".into(),
        label_separator: None,
    };
    let table = read("pairs.tsv", &spec);
    assert_eq!(table.rows[1].texts, ["who", "me"]);
    let labels = LabelMap::from_table(&table, Objective::Regression).unwrap();
    assert!(labels.is_empty());
    let targets = encode(&table, Objective::Regression, &labels).unwrap();
    assert_eq!(targets, [Target::Value(0.5), Target::Value(-2.0)]);
}

#[test]
fn json_labels_of_each_type() {
    let table = read("labels.jsonl", &TableSpec::default());
    let rows: Vec<_> = table.rows.iter().map(|row| (row.line, row.label.clone())).collect();
    let many = RawLabel::Many(vec!["x".into(), "3".into()]);
    let expected = [
        (1, one("5")),
        (2, one("5")),
        (4, RawLabel::Number(5.0)),
        (5, one("true")),
        (6, RawLabel::None),
        (7, many),
        (8, RawLabel::Number(0.25)),
    ];
    assert_eq!(rows, expected);
    let labels = LabelMap::from_table(&table, Objective::MultiLabel).unwrap();
    assert_eq!(labels.names(), ["0.25", "3", "5", "true", "x"], "5, \"5\" and 5.0 are one label");
}

#[test]
fn an_array_of_objects_knows_its_lines() {
    let table = read("array.json", &TableSpec::default());
    let rows: Vec<_> = table.rows.iter().map(|r| (r.line, r.texts[0].as_str())).collect();
    assert_eq!(rows, [(3, "one"), (5, "two")]);
    assert_eq!(parse("x.json", "{\"text\":\"a\",\"label\":1}\n").rows.len(), 1);
}

#[test]
fn several_labels_in_a_cell() {
    let spec = TableSpec { label_separator: Some(";".into()), ..TableSpec::default() };
    let table = read("several.csv", &spec);
    let labels = LabelMap::from_table(&table, Objective::MultiLabel).unwrap();
    assert_eq!(labels.names(), ["fear", "joy"]);
    let targets = encode(&table, Objective::MultiLabel, &labels).unwrap();
    let hot = |values: [f32; 2]| Target::Classes(values.to_vec());
    assert_eq!(targets, [hot([1.0, 1.0]), hot([0.0, 0.0]), hot([1.0, 0.0])]);
}

#[test]
fn a_label_map_survives_the_configuration() {
    let labels = LabelMap::from_id2label([(1, "b"), (0, "z")]).unwrap();
    assert_eq!(labels.names(), ["z", "b"]);
    let targets = encode(&parse("t.csv", "text,label\nx, b \n"), Objective::Classification, &labels).unwrap();
    assert_eq!(targets, [Target::Class(1)]);
}

#[test]
fn old_line_ends_count_as_lines() {
    let table = parse("t.csv", "text,label\ra,x\rb,y\r");
    assert_eq!(table.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_folder_has_parts_that_options_replace() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["train.csv", "Valid.TSV", "test.jsonl", "README.md", "other.csv"] {
        std::fs::write(path(name), "").unwrap();
    }
    let expected = |validation: &str, test: &str| Files {
        train: path("train.csv"),
        validation: Some(path(validation)),
        test: Some(path(test)),
    };
    assert_eq!(locate(folder.path(), None, None).unwrap(), expected("Valid.TSV", "test.jsonl"));
    let other = path("other.csv");
    assert_eq!(locate(folder.path(), Some(&other), None).unwrap(), expected("Valid.TSV", "other.csv"));
    assert_eq!(locate(folder.path(), None, Some(&other)).unwrap(), expected("other.csv", "test.jsonl"));
    let alone = locate(&other, None, None).unwrap();
    assert_eq!(alone, Files { train: other, validation: None, test: None });
}

#[test]
fn tokens_are_cut_and_never_padded() {
    let tokenizer = TextTokenizer::from_folder(&tests().join("tokenizer"), 7).unwrap();
    assert_eq!((tokenizer.max_length(), tokenizer.vocabulary_size()), (7, 24));
    let table = parse("t.csv", "text,label\nThe cats sat.,1\nzebra,2\nthe cat sat on the mat !,1\n");
    let encoded = tokenizer.encode(&table).unwrap();
    let ids: Vec<_> = encoded.iter().map(|text| text.ids.as_slice()).collect();
    assert_eq!(ids, [&[2, 5, 7, 15, 9, 17, 3][..], &[2, 1, 3], &[2, 5, 7, 9, 10, 5, 3]]);
    assert_eq!(encoded.iter().map(|text| text.truncated).collect::<Vec<_>>(), [false, false, true]);

    let spec = TableSpec { text: vec!["a".into(), "b".into()], ..TableSpec::default() };
    let pairs = b"a,b\nhow are you,good\nthe cat,very very very bad\n";
    let pairs = parse_table(Path::new("t.csv"), pairs, &spec, Labels::Optional).unwrap();
    let encoded = tokenizer.encode(&pairs).unwrap();
    assert_eq!(encoded[0].ids, [2, 21, 22, 23, 3, 12, 3]);
    assert_eq!(encoded[0].type_ids, [0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(encoded[1].ids, [2, 5, 7, 3, 14, 14, 3], "the longer text is cut");
}

#[test]
fn a_batch_is_packed() {
    let tokenizer = TextTokenizer::from_folder(&tests().join("tokenizer"), 8).unwrap();
    let table = parse("t.csv", "text,label\nthe cat,a\nzebra,b\na very good dog,b\n");
    let task = Objective::Classification;
    let labels = LabelMap::from_table(&table, task).unwrap();
    let dataset = TextDataset::labelled(&table, task, &labels, &tokenizer).unwrap();
    assert_eq!((dataset.len(), dataset.outputs, dataset.truncated), (3, 2, 0));
    assert_eq!(dataset.extent(&[0, 1, 2]), Extent::Sequences(vec![4, 3, 6]));
    let batch = dataset.pack(&[2, 0], None);
    let Inputs::Tokens(tokens) = &batch.inputs else { panic!("texts are tokens") };
    assert_eq!(tokens.ids, [2, 6, 14, 12, 8, 3, 2, 5, 7, 3]);
    assert_eq!(tokens.types.len(), 10);
    assert_eq!(tokens.lengths, [6, 4]);
    assert_eq!(batch.rows, [2, 0]);
    assert_eq!(batch.targets, Targets::Classes(vec![1, 0]));
    let Inputs::Tokens(tokens) = dataset.subset([1]).pack(&[0], None).inputs else {
        panic!("texts are tokens")
    };
    assert_eq!(tokens.ids, [2, 1, 3]);

    let unlabelled = TextDataset::unlabelled(&table, task, &labels, &tokenizer).unwrap();
    assert_eq!(unlabelled.pack(&[0, 1], None).targets, Targets::Unknown);

    let task = Objective::MultiLabel;
    let dataset = TextDataset::labelled(&table, task, &labels, &tokenizer).unwrap();
    assert_eq!(dataset.pack(&[1, 0], None).targets, Targets::MultiHot(vec![0.0, 1.0, 1.0, 0.0], 2));

    let table = parse("t.csv", "text,label\nthe cat,-1\nzebra,2.5\n");
    let none = LabelMap::default();
    let dataset = TextDataset::labelled(&table, Objective::Regression, &none, &tokenizer).unwrap();
    assert_eq!((dataset.outputs, dataset.pack(&[1], None).targets), (1, Targets::Values(vec![2.5], 1)));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec(("[^\0]{0,12}", "[a-z]{1,4}"), 1..12),
        tab: bool,
    ) {
        let mut writer = csv::WriterBuilder::new().delimiter(if tab { b'\t' } else { b',' }).from_writer(Vec::new());
        writer.write_record(["text", "label"]).unwrap();
        for (text, label) in &rows {
            writer.write_record([text, label]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let name = if tab { "t.tsv" } else { "t.csv" };
        let table = parse_table(Path::new(name), &bytes, &TableSpec::default(), Labels::Required).unwrap();
        let read: Vec<_> = table.rows.iter().map(|r| (r.texts[0].clone(), r.label.clone())).collect();
        let written: Vec<_> = rows.iter().map(|(text, label)| (text.clone(), one(label))).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), ascii in "[\"{}\\[\\],:a\\n\\r\\t]{0,40}") {
        for name in ["t.csv", "t.tsv", "t.jsonl", "t.json"] {
            for text in [&bytes[..], ascii.as_bytes(), format!("text,label\n{ascii}").as_bytes()] {
                for labels in [Labels::Required, Labels::Optional] {
                    let _ = parse_table(Path::new(name), text, &TableSpec::default(), labels);
                }
            }
        }
    }
}
