//! The same work in other programs. Each is started as `PROGRAM WORK --threads N` and prints a JSON object a line, for each
//! step that it measures in each of its settings: `work`, `what`, `precision`, `median_ms`, `best_ms`, and whatever else. A
//! work that it does not offer it answers with nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::args::Work;

/// A step in another program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Other {
    work: String,
    what: String,
    pub(super) precision: String,
    pub(super) median_ms: f64,
    pub(super) best_ms: f64,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

impl Other {
    /// In what setting it was measured: its precision, if it does not say more.
    pub(super) fn setting(&self) -> &str {
        self.more.get("setting").and_then(Value::as_str).unwrap_or(&self.precision)
    }

    #[cfg(test)]
    pub(super) fn of(work: &str, what: &str, precision: &str, median_ms: f64, best_ms: f64) -> Self {
        let (work, what, precision) = (work.into(), what.into(), precision.into());
        Self { work, what, precision, median_ms, best_ms, more: Map::new() }
    }
}

/// Why another program has no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BesideError {
    #[error("{}: cannot be started: {source}\nhint: --beside and --python take a program; experiments/peers builds two", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("{} {work}: ended with {status}: {said}", program.display())]
    Ended { program: PathBuf, work: &'static str, status: ExitStatus, said: String },
    #[error("{} {work}: line {line} is `{found}`, expected a JSON object of a step: {reason}", program.display())]
    Line { program: PathBuf, work: &'static str, line: usize, found: String, reason: String },
}

impl BesideError {
    /// Whether it is no such program, and not one that failed.
    pub(crate) fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Ended { .. })
    }
}

/// What `command`, which starts `program`, says of `work` with as many threads as the pool has.
pub(super) fn ask(
    mut command: Command,
    program: &Path,
    work: Work,
    threads: Option<usize>,
) -> Result<Vec<Other>, BesideError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.filter(|n| *n > 0).unwrap_or(cores).to_string();
    let (program, work) = (program.to_path_buf(), work.name());
    let output = match command.arg(work).arg("--threads").arg(threads).output() {
        Ok(output) => output,
        Err(source) => return Err(BesideError::Start { program, source }),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(BesideError::Ended { program, work, status: output.status, said });
    }
    parse(&program, work, &String::from_utf8_lossy(&output.stdout))
}

fn parse(program: &Path, work: &'static str, text: &str) -> Result<Vec<Other>, BesideError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(i, line): (usize, &str)| {
        let wrong = |reason: String| BesideError::Line {
            program: program.to_path_buf(),
            work,
            line: i + 1,
            found: line.chars().take(80).collect(),
            reason,
        };
        let row: Other = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if row.work != work {
            return Err(wrong(format!("it is about {}", row.work)));
        }
        let times = [row.median_ms, row.best_ms];
        if times.iter().any(|ms| *ms <= 0.0) {
            return Err(wrong("a time is not above 0".into()));
        }
        Ok(row)
    };
    lines.map(row).collect()
}

/// The row of the least time for `what`, by `time`.
pub(super) fn best<'a>(
    rows: &'a [Other],
    work: &str,
    what: &str,
    time: fn(&Other) -> f64,
) -> Option<&'a Other> {
    let same = rows.iter().filter(|row| row.work == work && row.what == what);
    same.min_by(|a, b| time(a).total_cmp(&time(b)))
}

/// A program that was named on the command line, and what it said.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    /// The program's file name without its extension.
    pub(super) name: String,
    pub(super) steps: Vec<Other>,
}

impl Peer {
    pub(super) fn new(program: &Path) -> Self {
        let name = program.file_stem().unwrap_or(program.as_os_str());
        Self { name: name.to_string_lossy().into_owned(), steps: Vec::new() }
    }

    /// ` 1.2.3` where it says its version.
    pub(super) fn version(&self) -> String {
        let said = self.steps.first().and_then(|row| row.more.get("version")?.as_str());
        said.map(|version| format!(" {version}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LINE: &str = r#"{"work": "lstm", "what": "forward", "precision": "f32", "median_ms": 3.5, "best_ms": 3, "runs": 9}"#;

    fn parsed(text: &str) -> Result<Vec<Other>, BesideError> {
        parse(Path::new("tools/peer"), "lstm", text)
    }

    #[test]
    fn lines_of_steps_py_are_read_and_kept() {
        let rows = parsed(&format!("{LINE}\n\n{}\n", LINE.replace("3.5", "2.5"))).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::from_str::<Value>(&LINE.replace(": 3,", ": 3.0,")).unwrap()
        );
        assert_eq!(best(&rows, "lstm", "forward", |row| row.median_ms).unwrap().median_ms, 2.5);
        assert!(best(&rows, "lstm", "full step", |row| row.median_ms).is_none());
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn other_output_is_told_with_its_line() {
        for (line, reason) in [
            ("usage: peer [OPTIONS]", "expected value"),
            ("{\"work\": \"lstm\"}", "missing field `what`"),
            (&LINE.replace("3.5", "0"), "a time is not above 0"),
            (&LINE.replace("3.5", "\"3.5\""), "invalid type"),
            (&LINE.replace("lstm", "minilm"), "it is about minilm"),
        ] {
            let error = parsed(&format!("{LINE}\n{line}")).unwrap_err();
            let message = error.to_string();
            assert!(error.is_bad_input() && message.starts_with("tools/peer lstm: line 2 is `"), "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn a_peer_is_called_after_its_file() {
        assert_eq!(Peer::new(Path::new("target/release/candle.exe")).name, "candle");
    }
}
