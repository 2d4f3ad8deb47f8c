//! One run: claimed, made by a child process, read, and put on record.
//!
//! A run is claimed by a lock on a file beside its folder. The system gives the lock back when its last holder is gone,
//! and the child holds it too (as its stdin): what a dead process has claimed can be taken over at once, and what its
//! child is still at cannot.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rgft_core::{Event, RunSummary};
use rgft_train::TrainError;
use rgft_train::recipe::RawRecipe;

use super::grid::Cell;
use super::identity::{identity, settings};
use super::records::Record;

/// Points of a course on record.
const COURSE: usize = 24;

/// What stays of a run's folder unless all of it is kept.
const KEPT: [&str; 2] = ["recipe.toml", "run.json"];

/// How runs are made.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    /// This program.
    pub(super) program: PathBuf,
    /// Threads of each run.
    pub(super) threads: usize,
    /// Runs at the same time.
    pub(super) jobs: usize,
    /// Whether weights and everything else of a run stay.
    pub(super) keep: bool,
    pub(super) machine: String,
    pub(super) commit: Option<String>,
}

/// A run that did not end with a result.
pub(super) struct Failure {
    pub(super) reason: String,
    /// The child's exit status; `None` where it was killed or never started.
    pub(super) status: Option<i32>,
}

impl Failure {
    /// Whether the same run would fail again, so that it belongs on record.
    pub(super) fn is_certain(&self) -> bool {
        self.status == Some(1) && self.reason.contains("diverged")
    }
}

/// A run that nobody else makes as long as this is held.
pub(super) struct Claim(File);

/// Claims the run whose folder is `folder`; `None` if another process, or another thread of this one, is at it.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn claim(folder: &Path) -> Result<Option<Claim>, TrainError> {
    let path = folder.with_extension("lock");
    let failed = |source| TrainError::Write { path: path.clone(), source };
    std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
    let mut file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            // For whoever looks into the folder; the lock alone counts.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(Some(Claim(file)))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the run, unless its folder holds it already.
///
/// # Errors
/// The run failed, or what it left cannot be read.
pub(super) fn run(cell: &Cell, folder: &Path, claim: &Claim, how: &Conditions) -> Result<Record, Failure> {
    if !holds(folder, cell) {
        child(cell, folder, claim, how)?;
    }
    let unreadable = |reason: String| Failure { reason, status: Some(0) };
    let path = folder.join("run.json");
    let text =
        std::fs::read_to_string(&path).map_err(|error| unreadable(format!("{}: {error}", path.display())))?;
    let summary: RunSummary =
        serde_json::from_str(&text).map_err(|error| unreadable(format!("{}: {error}", path.display())))?;
    Ok(record(&summary, course(folder, &summary), how))
}

/// Whether `folder` holds the finished run of `cell`, left by a process that did not come to put it on record.
fn holds(folder: &Path, cell: &Cell) -> bool {
    let recipe = RawRecipe::from_file(&folder.join("recipe.toml")).and_then(RawRecipe::check);
    // Without its events the run's course is lost.
    folder.join("run.json").is_file()
        && folder.join("events.jsonl").is_file()
        && recipe.is_ok_and(|recipe| identity(&settings(&recipe)) == cell.identity)
}

fn child(cell: &Cell, folder: &Path, claim: &Claim, how: &Conditions) -> Result<(), Failure> {
    let not_started = |reason: String| Failure { reason, status: None };
    let _ = std::fs::remove_dir_all(folder);
    let recipe = RawRecipe { out: Some(folder.into()), threads: Some(how.threads), ..cell.recipe.clone() };
    let recipe = recipe.check().map_err(|error| Failure { reason: error.to_string(), status: Some(2) })?;
    let config = folder.with_extension("toml");
    rgft_nn::weights::write_whole(&config, recipe.to_toml().as_bytes())
        .map_err(|error| not_started(format!("{}: {error}", config.display())))?;
    let held = claim.0.try_clone().map_err(|error| not_started(error.to_string()))?;
    let output = Command::new(&how.program)
        .args(["train", "--quiet", "--config"])
        .arg(&config)
        .stdin(Stdio::from(held))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| not_started(format!("cannot start {}: {error}", how.program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find_map(|line| line.strip_prefix("error: "));
    let reason = error.map_or_else(|| output.status.to_string(), str::to_owned);
    Err(Failure { reason, status: output.status.code() })
}

fn record(summary: &RunSummary, curve: Vec<(f64, Option<f64>)>, how: &Conditions) -> Record {
    let finite = |values: &std::collections::BTreeMap<String, f64>| {
        values
            .iter()
            .map(|(name, value)| (name.clone(), Some(*value).filter(|value| value.is_finite())))
            .collect()
    };
    Record {
        metric: summary.convergence.metric.clone(),
        validation: finite(&summary.metrics.validation),
        test: finite(&summary.metrics.test),
        flops_ratio: summary.flops.ratio,
        flops: summary.flops.total,
        seconds: summary.seconds.processor.unwrap_or(summary.seconds.train),
        peak_rss_bytes: summary.memory.peak_rss_bytes,
        curve,
        threads: summary.threads,
        version: summary.version.clone(),
        ..blank(how)
    }
}

/// A record of where a run was made.
pub(super) fn blank(how: &Conditions) -> Record {
    Record {
        threads: how.threads,
        jobs: how.jobs,
        machine: how.machine.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: how.commit.clone(),
        ..Record::default()
    }
}

/// The validation metric in the course of the run, against FLOPs; at most [`COURSE`] points, the last among them.
fn course(folder: &Path, summary: &RunSummary) -> Vec<(f64, Option<f64>)> {
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
    let points: Vec<(f64, Option<f64>)> = events
        .lines()
        .filter(|line| line.starts_with("{\"event\":\"validation\""))
        .filter_map(|line| match serde_json::from_str(line) {
            Ok(Event::Validation { metrics, flops, .. }) => {
                let value = metrics.get(&summary.convergence.metric).copied();
                let ratio = flops as f64 / (summary.flops.full_equivalent as f64).max(1.0);
                Some((short(ratio), value.filter(|value| value.is_finite()).map(short)))
            }
            _ => None,
        })
        .collect();
    let every = points.len().div_ceil(COURSE).max(1);
    let last = points.len().wrapping_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(i, _)| (last - i).is_multiple_of(every))
        .map(|(_, point)| point)
        .collect()
}

/// Five digits, which is more than a drawn curve shows.
fn short(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// Removes what is large: weights, tokenizer, events, report. For a run that is on record.
pub(super) fn tidy(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !KEPT.iter().any(|name| entry.file_name() == *name) {
            // What cannot be removed only takes room.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
