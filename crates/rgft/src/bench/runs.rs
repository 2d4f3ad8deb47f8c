//! `rgft bench runs`: whole runs of one task, from loaded data to the last step: full fine-tuning and the recipe's method
//! here, full fine-tuning and LoRA in PyTorch (`train_text.py` of the yardstick); seconds, FLOPs, memory and quality.
//!
//! Every run is a process of its own, and seeds come round by round, so that a machine that slows down slows all of them.
//! Seconds are those of training, looks and cache included, loading and evaluation excluded, as the script counts them too;
//! memory is the peak of the whole process.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rgft_core::RunSummary;
use rgft_kernels::Precision;
use rgft_train::recipe::{self, MethodName, RawRecipe};
use serde::Serialize;
use serde_json::{Value, json};

use super::{markdown, origin, record};
use crate::args::WholeRunsArgs;
use crate::bench::steps::yardstick;
use crate::commands::compare::place;
use crate::printer::Printer;

/// Who trains how.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Contender {
    program: &'static str,
    method: String,
    precision: &'static str,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    seed: u64,
    seconds: f64,
    /// Of full fine-tuning's; PyTorch counts none.
    flops_ratio: Option<f64>,
    peak_rss_bytes: Option<u64>,
    /// The task's primary metric on the test data.
    quality: Option<f64>,
}

/// A contender and its runs.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    contender: Contender,
    runs: Vec<Run>,
}

impl Row {
    fn median(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| values[values.len() / 2])
    }

    fn seconds(&self) -> f64 {
        self.median(|run| Some(run.seconds)).unwrap_or(f64::NAN)
    }
}

