//! Bad input, one test each: exit status 2, one `error:` line that says what is wrong, where, and what to do; no
//! panic; and nothing is written. What fails while it runs exits with 1.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use common::{asset, copy_model, demo, files_in, rgft, train_flags, tree};
use insta::assert_snapshot;
use tempfile::TempDir;

fn hostile(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile").join(name).display().to_string()
}

/// A command with one thing wrong, in a folder of its own.
struct Attempt {
    root: TempDir,
    args: Vec<String>,
    stdin: Vec<u8>,
}

impl Attempt {
    fn of(args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { root: tempfile::tempdir().unwrap(), args, stdin: Vec::new() }
    }

    /// A training run that would work, but for `changes`.
    fn train(changes: &[(&str, &str)]) -> Self {
        let attempt = Self::of(&["train"]);
        let flags = train_flags(&attempt.path("out"), changes);
        Self { args: [attempt.args, flags].concat(), ..attempt }
    }

    /// The same, whose model is a copy of the demo's that `spoil` changes.
    fn model(changes: &[(&str, &str)], spoil: impl FnOnce(&Path)) -> Self {
        let attempt = Self::of(&["train"]);
        let model = attempt.path("model");
        copy_model(&model);
        spoil(&model);
        let changes = [&[("--model", model.to_str().unwrap())], changes].concat();
        let flags = train_flags(&attempt.path("out"), &changes);
        Self { args: [attempt.args, flags].concat(), ..attempt }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs it; what it says on stderr, with placeholders for folders. The status must be 2.
    fn refused(self) -> String {
        let before = tree(self.root.path());
        let (status, message) = self.run();
        assert_eq!(status, Some(2), "{message}");
        assert!(before == tree(self.root.path()), "something was written: {:?}", files_in(self.root.path()));
        message
    }

    /// Status and message; one `error:` line, no panic, nothing on stdout.
    fn run(&self) -> (Option<i32>, String) {
        let output = rgft().args(&self.args).write_stdin(&self.stdin[..]).output().unwrap();
        let mut message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains("panicked"), "{message}");
        assert_eq!(message.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{message}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        for (folder, name) in
            [(self.root.path(), "TMP"), (Path::new(&hostile("")), "HOSTILE"), (&demo(), "DEMO")]
        {
            message = message.replace(folder.to_str().unwrap().trim_end_matches('/'), name);
        }
        (output.status.code(), message)
    }
}

fn data(name: &str) -> String {
    Attempt::train(&[("--data", &hostile(name))]).refused()
}

fn setting(key: &str, value: &str) -> String {
    Attempt::train(&[(key, value)]).refused()
}

/// The model's folder with `from` replaced by `to` in `file`, which must hold it.
fn edited(file: &str, from: &str, to: &str) -> String {
    Attempt::model(&[], |model| edit(&model.join(file), from, to)).refused()
}

fn edit(path: &Path, from: &str, to: &str) {
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let changed = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
    std::fs::write(path, changed).unwrap();
}

/// The model's folder with the bytes of its weights changed.
fn weights(change: impl FnOnce(&mut Vec<u8>)) -> String {
    Attempt::model(&[], |model| {
        let path = model.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    })
    .refused()
}

// ---- data ----

#[test]
fn an_empty_file() {
    assert_snapshot!(data("empty.csv"), @"error: HOSTILE/empty.csv: the file is empty");
}

#[test]
fn a_header_alone() {
    assert_snapshot!(data("header_only.csv"), @"error: HOSTILE/header_only.csv: no rows, expected at least one");
}

#[test]
fn a_wrong_column() {
    assert_snapshot!(data("wrong_column.csv"), @r"
    error: HOSTILE/wrong_column.csv:1: no column `text`, there are pixels, digit
    hint: name the column with --text-column
    ");
}

#[test]
fn an_unknown_label_in_test() {
    assert_snapshot!(setting("--test", &hostile("unknown_label.csv")), @"error: HOSTILE/unknown_label.csv:3: unknown label `ten`, the known ones are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
}

#[test]
fn one_class_only() {
    assert_snapshot!(data("one_class.csv"), @"error: HOSTILE/one_class.csv: one class (`3`), expected at least two classes");
}

#[test]
fn a_row_without_a_label() {
    assert_snapshot!(data("no_label.csv"), @"error: HOSTILE/no_label.csv:4: no label");
}

#[test]
fn words_where_regression_needs_numbers() {
    let regression = [("--task", "text-regression"), ("--data", &hostile("words_for_numbers.csv"))];
    assert_snapshot!(Attempt::train(&regression).refused(), @"error: HOSTILE/words_for_numbers.csv:3: label `many`, expected a finite number");
}

#[test]
fn a_ragged_row() {
    assert_snapshot!(data("ragged.csv"), @r"
    error: HOSTILE/ragged.csv:3: 3 columns, expected 2 (text, label)
    hint: a cell that holds a separator, a quote or a line break must be quoted
    ");
}

#[test]
fn bytes_that_are_no_utf8() {
    assert_snapshot!(data("invalid_utf8.csv"), @r"
    error: HOSTILE/invalid_utf8.csv:3: byte 3 of the line is not UTF-8
    hint: save the file with UTF-8 encoding
    ");
}

#[test]
fn a_nul_byte() {
    assert_snapshot!(data("nul.csv"), @r"
    error: HOSTILE/nul.csv:3: a NUL byte, expected text
    hint: is this a binary file, or one in UTF-16?
    ");
}

#[test]
fn an_unknown_kind_of_table() {
    assert_snapshot!(data("table.xlsx"), @"error: HOSTILE/table.xlsx: unknown kind of table, expected .csv, .tsv, .jsonl, .json or .parquet");
}

#[test]
fn a_file_that_is_not_there() {
    assert_snapshot!(data("nowhere.csv"), @"error: HOSTILE/nowhere.csv: No such file or directory (os error 2)");
}

#[test]
fn a_folder_without_a_training_file() {
    assert_snapshot!(data("no_train"), @r"
    error: HOSTILE/no_train: no train.csv, train.tsv, train.jsonl, train.json or train.parquet in this folder, which holds rows.csv
    hint: name the training file itself
    ");
}

#[test]
fn too_few_rows_to_hold_some_out() {
    let few = [("--data", &hostile("two_rows.csv")[..]), ("--validation", "")];
    assert_snapshot!(Attempt::train(&few).refused(), @r"
    error: HOSTILE/two_rows.csv: too few examples (2) to train on and to validate
    hint: give more data, or a validation file
    ");
}

#[test]
fn a_text_longer_than_the_positions() {
    let long = [("--data", &hostile("long_text.csv")[..]), ("--max-length", "128")];
    assert_snapshot!(Attempt::train(&long).refused(), @r"
    error: a text has 128 tokens, the model has 66 positions
    hint: lower max-length
    ");
}

// ---- model ----

#[test]
fn a_weight_that_is_no_number() {
    let message = weights(|bytes| {
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_snapshot!(message, @r#"
    error: TMP/model: tensor "classifier.weight" holds NaN at position 638
    hint: the checkpoint is damaged or its training diverged
    "#);
}

#[test]
fn weights_cut_off_in_the_tensors() {
    assert_snapshot!(weights(|bytes| bytes.truncate(bytes.len() / 2)), @r"
    error: TMP/model/model.safetensors: not a whole safetensors file: 309872 bytes of tensors, its header says 625704
    hint: download it again and compare its size
    ");
}

#[test]
fn weights_cut_off_in_the_header() {
    assert_snapshot!(weights(|bytes| bytes.truncate(100)), @r"
    error: TMP/model/model.safetensors: not a whole safetensors file: its header is longer than the file
    hint: download it again and compare its size
    ");
}

#[test]
fn weights_without_a_byte() {
    assert_snapshot!(weights(Vec::clear), @r"
    error: TMP/model/model.safetensors: not a whole safetensors file: it is shorter than a header
    hint: download it again and compare its size
    ");
}

#[test]
fn weights_with_a_header_longer_than_memory() {
    assert_snapshot!(weights(|bytes| bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes())), @r"
    error: TMP/model/model.safetensors: not a whole safetensors file: its header is longer than the file
    hint: download it again and compare its size
    ");
}

#[test]
fn a_missing_tensor() {
    let (name, other) = ("bert.encoder.layer.1.output.dense.bias", "best.encoder.layer.1.output.dense.bias");
    let message = edited("model.safetensors", name, other);
    assert_snapshot!(message, @r#"
    error: TMP/model: tensor "encoder.layer.1.output.dense.bias" is missing
    hint: there is "best.encoder.layer.1.output.dense.bias"
    "#);
}

#[test]
fn a_tensor_of_another_type() {
    assert_snapshot!(edited("model.safetensors", "\"F32\"", "\"I32\""), @r#"error: TMP/model: tensor "bert.embeddings.LayerNorm.bias" has type I32, expected F32, F16, BF16 or F64"#);
}

#[test]
fn a_tensor_of_another_shape() {
    assert_snapshot!(edited("config.json", "\"intermediate_size\": 256", "\"intermediate_size\": 128"), @r#"error: TMP/model: tensor "bert.encoder.layer.0.intermediate.dense.weight" has shape [256, 64], config.json implies [128, 64]"#);
}

#[test]
fn an_unknown_model_type() {
    assert_snapshot!(edited("config.json", "\"model_type\": \"bert\"", "\"model_type\": \"bart\""), @r#"
    error: TMP/model/config.json: unknown model_type "bart"
    hint: known model types are bert, distilbert, gru-classifier, lstm-classifier, roberta, gpt2, gru-lm, llama, lstm-lm, qwen2, qwen3, mobilenet_v2, resnet, resnet-cifar, vit, gru-forecaster, lstm-forecaster, patch-transformer
    "#);
}

#[test]
fn a_config_that_is_no_json() {
    assert_snapshot!(edited("config.json", "\"hidden_size\": 64", "\"hidden_size\" 64"), @"error: TMP/model/config.json: expected `:` at line 8 column 17");
}

#[test]
fn a_config_without_a_size() {
    assert_snapshot!(edited("config.json", "\"hidden_size\"", "\"hidden_sise\""), @"error: TMP/model/config.json: hidden_size is missing");
}

#[test]
fn heads_that_do_not_divide() {
    assert_snapshot!(edited("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5"), @"error: TMP/model/config.json: hidden_size is 64, expected a multiple of the 5 attention heads");
}

#[test]
fn no_tokenizer() {
    let model = |model: &Path| std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    assert_snapshot!(Attempt::model(&[], model).refused(), @"error: TMP/model/tokenizer.json: No such file or directory (os error 2)");
}

#[test]
fn a_tokenizer_that_is_no_json() {
    let model = |model: &Path| std::fs::write(model.join("tokenizer.json"), "{").unwrap();
    assert_snapshot!(Attempt::model(&[], model).refused(), @"error: TMP/model/tokenizer.json: EOF while parsing an object at line 1 column 1");
}

#[test]
fn a_tokenizer_of_another_model() {
    assert_snapshot!(edited("tokenizer.json", "\"g\": 20", "\"g\": 99"), @r"
    error: tokenizer.json makes token 99, the model's vocabulary has 21
    hint: tokenizer.json and model.safetensors must come from the same model
    ");
}

#[test]
fn no_weights() {
    let model = |model: &Path| std::fs::remove_file(model.join("model.safetensors")).unwrap();
    assert_snapshot!(Attempt::model(&[], model).refused(), @r"
    error: TMP/model: no model.safetensors in this model folder
    hint: a model folder holds config.json, model.safetensors and tokenizer.json; `rgft data get OWNER/NAME` fetches one
    ");
}

#[test]
fn no_model_folder() {
    assert_snapshot!(setting("--model", &asset("nowhere")), @r"
    error: DEMO/nowhere: no config.json in this model folder
    hint: a model folder holds config.json, model.safetensors and tokenizer.json; `rgft data get OWNER/NAME` fetches one
    ");
}

#[test]
fn a_model_that_is_a_file() {
    assert_snapshot!(setting("--model", &asset("config.json")), @r"
    error: DEMO/config.json: no config.json in this model folder
    hint: a model folder holds config.json, model.safetensors and tokenizer.json; `rgft data get OWNER/NAME` fetches one
    ");
}

// ---- the out folder ----

#[test]
fn an_out_folder_that_is_a_file() {
    let attempt = Attempt::train(&[]);
    std::fs::write(attempt.path("out"), "mine").unwrap();
    assert_snapshot!(attempt.refused(), @r"
    error: TMP/out: is a file
    hint: give a folder to --out
    ");
}

#[test]
fn an_out_folder_below_a_file() {
    let mut attempt = Attempt::train(&[("--out", "")]);
    std::fs::write(attempt.path("file"), "mine").unwrap();
    attempt.args.extend(["--out".into(), attempt.path("file/out").display().to_string()]);
    assert_snapshot!(attempt.refused(), @r"
    error: TMP/file/out: Not a directory (os error 20)
    hint: choose a folder that can be written
    ");
}

#[test]
fn an_out_folder_that_holds_other_things() {
    let attempt = Attempt::train(&[]);
    std::fs::create_dir(attempt.path("out")).unwrap();
    std::fs::write(attempt.path("out/thesis.txt"), "mine").unwrap();
    assert_snapshot!(attempt.refused(), @r"
    error: TMP/out: holds other files
    hint: choose an empty folder
    ");
}

#[test]
#[cfg(target_os = "linux")]
fn an_out_folder_where_nothing_can_be_written() {
    assert_snapshot!(setting("--out", "/proc/rgft"), @r"
    error: /proc/rgft: No such file or directory (os error 2)
    hint: choose a folder that can be written
    ");
}

// ---- recipe and arguments ----

#[test]
fn an_unknown_key() {
    assert_snapshot!(setting("--set", "learning-rte=1e-4"), @r"
    error: unknown key `learning-rte`
    hint: the closest key is `learning-rate`
    ");
}

#[test]
fn an_unknown_key_in_a_file() {
    assert_snapshot!(setting("--config", &hostile("unknown_key.toml")), @r"
    error: HOSTILE/unknown_key.toml:2: unknown key `learning-rte`
    hint: the closest key is `learning-rate`
    ");
}

#[test]
fn a_recipe_that_is_no_toml() {
    assert_snapshot!(setting("--config", &hostile("not.toml")), @"error: HOSTILE/not.toml:2: not TOML: string values must be quoted, expected literal string");
}

#[test]
fn a_recipe_with_a_word_for_a_number() {
    assert_snapshot!(setting("--config", &hostile("wrong_type.toml")), @r#"error: HOSTILE/wrong_type.toml:1: epochs = "three": expected a number above 0, up to 10000"#);
}

#[test]
fn a_recipe_that_is_not_there() {
    assert_snapshot!(setting("--config", &hostile("nowhere.toml")), @r"
    error: HOSTILE/nowhere.toml: cannot read the recipe
      caused by: No such file or directory (os error 2)
    ");
}

#[test]
fn a_budget_of_nothing() {
    assert_snapshot!(setting("--budget", "0"), @"error: budget = 0: expected a number above 0, up to 1");
}

#[test]
fn a_budget_above_full() {
    assert_snapshot!(setting("--budget", "2"), @"error: budget = 2: expected a number above 0, up to 1");
}

#[test]
fn globs_without_their_method_and_globs_that_name_nothing() {
    assert_snapshot!(Attempt::train(&[("--only", "head")]).refused(), @r#"
    error: method = rgft: the method only and the globs of its components go together
    hint: set method = "only" and only = ["encoder.layer.5*"], or neither
    "#);
    let nothing = Attempt::train(&[("--method", "only"), ("--only", "stage9*")]).refused();
    assert!(nothing.contains("names none of ") && nothing.contains("hint: a component's name"), "{nothing}");
}

#[test]
fn a_negative_learning_rate() {
    assert_snapshot!(setting("--learning-rate", "-1"), @"error: learning-rate = -1: expected a number above 0");
}

#[test]
fn a_length_without_room() {
    assert_snapshot!(setting("--max-length", "2"), @"error: max-length = 2: expected a whole number from 3");
}

#[test]
fn more_layers_than_there_are() {
    assert_snapshot!(Attempt::train(&[("--method", "last-k"), ("--last-k", "9")]).refused(), @r"
    error: last-k = 9, but the model has 3 layers
    hint: lower last-k, or use --method full
    ");
}

#[test]
fn an_unknown_task() {
    assert_snapshot!(setting("--task", "translation"), @"error: task = translation: expected text-classification, text-multi-label, text-regression, image-classification, causal-lm, code or forecasting");
}

#[test]
fn no_out_folder() {
    assert_snapshot!(setting("--out", ""), @r"
    error: out is missing: expected a folder
    hint: add --out, or the key `out` to the recipe
    ");
}

#[test]
fn an_unknown_flag() {
    assert_snapshot!(setting("--learning-rte", "1"), @r"
    error: unexpected argument '--learning-rte' found

      tip: a similar argument exists: '--learning-rate'

    Usage: rgft train --model <PATH> --data <PATH> --validation <PATH> --task <WORD> --max-length <N> --learning-rate <X> --epochs <X> --out <PATH>

    For more information, try '--help'.
    ");
}

// ---- using a model ----

#[test]
fn evaluating_on_an_unknown_label() {
    let (model, data) = (demo().display().to_string(), hostile("unknown_label.csv"));
    assert_snapshot!(Attempt::of(&["eval", "--model", &model, "--data", &data]).refused(), @"error: HOSTILE/unknown_label.csv:3: unknown label `ten`, the known ones are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
}

#[test]
fn predicting_without_a_trained_head() {
    let mut attempt = Attempt::of(&["predict", "--data", &asset("shift-test.csv"), "--model"]);
    let model = attempt.path("model");
    copy_model(&model);
    edit(&model.join("model.safetensors"), "\"classifier.weight\"", "\"classifier.wright\"");
    attempt.args.push(model.display().to_string());
    assert_snapshot!(attempt.refused(), @r"
    error: TMP/model: no trained task head for the task text-classification
    hint: fine-tune it first: rgft train --model … --data … --out …
    ");
}

#[test]
fn predicting_with_the_tokenizer_of_another_model() {
    let mut attempt = Attempt::of(&["predict", "--data", &asset("shift-test.csv"), "--model"]);
    let model = attempt.path("model");
    copy_model(&model);
    edit(&model.join("tokenizer.json"), "\"g\": 20", "\"g\": 99");
    attempt.args.push(model.display().to_string());
    assert_snapshot!(attempt.refused(), @r"
    error: tokenizer.json makes token 99, the model's vocabulary has 21
    hint: tokenizer.json and model.safetensors must come from the same model
    ");
}

#[test]
fn predicting_from_nothing() {
    assert_snapshot!(Attempt::of(&["predict", "--model", demo().to_str().unwrap()]).refused(), @r"
    error: standard input is empty
    hint: give data: --data FILE
    ");
}

#[test]
fn predicting_from_bytes_that_are_no_utf8() {
    let mut attempt = Attempt::of(&["predict", "--model", demo().to_str().unwrap()]);
    attempt.stdin = b"0123\n\xff\xfe\n".to_vec();
    assert_snapshot!(attempt.refused(), @r"
    error: standard input: stream did not contain valid UTF-8
    hint: texts are UTF-8, one per line
    ");
}

#[test]
fn predicting_into_a_folder_that_is_not_there() {
    let (model, data) = (demo().display().to_string(), asset("shift-test.csv"));
    let mut attempt = Attempt::of(&["predict", "--model", &model, "--data", &data, "--out"]);
    attempt.args.push(attempt.path("nowhere/labels.jsonl").display().to_string());
    assert_snapshot!(attempt.refused(), @r"
    error: TMP/nowhere/labels.jsonl: its folder does not exist
    hint: create it first
    ");
}

// ---- runs that fail ----

/// Full fine-tuning that diverges.
const DIVERGING: [(&str, &str); 5] =
    [("--method", "full"), ("--learning-rate", "1e6"), ("--clip", "0"), ("--warmup", "0"), ("--epochs", "1")];

fn evaluates(folder: &Path) {
    let (model, data) = (folder.display().to_string(), asset("shift-test.csv"));
    rgft().args(["eval", "--model", &model, "--data", &data]).assert().success();
}

#[test]
fn divergence_is_a_failed_run_that_leaves_the_checkpoint_before_it() {
    let attempt = Attempt::train(&[&DIVERGING[..], &[("--validate-every", "1")]].concat());
    let (status, message) = attempt.run();
    assert_eq!(status, Some(1));
    let said: Vec<&str> =
        message.lines().filter(|line| line.starts_with("error:") || line.starts_with("hint:")).collect();
    assert!(said[0].starts_with("error: the loss is ") && said[0].contains(" at step "), "{message}");
    assert_eq!(said[1], "hint: lower learning-rate or head-learning-rate, or set clip");
    // Validated once before it diverged.
    let names = files_in(&attempt.path("out"));
    assert!(names.contains(&"model.safetensors".into()) && !names.contains(&"run.json".into()), "{names:?}");
    evaluates(&attempt.path("out"));
}

#[test]
fn divergence_leaves_an_earlier_runs_model() {
    let attempt = Attempt::train(&DIVERGING);
    let out = attempt.path("out");
    rgft()
        .arg("train")
        .args(train_flags(&out, &[("--method", "head"), ("--epochs", "1")]))
        .assert()
        .success();
    let model = std::fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(attempt.run().0, Some(1));
    assert!(model == std::fs::read(out.join("model.safetensors")).unwrap());
    evaluates(&out);
}

#[test]
fn divergence_in_the_last_step_is_no_success() {
    // One step, after which the weights are no numbers.
    let last = [("--learning-rate", "1e38"), ("--batch-size", "300")];
    let attempt = Attempt::train(&[&DIVERGING[..], &last].concat());
    let (status, message) = attempt.run();
    assert_eq!(status, Some(1), "{message}");
    assert!(!attempt.path("out/run.json").exists(), "a failed run is not complete");
    if attempt.path("out/model.safetensors").exists() {
        evaluates(&attempt.path("out"));
    }
}

#[test]
fn instructions_that_do_not_exist() {
    let output = rgft().args(["bench", "gemm", "--quick"]).env("RGFT_INSTRUCTIONS", "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        said.trim(),
        "error: RGFT_INSTRUCTIONS is \"sse9\", expected \"avx512\", \"avx2\" or \"portable\""
    );
}

fn beside(program: &str) -> String {
    Attempt::of(&[
        "bench",
        "steps",
        "--quick",
        "--quiet",
        "--threads",
        "1",
        "--work",
        "lstm",
        "--beside",
        program,
    ])
    .refused()
}

#[test]
fn a_program_beside_that_is_not_there() {
    let message = beside("no-such-program/peer");
    let said: Vec<&str> = message.lines().collect();
    assert!(said[0].starts_with("error: no-such-program/peer: cannot be started: "), "{message}");
    assert!(said[1].starts_with("hint: --beside and --python take a program"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_program_beside_that_prints_something_else() {
    assert_snapshot!(beside("echo"), @"error: echo lstm: line 1 is `lstm --threads 1`, expected a JSON object of a step: expected value at line 1 column 1");
}
