//! The same work in PyTorch, by the script `steps.py`, where a Python with torch is given.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::Work;
use crate::printer::Printer;

/// Environment variable that names the folder of the PyTorch scripts.
const FOLDER: &str = "RGFT_YARDSTICK";

/// A row for every setting of the script, as shipped and, where a `libunlock.so` lies beside the environment, preloaded with
/// that (MKL takes slow paths on AMD processors unless told otherwise).
pub(super) fn measure(
    python: &Path,
    work: Work,
    threads: Option<usize>,
    printer: &mut Printer,
) -> Result<Vec<Value>> {
    let folder = std::env::var_os(FOLDER).map_or_else(|| PathBuf::from("../shared/yardstick"), PathBuf::from);
    let script = folder.join("steps.py");
    if !script.is_file() {
        printer.warning(&format!("{}: no such script; set {FOLDER}", script.display()));
        return Ok(Vec::new());
    }
    let unlock = python.parent().and_then(Path::parent).map(|venv| venv.join("libunlock.so"));
    let mut rows = Vec::new();
    for (how, preload) in [("default", None), ("unlocked", unlock.filter(|path| path.is_file()))] {
        if how == "unlocked" && preload.is_none() {
            continue;
        }
        printer.note(&format!("{}: PyTorch, {how}", work.name()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.filter(|n| *n > 0).unwrap_or(cores).to_string();
        let mut command = std::process::Command::new(python);
        command.arg(&script).arg(work.name()).arg("--threads").arg(threads);
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

/// PyTorch's fastest setting for `what`, by the key `of`: `(milliseconds, setting)`.
pub(super) fn best_of(torch: &[Value], work: &str, what: &str, of: &str) -> Option<(f64, String)> {
    let same = torch.iter().filter(|row| row["work"] == work && row["what"] == what);
    let times = same.filter_map(|row| Some((row[of].as_f64()?, row["setting"].as_str()?.to_string())));
    times.min_by(|a, b| a.0.total_cmp(&b.0))
}