pub(crate) fn run(args: &WholeRunsArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let raw = args.recipe.recipe(threads)?;
    let checked = raw.clone().check()?;
    let bf16 = Precision::Bf16.supported() == Precision::Bf16;
    let precisions =
        [("f32", true), ("bf16", bf16)].into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
    let script = args.python().map(|python| (python, yardstick::folder().join("train_text.py")));
    if let Some((_, script)) = &script {
        anyhow::ensure!(script.is_file(), "{}: no such script; set {}", script.display(), yardstick::FOLDER);
        anyhow::ensure!(checked.data.is_dir(), "{}: PyTorch's script reads a folder", checked.data.display());
        let as_there = checked.batch_size == 32 && checked.accumulation == 1 && checked.limit_train.is_none();
        anyhow::ensure!(
            as_there,
            "PyTorch's script takes batches of 32 of all examples: leave batch-size and limits out"
        );
    }
    let mut rows: Vec<Row> = Vec::new();
    for precision in precisions {
        let mut add = |program, method: &str| {
            let contender = Contender { program, method: method.into(), precision };
            rows.push(Row { contender, runs: Vec::new() });
        };
        add("rgft", MethodName::Full.name());
        if checked.method != MethodName::Full {
            add("rgft", checked.method.name());
        }
        if script.is_some() {
            add("pytorch", "full");
            add("pytorch", "lora");
        }
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    for seed in 0..args.seeds as u64 {
        for row in &mut rows {
            let Contender { program, method, precision } = &row.contender;
            printer.note(&format!("seed {seed}: {program} {method} {precision}"));
            row.runs.push(match (&script, *program) {
                (Some((python, script)), "pytorch") => {
                    in_pytorch(python, script, &checked, &row.contender, seed, args.lora_factor)?
                }
                _ => here(&raw, &row.contender, seed, scratch.path())?,
            });
        }
    }
    report(args, &checked, &rows, printer)
}

/// A run of this program.
fn here(raw: &RawRecipe, contender: &Contender, seed: u64, scratch: &Path) -> Result<Run> {
    let is_full = contender.method == MethodName::Full.name();
    let out = scratch.join("run");
    let recipe = RawRecipe {
        method: Some(contender.method.parse()?),
        budget: if is_full { None } else { raw.budget },
        precision: Some(contender.precision.parse::<recipe::Precision>()?),
        seed: Some(seed),
        out: Some(out.clone()),
        // Full fine-tuning may not keep it.
        memory_limit: None,
        ..raw.clone()
    };
    let config = scratch.join("run.toml");
    rgft_nn::weights::write_whole(&config, recipe.check()?.to_toml().as_bytes())
        .with_context(|| format!("cannot write {}", config.display()))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(["train", "--quiet", "--json", "--config"]).arg(&config);
    let (text, peak_rss_bytes) = output(&mut command)?;
    let _ = std::fs::remove_dir_all(&out);
    let summary: RunSummary = serde_json::from_str(&text).context("train printed no summary")?;
    let metric = &summary.convergence.metric;
    Ok(Run {
        seed,
        seconds: summary.seconds.train,
        flops_ratio: Some(summary.flops.ratio),
        peak_rss_bytes,
        quality: summary.metrics.test.get(metric).copied(),
    })
}

/// A run of the script.
fn in_pytorch(
    python: &Path,
    script: &Path,
    recipe: &recipe::Recipe,
    contender: &Contender,
    seed: u64,
    lora_factor: f64,
) -> Result<Run> {
    let rate = recipe.learning_rate * if contender.method == "lora" { lora_factor } else { 1.0 };
    let mut command = Command::new(python);
    command.arg(script).arg("--data").arg(&recipe.data).arg("--model").arg(&recipe.model);
    let threads = if recipe.threads > 0 {
        recipe.threads
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    };
    for (flag, value) in [
        ("--method", contender.method.clone()),
        ("--lr", rate.to_string()),
        ("--epochs", recipe.epochs.to_string()),
        ("--seed", seed.to_string()),
        ("--threads", threads.to_string()),
        ("--max-length", recipe.max_length.to_string()),
    ] {
        command.args([flag, &value]);
    }
    if contender.precision == "bf16" {
        command.arg("--bf16");
    }
    let (text, peak_rss_bytes) = output(&mut command)?;
    let said: Value =
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let seconds = said["train_seconds"].as_f64().context("train_text.py printed no train_seconds")?;
    Ok(Run { seed, seconds, flops_ratio: None, peak_rss_bytes, quality: said["test_accuracy"].as_f64() })
}

/// stdout of a command that must succeed, and the largest resident set of its process, where the system tells.
fn output(command: &mut Command) -> Result<(String, Option<u64>)> {
    let name = PathBuf::from(command.get_program());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", name.display()))?;
    // Read while it runs: a full pipe would hold it up.
    let (text, error) = (read(child.stdout.take()), read(child.stderr.take()));
    let (pid, mut peak) = (child.id(), None);
    let status = loop {
        peak = peak.max(rgft_train::peak_rss_bytes_of(pid));
        match child.try_wait().context("cannot wait for a run")? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let (text, error) = (text.join().unwrap_or_default(), error.join().unwrap_or_default());
    if !status.success() {
        bail!("{} failed: {}", name.display(), error.trim());
    }
    Ok((text, peak))
}

/// Reads to the end, in a thread of its own.
fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read before an error is what there is to tell.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn report(args: &WholeRunsArgs, recipe: &recipe::Recipe, rows: &[Row], printer: &mut Printer) -> Result<()> {
    let number = |value: Option<f64>, digits: usize| value.map_or("–".into(), |x| format!("{x:.digits$}"));
    let fastest = |program: &str, method: &str| {
        let own =
            rows.iter().filter(|row| row.contender.program == program && row.contender.method == method);
        own.min_by(|a, b| a.seconds().total_cmp(&b.seconds()))
    };
    let least = |program: &str, method: &str| -> Option<f64> {
        let own =
            rows.iter().filter(|row| row.contender.program == program && row.contender.method == method);
        own.filter_map(|row| row.median(|run| run.peak_rss_bytes.map(|bytes| bytes as f64))).reduce(f64::min)
    };
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let Contender { program, method, precision } = &row.contender;
            vec![
                format!("{program} {method} {precision}"),
                number(Some(row.seconds()), 1),
                number(row.median(|run| run.flops_ratio), 3),
                number(row.median(|run| run.peak_rss_bytes.map(|bytes| bytes as f64 / 1e6)), 0),
                number(row.median(|run| run.quality), 4),
            ]
        })
        .collect();
    let runs = markdown(&["run", "seconds", "FLOPs of full", "peak MB", "test"], &lines);
    let own = recipe.method.name();
    let others = [("rgft", "full"), ("pytorch", "full"), ("pytorch", "lora")];
    let ratios: Vec<Value> = others
        .into_iter()
        .filter(|other| *other != ("rgft", own))
        .filter_map(|(program, method)| {
            let (ours, theirs) = (fastest("rgft", own)?, fastest(program, method)?);
            Some(json!({
                "to": format!("{program} {method}"),
                "seconds": ours.seconds() / theirs.seconds(),
                "memory": least("rgft", own).zip(least(program, method)).map(|(ours, theirs)| ours / theirs),
                "quality": ours.median(|run| run.quality).zip(theirs.median(|run| run.quality)).map(|(a, b)| a - b),
            }))
        })
        .collect();
    let lines: Vec<Vec<String>> = ratios
        .iter()
        .map(|ratio| {
            let to = ratio["to"].as_str().unwrap_or_default().to_owned();
            let of = |key: &str| number(ratio[key].as_f64(), if key == "quality" { 4 } else { 2 });
            vec![to, of("seconds"), of("memory"), of("quality")]
        })
        .collect();
    let title = format!("{own} to the best of");
    let compared = markdown(&[&title, "seconds", "memory", "test"], &lines);
    let text = format!("{runs}\n{compared}");
    printer.text(&text)?;
    let document = json!({
        "machine": place::machine(), "commit": place::commit(), "runs": rows, "ratios": ratios, "budget": recipe.budget,
        "epochs": recipe.epochs, "learning_rate": recipe.learning_rate, "batch_size": recipe.batch_size,
    });
    if let Some(folder) = &args.record {
        let page = format!(
            "# Whole runs\n\n{} on {}, {} epochs, {} seeds; medians. {}\n\n{text}",
            recipe.model.file_name().unwrap_or_default().display(),
            recipe.data.file_name().unwrap_or_default().display(),
            recipe.epochs,
            args.seeds,
            origin()
        );
        record(folder, "runs", &document, &[("md", &page)])?;
    }
    Ok(printer.document(&document)?)
}
