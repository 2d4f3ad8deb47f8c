//! `rgft patch` from beginning to end, on the demo's model: a run's patch makes the saved folder of its base, and the
//! base of the saved folder.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{asset, copy_model, files_in, rgft, train_flags};
use insta::assert_snapshot;
use serde_json::Value;

/// A folder of this test program.
fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("patch")
}

fn folder(name: &str) -> String {
    let path = root().join(name);
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    path.display().to_string()
}

/// Status, stdout and stderr, with a placeholder for the folder of this program.
fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let output = rgft().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&root().display().to_string(), "TMP");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stdout, stderr)
}

fn done(args: &[&str]) -> String {
    let (status, stdout, stderr) = output(args);
    assert_eq!(status, Some(0), "{args:?}: {stderr}");
    stdout
}

fn document(args: &[&str]) -> Value {
    serde_json::from_str(&done(&[args, &["--json"]].concat())).unwrap()
}

fn refused(args: &[&str]) -> String {
    let (status, stdout, stderr) = output(args);
    assert_eq!((status, &stdout[..]), (Some(2), ""), "{stderr}");
    stderr
}

/// The base, a run of `rgft` and a run of `head` on it.
fn runs() -> &'static [String; 3] {
    static RUNS: OnceLock<[String; 3]> = OnceLock::new();
    RUNS.get_or_init(|| {
        let base = folder("base");
        copy_model(Path::new(&base));
        let run = |name: &str, changes: &[(&str, &str)]| {
            let out = folder(name);
            let flags = train_flags(Path::new(&out), &[&[("--model", &base[..])], changes].concat());
            rgft().args(["train", "-q"]).args(flags).assert().success();
            out
        };
        let tuned = run("tuned", &[("--budget", "0.5")]);
        let head = run("head", &[("--method", "head"), ("--epochs", "1")]);
        [base, tuned, head]
    })
}

/// With a placeholder for the hash that was found, which is that of weights trained just now.
fn without_found(message: String) -> String {
    match (message.split_once("have SHA-256 "), message.split_once("…, expected")) {
        (Some((before, _)), Some((_, after))) => format!("{before}have SHA-256 FOUND…, expected{after}"),
        _ => message,
    }
}

fn patch_of(run: &str) -> String {
    format!("{run}/patch.safetensors")
}

fn read(folder: &str, file: &str) -> Vec<u8> {
    std::fs::read(Path::new(folder).join(file)).unwrap()
}

#[test]
fn a_runs_patch_makes_the_saved_folder_of_the_base_and_back() {
    let [base, tuned, _] = runs();
    let (applied, reverted) = (folder("applied"), folder("reverted"));
    let printed = document(&["patch", "apply", base, &patch_of(tuned), "--out", &applied]);
    assert_eq!((&printed["out"], &printed["files"]), (&"TMP/applied".into(), &2.into()));
    assert_eq!(
        files_in(Path::new(&applied)),
        ["config.json", "model.safetensors", "recipe.toml", "tokenizer.json"]
    );
    for file in files_in(Path::new(&applied)) {
        assert!(read(&applied, &file) == read(tuned, &file), "{file} differs");
    }
    let eval = |model: &str| document(&["eval", "--model", model, "--data", &asset("shift-test.csv")]);
    assert_eq!(eval(&applied), eval(tuned));

    done(&["patch", "revert", &applied, &patch_of(tuned), "--out", &reverted]);
    assert_eq!(files_in(Path::new(&reverted)), ["config.json", "model.safetensors", "tokenizer.json"]);
    for file in ["config.json", "tokenizer.json"] {
        assert!(read(&reverted, file) == read(base, file), "{file} differs");
    }
    // The file's header may be another one; its tensors are not.
    let again = folder("again.safetensors");
    let nothing = document(&["patch", "diff", base, &reverted, "--out", &again]);
    assert_eq!((&nothing["tensors"], &nothing["files"]), (&Value::Array(vec![]), &Value::Array(vec![])));
}

#[test]
fn diff_writes_what_the_run_wrote() {
    let [base, tuned, _] = runs();
    let out = folder("diff.safetensors");
    let printed = document(&["patch", "diff", base, tuned, "--out", &out]);
    assert!(std::fs::read(&out).unwrap() == read(tuned, "patch.safetensors"));
    let shown = document(&["patch", "show", &out]);
    assert_eq!((&printed, &shown["base"]), (&shown, &"base".into()));
    let tensors = shown["tensors"].as_array().unwrap();
    assert!(!tensors.is_empty() && tensors.iter().all(|tensor| tensor["bytes"].as_u64() > Some(0)));
}

