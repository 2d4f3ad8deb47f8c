//! `rgft bench steps`: whole training steps, full and selective, with their FLOPs, so that seconds can be compared with
//! them and with the floor that the machine sets; and the same work in PyTorch where a Python with torch is given.
//!
//! ```text
//! floor = FLOPs of products / measured peak + bytes of all other kernels / measured bandwidth
//! ```
//!
//! That is what a step takes if products cost nothing but multiplying and every pass reads and writes memory once; where its
//! operands are still in a cache, a pass can take less.

mod work;
mod yardstick;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rgft_core::Slices;
use rgft_kernels::{Precision, Timed, Timings, peak};
use rgft_nn::models;
use rgft_nn::{Blind, Engine, Flops, Gradients, Mode, Needs, Tape};
use rgft_train::recipe::RawRecipe;
use rgft_train::{Optimizer, StepSize};
use serde::Serialize;
use serde_json::{Value, json};

use self::work::Bench;
use super::{Seconds, seconds};
use crate::args::{StepsArgs, Work};
use crate::commands::compare::place;
use crate::pool;
use crate::printer::Printer;

/// What the machine does at most, with the threads of the pool.
#[derive(Clone, Copy, Debug, Serialize)]
struct Peak {
    f32_gflops: f64,
    bf16_gflops: Option<f64>,
    gigabytes_per_second: f64,
}

impl Peak {
    fn measure() -> Self {
        Self {
            f32_gflops: peak::f32_flops_per_second() / 1e9,
            bf16_gflops: peak::bf16_flops_per_second().map(|flops| flops / 1e9),
            gigabytes_per_second: peak::bytes_per_second() / 1e9,
        }
    }

