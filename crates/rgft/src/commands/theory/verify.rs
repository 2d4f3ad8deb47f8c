//! `rgft theory verify`: the statements of THEORY.md, measured.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, ensure};
use rgft_core::theory::curves::{self, Curve};
use rgft_core::theory::verify::{self as statements, Finding};
use rgft_report::{Panel, bounds_svg};
use rgft_train::{OutFolder, TrainError};
use serde_json::json;

use crate::args::VerifyArgs;
use crate::printer::Printer;

pub(super) fn run(args: &VerifyArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let out = args.out.as_deref().map(|path| OutFolder::for_files(path, &FILES)).transpose()?;
    let begun = Instant::now();
    let findings = verify_all(args, threads, |finding, done| {
        printer.note(&progress(finding, done, begun));
    });
    let seconds = begun.elapsed().as_secs_f64();
    printer.table(&HEADER, &findings.iter().map(row).collect::<Vec<_>>())?;
    let violations: usize = findings.iter().map(|finding| finding.violations).sum();
    let tried: usize = findings.iter().map(|finding| finding.problems + finding.searched).sum();
    printer.text(&format!(
        "{violations} violations in {tried} problems, {seconds:.0} s; a tightness of 1 is a bound that is met"
    ))?;
    if let Some(out) = out {
        write(&out, args, &findings)?;
    }
    printer.document(&document(args, &findings))?;
    let untried = findings.iter().filter(|finding| finding.problems < args.problems);
    let untried: Vec<&str> = untried.map(|finding| finding.statement).collect();
    ensure!(untried.is_empty(), "hardly a problem says anything of {}", untried.join(", "));
    if violations > 0 {
        let names: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.violations > 0)
            .map(|finding| finding.statement)
            .collect();
        anyhow::bail!("violated: {}", names.join(", "));
    }
    Ok(())
}

/// All statements, each by one thread at a time; they take different times, so they are handed out one by one.
fn verify_all(
    args: &VerifyArgs,
    threads: Option<usize>,
    mut told: impl FnMut(&Finding, usize),
) -> Vec<Finding> {
    let count = statements::statements();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let (say, hear) = mpsc::channel();
    let mut findings: Vec<(usize, Finding)> = Vec::with_capacity(count);
    std::thread::scope(|scope| {
        for _ in 0..threads.filter(|&threads| threads > 0).unwrap_or(cores).min(count) {
            let (say, next) = (say.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    // If nobody listens any more, there is nobody to tell.
                    let _ =
                        say.send((index, statements::verify(index, args.problems, args.search, args.seed)));
                }
            });
        }
        drop(say);
        for (index, finding) in hear {
            told(&finding, findings.len() + 1);
            findings.push((index, finding));
        }
    });
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

const FILES: [&str; 3] = ["theory.json", "theory.md", "theory.svg"];
const HEADER: [&str; 6] = ["statement", "says", "tried", "violations", "tightness", "of what was searched"];

fn row(finding: &Finding) -> Vec<String> {
    vec![
        finding.statement.to_owned(),
        finding.says.to_owned(),
        (finding.problems + finding.searched).to_string(),
        finding.violations.to_string(),
        format!("{:.3}", finding.tightness),
        format!("{:.3}", finding.tightness_searched),
    ]
}

fn progress(finding: &Finding, done: usize, begun: Instant) -> String {
    let all = statements::statements();
    let spent = begun.elapsed().as_secs_f64();
    let left = spent * (all - done) as f64 / done as f64;
    format!(
        "{}: {} violations; {done} of {all} done, about {left:.0} s left",
        finding.statement, finding.violations
    )
}

fn document(args: &VerifyArgs, findings: &[Finding]) -> serde_json::Value {
    json!({ "problems": args.problems, "search": args.search, "seed": args.seed, "statements": findings })
}

/// The findings as numbers and as a table; bounds beside what they bound as a picture.
fn write(out: &OutFolder, args: &VerifyArgs, findings: &[Finding]) -> Result<(), TrainError> {
    let mut table = String::new();
    let mut line = |cells: &[String]| {
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    };
    line(&HEADER.map(String::from));
    line(&HEADER.map(|_| "---".to_owned()));
    findings.iter().for_each(|finding| line(&row(finding)));
    let whole = format!("{:#}\n", document(args, findings));
    let panel = |curve: Curve| Panel {
        title: curve.statement.to_owned(),
        subtitle: curve.steps.to_owned(),
        quantity: curve.quantity.to_owned(),
        along: curve.along.to_owned(),
        points: curve.points,
    };
    let panels: Vec<Panel> = curves::curves().into_iter().map(panel).collect();
    let picture = bounds_svg("Bounds and what was measured", &panels);
    for (name, text) in FILES.into_iter().zip([&whole, &table, &picture]) {
        out.write(name, text.as_bytes())?;
    }
    Ok(())
}