#[test]
fn a_run_of_the_head_has_a_small_patch() {
    let [base, _, head] = runs();
    // What names folders has another length elsewhere.
    let shown = done(&["patch", "show", &patch_of(head)]);
    let shown: Vec<&str> = shown.lines().filter(|line| !line.starts_with("recipe.toml")).collect();
    let shown = shown.join("\n");
    assert_snapshot!(shown.split(", patch of").next().unwrap(), @"
    tensor                    slices  scalars  bytes  of the model
    classifier.bias    10 of 10 rows       10     48        0.01 %
    classifier.weight  10 of 10 rows      640   2568        0.41 %
    config.json              changed            1577
    base base, SHA-256 fa867d1489e5…
    2 tensors changed, 650 scalars (0.42 % of the model)
    ");
    let shown = document(&["patch", "show", &patch_of(head)]);
    assert!(shown["share"].as_f64() < Some(0.1), "{shown}");
    let size = |path: String| std::fs::metadata(path).unwrap().len();
    assert_eq!(shown["bytes"].as_u64(), Some(size(patch_of(head))));
    assert!(size(patch_of(head)) * 4 < size(format!("{base}/model.safetensors")));
}

#[test]
fn another_model_is_refused() {
    let [base, tuned, head] = runs();
    let out = folder("refused");
    let patch = patch_of(tuned);
    let message = refused(&["patch", "apply", head, &patch, "--out", &out]);
    assert_snapshot!(without_found(message), @r#"
    error: TMP/head: not the base of TMP/tuned/patch.safetensors: its weights have SHA-256 FOUND…, expected fa867d1489e5…
    hint: the patch was made from "base"
    "#);
    assert_snapshot!(refused(&["patch", "revert", head, &patch, "--out", &out]), @"
    error: TMP/head: not what TMP/tuned/patch.safetensors makes of its base: reverting it does not give the base's weights
    hint: revert the very model that the patch was made from or applied to
    ");
    assert_snapshot!(refused(&["patch", "show", &format!("{base}/model.safetensors")]), @"
    error: TMP/base/model.safetensors: no sound patch: a safetensors file without a description of changes
    hint: copy it again, or make one with rgft patch diff
    ");
    assert_snapshot!(refused(&["patch", "apply", base, &patch, "--out", tuned]), @"
    error: TMP/tuned: holds files
    hint: choose an empty folder
    ");
    assert!(!Path::new(&out).exists());
}

#[test]
fn merging_says_where_two_runs_overlap() {
    let [base, tuned, head] = runs();
    let (a, b, out) = (patch_of(tuned), patch_of(head), folder("merged.safetensors"));
    let message = refused(&["patch", "merge", &a, &b, "--out", &out]);
    assert!(message.contains("differ in") && message.contains("scalars of "), "{message}");
    assert!(message.contains("hint: choose whose values to take with --prefer"), "{message}");
    assert!(!Path::new(&out).exists());

    let merged = document(&["patch", "merge", &a, &b, "--prefer", "first", "--out", &out]);
    let overlaps = merged["overlaps"].as_array().unwrap();
    assert!(overlaps.iter().any(|overlap| overlap["differ"].as_u64() > Some(0)), "{merged}");
    // All that the head's run changed the other one changed too.
    let applied = folder("merged");
    done(&["patch", "apply", base, &out, "--out", &applied]);
    assert!(read(&applied, "model.safetensors") == read(tuned, "model.safetensors"));

    let same = document(&["patch", "merge", &a, &a, "--out", &out]);
    assert!(same["overlaps"].as_array().unwrap().iter().all(|overlap| overlap["conflict"] == false));
    let text = done(&["patch", "merge", &a, &b, "--prefer", "second", "--out", &out]);
    assert!(text.starts_with("both change"), "{text}");
}

#[test]
fn a_run_from_random_weights_has_no_patch() {
    let out = folder("random");
    let flags =
        train_flags(Path::new(&out), &[("--init", "random"), ("--method", "full"), ("--epochs", "1")]);
    let output = rgft().arg("train").args(flags).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no patch.safetensors: the run started from random weights"), "{said}");
    assert!(!Path::new(&out).join("patch.safetensors").exists());
}
