//! `rgft bench steps`: whole training steps, full and selective, with their FLOPs, so that seconds can be compared
//! with them; and the same work in PyTorch where a Python with torch is given.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rgft_core::{Component, ComponentKind, Inputs, Slices, Tokens};
use rgft_kernels::Precision;
use rgft_nn::models::{self, Grain, HeadRequest, Model};
use rgft_nn::{Blind, Engine, Flops, Gradients, Needs, Pass, Tape};
use rgft_train::recipe::RawRecipe;
use rgft_train::{Optimizer, StepSize};
use serde::Serialize;
use serde_json::{Value, json};

use super::median_seconds;
use crate::args::{StepsArgs, Work};
use crate::pool;
use crate::printer::Printer;

/// Tokens of every text.
const LENGTH: usize = 64;

/// Environment variable that names the folder of the PyTorch scripts.
const YARDSTICK_FOLDER: &str = "RGFT_YARDSTICK";

#[derive(Clone, Debug, Serialize)]
struct Row {
    what: String,
    precision: &'static str,
    milliseconds: f64,
    gflop: f64,
    /// Of the full step.
    flop_ratio: f64,
    /// Of the full step.
    seconds_ratio: f64,
}

impl Row {
    /// `(1 − seconds ratio)/(1 − FLOP ratio)`: 1 where every skipped FLOP is a skipped fraction of a second.
    fn follows(&self) -> Option<f64> {
        (self.flop_ratio < 0.999).then(|| (1.0 - self.seconds_ratio) / (1.0 - self.flop_ratio))
    }
}

/// What a step updates.
struct Case {
    what: &'static str,
    cut: usize,
    active: Vec<usize>,
}

pub(crate) fn run(args: &StepsArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let time = Duration::from_secs_f64(if args.quick { 0.5 } else { 4.0 });
    let mut rows = pool::run(
        threads.unwrap_or(0),
        |say| {
            let mut rows = Vec::new();
            for precision in [Precision::F32, Precision::Bf16].into_iter().filter(|p| p.supported() == *p) {
                rows.extend(measure(args.work, precision, time, args.profile, say)?);
            }
            Ok(rows)
        },
        |message: String| printer.note(&message),
    )?;
    let full: Vec<(&str, f64)> = rows
        .iter()
        .filter(|row| row.what == "full step")
        .map(|row| (row.precision, row.milliseconds))
        .collect();
    for row in &mut rows {
        let of = full.iter().find(|(precision, _)| *precision == row.precision);
        row.seconds_ratio = of.map_or(f64::NAN, |(_, milliseconds)| row.milliseconds / milliseconds);
    }
    let torch = match args.python() {
        Some(python) => yardstick(&python, args.work, threads, printer)?,
        None => Vec::new(),
    };
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let follows = row.follows().map_or_else(|| "-".into(), |f| format!("{f:.2}"));
            let best = best_of(&torch, &row.what);
            vec![
                format!("{} {}", row.what, row.precision),
                format!("{:.1}", row.milliseconds),
                format!("{:.1}", row.gflop),
                format!("{:.0}", row.gflop / row.milliseconds * 1e3),
                format!("{:.3}", row.flop_ratio),
                format!("{:.3}", row.seconds_ratio),
                follows,
                best.map_or_else(
                    || "-".into(),
                    |(ms, how)| format!("{:.2} ({ms:.1} ms, {how})", row.milliseconds / ms),
                ),
            ]
        })
        .collect();
    let header =
        ["work", "ms", "GFLOP", "GFLOP/s", "FLOP ratio", "s ratio", "s follow FLOPs", "of PyTorch's best"];
    printer.table(&header, &lines)?;
    printer.document(&json!({ "steps": rows, "pytorch": torch }))?;
    Ok(())
}

fn config(work: Work) -> (Value, usize) {
    let (layers, hidden, heads, inner, batch) = match work {
        Work::Minilm => (6, 384, 12, 1536, 32),
        Work::Bertbase => (12, 768, 12, 3072, 16),
    };
    let config = json!({
        "model_type": "bert", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "intermediate_size": inner, "vocab_size": 30522, "max_position_embeddings": 512, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    });
    (config, batch)
}

