//! Public data sets and a public tokenizer, where they lie beside the workspace.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::path::{Path, PathBuf};

use rgft_core::Inputs;
use rgft_data::{
    Dataset, LabelMap, Labels, Objective, TableSpec, TextDataset, TextTokenizer, batches, locate, read_table,
    split_stratified,
};

/// `<workspace>/../shared/assets/<name>`, or nothing with the reason printed.
fn asset(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets").join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_text_data_sets_are_read_whole() {
    let Some(folder) = asset("data/text") else { return };
    let expected = [
        ("banking77", 77, 10003, None, Some(3080)),
        ("sst2", 2, 6920, Some(872), Some(1821)),
        ("trec6", 6, 5452, None, Some(500)),
        ("tweet-emotion", 4, 3257, Some(374), Some(1421)),
        ("tweet-offensive", 2, 11916, Some(1324), Some(860)),
    ];
    for (name, classes, train, validation, test) in expected {
        let files = locate(&folder.join(name), None, None).unwrap();
        let read = |path: &PathBuf| read_table(path, &TableSpec::default(), Labels::Required).unwrap();
        let table = read(&files.train);
        let labels = LabelMap::from_table(&table, Objective::Classification).unwrap();
        assert_eq!((table.rows.len(), labels.len()), (train, classes), "{name}");
        for (file, rows) in [(files.validation, validation), (files.test, test)] {
            let table = file.map(|file| read(&file));
            assert_eq!(table.as_ref().map(|table| table.rows.len()), rows, "{name}");
            if let Some(table) = table {
                rgft_data::encode(&table, Objective::Classification, &labels).unwrap();
            }
        }
    }
}

#[test]
fn a_sorted_training_file_is_split_with_every_class_on_both_sides() {
    let Some(path) = asset("data/text/banking77/train.csv") else { return };
    let table = read_table(&path, &TableSpec::default(), Labels::Required).unwrap();
    let labels = LabelMap::from_table(&table, Objective::Classification).unwrap();
    let targets = rgft_data::encode(&table, Objective::Classification, &labels).unwrap();
    let split = split_stratified(&targets, 0.1);
    assert_eq!((split.train.len(), split.validation.len()), (9003, 1000));
    for class in 0..77 {
        let has = |rows: &[usize]| rows.iter().any(|row| targets[*row] == rgft_data::Target::Class(class));
        assert!(has(&split.train) && has(&split.validation), "{}", labels.names()[class as usize]);
    }
}

#[test]
fn minilm_reads_tweets() {
    let (Some(model), Some(data)) = (asset("models/minilm"), asset("data/text/tweet-emotion")) else {
        return;
    };
    let tokenizer = TextTokenizer::from_folder(&model, 32).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 30522);
    let table = read_table(&data.join("dev.csv"), &TableSpec::default(), Labels::Required).unwrap();
    let task = Objective::Classification;
    let labels = LabelMap::from_table(&table, task).unwrap();
    let dataset = TextDataset::labelled(&table, task, &labels, &tokenizer).unwrap();
    assert!(dataset.examples.iter().all(|e| e.ids[0] == 101 && *e.ids.last().unwrap() == 102));
    let lengths: Vec<usize> = (0..dataset.len()).map(|i| dataset.size(i)).collect();
    assert!(lengths.iter().copied().all(|tokens| (3..=32).contains(&tokens)));
    let cut = lengths.iter().copied().filter(|tokens| *tokens == 32).count();
    assert!(dataset.truncated <= cut);
    // What the Python package `tokenizers` gives for the same file, cut at 32 tokens.
    let Inputs::Tokens(first) = dataset.pack(&[0], None).inputs else { panic!("texts are tokens") };
    assert_eq!(first.ids[..11], [101, 1030, 5310, 1030, 5310, 2821, 1010, 5023, 7195, 1998, 4963]);
    assert_eq!((lengths.iter().sum::<usize>(), dataset.truncated), (8901, 105));
    let order = batches(&lengths, 32, 0, 0, true);
    let tokens: usize = order.iter().map(|rows| dataset.extent(rows).rows()).sum();
    assert_eq!(tokens, 8901);
}
