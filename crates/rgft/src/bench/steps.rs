//! `rgft bench steps`: whole training steps, full and selective, with their FLOPs, so that seconds can be compared with
//! them, with the floor that the machine sets (see [`super::peak`]), and with what one thread takes; and the same work in
//! PyTorch where a Python with torch is given, and in other programs where such are named.

mod beside;
mod table;
mod work;
pub(crate) mod yardstick;

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rgft_kernels::Precision;
use serde::Serialize;
use serde_json::json;

pub(crate) use self::beside::BesideError;
use self::beside::Peer;
use super::Patience;
use super::peak::{Peak, name_of};
use super::subject::{KernelTime, Measured};
use crate::args::{StepsArgs, Work};
use crate::commands::compare::place;
use crate::pool;
use crate::printer::Printer;

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
    kernels: Vec<KernelTime>,
    /// The same on one thread, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    one_thread: Option<OneThread>,
}

#[derive(Clone, Debug, Serialize)]
struct OneThread {
    /// The median.
    milliseconds: f64,
    /// The least.
    best_milliseconds: f64,
    /// The least over the least: what others do on the machine meanwhile hardly counts.
    speed_up: f64,
    kernels: Vec<KernelTime>,
}

impl Row {
    fn new(work: Work, what: &'static str, precision: Precision, measured: Measured, peak: Peak) -> Self {
        Self {
            work: work.name(),
            what,
            precision: name_of(precision),
            milliseconds: measured.seconds.median * 1e3,
            best_milliseconds: measured.seconds.best * 1e3,
            gflop: measured.gflop(),
            flop_ratio: f64::NAN,
            seconds_ratio: f64::NAN,
            floor_milliseconds: measured.floor(peak, precision),
            saved_megabytes: measured.saved_megabytes,
            kernels: measured.kernels,
            one_thread: None,
        }
    }

    /// `(1 − seconds ratio)/(1 − FLOP ratio)`: 1 where every skipped FLOP is a skipped fraction of a second.
    fn follows(&self) -> Option<f64> {
        (self.flop_ratio < 0.999).then(|| (1.0 - self.seconds_ratio) / (1.0 - self.flop_ratio))
    }

    /// Keeps beside this row the same work on one thread.
    fn compare(&mut self, one: Self) {
        self.one_thread = Some(OneThread {
            milliseconds: one.milliseconds,
            best_milliseconds: one.best_milliseconds,
            speed_up: one.best_milliseconds / self.best_milliseconds,
            kernels: one.kernels,
        });
    }
}

/// How often all threads and one take turns.
const ROUNDS: u32 = 4;

/// Takes over the rows of `again` that were faster.
fn keep_faster(rows: &mut [Row], again: Vec<Row>) {
    for (row, again) in rows.iter_mut().zip(again) {
        if again.best_milliseconds < row.best_milliseconds {
            *row = again;
        }
    }
}

/// Sets what FLOPs and seconds are of the full step's.
fn set_ratios(rows: &mut [Row]) {
    for of_precision in rows.chunk_by_mut(|a, b| a.precision == b.precision) {
        let full = of_precision.iter().find(|row| row.what == "full step");
        let (gflop, milliseconds) = full.map_or((f64::NAN, f64::NAN), |row| (row.gflop, row.milliseconds));
        for row in of_precision {
            (row.flop_ratio, row.seconds_ratio) = (row.gflop / gflop, row.milliseconds / milliseconds);
        }
    }
}

pub(crate) fn run(args: &StepsArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let rounds = if args.scaling { ROUNDS } else { 1 };
    let time = Duration::from_secs_f64(if args.quick { 0.5 } else { 4.0 }) / rounds;
    let patience = Patience { time, runs: if args.scaling { 4 } else { 7 } };
    let python = args.python();
    let (mut rows, mut torch) = (Vec::new(), Vec::new());
    let mut peers: Vec<Peer> = args.beside.iter().map(|program| Peer::new(program)).collect();
    let (mut peak, mut one_thread_peak) = (None, None);
    let on = |threads: usize, work: Work, words: &str, peak: &mut Option<Peak>, printer: &mut Printer| {
        let (measured_peak, rows) = pool::run(
            threads,
            |say| {
                let peak = peak.unwrap_or_else(Peak::measure);
                let mut rows = Vec::new();
                let precisions = args.precision.iter().map(|&name| Precision::from(name));
                for precision in precisions.filter(|p| p.supported() == *p) {
                    say(format!("{}: {}{words}", work.name(), name_of(precision)));
                    rows.extend(measure(work, precision, patience, peak)?);
                }
                Ok((peak, rows))
            },
            |message: String| printer.note(&message),
        )?;
        *peak = Some(measured_peak);
        anyhow::Ok(rows)
    };
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
        let mut measured = on(threads.unwrap_or(0), work, "", &mut peak, printer)?;
        if args.scaling {
            // By turns: what a machine does for others comes and goes in seconds, and least times are compared.
            let mut one = on(1, work, ", one thread", &mut one_thread_peak, printer)?;
            for _ in 1..ROUNDS {
                keep_faster(&mut measured, on(threads.unwrap_or(0), work, ", again", &mut peak, printer)?);
                keep_faster(&mut one, on(1, work, ", one thread, again", &mut one_thread_peak, printer)?);
            }
            measured.iter_mut().zip(one).for_each(|(row, one)| row.compare(one));
        }
        set_ratios(&mut measured);
        let theirs = match &python {
            Some(python) => yardstick::measure(python, work, threads, printer)?,
            None => Vec::new(),
        };
        table::print(&measured, &theirs, &peers, args, printer)?;
        rows.extend(measured);
        torch.extend(theirs);
    }
    let peaks = [peak, one_thread_peak];
    let mut document = json!({
        "machine": place::machine(), "commit": place::commit(), "peak": peak, "steps": rows, "pytorch": torch,
        "beside": peers,
    });
    if let Some(peak) = one_thread_peak {
        document["one_thread_peak"] = json!(peak);
        printer.text(&table::in_words(peaks))?;
    }
    if let Some(folder) = &args.record {
        let page = table::page(&rows, &torch, &peers, args.scaling, peaks);
        super::record(folder, "steps", &document, &[("md", &page)])?;
    }
    printer.document(&document)?;
    Ok(())
}

fn measure(work: Work, precision: Precision, patience: Patience, peak: Peak) -> Result<Vec<Row>> {
    let mut subject = work.build(precision)?;
    let mut rows = vec![Row::new(work, "forward", precision, subject.forward(patience), peak)];
    for case in work::cases(&subject) {
        rows.push(Row::new(work, case.what, precision, subject.step(&case, patience), peak));
    }
    Ok(rows)
}