/// Every second of the heads and neuron groups from layer `from` up, with all norms there and the task head.
fn half_from(components: &[Component], from: usize) -> Vec<usize> {
    let is_half = |i: usize, component: &Component| match component.kind {
        ComponentKind::TaskHead => true,
        ComponentKind::Norm => component.layer.is_some_and(|layer| layer >= from),
        _ => component.layer.is_some_and(|layer| layer >= from) && i.is_multiple_of(2),
    };
    (0..components.len()).filter(|&i| is_half(i, &components[i])).collect()
}

fn cases(model: &Model, components: &[Component]) -> Vec<Case> {
    let layers = (model.levels() - 2) / 2;
    let all = (0..components.len()).collect();
    let head = |c: &Component| c.kind == ComponentKind::TaskHead;
    let of =
        |is: &dyn Fn(&Component) -> bool| (0..components.len()).filter(|&i| is(&components[i])).collect();
    vec![
        Case { what: "full step", cut: 0, active: all },
        Case { what: "head step", cut: model.levels() - 1, active: of(&head) },
        Case {
            what: "last layer step",
            cut: model.levels() - 3,
            active: of(&|c| head(c) || c.layer == Some(layers - 1)),
        },
        Case { what: "half from layer 3 step", cut: 1 + 2 * 3, active: half_from(components, 3) },
    ]
}

fn measure(
    work: Work,
    precision: Precision,
    time: Duration,
    profile: bool,
    say: &mut dyn FnMut(String),
) -> Result<Vec<Row>> {
    let (config, batch) = config(work);
    let request = HeadRequest { outputs: Some(2), random: true, ..HeadRequest::default() };
    let mut model = models::build(Path::new("."), config, &request)?;
    let components = model.components(Grain::default());
    let lengths = vec![LENGTH; batch];
    let ids: Vec<u32> =
        (0..(batch * LENGTH) as u32).map(|i| i.wrapping_mul(2_654_435_761) % 30_522).collect();
    let types = vec![0; ids.len()];
    let targets: Vec<u32> = (0..batch as u32).map(|i| i % 2).collect();
    let inputs = Inputs::Tokens(Tokens { ids, types, lengths });
    let extent = inputs.extent();
    let engine = Engine::new(precision);
    let name = if precision == Precision::F32 { "f32" } else { "bf16" };
    let mut rows = Vec::new();
    let mut row = |what: &str, seconds: f64, flops: u64| {
        let (milliseconds, gflop) = (seconds * 1e3, flops as f64 / 1e9);
        let (flop_ratio, seconds_ratio) = (0.0, 0.0);
        rows.push(Row { what: what.into(), precision: name, milliseconds, gflop, flop_ratio, seconds_ratio });
    };

    let nothing = vec![Needs::default(); model.sites().len()];
    let forward = || {
        model.forward(&engine, &inputs, &nothing, &mut Tape::default());
    };
    let seconds = median_seconds(time, forward);
    let flops: Flops = model.products(&extent, &nothing).iter().collect();
    row("forward", seconds, flops.total());

    let raw = [("model", "."), ("data", "."), ("task", "text-classification")];
    let mut recipe = RawRecipe::default();
    raw.iter().try_for_each(|(key, value)| recipe.set(key, value))?;
    let recipe = recipe.check()?;
    for case in cases(&model, &components) {
        let update = models::update_of(model.parameters(), &components, &case.active);
        let needs = model.needs(&update, case.cut, false);
        let mut gradients = Gradients::new(&engine, model.parameters(), &update, &model.tables());
        let mut optimizer = Optimizer::new(&recipe, model.parameters(), &components);
        let mut sizes = vec![StepSize::default(); components.len()];
        case.active.iter().for_each(|&i| sizes[i] = StepSize { learning_rate: 1e-5, active: true });
        let mut phases = [Duration::ZERO; 3];
        let mut count = 0u32;
        let seconds = median_seconds(time, || {
            let begun = Instant::now();
            gradients.clear();
            let mut tape = Tape::default();
            let mut logits = model.forward(&engine, &inputs, &needs, &mut tape);
            let forward = begun.elapsed();
            engine.kernels.cross_entropy(logits.data_mut(), &targets, 1.0);
            let sinks = &mut rgft_nn::layers::Sinks { gradients: &mut gradients, probe: &mut Blind };
            model.backward(&engine, &inputs, &needs, logits, &mut tape, sinks);
            let backward = begun.elapsed();
            optimizer.step(&*engine.kernels, model.parameters_mut(), &gradients, &sizes, 1.0);
            for (phase, time) in
                phases.iter_mut().zip([forward, backward - forward, begun.elapsed() - backward])
            {
                *phase += time;
            }
            count += 1;
        });
        let products = model.products(&extent, &needs);
        let flops: Flops = products.iter().collect();
        let scalars: u64 = case.active.iter().map(|&i| components[i].parameters as u64).sum();
        if profile {
            let [forward, backward, update] =
                phases.map(|phase| phase.as_secs_f64() * 1e3 / f64::from(count));
            let of = |pass| {
                products.iter().filter(|p| p.pass == pass).map(|p| p.flops()).sum::<u64>() as f64 / 1e9
            };
            say(format!(
                "{} {name}: forward {forward:.1} ms ({:.1} GFLOP), backward {backward:.1} ms (dX {:.1}, dW {:.1} GFLOP), update {update:.1} ms ({:.1} M scalars), saved {:.1} MB",
                case.what,
                of(Pass::Forward),
                of(Pass::Dx),
                of(Pass::Dw),
                scalars as f64 / 1e6,
                saved_bytes(&model, &engine, &inputs, &needs) as f64 / 1e6,
            ));
        }
        row(case.what, seconds, flops.total() + rgft_core::ledger::ADAMW_FLOPS * scalars);
        debug_assert!(update.iter().any(|slices| *slices != Slices::None));
    }
    let full = rows.iter().find(|row| row.what == "full step").map_or(f64::NAN, |row| row.gflop);
    rows.iter_mut().for_each(|row| row.flop_ratio = row.gflop / full);
    Ok(rows)
}

