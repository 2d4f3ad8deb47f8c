//! `rgft compare` and `rgft bench suite`: methods over budgets, settings, seeds and tasks.
//!
//! ```text
//! flags, suite file ──► grid: every run ──► schedule: what is next ──► run: a child process ──► records
//!                                               ▲                                                  │
//!                                               └──────────────────── known ◄──────────────────────┤
//!                                                                                                  ▼
//!                                                              tables, compare.html, JSON ◄── gather
//! ```
//!
//! A run that is on record is not made again, whoever made it. Several processes may work on one folder: each run is
//! claimed before it is started.

mod gather;
pub(crate) mod grid;
mod identity;
pub(crate) mod place;
mod records;
pub(crate) mod results;
mod run;
mod schedule;
mod suite;
mod work;

use std::path::{Path, PathBuf};

use anyhow::Result;
use rgft_report::compare::{Comparison, comparison_page, comparison_text};
use rgft_train::TrainError;

use self::grid::Task;
use self::records::Records;
use self::run::Conditions;
use self::schedule::Known;
use self::work::Work;
use crate::args::{CompareArgs, RunsArgs, SuiteArgs};
use crate::printer::Printer;

/// One task: its recipe under several methods.
pub(crate) fn run(args: &CompareArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let raw = args.recipe.recipe(threads)?;
    ["out", "model", "data", "task"].iter().try_for_each(|key| raw.require(key))?;
    let out = raw.out.clone().unwrap_or_default();
    let data = raw.data.clone().unwrap_or_default();
    let name = data.file_stem().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    let task = Task::new(&place::file_name(&name), &raw, &args.grid.grid()?)?;
    let model =
        raw.model.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let records = args.runs.records.clone().unwrap_or_else(|| out.clone());
    compare(&format!("{model} on {name}"), vec![task], &out, &records, raw.threads, &args.runs, printer)
}

/// Many tasks, of a suite file.
pub(crate) fn run_suite(args: &SuiteArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let suite = suite::read(&args.file, &args.grid, &args.tasks)?;
    let records = args.runs.records.clone().or(suite.records).unwrap_or_else(|| args.out.clone());
    compare(&suite.title, suite.tasks, &args.out, &records, threads, &args.runs, printer)
}

fn compare(
    title: &str,
    tasks: Vec<Task>,
    out: &Path,
    records: &Path,
    threads: Option<usize>,
    args: &RunsArgs,
    printer: &mut Printer,
) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match threads {
        None | Some(0) => cores,
        Some(threads) => threads,
    };
    let how = Conditions {
        program: place::program()
            .map_err(|source| TrainError::Write { path: PathBuf::from("rgft"), source })?,
        threads: (threads / args.jobs).max(1),
        jobs: args.jobs,
        keep: args.keep,
        machine: place::machine(),
        commit: place::commit(),
    };
    std::fs::create_dir_all(out).map_err(|source| TrainError::Write { path: out.to_path_buf(), source })?;
    let conditions = format!(
        "{}, {} × {} threads, rgft {}",
        how.machine,
        how.jobs,
        how.threads,
        env!("CARGO_PKG_VERSION")
    );
    let report = Report { title: title.to_owned(), conditions, out: out.to_path_buf() };
    let files = tasks.into_iter().map(|task| {
        let name = place::file_name(&task.name);
        let records = Records::new(records.join(format!("{name}.jsonl")));
        (task, records)
    });
    let work = Work::new(files.collect(), out, how, report)?;
    work.forget(&args.again)?;
    work.all(printer)?;
    let comparison = work.comparison();
    work.report.write(&comparison)?;
    if let Some(failure) = work.only_failure() {
        return Err(failure.into());
    }
    printer.text(&comparison_text(&comparison))?;
    printer.note(&format!("report: {}", out.join("compare.html").display()));
    printer.document(&gather::document(&comparison))?;
    Ok(())
}

/// The files that a comparison leaves.
struct Report {
    title: String,
    conditions: String,
    out: PathBuf,
}

impl Report {
    /// The comparison as far as `tasks` are known.
    fn comparison(&self, tasks: &[(&Task, &Known)]) -> Comparison {
        gather::gather(&self.title, &self.conditions, tasks)
    }

    fn write(&self, comparison: &Comparison) -> Result<(), TrainError> {
        let _lock = place::lock(&self.out)?;
        place::write(&self.out.join("compare.txt"), &comparison_text(comparison))?;
        place::write(&self.out.join("compare.html"), &comparison_page(comparison))?;
        Ok(())
    }
}
