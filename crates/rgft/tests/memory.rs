//! Memory of whole runs: what `plan` forecasts is what a run holds, and a limit is kept or refused before the run.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::Output;

use common::{demo, rgft};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A BERT of a size that shows in a process, pre-trained for a step or two on the demo's digits.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(demo().join("config.json")).unwrap()).unwrap();
        for (key, value) in [("hidden_size", 256), ("intermediate_size", 1024), ("num_hidden_layers", 6)] {
            config[key] = json!(value);
        }
        let model = place.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("config.json"), config.to_string()).unwrap();
        std::fs::copy(demo().join("tokenizer.json"), model.join("tokenizer.json")).unwrap();
        let flags = ["--out", "start", "--limit-train", "64", "--epochs", "1"];
        place.summary(&[&["pretrain", "--model", "model"], &flags[..]].concat());
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (train, validation) = (demo().join("shift-train.csv"), demo().join("shift-validation.csv"));
        let data = ["--data", train.to_str().unwrap(), "--validation", validation.to_str().unwrap()];
        let task = ["--task", "text-classification", "--max-length", "66", "--threads", "2", "--json"];
        rgft().current_dir(self.path()).args(arguments).args(data).args(task).output().unwrap()
    }

    /// The JSON document of a command that must succeed.
    fn summary(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn forecast(&self, flags: &[&str]) -> f64 {
        let outlook = self.summary(&[&["plan", "--model", "start"], flags].concat());
        outlook["memory"]["peak_bytes"].as_f64().unwrap()
    }

    /// The summary of a run and its peak.
    fn trained(&self, out: &str, flags: &[&str]) -> (Value, f64) {
        let run = self.summary(&[&["train", "--model", "start", "--out", out], flags].concat());
        let peak = run["memory"]["peak_rss_bytes"].as_f64().unwrap();
        (run, peak)
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_forecast_is_the_peak_within_a_tenth() {
    let place = Place::new();
    let mut peaks = Vec::new();
    for flags in [
        &["--method", "full", "--epochs", "1"][..],
        &["--method", "full", "--epochs", "1", "--recompute", "blocks"],
        &["--method", "lora", "--epochs", "1"],
        &["--method", "rgft", "--epochs", "2"],
    ] {
        let (forecast, peak) = (place.forecast(flags), place.trained("out", flags).1);
        assert!((forecast / peak - 1.0).abs() < 0.1, "{flags:?}: {forecast} forecast, {peak} held");
        peaks.push(peak);
    }
    assert!(peaks[1] < 0.6 * peaks[0], "recomputation saves nothing: {peaks:?}");
    assert!(peaks[3] < 0.6 * peaks[0], "a budget saves nothing: {peaks:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_limit_is_kept_or_refused() {
    let place = Place::new();
    let full = ["--method", "full", "--epochs", "1", "--batch-size", "32"];
    let (free, peak) = place.trained("free", &full);
    let limit = (0.5 * peak / f64::from(1 << 20)) as u64;
    let mebibytes = limit.to_string();
    let limited = [&full[..], &["--memory-limit", &mebibytes]].concat();
    let (run, kept) = place.trained("limited", &limited);
    assert!(kept <= (limit << 20) as f64, "{kept} held under a limit of {limit} MiB");
    assert_eq!(run["steps"], free["steps"], "as many steps");
    let recipe = std::fs::read_to_string(place.path().join("limited/recipe.toml")).unwrap();
    assert!(!recipe.contains("batch-size = 32"), "{recipe}");

    let refused = place.run(
        &[&["train", "--model", "start", "--out", "none"], &full[..], &["--memory-limit", "40"]].concat(),
    );
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("memory-limit is 40 MiB") && error.contains("hint:"), "{error}");
    assert!(!place.path().join("none").exists());
}
