//! `rgft generate` as a whole: what comes on stdout, why it ends, what it refuses.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use common::{demo, rgft};
use serde_json::Value;
use tempfile::TempDir;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/decoder")
}

/// A tiny decoder with a vocabulary of 24 characters.
fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(goldens().join("llama").join(name), folder.path().join(name)).unwrap();
    }
    let characters = "_<>abcdefghijklmnopqrst \n";
    let vocabulary: serde_json::Map<String, Value> =
        characters.chars().take(24).enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    std::fs::write(folder.path().join("vocab.json"), Value::Object(vocabulary).to_string()).unwrap();
    folder
}

/// Stdout of a run that succeeds.
fn stdout(model: &Path, arguments: &[&str]) -> String {
    let mut command = rgft();
    let output = command.arg("generate").arg("--model").arg(model).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(model: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(model, &[arguments, &["--json"]].concat())).unwrap()
}

#[test]
fn the_text_of_the_document_is_what_stdout_shows() {
    let model = model();
    let arguments = ["--prompt", "abc", "--max-new-tokens", "12"];
    let document = json(model.path(), &arguments);
    let text = document["text"].as_str().unwrap();
    assert_eq!(stdout(model.path(), &arguments), format!("{text}\n"));
    assert_eq!(document["prompt"], "abc");
    // The token that starts a text is one of the prompt's.
    assert_eq!(document["prompt_tokens"], 4);
    let tokens = document["tokens"].as_array().unwrap();
    assert_eq!(document["new_tokens"], tokens.len());
    assert_eq!(text.chars().count(), tokens.len());
    assert!(document["tokens_per_second"].as_f64().unwrap() > 0.0);
    // The prompt may come from a file as it is, or from stdin less its last line break.
    let file = model.path().join("prompt.txt");
    std::fs::write(&file, "abc").unwrap();
    let from_file = json(model.path(), &["--file", &file.display().to_string(), "--max-new-tokens", "12"]);
    assert_eq!(from_file["tokens"], document["tokens"]);
    let piped = rgft()
        .args(["generate", "--json", "--max-new-tokens", "12", "--model"])
        .arg(model.path())
        .write_stdin("abc\n")
        .output()
        .unwrap();
    let piped: Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(piped["tokens"], document["tokens"]);
}

#[test]
fn it_ends_for_a_reason() {
    let model = model();
    let sampled = ["--prompt", "abc", "--temperature", "1.5", "--seed", "3"];
    let whole = json(model.path(), &[&sampled[..], &["--max-new-tokens", "8"]].concat());
    assert_eq!(whole["stop_reason"], "length");
    assert_eq!(whole["tokens"].as_array().unwrap().len(), 8);
    let text = whole["text"].as_str().unwrap();
    // A stop string of two characters that stands somewhere inside.
    let stop: String = text.chars().skip(3).take(2).collect();
    let stopped = json(model.path(), &[&sampled[..], &["--max-new-tokens", "8", "--stop", &stop]].concat());
    assert_eq!(stopped["stop_reason"], "stop-string");
    assert_eq!(stopped["text"], text[..text.find(&stop).unwrap()]);
    // The model reads 32 tokens: 4 of the prompt, and the last that is drawn need not be read.
    let long = json(model.path(), &[&sampled[..], &["--max-new-tokens", "99"]].concat());
    match long["stop_reason"].as_str().unwrap() {
        "context" => assert_eq!(long["new_tokens"], 29),
        other => assert_eq!(other, "end-of-text"),
    }
    let none = json(model.path(), &["--prompt", "abc", "--max-new-tokens", "0"]);
    assert_eq!((&none["text"], &none["stop_reason"]), (&"".into(), &"length".into()));
}

#[test]
fn one_seed_gives_one_text_and_another_seed_another() {
    let model = model();
    let draw = |seed: &str| {
        let sampling = ["--prompt", "abc", "--temperature", "2", "--top-k", "12", "--top-p", "0.9"];
        json(model.path(), &[&sampling[..], &["--max-new-tokens", "20", "--seed", seed]].concat())["tokens"]
            .clone()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn what_cannot_be_is_refused_with_a_hint() {
    let model = model();
    let refused = |model: &Path, arguments: &[&str]| {
        let mut command = rgft();
        let output = command.arg("generate").arg("--model").arg(model).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let long = "a".repeat(40);
    for (model, arguments, part) in [
        (demo().as_path(), &["--prompt", "x"][..], "this model does not go on with a text"),
        (model.path(), &["--prompt", &long], "the prompt has 41 tokens, the model reads 32"),
        (model.path(), &["--file", "no-such-file"], "no-such-file: No such file"),
        (model.path(), &["--prompt", "a", "--top-p", "0"], "expected a number above 0 and up to 1"),
        (model.path(), &["--prompt", "a", "--temperature", "-1"], "expected a number of at least 0"),
        (Path::new("no-such-model"), &["--prompt", "a"], "no config.json in this model folder"),
    ] {
        let said = refused(model, arguments);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn stories_go_on_as_in_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/models/stories260k");
    #[allow(clippy::print_stderr)]
    if !folder.is_dir() {
        return eprintln!("skipped: no {}", folder.display());
    }
    let golden: Value =
        serde_json::from_slice(&std::fs::read(goldens().join("stories260k.json")).unwrap()).unwrap();
    let prompt = golden["prompt"].as_str().unwrap();
    let found = json(&folder, &["--prompt", prompt]);
    assert_eq!(found["tokens"], golden["new_ids"]);
    assert_eq!(format!("{prompt}{}", found["text"].as_str().unwrap()), golden["text"]);
}
