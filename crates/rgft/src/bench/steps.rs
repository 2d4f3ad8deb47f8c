//! `rgft bench steps`: whole training steps, full and selective, with their FLOPs, so that seconds can be compared with
//! them and with the floor that the machine sets; and the same work in PyTorch where a Python with torch is given, and in other
//! programs where such are named.
//!
//! ```text
//! floor = FLOPs of products / measured peak + bytes of all other kernels / measured bandwidth
//! ```
//!
//! That is what a step takes if products cost nothing but multiplying and every pass reads and writes memory once; where its
//! operands are still in a cache, a pass can take less.

mod beside;
mod table;
mod work;
mod yardstick;

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rgft_core::Slices;
use rgft_kernels::{Precision, Timed, Timings, peak};
use rgft_nn::models;
use rgft_nn::{Blind, Engine, Flops, Gradients, Mode, Needs, Tape};
use rgft_train::recipe::RawRecipe;
use rgft_train::{Optimizer, StepSize};
use serde::Serialize;
use serde_json::json;

pub(crate) use self::beside::BesideError;
use self::beside::Peer;
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
    let mut peers: Vec<Peer> = args.beside.iter().map(|program| Peer::new(program)).collect();
    let mut peak = None;
    for &work in &args.work {
        // First, so that a program which cannot be started is told at once.
        for (program, peer) in args.beside.iter().zip(&mut peers) {
            printer.note(&format!("{}: {}", work.name(), peer.name));
            let steps = beside::ask(Command::new(program), program, work, threads)?;
            if steps.is_empty() {
                printer.note(&format!("{}: {} does not offer it", work.name(), peer.name));
            }
            peer.steps.extend(steps);
        }
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
        table::print(&measured, &theirs, &peers, args.profile, printer)?;
        rows.extend(measured);
        torch.extend(theirs);
    }
    let document = json!({
        "machine": place::machine(), "commit": place::commit(), "peak": peak, "steps": rows, "pytorch": torch,
        "beside": peers,
    });
    if let Some(folder) = &args.record {
        table::record(folder, &document, &rows, &torch, &peers, peak)?;
    }
    printer.document(&document)?;
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
