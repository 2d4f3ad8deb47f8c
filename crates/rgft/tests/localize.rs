//! `rgft bench localize` on the demo's model: what it prints and writes.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::{asset, demo, files_in, rgft};
use serde_json::Value;

fn command(out: Option<&Path>, more: &[&str]) -> assert_cmd::Command {
    let mut command = rgft();
    command.args(["bench", "localize", "-q", "--model", &demo().display().to_string()]);
    command.args([
        "--data",
        &asset("digits-train.csv"),
        "--task",
        "text-classification",
        "--max-length",
        "66",
    ]);
    command.args(["--limit-train", "128", "--batch-size", "16", "--faults", "3", "--steps", "1"]);
    command.args(["--oracle", "4", "--batches", "2"]).args(more);
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command
}

fn document(out: Option<&Path>, more: &[&str]) -> Value {
    let output = command(out, &[&["--json"], more].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_signal_is_asked_for_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let printed = document(Some(&out), &["--kind", "attention-head", "--seeds", "2"]);
    assert_eq!(files_in(&out), ["localize.json"]);
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("localize.json")).unwrap()).unwrap();
    assert_eq!(written, printed);
    // Into the same folder again, to the same figures.
    assert_eq!(document(Some(&out), &["--kind", "attention-head", "--seeds", "2"]), printed);

    let rows = printed["rows"].as_array().unwrap();
    assert_eq!(rows.len(), (10 + 1) * 3);
    for row in rows {
        for recall in ["recall_at_1", "recall_at_3"] {
            let mean = row[recall]["mean"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&mean), "{row}");
        }
        assert!(row["recall_at_1"]["mean"].as_f64() <= row["recall_at_3"]["mean"].as_f64(), "{row}");
        assert!(row["rank_correlation"]["mean"].as_f64().unwrap().abs() <= 1.0 + 1e-9, "{row}");
    }
    assert_eq!(rows.iter().filter(|row| row["default"] == true).count(), 1);
    let cost =
        |signal: &str| rows.iter().find(|row| row["signal"] == signal).unwrap()["cost"].as_f64().unwrap();
    assert!(cost("covariance") < cost("depth") && cost("depth") < cost("sketch"));
    assert!(cost("sketch") < cost("exact") && cost("exact") < 1.01);

    let faults = printed["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 2 * 3);
    for fault in faults {
        assert!(fault["component"].as_str().unwrap().contains("head."), "{fault}");
        assert!(fault["loss_after"].as_f64() > fault["loss_before"].as_f64(), "{fault}");
        assert_eq!(fault["answers"].as_array().unwrap().len(), 10 + 1);
    }
}

#[test]
fn a_table_has_the_signal_of_the_recipe_and_the_best_alpha_of_each() {
    let output = command(None, &["--signal", "fisher", "--alpha", "relative"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for signal in [
        "sketch",
        "gram",
        "exact",
        "absolute",
        "taylor",
        "relative",
        "covariance",
        "depth",
        "coherent",
        "none",
    ] {
        assert_eq!(text.lines().filter(|line| line.starts_with(signal)).count(), 1, "{signal}\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("fisher * ") && line.contains(" relative ")), "{text}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let refused = |more: &[&str]| {
        let output = command(None, more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, error) = refused(&["--kind", "channels"]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("no such component; this model has attention-head, "), "{error}");
    let (status, error) = refused(&["--kind", "organ"]);
    assert_eq!(status, Some(2), "{error}");
    let (status, error) = refused(&["--rise", "1e9"]);
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("no re-initialised component raises the loss"), "{error}");
    let (status, error) = refused(&["--init", "random"]);
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("the task head is untrained"), "{error}");
}
