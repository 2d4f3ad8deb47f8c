//! Whole commands on the demo's digits: what they write, what they print, and that they agree with each other.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{asset, demo, files_in, rgft, train_flags, tree};
use serde_json::Value;

/// The files of a run.
const FILES: [&str; 10] = [
    "certificate.json",
    "config.json",
    "error_map.json",
    "events.jsonl",
    "model.safetensors",
    "patch.safetensors",
    "recipe.toml",
    "report.html",
    "run.json",
    "tokenizer.json",
];

/// A folder of this test program, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// stdout of a command that must succeed.
fn stdout<S: AsRef<str>>(args: &[S]) -> String {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let output = rgft().args(&args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    assert!(!error.contains("error:") && !error.contains("panicked"), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// stdout as the one JSON document that it must be.
fn document<S: AsRef<str>>(args: &[S]) -> Value {
    let text = stdout(args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// `command` with the flags of a short run.
fn of_run(command: &[&str], out: &Path, changes: &[(&str, &str)]) -> Vec<String> {
    let command = command.iter().map(|arg| (*arg).to_owned());
    command.chain(train_flags(out, changes)).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A run that several tests look at, and the document that it printed.
fn run() -> &'static (PathBuf, Value) {
    static RUN: OnceLock<(PathBuf, Value)> = OnceLock::new();
    RUN.get_or_init(|| {
        let out = folder("run");
        let test = asset("shift-test.csv");
        let printed =
            document(&of_run(&["train", "--json"], &out, &[("--budget", "0.5"), ("--test", &test)]));
        (out, printed)
    })
}

#[test]
fn a_run_leaves_the_files_of_the_contract() {
    let (out, printed) = run();
    assert_eq!(files_in(out), FILES);

    let run = json(&out.join("run.json"));
    assert_eq!(run, *printed);
    assert_eq!((&run["method"], &run["budget"], &run["seed"]), (&"rgft".into(), &0.5.into(), &0.into()));
    for (part, keys) in [
        (
            "flops",
            &[
                "total",
                "forward",
                "dx",
                "dw",
                "update",
                "probe",
                "cache",
                "tracking",
                "full_equivalent",
                "ratio",
            ][..],
        ),
        ("seconds", &["total", "train", "processor", "probe", "eval"]),
        ("memory", &["peak_rss_bytes"]),
        ("convergence", &["flops_to_95", "flops_to_98", "flops_to_100"]),
        ("metrics", &["validation", "test"]),
    ] {
        for key in keys {
            assert!(run[part].get(key).is_some(), "{part}.{key}");
        }
    }
    for set in ["validation", "test"] {
        for metric in ["accuracy", "macro_f1", "loss"] {
            assert!(run["metrics"][set][metric].as_f64().is_some(), "{set} {metric}");
        }
    }
    for key in ["threads", "precision", "version"] {
        assert!(run.get(key).is_some(), "{key}");
    }
    assert!(run["flops"]["ratio"].as_f64().unwrap() <= 0.5005);

    let events = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "run-started");
    assert_eq!(events.last().unwrap()["summary"], run);
    let components = events[0]["components"].as_array().unwrap().len();
    let map = json(&out.join("error_map.json"));
    assert_eq!(map["components"].as_array().unwrap().len(), components);
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("</html>"));
    for outside in ["<link", "<img", "src=\"http", "@import"] {
        assert!(!report.contains(outside), "the report is one file: {outside}");
    }
}

#[test]
fn its_recipe_runs_again_to_the_same_model() {
    let (out, _) = run();
    let again = folder("again");
    let recipe = out.join("recipe.toml").display().to_string();
    stdout(&["train", "-q", "--config", &recipe, "--out", &again.display().to_string()]);
    let read = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(read(out) == read(&again), "model.safetensors differs");
    let (first, second) = (json(&out.join("run.json")), json(&again.join("run.json")));
    assert_eq!(first["metrics"], second["metrics"]);
    assert_eq!(first["flops"], second["flops"]);
    assert_ne!(read(out), std::fs::read(demo().join("model.safetensors")).unwrap());
}

#[test]
fn eval_gives_the_metrics_of_the_run() {
    let (out, printed) = run();
    let (out, data) = (out.display().to_string(), asset("shift-test.csv"));
    let found = document(&["eval", "--json", "--model", &out, "--data", &data]);
    assert_eq!(found["rows"], 397);
    let expected = printed["metrics"]["test"].as_object().unwrap();
    assert_eq!(found["metrics"].as_object().unwrap().len(), expected.len());
    for (name, value) in expected {
        let (found, value) = (found["metrics"][name].as_f64().unwrap(), value.as_f64().unwrap());
        assert!((found - value).abs() < 1e-9, "{name}: {found}, the run said {value}");
    }
    assert!(stdout(&["eval", "--model", &out, "--data", &data]).contains("accuracy"));
}

#[test]
fn predict_labels_stdin_and_files_alike() {
    let (out, printed) = run();
    let (model, data) = (out.display().to_string(), asset("shift-test.csv"));
    let parse = |text: String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_file = parse(stdout(&["predict", "--model", &model, "--data", &data]));

    let table = std::fs::read_to_string(&data).unwrap();
    let rows: Vec<(&str, &str)> = table.lines().skip(1).map(|row| row.split_once(',').unwrap()).collect();
    let texts: String = rows.iter().map(|(text, _)| format!("{text}\n")).collect();
    let output = rgft().args(["predict", "--model", &model]).write_stdin(texts).output().unwrap();
    assert!(output.status.success());
    assert_eq!(parse(String::from_utf8(output.stdout).unwrap()), of_file);

    assert_eq!(of_file.len(), rows.len());
    let mut right = 0;
    for ((text, label), line) in rows.iter().zip(&of_file) {
        assert_eq!(line["text"], *text);
        let scores = line["scores"].as_object().unwrap();
        assert_eq!(scores.len(), 10);
        let best = scores.values().map(|score| score.as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(line["score"].as_f64(), Some(best));
        assert_eq!(scores[line["label"].as_str().unwrap()].as_f64(), Some(best));
        let total: f64 = scores.values().map(|score| score.as_f64().unwrap()).sum();
        assert!((total - 1.0).abs() < 1e-9);
        right += usize::from(line["label"] == *label);
    }
    let accuracy = printed["metrics"]["test"]["accuracy"].as_f64().unwrap();
    assert!((right as f64 / rows.len() as f64 - accuracy).abs() < 1e-9);

    let file = folder("labels.jsonl");
    let printed =
        stdout(&["predict", "--model", &model, "--data", &data, "--out", &file.display().to_string()]);
    assert_eq!(printed, "");
    assert_eq!(parse(std::fs::read_to_string(&file).unwrap()), of_file);
}

#[test]
fn plan_says_what_a_run_would_do_and_does_nothing() {
    let (out, before) = (folder("planned"), tree(&demo()));
    let mut args = of_run(&["plan", "--json"], &out, &[("--budget", "0.4")]);
    let plan = document(&args);
    assert_eq!((&plan["method"], &plan["steps"]), (&"rgft".into(), &20.into()));
    let number = |key: &str| plan[key].as_f64().unwrap();
    assert!((number("budget_flops") / number("full_equivalent_flops") - 0.4).abs() < 1e-6);
    assert!(number("step_flops") <= number("full_step_flops"));
    assert!(plan["active"].as_array().unwrap().len() <= plan["components"].as_u64().unwrap() as usize);
    assert!(!out.exists());
    assert!(before == tree(&demo()));

    // The same full fine-tuning as the run knows it.
    assert_eq!(plan["full_equivalent_flops"], run().1["flops"]["full_equivalent"]);
    args.remove(1);
    assert!(stdout(&args).contains("full fine-tuning"));
}

#[test]
fn map_draws_and_trains_nothing() {
    let (out, before) = (folder("map"), tree(&demo()));
    let map = document(&of_run(&["map", "--json"], &out, &[]));
    let count = map["components"].as_array().unwrap().len();
    for key in ["energies", "shares"] {
        assert_eq!(map[key].as_array().unwrap().len(), count, "{key}");
    }
    let total: f64 = map["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-9);
    assert_eq!(json(&out.join("error_map.json"))["components"].as_array().unwrap().len(), count);
    assert!(std::fs::read_to_string(out.join("error_map.svg")).unwrap().contains("<svg"));
    assert!(!out.join("model.safetensors").exists());
    assert!(before == tree(&demo()));
}

#[test]
fn a_map_made_from_a_runs_recipe_leaves_the_run_alone() {
    // `out` stands in the recipe, so this is what happens unless another folder is named.
    let out = folder("mapped-run");
    stdout(&of_run(&["train", "-q"], &out, &[("--method", "head"), ("--epochs", "1")]));
    let before = tree(&out);
    let recipe = out.join("recipe.toml").display().to_string();
    let output = rgft().args(["map", "-q", "--config", &recipe]).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 2)));
    for (path, bytes) in before {
        assert!(path.exists(), "{} is gone", path.file_name().unwrap().display());
        if !path.ends_with("error_map.json") {
            assert!(std::fs::read(&path).ok() == bytes, "{} changed", path.file_name().unwrap().display());
        }
    }
}

#[test]
fn the_demo_compares_three_methods() {
    let out = folder("demo");
    let rows = document(&["demo", "--json", "-q", "--out", out.to_str().unwrap()]);
    let rows = rows.as_array().unwrap();
    let methods: Vec<&str> = rows.iter().map(|row| row["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["full", "head", "rgft"]);
    for (method, row) in methods.iter().zip(rows) {
        assert_eq!(json(&out.join(method).join("run.json")), *row);
        assert!(std::fs::read_to_string(out.join(method).join("report.html")).unwrap().contains("<svg"));
        // Ten digits: guessing gets 0.1, and a head on top of features that the shift has spoilt does little better.
        let least = if *method == "head" { 0.3 } else { 0.7 };
        assert!(row["metrics"]["test"]["accuracy"].as_f64().unwrap() > least, "{row}");
    }
    let ratio = |i: usize| rows[i]["flops"]["ratio"].as_f64().unwrap();
    assert_eq!(ratio(0), 1.0);
    assert!(ratio(1) < 0.4 && ratio(2) < 0.5005);
}

#[test]
fn bench_gemm_measures_against_the_peak() {
    let bench = document(&["bench", "gemm", "--quick", "--json"]);
    let summary = bench["summary"].as_array().unwrap();
    assert_eq!(summary[0]["precision"], "f32");
    assert!(summary.iter().all(|row| row["peak_gflops"].as_f64().unwrap() > 0.0));
    assert!(bench["products"].as_array().unwrap().len() >= 12);
}

#[test]
fn bench_growth_measures_along_an_axis_and_leaves_a_table_and_curves() {
    let out = folder("growth");
    let args =
        ["bench", "growth", "--axes", "depth,size", "--precision", "f32", "--quick", "--json", "--record"];
    let growth = document(&[&args[..], &[out.to_str().unwrap()]].concat());
    let points = growth["points"].as_array().unwrap();
    assert_eq!(points.len(), 2 * 2 * 2);
    for pair in points.chunks(4) {
        let [forward, step, deeper, _] = pair else { panic!("{pair:?}") };
        assert!(forward["gflop"].as_f64() < step["gflop"].as_f64() && forward["exponent"].is_null());
        assert!(forward["gflop"].as_f64() < deeper["gflop"].as_f64() && deeper["exponent"].is_number());
    }
    assert_eq!(growth, json(&out.join("growth.json")));
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(text("growth.md").contains("## depth: ") && text("growth.svg").contains("full step f32"));
}

#[test]
fn bench_steps_says_how_much_faster_all_threads_are_than_one() {
    let args = ["bench", "steps", "--work", "lstm", "--precision", "f32", "--quick", "--scaling", "--json"];
    let steps = document(&args);
    assert!(steps["one_thread_peak"]["f32_gflops"].as_f64().unwrap() > 0.0);
    for step in steps["steps"].as_array().unwrap() {
        assert!(step["one_thread"]["speed_up"].as_f64().unwrap() > 0.1, "{step}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["train", "--help"],
        &["train", "-h"],
        &["bench", "gemm", "--help"],
    ] {
        assert!(!stdout(args).is_empty());
    }
}

#[test]
fn theory_predict_keeps_its_promises_on_the_digits() {
    let out = folder("predict");
    let [model, data] = ["", "shift-train.csv"].map(|name| demo().join(name).display().to_string());
    let args =
        ["theory", "predict", "--task", "text-classification", "--set", "max-length=66", "--random", "10"];
    let args =
        [&args[..], &["--json", "--model", &model, "--data", &data, "--out", out.to_str().unwrap()]].concat();
    let found = document(&args);
    let sets = found["sets"].as_array().unwrap();
    assert!(found["broken"] == 0 && sets.len() > 10, "{found}");
    assert!(found["rank_correlation"].as_f64().unwrap() > 0.8, "{found}");
    assert_eq!(found, json(&out.join("predict.json")));
    assert!(std::fs::read_to_string(out.join("predict.svg")).unwrap().contains("densest"));
}

#[test]
fn theory_verify_finds_no_violation_and_writes_what_it_found() {
    let out = folder("theory");
    let args = ["theory", "verify", "--problems", "20", "--search", "40", "--json", "--quiet", "--out"];
    let found = document(&[&args[..], &[out.to_str().unwrap()]].concat());
    let statements = found["statements"].as_array().unwrap();
    assert!(statements.len() > 20);
    assert!(statements.iter().all(|statement| statement["violations"] == 0 && statement["problems"] == 20));
    assert_eq!(found, json(&out.join("theory.json")));
    let table = std::fs::read_to_string(out.join("theory.md")).unwrap();
    assert_eq!(table.lines().count(), statements.len() + 2);
    let picture = std::fs::read_to_string(out.join("theory.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("T1d"));
}
