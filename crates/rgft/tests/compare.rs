//! `rgft compare` and `rgft bench suite` on the demo's digits: what is run, and what is not run twice.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{asset, program, rgft, train_flags};
use serde_json::Value;

/// A folder of this test program, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// A quick comparison of `methods` with two seeds.
fn arguments(out: &Path, methods: &str, more: &[&str]) -> Vec<String> {
    let test = asset("shift-test.csv");
    let changes = [("--epochs", "0.5"), ("--limit-train", "200"), ("--test", &test), ("--threads", "2")];
    let mut all = vec!["compare".to_owned()];
    all.extend(train_flags(out, &changes));
    all.extend(["--methods", methods, "--budgets", "0.5"].iter().chain(more).map(|word| (*word).to_owned()));
    all
}

/// The JSON document and stderr of a command that must succeed.
fn document(args: &[String]) -> (Value, String) {
    let output = rgft().arg("--json").args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs that were made, as stderr tells.
fn made(said: &str) -> usize {
    said.lines().filter(|line| line.contains(" of full, ")).count()
}

#[test]
fn two_methods_and_two_seeds_are_run_once() {
    let out = folder("once");
    let (found, said) = document(&arguments(&out, "full,rgft", &["--seeds", "2", "--jobs", "2"]));
    assert_eq!(made(&said), 4, "{said}");

    let task = &found["tasks"][0];
    assert_eq!((&task["metric"], &task["set"]), (&"accuracy".into(), &"test".into()));
    let rows = task["rows"].as_array().unwrap();
    let methods: Vec<_> =
        rows.iter().map(|row| (row["method"].as_str().unwrap(), row["budget"].as_f64())).collect();
    assert_eq!(methods, [("full", Some(1.0)), ("rgft", Some(0.5))]);
    for row in rows {
        let runs = row["runs"].as_array().unwrap();
        let seeds: Vec<_> = runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds, [0, 1]);
        let mean = runs.iter().map(|run| run["quality"].as_f64().unwrap()).sum::<f64>() / 2.0;
        assert!((row["quality"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!(row["missing"].as_array().unwrap().is_empty());
    }
    let ratio = rows[1]["flops_ratio"]["mean"].as_f64().unwrap();
    assert!(ratio > 0.1 && ratio < 0.51, "{ratio}");

    // One line for what the runs share and one for each; the machine beside every number.
    let records = out.join("shift-train.jsonl");
    let known = lines(&records);
    assert_eq!(known.len(), 5);
    assert!(known[1..].iter().all(|run| {
        run["threads"] == 1 && run["jobs"] == 2 && run["machine"].is_string() && run["version"].is_string()
    }));
    for name in ["compare.html", "compare.txt"] {
        assert!(std::fs::read_to_string(out.join(name)).unwrap().contains("rgft"), "{name}");
    }
    // A run leaves no weights behind.
    let run = std::fs::read_dir(out.join("shift-train")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.filter(|path| path.is_dir()).map(|path| path.join("seed-0")).collect::<Vec<_>>();
    assert_eq!(run.len(), 2);
    for run in run {
        assert_eq!(common::files_in(&run), ["recipe.toml", "run.json"]);
    }

    // Again, in another folder, with the records alone: nothing is run, and the table is the same.
    let elsewhere = folder("once-elsewhere");
    let with_records = |more: &[&str]| {
        let more = [&["--records", out.to_str().unwrap()], more].concat();
        document(&arguments(&elsewhere, "full,rgft", &more))
    };
    let before = std::fs::read(&records).unwrap();
    let (again, said) = with_records(&["--seeds", "2"]);
    assert_eq!((made(&said), &again["tasks"]), (0, &found["tasks"]));
    assert_eq!(std::fs::read(&records).unwrap(), before);

    // One more seed is two more runs; a method is run again on request.
    let (_, said) = with_records(&["--seeds", "3"]);
    assert_eq!(made(&said), 2, "{said}");
    let (again, said) = with_records(&["--seeds", "2", "--again", "rgft", "--jobs", "2"]);
    assert_eq!(made(&said), 2, "{said}");
    let quality = |found: &Value| found["tasks"][0]["rows"][1]["quality"].clone();
    assert_eq!(quality(&again), quality(&found), "one seed, one result");
    let (_, said) = with_records(&["--seeds", "3"]);
    assert_eq!(made(&said), 0, "a seed that was not asked for again is still there: {said}");
}

#[test]
fn validation_chooses_the_rate_and_a_setting_makes_a_row() {
    let out = folder("chosen");
    let more =
        ["--learning-rates", "1e-7,1e-3", "--vary", "signal=sketch,gram", "--set", "head-learning-rate=1e-7"];
    let (found, said) = document(&arguments(&out, "full,rgft", &more));
    // full: two rates. rgft with each signal: two rates at 0.3, and the better one at 0.5.
    assert_eq!(made(&said), 2 + 2 * 3, "{said}");
    let rows = found["tasks"][0]["rows"].as_array().unwrap();
    let settings: Vec<_> = rows.iter().map(|row| row["settings"].as_str().unwrap()).collect();
    assert_eq!(settings, ["", "signal=sketch", "signal=gram"]);
    // A rate at which nothing moves loses against one that learns; so few steps as these budgets pay for may tell nothing.
    assert_eq!(rows[0]["chosen"], "1e-3");
}

#[test]
fn two_processes_side_by_side_make_each_run_once() {
    let out = folder("side-by-side");
    let start = || {
        let mut command = std::process::Command::new(program());
        command
            .args(arguments(&out, "full,rgft", &["--seeds", "2"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let said: String =
        outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{said}");
    assert_eq!(made(&said), 4, "{said}");
    assert_eq!(outputs[0].stdout, outputs[1].stdout, "both show everything");
    assert_eq!(lines(&out.join("shift-train.jsonl")).len(), 5);
}

#[test]
fn a_run_that_fails_is_a_missing_cell() {
    let out = folder("missing");
    rgft().args(arguments(&out, "full", &["--vary", "no-key=1"])).assert().code(2);
    assert!(!out.exists(), "bad input leaves nothing behind");

    let args = arguments(&out, "full", &["--vary", "head-learning-rate=1e-3,1e30"]);
    let (found, said) = document(&args);
    assert!(said.contains("warning: ") && said.contains("diverged"), "{said}");
    let rows = &found["tasks"][0]["rows"];
    assert_eq!(rows[0]["runs"].as_array().unwrap().len(), 1);
    assert!(rows[1]["missing"][0]["reason"].as_str().unwrap().contains("diverged"), "{rows}");
    // It would happen again, so it is on record.
    let (again, said) = document(&args);
    assert_eq!((&again, made(&said)), (&found, 0));
    assert!(!said.contains("warning"), "{said}");

    // Where nothing at all has a result, the command fails as its first run did.
    let out = folder("nothing");
    let all = arguments(&out, "full", &["--vary", "head-learning-rate=1e30"]);
    let output = rgft().args(all).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("diverged"));
    let unread = arguments(&out, "full", &["--set", "label-column=none"]);
    rgft().args(unread).assert().code(2);
}

#[test]
fn a_suite_sums_its_tasks_up() {
    let out = folder("suite");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("suite.toml");
    let text = format!(
        "methods = ['full', 'rgft']\nbudgets = [0.5]\nseeds = 1\nrecords = '{records}'\n\
         [set]\nmodel = '{model}'\ndata = '{data}'\nvalidation = '{validation}'\ntask = 'text-classification'\n\
         max-length = 66\nepochs = 0.5\nlearning-rate = 1e-3\n\
         [task.small]\ngroup = 'digits'\nset = {{ limit-train = 100 }}\n\
         [task.large]\ngroup = 'digits'\nset = {{ limit-train = 200 }}\n",
        records = out.join("records").display(),
        model = common::demo().display(),
        data = asset("shift-train.csv"),
        validation = asset("shift-validation.csv"),
    );
    std::fs::write(&file, text).unwrap();
    let runs = out.join("runs");
    let args = ["bench", "suite", file.to_str().unwrap(), "--out", runs.to_str().unwrap()];
    let (found, said) = document(&args.map(String::from));
    assert_eq!(made(&said), 4, "{said}");
    let names: Vec<_> = found["tasks"].as_array().unwrap().iter().map(|task| task["task"].clone()).collect();
    assert_eq!(names, ["small", "large"]);
    let summary = &found["summary"][0];
    assert_eq!((&summary["budget"], &summary["tasks"]), (&0.5.into(), &2.into()));
    assert_eq!(summary["methods"][0]["rank"]["mean"], 1.0, "alone it is first");
    assert_eq!(common::files_in(&out.join("records")), [".lock", "large.jsonl", "small.jsonl"]);
}

#[test]
fn a_page_of_results_is_made_of_records_alone() {
    let out = folder("results");
    std::fs::create_dir_all(&out).unwrap();
    let records = out.join("records");
    let suite = out.join("small.toml");
    let text = format!(
        "title = 'Small'\nmethods = ['full', 'rgft']\nbudgets = [0.5]\nseeds = 2\nrecords = '{}'\n\
         [[bar]]\nwhat = 'the budget'\nspent = 0.5\n[[bar]]\nwhat = 'a wonder'\npoints = 100.0\n\
         [set]\nmodel = '{}'\ntask = 'text-classification'\nmax-length = 66\nepochs = 0.5\nlimit-train = 200\n\
         [task.faded]\nset = {{ data = '{}', test = '{}', validation = '{}' }}\n",
        records.display(),
        Path::new(&asset("config.json")).parent().unwrap().display(),
        asset("shift-train.csv"),
        asset("shift-test.csv"),
        asset("shift-validation.csv"),
    );
    std::fs::write(&suite, text).unwrap();
    let page = out.join("FOUND.md");
    let results = || {
        let output = rgft().args(["bench", "results"]).arg(&suite).arg("--out").arg(&page).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        std::fs::read_to_string(&page).unwrap()
    };
    let before = results();
    assert!(before.contains("| the budget | not measured | open |"), "{before}");
    let output = rgft()
        .args(["bench", "suite"])
        .arg(&suite)
        .arg("--out")
        .arg(out.join("runs"))
        .args(["--threads", "2", "--jobs", "2"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let after = results();
    assert!(after.contains("% at most (faded at 50 %) | reached |"), "{after}");
    assert!(after.contains("| a wonder |") && after.contains("| **missed** |"), "{after}");
    assert!(after.contains("4 runs, seeds 0, 1; "), "{after}");
    let picture = std::fs::read_to_string(out.join("found/small-faded-flops.svg")).unwrap();
    assert!(picture.contains("rgft"));
    assert_eq!(after, results(), "the same records, the same page");
}
