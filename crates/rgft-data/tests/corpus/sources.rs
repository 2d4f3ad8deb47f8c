//! Files and folders to documents.

use std::fs;
use std::path::Path;

use rgft_data::{Completion, Corpus, CorpusSpec, DataError, locate_corpus, parse_corpus, read_corpus};

use super::{folder, message};

fn parse(name: &str, bytes: &[u8]) -> Result<Corpus, DataError> {
    parse_corpus(Path::new(name), bytes, &CorpusSpec::default())
}

fn texts(corpus: &Corpus) -> Vec<&str> {
    corpus.documents.iter().map(|document| document.text.as_str()).collect()
}

#[test]
fn one_text_or_a_text_in_each_row() {
    let text = parse("t.txt", b"\xef\xbb\xbfone\n\n two\r\n").unwrap();
    assert_eq!((texts(&text), text.running), (vec!["one\n\n two\r\n"], true));
    assert!(parse("t.py", b"x = 1\n").unwrap().running);

    let rows =
        parse("t.jsonl", b"{\"path\": \"a/b.py\", \"text\": \"x\"}\n\n{\"text\": \" \"}\n{\"text\": \"\"}")
            .unwrap();
    assert_eq!((texts(&rows), rows.running), (vec!["x", " "], false));
    assert_eq!((rows.documents[0].name.as_str(), rows.documents[1].line), ("a/b.py", 3));
    assert_eq!(rows.notes, ["1 of 3 documents are empty"]);
    assert_eq!(texts(&parse("t.csv", b"id,text\n1,\"a\nb\"\n").unwrap()), ["a\nb"]);
    assert_eq!(texts(&parse("t.tsv", b"text\tpath\na\tx.txt\n").unwrap()), ["a"]);
}

