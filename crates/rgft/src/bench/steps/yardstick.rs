//! The same work in PyTorch, by the script `steps.py`, where a Python with torch is given.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::beside::{self, Other};
use crate::args::Work;
use crate::printer::Printer;

/// Environment variable that names the folder of the PyTorch scripts.
pub(crate) const FOLDER: &str = "RGFT_YARDSTICK";

/// The folder of the PyTorch scripts.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os(FOLDER).map_or_else(|| PathBuf::from("../shared/yardstick"), PathBuf::from)
}

/// A row for every setting of the script, as shipped and, where a `libunlock.so` lies beside the environment, preloaded with
/// that (MKL takes slow paths on AMD processors unless told otherwise).
pub(super) fn measure(
    python: &Path,
    work: Work,
    threads: Option<usize>,
    printer: &mut Printer,
) -> Result<Vec<Other>> {
    let script = folder().join("steps.py");
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
        let mut command = Command::new(python);
        command.arg(&script);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        for mut row in beside::ask(command, python, work, threads)? {
            row.more.insert("setting".into(), json!(format!("{how} {}", row.precision)));
            rows.push(row);
        }
    }
    Ok(rows)
}
