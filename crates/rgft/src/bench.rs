//! `rgft bench`: figures about this machine, always beside its measured peak or another program's in the same run.

pub(crate) mod gemm;
pub(crate) mod growth;
pub(crate) mod localize;
mod peak;
pub(crate) mod runs;
pub(crate) mod steps;
mod subject;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::commands::compare::place;

/// What a piece of work takes, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds {
    /// The median.
    pub(crate) median: f64,
    /// The least: what it takes when nobody else uses the machine.
    pub(crate) best: f64,
}

/// For how long something is run, and how often at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) time: Duration,
    pub(crate) runs: usize,
}

/// The times of `work`, after warming up, over as long as `patience` wants.
pub(crate) fn seconds(patience: Patience, mut work: impl FnMut()) -> Seconds {
    (0..patience.runs.div_ceil(3)).for_each(|_| work());
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < patience.runs || start.elapsed() < patience.time {
        let begun = Instant::now();
        work();
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Seconds { median: times[times.len() / 2], best: times[0] }
}

/// Where figures are from, as a sentence: processor and commit.
fn origin() -> String {
    format!("{}. {}.", place::machine(), place::commit().unwrap_or_else(|| "no commit".into()))
}

/// A table, its first column text, the others numbers.
fn markdown(header: &[&str], lines: &[Vec<String>]) -> String {
    let mut table = format!("| {} |\n|---{}|\n", header.join(" | "), "|---:".repeat(header.len() - 1));
    lines.iter().for_each(|line| table += &format!("| {} |\n", line.join(" | ")));
    table
}

/// Writes `NAME.json`, and the same for reading as `(extension, text)`, into `folder`.
fn record(folder: &Path, name: &str, document: &Value, texts: &[(&str, &str)]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(document)? + "\n";
    for (extension, text) in [("json", json.as_str())].iter().chain(texts) {
        let path = folder.join(format!("{name}.{extension}"));
        rgft_nn::weights::write_whole(&path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