#[test]
fn files_that_are_wrong() {
    let refused = |name: &str, bytes: &[u8]| message(parse(name, bytes), "".as_ref());
    assert_eq!(refused("t.txt", b""), "t.txt: the file is empty");
    assert_eq!(refused("t.txt", b" \n"), "t.txt: the file is empty");
    assert_eq!(
        refused("t.txt", b"ok\nab\xff"),
        "t.txt:2: byte 3 of the line is not UTF-8\nhint: save the file with UTF-8 encoding"
    );
    assert!(refused("t.txt", b"a\0").starts_with("t.txt:1: a NUL byte"));
    assert_eq!(
        refused("t.jsonl", b"{\"content\": \"x\"}"),
        "t.jsonl:1: no column `text`, there are content\nhint: name the column with --text-column"
    );
    assert_eq!(refused("t.jsonl", b"{\"text\": 3}"), "t.jsonl:1: `text` is a number, expected a string");
    assert_eq!(
        refused("t.jsonl", b"{\"text\": \"\"}"),
        "t.jsonl: no text, expected at least one document that is not empty and within the limits"
    );
    assert!(refused("t.csv", b"text\na,b\n").starts_with("t.csv:2: 2 columns, expected 1 (text)"));

    let completion = Completion {
        prompt_column: "prompt".into(),
        completion_column: "answer".into(),
        separator: String::new(),
    };
    let spec = CorpusSpec { completion: Some(completion), ..CorpusSpec::default() };
    for (row, column) in [(r#"{"prompt": "x"}"#, "answer"), (r#"{"answer": "x"}"#, "prompt")] {
        let found = message(parse_corpus("t.jsonl".as_ref(), row.as_bytes(), &spec), "".as_ref());
        let option = if column == "answer" { "completion-column" } else { "prompt-column" };
        assert!(found.contains(&format!("no column `{column}`")), "{found}");
        assert!(found.ends_with(&format!("name the column with --{option}")), "{found}");
    }
}

#[test]
fn limits_keep_whole_documents_and_whole_characters() {
    let limited = |name: &str, text: &[u8], documents, bytes| {
        let spec = CorpusSpec { limit_documents: documents, limit_bytes: bytes, ..CorpusSpec::default() };
        parse_corpus(name.as_ref(), text, &spec).map(|corpus| texts(&corpus).join("|"))
    };
    let rows = b"text\nab\ncd\nefg\n";
    assert_eq!(limited("t.csv", rows, Some(2), None).unwrap(), "ab|cd");
    assert_eq!(limited("t.csv", rows, None, Some(5)).unwrap(), "ab|cd");
    assert!(matches!(limited("t.csv", rows, None, Some(1)), Err(DataError::NoDocuments { .. })));
    assert_eq!(limited("t.txt", "aé→".as_bytes(), None, Some(4)).unwrap(), "aé");
    assert_eq!(limited("t.txt", b"abc", None, Some(99)).unwrap(), "abc");
}

#[test]
fn folders_are_read_in_order_and_oddities_passed_over() {
    let source = folder(&[
        ("b.py", "b = 1\n"),
        ("a/z.PY", "z = 1\n"),
        ("a/empty.py", "\n"),
        ("a/notes.md", "notes"),
        (".git/config.py", "hidden"),
        (".hidden.py", "hidden"),
        ("large.py", "123456789"),
    ]);
    fs::write(source.path().join("binary.py"), b"\x00\xff").unwrap();
    fs::write(source.path().join("latin.py"), b"\xe9").unwrap();
    let spec = CorpusSpec { extensions: vec![".py".into()], max_file_bytes: 8, ..CorpusSpec::default() };
    let corpus = read_corpus(source.path(), &spec).unwrap();
    let names: Vec<&str> = corpus.documents.iter().map(|document| document.name.as_str()).collect();
    assert_eq!(
        (names, texts(&corpus), corpus.running),
        (vec!["a/z.PY", "b.py"], vec!["z = 1\n", "b = 1\n"], false)
    );
    assert_eq!(
        corpus.notes,
        [
            "passed over large.py: larger than 8 bytes",
            "passed over 2 files, binary.py the first of them: no UTF-8 text",
            "1 of 3 documents are empty",
        ]
    );
    let all = read_corpus(source.path(), &CorpusSpec::default()).unwrap();
    assert_eq!(texts(&all), ["notes", "z = 1\n", "b = 1\n", "123456789"]);
    let none = CorpusSpec { extensions: vec!["rs".into()], ..CorpusSpec::default() };
    assert!(message(read_corpus(source.path(), &none), source.path()).contains("no text, expected"));
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let source = folder(&[("a.txt", "a")]);
    std::os::unix::fs::symlink(source.path(), source.path().join("loop")).unwrap();
    std::os::unix::fs::symlink(source.path().join("a.txt"), source.path().join("b.txt")).unwrap();
    assert_eq!(texts(&read_corpus(source.path(), &CorpusSpec::default()).unwrap()), ["a"]);
}

#[test]
fn the_files_of_a_corpus() {
    let parts = folder(&[("train.txt", "a"), ("valid.jsonl", ""), ("test.txt", ""), ("other/x.txt", "x")]);
    let files = locate_corpus(parts.path(), None, None).unwrap();
    let of = |name: &str| Some(parts.path().join(name));
    assert_eq!(
        (Some(files.train), files.validation, files.test),
        (of("train.txt"), of("valid.jsonl"), of("test.txt"))
    );
    // A folder of sources, with another one to test on.
    let source = parts.path().join("other");
    let files = locate_corpus(&source, Some(parts.path()), None).unwrap();
    assert_eq!(
        (files.train, files.validation, files.test),
        (source.clone(), None, Some(parts.path().to_owned()))
    );
    assert!(matches!(locate_corpus(&source.join("no"), None, None), Err(DataError::Io { .. })));
    fs::write(parts.path().join("train.csv"), "text\na\n").unwrap();
    assert!(matches!(locate_corpus(parts.path(), None, None), Err(DataError::Ambiguous { .. })));
}