fn saved_bytes(model: &Model, engine: &Engine, inputs: &Inputs, needs: &[Needs]) -> usize {
    let mut tape = Tape::default();
    model.forward(engine, inputs, needs, &mut tape);
    4 * tape.scalars()
}

/// The same work in PyTorch: every setting of the scripts, as shipped and, where a `libunlock.so` lies beside the
/// environment, preloaded with that (MKL takes slow paths on AMD processors unless told otherwise).
fn yardstick(python: &Path, work: Work, threads: Option<usize>, printer: &mut Printer) -> Result<Vec<Value>> {
    let folder = std::env::var_os(YARDSTICK_FOLDER)
        .map_or_else(|| PathBuf::from("../shared/yardstick"), PathBuf::from);
    let script = folder.join("steps.py");
    if !script.is_file() {
        printer.warning(&format!("{}: no such script; set {YARDSTICK_FOLDER}", script.display()));
        return Ok(Vec::new());
    }
    let name = if work == Work::Minilm { "minilm" } else { "bertbase" };
    let unlock = python.parent().and_then(Path::parent).map(|venv| venv.join("libunlock.so"));
    let mut rows = Vec::new();
    for (how, preload) in [("default", None), ("unlocked", unlock.filter(|path| path.is_file()))] {
        if how == "unlocked" && preload.is_none() {
            continue;
        }
        printer.note(&format!("PyTorch, {how}"));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.filter(|n| *n > 0).unwrap_or(cores).to_string();
        let mut command = std::process::Command::new(python);
        command.arg(&script).arg(name).arg("--threads").arg(threads);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        let output = command.output().with_context(|| format!("cannot run {}", python.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "steps.py failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut row: Value = serde_json::from_str(line).context("steps.py printed no JSON")?;
            row["setting"] = json!(format!("{how} {}", row["precision"].as_str().unwrap_or("")));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// PyTorch's fastest setting for `what`: `(milliseconds, setting)`.
fn best_of(torch: &[Value], what: &str) -> Option<(f64, String)> {
    let same = torch.iter().filter(|row| row["what"] == what);
    let times =
        same.filter_map(|row| Some((row["median_ms"].as_f64()?, row["setting"].as_str()?.to_string())));
    times.min_by(|a, b| a.0.total_cmp(&b.0))
}
