//! A kill at any moment leaves whole files, and the folder can be used again.

#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{asset, files_in, program, rgft, train_flags};
use rgft::nn::models::{self, HeadRequest};
use serde_json::Value;

/// Every file is whole: weights load, JSON parses. What is being written beside its final name does not count.
fn check(folder: &Path) -> Vec<String> {
    let names: Vec<String> =
        files_in(folder).into_iter().filter(|name| !name.ends_with(".partial")).collect();
    for name in &names {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let whole = match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("safetensors") => {
                // A model is readable from the moment that its weights are there.
                let model = models::load(folder, &HeadRequest::default());
                model.map(drop).map_err(|error| error.to_string())
            }
            Some("json") => {
                serde_json::from_slice::<Value>(&bytes).map(drop).map_err(|error| error.to_string())
            }
            Some("jsonl") => {
                let lines = String::from_utf8(bytes).unwrap();
                let parsed = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
                parsed.map(drop).map_err(|error| error.to_string())
            }
            Some("toml") => match rgft::train::recipe::RawRecipe::from_file(&folder.join(name)) {
                Ok(raw) => raw.check().map(drop).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            Some("html") => {
                let whole = bytes.trim_ascii_end().ends_with(b"</html>");
                whole.then_some(()).ok_or_else(|| "cut off".to_owned())
            }
            _ => Err("not a file of the contract".to_owned()),
        };
        assert_eq!(whole, Ok(()), "{name}");
    }
    names
}

#[test]
fn a_kill_leaves_whole_files_and_a_folder_that_can_be_used_again() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    // A rate so low that many validations improve, each of which writes a checkpoint.
    let changes =
        [("--method", "full"), ("--learning-rate", "2e-4"), ("--validate-every", "1"), ("--epochs", "40")];
    let flags = train_flags(&out, &changes);
    let mut checkpoints = 0;
    for round in 0..8u64 {
        let mut child = Command::new(program())
            .args(["train", "-q"])
            .args(&flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Early rounds end before the first checkpoint, later ones after it; each after a time of its own.
        let awaited = out.join(if round < 4 { "events.jsonl" } else { "model.safetensors" });
        let begun = Instant::now();
        while !awaited.exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(3 + round * round * 13));
        assert!(child.try_wait().unwrap().is_none(), "the run must not end by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let names = check(&out);
        assert!(!names.contains(&"run.json".to_owned()), "run.json says that a run is complete");
        checkpoints += usize::from(names.contains(&"model.safetensors".to_owned()));
    }
    assert!(checkpoints > 0, "no round came as far as a checkpoint");

    let last = train_flags(&out, &[("--epochs", "1"), ("--budget", "0.8")]);
    rgft().args(["train", "-q"]).args(last).assert().success();
    let names = check(&out);
    assert!(names.contains(&"run.json".to_owned()) && names.contains(&"report.html".to_owned()));
    assert_eq!(names, files_in(&out), "nothing half-written stays behind");
    let model = out.display().to_string();
    rgft().args(["eval", "--model", &model, "--data", &asset("shift-test.csv")]).assert().success();
}
