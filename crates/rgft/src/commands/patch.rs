//! `rgft patch`: changed slices as a file: made, applied, taken back, merged, shown.

use std::path::Path;

use anyhow::Result;
use rgft_train::TrainError;
use rgft_train::patch::{self, Merged, Overlap, Patch, PatchSummary, Prefer, TensorSummary};
use serde::Serialize;
use serde_json::json;

use crate::args::{PatchAction as Action, Side};
use crate::printer::Printer;

pub(crate) fn run(action: &Action, printer: &mut Printer) -> Result<()> {
    match action {
        Action::Diff { base, tuned, out } => diff(base, tuned, out, printer),
        Action::Apply { base, patch, out } => {
            let patch = open(patch)?;
            patch.apply(base, out).map_err(TrainError::from)?;
            made(&patch, out, printer)
        }
        Action::Revert { tuned, patch, out } => {
            let patch = open(patch)?;
            patch.revert(tuned, out).map_err(TrainError::from)?;
            made(&patch, out, printer)
        }
        Action::Merge { first, second, out, prefer } => {
            let prefer = prefer.map(|side| match side {
                Side::First => Prefer::First,
                Side::Second => Prefer::Second,
            });
            merge(first, second, prefer, out, printer)
        }
        Action::Show { patch } => {
            let summary = open(patch)?.summary().map_err(TrainError::from)?;
            printer.table(&HEADER, &rows(&summary))?;
            printer.text(&in_words(&summary))?;
            Ok(printer.document(&summary)?)
        }
    }
}

fn open(path: &Path) -> Result<Patch, TrainError> {
    Ok(Patch::open(path)?)
}

fn diff(base: &Path, tuned: &Path, out: &Path, printer: &mut Printer) -> Result<()> {
    let patch = patch::diff(base, tuned, out).map_err(TrainError::from)?;
    let summary = patch.summary().map_err(TrainError::from)?;
    printer.text(&in_words(&summary))?;
    Ok(printer.document(&summary)?)
}

/// Says what a patch made.
fn made(patch: &Patch, out: &Path, printer: &mut Printer) -> Result<()> {
    let summary = patch.summary().map_err(TrainError::from)?;
    printer.text(&format!("{}: {}", out.display(), holding(&summary)))?;
    let (tensors, files) = (summary.tensors.len(), summary.files.len());
    Ok(printer
        .document(&json!({ "out": out, "tensors": tensors, "scalars": summary.scalars, "files": files }))?)
}

#[derive(Serialize)]
struct MergeDocument {
    overlaps: Vec<Overlap>,
    patch: PatchSummary,
}

fn merge(
    first: &Path,
    second: &Path,
    prefer: Option<Prefer>,
    out: &Path,
    printer: &mut Printer,
) -> Result<()> {
    let Merged { patch, overlaps } = patch::merge(first, second, prefer, out).map_err(TrainError::from)?;
    let summary = patch.summary().map_err(TrainError::from)?;
    if overlaps.is_empty() {
        printer.text("the two overlap nowhere")?;
    } else {
        let row = |overlap: &Overlap| {
            let [scalars, differ] = match overlap.kind {
                "file" | "tensor" => ["", "all"].map(String::from),
                _ => [overlap.scalars, overlap.differ].map(|count| count.to_string()),
            };
            vec![overlap.to_string(), scalars, differ]
        };
        let rows: Vec<Vec<String>> = overlaps.iter().map(row).collect();
        printer.table(&["both change", "scalars", "differ"], &rows)?;
    }
    printer.text(&in_words(&summary))?;
    Ok(printer.document(&MergeDocument { overlaps, patch: summary })?)
}

const HEADER: [&str; 5] = ["tensor", "slices", "scalars", "bytes", "of the model"];

fn rows(summary: &PatchSummary) -> Vec<Vec<String>> {
    let slices = |tensor: &TensorSummary| match tensor.kind {
        "rows" | "columns" => format!("{} of {} {}", tensor.slices, tensor.of, tensor.kind),
        kind => kind.into(),
    };
    let tensors = summary.tensors.iter().map(|tensor| {
        let (scalars, bytes) = (tensor.scalars.to_string(), tensor.bytes.to_string());
        vec![tensor.name.clone(), slices(tensor), scalars, bytes, percent(tensor.share)]
    });
    let files = summary.files.iter().map(|file| {
        let none = String::new;
        vec![file.name.clone(), file.kind.into(), none(), file.bytes.to_string(), none()]
    });
    tensors.chain(files).collect()
}

/// The whole in a few lines.
fn in_words(summary: &PatchSummary) -> String {
    let base = &summary.base_sha256;
    let mut text = format!("base {}, SHA-256 {}…\n", summary.base, base.get(..12).unwrap_or(base));
    for (count, what) in [(summary.renamed, "have another name"), (summary.widened, "have a wider type")] {
        if count > 0 {
            text += &format!("{count} tensors {what} than in the base\n");
        }
    }
    text + &holding(summary)
}

fn holding(summary: &PatchSummary) -> String {
    let megabytes = summary.bytes as f64 / 1e6;
    let (tensors, share) = (summary.tensors.len(), percent(summary.share));
    format!(
        "{tensors} tensors changed, {} scalars ({share} of the model), patch of {megabytes:.3} MB",
        summary.scalars
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
