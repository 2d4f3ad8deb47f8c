//! Pictures, text, code and series from beginning to end: a model from random weights, fine-tuned under a budget, measured
//! and used, each by whole commands on data made here.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::PathBuf;

use common::rgft;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a `config.json`, data beside it, and a place for runs.
struct Place(TempDir);

impl Place {
    fn new(config: &Value) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("model/config.json", config.to_string().as_bytes());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Runs a command in the folder; stdout as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn stdout(&self, arguments: &[&str]) -> String {
        let output = rgft().current_dir(self.0.path()).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Pre-trains `model` into `start`, fine-tunes that by `rgft` at half the compute into `tuned`; both summaries.
    fn pretrain_and_tune(&self, flags: &[&str]) -> [Value; 2] {
        let with = |head: &[&str]| self.json(&[head, flags].concat());
        let pretrained = with(&["pretrain", "--model", "model", "--out", "start"]);
        // Eight short epochs, so that one step more or less is within 2 % of the budget.
        let tuned =
            with(&["train", "--model", "start", "--out", "tuned", "--budget", "0.5", "--epochs", "8"]);
        let ratio = tuned["flops"]["ratio"].as_f64().unwrap();
        assert!((ratio / 0.5 - 1.0).abs() <= 0.02, "half the compute was asked for, spent {ratio}");
        assert_eq!(pretrained["flops"]["ratio"], 1.0);
        [pretrained, tuned]
    }
}

fn metric(summary: &Value, name: &str) -> f64 {
    summary["metrics"]["test"][name].as_f64().unwrap_or_else(|| panic!("no {name}: {}", summary["metrics"]))
}

/// A 24-bit BMP of 8 × 8 pixels.
fn bmp(pixel: impl Fn(u8, u8) -> [u8; 3]) -> Vec<u8> {
    let size = 54 + 8 * 8 * 3u32;
    let mut bytes = b"BM".to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..8 {
        (0..8).for_each(|x| bytes.extend(pixel(x, y)));
    }
    bytes
}

#[test]
fn pictures() {
    let place = Place::new(
        &json!({ "model_type": "resnet-cifar", "depth": 8, "widths": [4, 4, 8], "image_size": 8 }),
    );
    // Stripes across or along, in many colours.
    for i in 0..60u8 {
        for (class, along) in [("across", false), ("along", true)] {
            let colour = |x: u8, y: u8| {
                if (if along { x } else { y } / 2) % 2 == 0 { [i * 4, 90, 200] } else { [20; 3] }
            };
            let part = if i % 3 == 0 { "test" } else { "train" };
            place.write(&format!("data/{part}/{class}/{i}.bmp"), &bmp(colour));
        }
    }
    let flags =
        ["--data", "data", "--task", "image-classification", "--batch-size", "8", "--augment", "flip"];
    let rates = ["--learning-rate", "5e-3"];
    let [_, tuned] = place.pretrain_and_tune(&[&flags[..], &rates].concat());
    assert!(metric(&tuned, "accuracy") > 0.9, "{}", tuned["metrics"]);

    let measured = place.json(&["eval", "--model", "tuned", "--data", "data/test"]);
    assert_eq!(measured["metrics"]["accuracy"], tuned["metrics"]["test"]["accuracy"]);
    assert_eq!(measured["confusion"]["labels"], json!(["across", "along"]));
    // Of a folder of several parts the test part is measured.
    assert_eq!(place.json(&["eval", "--model", "tuned", "--data", "data"])["metrics"], measured["metrics"]);
    let spoilt = place.json(&["eval", "--model", "tuned", "--data", "data/test", "--corrupt", "contrast:5"]);
    assert_ne!(spoilt["metrics"]["loss"], measured["metrics"]["loss"]);
    let lines = place.stdout(&["predict", "--model", "tuned", "--data", "data/test/along"]);
    let labels: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(labels.len(), 20);
    assert!(labels.iter().filter(|line| line["label"] == "along").count() > 16, "{lines}");

    // Channel groups are components, and some of them stayed as they were.
    let events = std::fs::read_to_string(place.path("tuned/events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let components = events[0]["components"].as_array().unwrap();
    assert!(components.iter().any(|component| component["kind"] == "channels"));
}

#[test]
fn series() {
    let config = json!({
        "model_type": "gru-forecaster", "num_layers": 1, "hidden_size": 16, "context": 24, "horizon": 6, "patch": 4,
        "instance_norm": true,
    });
    let place = Place::new(&config);
    let mut csv = String::from("time,load,other\n");
    for hour in 0..640 {
        // A step is missing, a cell is empty.
        if hour == 50 {
            continue;
        }
        // A day that repeats itself, and something slower that no season knows.
        let wave = (hour as f64 * std::f64::consts::TAU / 24.0).sin() + 0.3 * (hour as f64 / 50.0).sin();
        let (day, at) = (1 + hour / 24, hour % 24);
        let load = if hour == 80 { String::new() } else { format!("{}", 100.0 + 20.0 * wave) };
        csv += &format!("2024-01-{day:02} {at:02}:00,{load},{}\n", 5.0 - wave);
    }
    place.write("loads.csv", csv.as_bytes());
    let flags =
        ["--data", "loads.csv", "--task", "forecasting", "--learning-rate", "1e-2", "--batch-size", "16"];
    let [_, tuned] = place.pretrain_and_tune(&flags);
    assert!(metric(&tuned, "mse_ratio_last_value") < 0.5, "{}", tuned["metrics"]);
    let seasonal = metric(&tuned, "mse_seasonal");
    assert!((metric(&tuned, "mse") / seasonal - metric(&tuned, "mse_ratio_seasonal")).abs() < 1e-9);

    // What the run held out is measured again, by pattern as well; another horizon is refused.
    let again = ["eval", "--model", "tuned", "--data", "load*.csv", "--test-part", "0.2"];
    assert_eq!(place.json(&again)["metrics"]["mse"], tuned["metrics"]["test"]["mse"]);
    let other = ["eval", "--model", "tuned", "--data", "loads.csv", "--horizon", "5"];
    let output = rgft().current_dir(place.0.path()).args(other).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));

    let lines = place.stdout(&["predict", "--model", "tuned", "--data", "loads.csv"]);
    let forecasts: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(forecasts.len(), 2);
    assert_eq!(forecasts[0]["series"], "load");
    let values: Vec<f64> = serde_json::from_value(forecasts[0]["forecast"].clone()).unwrap();
    assert!(values.len() == 6 && values.iter().all(|value| (60.0..140.0).contains(value)), "{values:?}");
    assert_eq!(forecasts[0]["times"].as_array().unwrap().len(), 6);
}

#[test]
fn code() {
    let config = json!({
        "model_type": "lstm-lm", "num_layers": 1, "hidden_size": 24, "embedding_size": 12, "vocab_size": 256,
        "tokenizer": "bytes",
    });
    let place = Place::new(&config);
    for i in 0..40 {
        let name = char::from(b'a' + i % 26);
        let text =
            format!("x{i} = {i}\n\n\ndef {name}(n):\n    return n + {i}\n\n\nprint({name}({i}))\n").repeat(3);
        place.write(&format!("sources/{i}.py"), text.as_bytes());
    }
    place.write("sources/notes.md", b"not code");
    let flags = [
        "--data",
        "sources",
        "--task",
        "code",
        "--extensions",
        "py",
        "--test-part",
        "0.2",
        "--max-length",
        "48",
        "--snippets",
        "3",
        "--learning-rate",
        "1e-2",
        "--batch-size",
        "8",
    ];
    let [first, tuned] = place.pretrain_and_tune(&flags);
    assert!(metric(&tuned, "bits_per_byte") < metric(&first, "bits_per_byte"));
    assert!(metric(&tuned, "next_token_accuracy") > 0.15, "{}", tuned["metrics"]);
    // Only where there is a Python does it know what parses.
    if let Some(share) = tuned["metrics"]["test"]["parse_share"].as_f64() {
        assert!((0.0..=1.0).contains(&share));
    }
    let measured = place.json(&["eval", "--model", "tuned", "--data", "sources"]);
    assert!(measured["metrics"]["perplexity"].as_f64().unwrap() > 1.0);
    let text = place.stdout(&["generate", "--model", "tuned", "--prompt", "def ", "--max-new-tokens", "20"]);
    assert!(!text.is_empty());
}

#[test]
fn prompts_are_not_learnt() {
    let config = json!({
        "model_type": "gru-lm", "num_layers": 1, "hidden_size": 16, "embedding_size": 8, "vocab_size": 256,
        "tokenizer": "bytes",
    });
    let place = Place::new(&config);
    // What follows is always the same; what precedes cannot be known.
    let rows = (0..200u64).map(|i| {
        let noise = format!("{:x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        format!("{}\n", json!({ "question": noise, "answer": "yes" }))
    });
    place.write("pairs.jsonl", rows.collect::<String>().as_bytes());
    let flags =
        ["--data", "pairs.jsonl", "--task", "causal-lm", "--test-part", "0.2", "--learning-rate", "2e-2"];
    let run = |columns: &[&str], out: &str| {
        let head = ["pretrain", "--model", "model", "--epochs", "8", "--out", out];
        place.json(&[&head[..], &flags, columns].concat())
    };
    let pairs = run(&["--prompt-column", "question", "--completion-column", "answer"], "pairs");
    assert!(metric(&pairs, "loss") < 0.3, "{}", pairs["metrics"]);
    let texts = run(&["--text-column", "question"], "texts");
    assert!(metric(&texts, "loss") > 1.0, "{}", texts["metrics"]);
}

#[test]
fn a_task_that_the_model_does_not_read_is_refused() {
    let text = json!({ "model_type": "gru-classifier", "num_layers": 1, "hidden_size": 4, "vocab_size": 9 });
    let language = json!({ "model_type": "gru-lm", "num_layers": 1, "hidden_size": 4, "vocab_size": 256, "tokenizer": "bytes" });
    let pictures = json!({ "model_type": "resnet-cifar", "depth": 8, "image_size": 8 });
    let series = json!({ "model_type": "gru-forecaster", "hidden_size": 4, "context": 8, "horizon": 2 });
    let models = [
        (text, "text-classification"),
        (language, "causal-lm"),
        (pictures, "image-classification"),
        (series, "forecasting"),
    ];
    let tasks = ["text-classification", "causal-lm", "code", "image-classification", "forecasting"];
    for (config, own) in models {
        let place = Place::new(&config);
        place.write("rows.csv", b"text,label\nyes,a\nno,b\n");
        for task in tasks.into_iter().filter(|task| *task != own && (own, *task) != ("causal-lm", "code")) {
            let flags =
                ["pretrain", "--model", "model", "--data", "rows.csv", "--task", task, "--out", "out"];
            let output = rgft().current_dir(place.0.path()).args(flags).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{own} as {task}: {error}");
            assert!(error.contains(&format!("the task is {task}")) && error.contains(own), "{error}");
            assert!(!place.path("out").exists());
        }
    }
}