    fn gflops(self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_gflops,
            Precision::Bf16 => self.bf16_gflops.unwrap_or(self.f32_gflops),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    work: &'static str,
    what: &'static str,
    precision: &'static str,
    /// The median.
    milliseconds: f64,
    /// The least.
    best_milliseconds: f64,
    gflop: f64,
    /// Of the full step.
    flop_ratio: f64,
    /// Of the full step.
    seconds_ratio: f64,
    /// What the machine's peak and bandwidth say that it takes.
    floor_milliseconds: f64,
    /// Of what forward saves for backward.
    saved_megabytes: f64,
    /// Where the time goes, the longest first.
    kernels: Vec<KernelRow>,
}

#[derive(Clone, Debug, Serialize)]
struct KernelRow {
    kernel: &'static str,
    calls: f64,
    milliseconds: f64,
    megabytes: f64,
}

impl Row {
    /// `(1 − seconds ratio)/(1 − FLOP ratio)`: 1 where every skipped FLOP is a skipped fraction of a second.
    fn follows(&self) -> Option<f64> {
        (self.flop_ratio < 0.999).then(|| (1.0 - self.seconds_ratio) / (1.0 - self.flop_ratio))
    }
}

pub(crate) fn run(args: &StepsArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let time = Duration::from_secs_f64(if args.quick { 0.5 } else { 4.0 });
    let python = args.python();
    let (mut rows, mut torch) = (Vec::new(), Vec::new());
    let mut peak = None;
    for &work in &args.work {
        let (measured_peak, measured) = pool::run(
            threads.unwrap_or(0),
            |say| {
                let peak = peak.unwrap_or_else(Peak::measure);
                let mut rows = Vec::new();
                let precisions = args.precision.iter().map(|&name| Precision::from(name));
                for precision in precisions.filter(|p| p.supported() == *p) {
                    say(format!("{}: {}", work.name(), name_of(precision)));
                    rows.extend(measure(work, precision, time, peak)?);
                }
                Ok((peak, rows))
            },
            |message: String| printer.note(&message),
        )?;
        peak = Some(measured_peak);
        let theirs = match &python {
            Some(python) => yardstick::measure(python, work, threads, printer)?,
            None => Vec::new(),
        };
        print(&measured, &theirs, args.profile, printer)?;
        rows.extend(measured);
        torch.extend(theirs);
    }
    let document = json!({
        "machine": place::machine(), "commit": place::commit(), "peak": peak, "steps": rows, "pytorch": torch,
    });
    if let Some(folder) = &args.record {
        record(folder, &document, &rows, &torch, peak)?;
    }
    printer.document(&document)?;
    Ok(())
}

/// `steps.json`, and the table as `steps.md`, in `folder`.
fn record(folder: &Path, document: &Value, rows: &[Row], torch: &[Value], peak: Option<Peak>) -> Result<()> {
    let row_of = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut page = String::from("# Steps\n\n");
    page += &format!("{}. {}.\n\n", place::machine(), place::commit().unwrap_or_else(|| "no commit".into()));
    if let Some(peak) = peak {
        let bf16 = peak.bf16_gflops.map_or_else(|| "none".into(), |gflops| format!("{gflops:.0} GFLOP/s"));
        page += &format!(
            "Peak in registers: f32 {:.0} GFLOP/s, bf16 {bf16}; memory {:.1} GB/s. Medians in milliseconds; the floor is what it takes at the peak, and memory's rate for all other passes; *least of least* compares the fastest runs of both.\n\n",
            peak.f32_gflops, peak.gigabytes_per_second,
        );
    }
    page += &row_of(&HEADER.map(String::from));
    page += &format!("|---{}\n", "|---:".repeat(HEADER.len() - 1) + "|");
    rows.iter().for_each(|row| page += &row_of(&line(row, torch)));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(document)? + "\n";
    for (name, text) in [("steps.json", &json), ("steps.md", &page)] {
        let path = folder.join(name);
        rgft_nn::weights::write_whole(&path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Heads of [`line`]'s columns.
const HEADER: [&str; 10] = [
    "work",
    "ms",
    "floor",
    "GFLOP",
    "GFLOP/s",
    "FLOP ratio",
    "s ratio",
    "s follow FLOPs",
    "of PyTorch's best",
    "least of least",
];

/// A row as it is shown, beside PyTorch's fastest setting for the same.
fn line(row: &Row, torch: &[Value]) -> Vec<String> {
    let [median, best] = ["median_ms", "best_ms"].map(|of| yardstick::best_of(torch, row.work, row.what, of));
    let ratio = |own: f64, theirs: Option<(f64, String)>| {
        theirs.map_or_else(|| "-".into(), |(ms, how)| format!("{:.2} ({ms:.1} ms, {how})", own / ms))
    };
    vec![
        format!("{} {} {}", row.work, row.what, row.precision),
        format!("{:.1}", row.milliseconds),
        format!("{:.1}", row.floor_milliseconds),
        format!("{:.1}", row.gflop),
        format!("{:.0}", row.gflop / row.milliseconds * 1e3),
        format!("{:.3}", row.flop_ratio),
        format!("{:.3}", row.seconds_ratio),
        row.follows().map_or_else(|| "-".into(), |follows| format!("{follows:.2}")),
        ratio(row.milliseconds, median),
        ratio(row.best_milliseconds, best),
    ]
}

fn print(rows: &[Row], torch: &[Value], profile: bool, printer: &mut Printer) -> Result<()> {
    printer.table(&HEADER, &rows.iter().map(|row| line(row, torch)).collect::<Vec<_>>())?;
    for row in rows.iter().filter(|_| profile) {
        printer.text(&format!(
            "\n{} {} {}: {:.1} MB saved for backward",
            row.work, row.what, row.precision, row.saved_megabytes
        ))?;
        let total: f64 = row.kernels.iter().map(|kernel| kernel.milliseconds).sum();
        let line = |kernel: &KernelRow| {
            vec![
                kernel.kernel.to_string(),
                format!("{:.0}", kernel.calls),
                format!("{:.2}", kernel.milliseconds),
                format!("{:.1} %", 100.0 * kernel.milliseconds / total),
                format!("{:.1}", kernel.megabytes),
                format!("{:.1}", kernel.megabytes / kernel.milliseconds),
            ]
        };
        let kernels: Vec<_> = row.kernels.iter().map(line).collect();
        printer.table(&["kernel", "calls", "ms", "share", "MB", "GB/s"], &kernels)?;
    }
    Ok(())
}

fn name_of(precision: Precision) -> &'static str {
    if precision == Precision::F32 { "f32" } else { "bf16" }
}

/// Kernels whose time the floor takes from their FLOPs.
fn is_product(kernel: &str) -> bool {
    ["gemm", "conv", "attention"].iter().any(|name| kernel.starts_with(name))
}

fn measure(work: Work, precision: Precision, time: Duration, peak: Peak) -> Result<Vec<Row>> {
    let bench = work.build()?;
    let cases = bench.cases();
    let Bench { mut model, components, inputs, targets } = bench;
    let extent = inputs.extent();
    let timings = Timings::default();
    let mut engine = Engine::new(precision);
    engine.kernels = Box::new(Timed(timings.clone()));
    let mut rows: Vec<Row> = Vec::new();
    // `times` it was run since the timings were last taken.
    let mut row = |what, seconds: Seconds, times: usize, products: &Flops, update: u64, saved: usize| {
        let mut kernels: Vec<KernelRow> = timings
            .take()
            .into_iter()
            .map(|(kernel, spent)| KernelRow {
                kernel,
                calls: spent.calls as f64 / times as f64,
                milliseconds: spent.time.as_secs_f64() * 1e3 / times as f64,
                megabytes: spent.bytes as f64 / 1e6 / times as f64,
            })
            .collect();
        kernels.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        let passed = kernels.iter().filter(|kernel| !is_product(kernel.kernel));
        let passed: f64 = passed.map(|kernel| kernel.megabytes).sum();
        let gflop = products.total() as f64 / 1e9;
        rows.push(Row {
            work: work.name(),
            what,
            precision: name_of(precision),
            milliseconds: seconds.median * 1e3,
            best_milliseconds: seconds.best * 1e3,
            gflop: (products.total() + update) as f64 / 1e9,
            flop_ratio: f64::NAN,
            seconds_ratio: f64::NAN,
            floor_milliseconds: gflop / peak.gflops(precision) * 1e3 + passed / peak.gigabytes_per_second,
            saved_megabytes: saved as f64 / 1e6,
            kernels,
        });
    };

    let nothing = vec![Needs::default(); model.sites().len()];
    let mut times = 0;
    let taken = seconds(time, || {
        model.forward(&engine, &inputs, &nothing, &mut Tape::default());
        times += 1;
    });
    row("forward", taken, times, &model.products(&extent, &nothing).iter().collect(), 0, 0);

    let raw = [("model", "."), ("data", "."), ("task", "text-classification")];
    let mut recipe = RawRecipe::default();
    raw.iter().try_for_each(|(key, value)| recipe.set(key, value))?;
    let recipe = recipe.check()?;
    engine.set_mode(Mode::Train { seed: 0 });
    for case in cases {
        let update = models::update_of(model.parameters(), &components, &case.active);
        debug_assert!(update.iter().any(|slices| *slices != Slices::None));
        let needs = model.needs(&update, case.cut, false);
        let mut gradients = Gradients::new(&engine, model.parameters(), &update, &model.tables());
        let mut optimizer = Optimizer::new(&recipe, model.parameters(), &components);
        let mut sizes = vec![StepSize::default(); components.len()];
        case.active.iter().for_each(|&i| sizes[i] = StepSize { learning_rate: 1e-5, active: true });
        let (mut times, mut saved) = (0, 0);
        let taken = seconds(time, || {
            gradients.clear();
            let mut tape = Tape::default();
            let mut logits = model.forward(&engine, &inputs, &needs, &mut tape);
            saved = tape.scalars() * size_of::<f32>();
            engine.kernels.cross_entropy(logits.data_mut(), &targets, 1.0);
            let sinks = &mut rgft_nn::layers::Sinks { gradients: &mut gradients, probe: &mut Blind };
            model.backward(&engine, &inputs, &needs, logits, &mut tape, sinks);
            optimizer.step(&*engine.kernels, model.parameters_mut(), &gradients, &sizes, 1.0);
            model.parameters_mut().move_statistics(&engine.take_statistics());
            times += 1;
        });
        let products: Flops = model.products(&extent, &needs).iter().collect();
        let scalars: u64 = case.active.iter().map(|&i| components[i].parameters as u64).sum();
        row(case.what, taken, times, &products, rgft_core::ledger::ADAMW_FLOPS * scalars, saved);
    }
    let full = rows.iter().find(|row| row.what == "full step").map(|row| (row.gflop, row.milliseconds));
    if let Some((gflop, milliseconds)) = full {
        for row in &mut rows {
            (row.flop_ratio, row.seconds_ratio) = (row.gflop / gflop, row.milliseconds / milliseconds);
        }
    }
    Ok(rows)
}
