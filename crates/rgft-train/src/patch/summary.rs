//! `show`: what a patch holds, tensor by tensor.

use std::path::Path;

use serde::Serialize;

use super::PatchError;
use super::format::{Change, Made, Patch};
use super::slices::{Difference, xor};
use super::tensor_files::TensorFiles;
use super::widening::{Widening, numbers};

/// What a patch holds.
#[derive(Clone, Debug, Serialize)]
pub struct PatchSummary {
    /// Version of the file format.
    pub format: u64,
    /// Version of the program that wrote it.
    pub version: String,
    /// Name of the base's folder when it was made.
    pub base: String,
    /// SHA-256 of the base's tensors.
    pub base_sha256: String,
    /// How the fine-tuned model was made, as far as is known.
    #[serde(flatten)]
    pub made: Made,
    /// Bytes of the file.
    pub bytes: u64,
    /// Scalars that it holds for the fine-tuned model.
    pub scalars: u64,
    /// Those over the base's scalars.
    pub share: f64,
    /// Tensors that have another name than in the base.
    pub renamed: usize,
    /// Tensors that have a wider type than in the base.
    pub widened: usize,
    /// Tensors that it stores something of, by name.
    pub tensors: Vec<TensorSummary>,
    /// Files beside the weights that it changes, by name.
    pub files: Vec<FileSummary>,
}

/// What a patch stores of a tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorSummary {
    /// Its name in the fine-tuned model, or in the base where it was removed.
    pub name: String,
    /// `rows` or `columns` of which the change is stored; `new`, `replaced` (by another shape or type) or `removed`.
    pub kind: &'static str,
    /// Rows or columns stored.
    pub slices: usize,
    /// Rows or columns that it has.
    pub of: usize,
    /// Runs that they make.
    pub runs: usize,
    /// Scalars of the fine-tuned model stored.
    pub scalars: u64,
    /// Bytes that it takes in the patch.
    pub bytes: u64,
    /// Scalars over those of the base.
    pub share: f64,
    /// `‖θ' − θ‖₂` over the whole tensor; known with the base.
    pub change: Option<f64>,
    /// The same over `‖θ‖₂`.
    pub relative_change: Option<f64>,
}

/// What a patch does with a file.
#[derive(Clone, Debug, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// `changed`, `new` or `removed`.
    pub kind: &'static str,
    /// Bytes that it takes in the patch.
    pub bytes: u64,
}

impl Patch {
    /// What it holds; with the folder of its base also how large the changes are.
    ///
    /// # Errors
    /// If `base` is not its base, or cannot be read.
    pub fn summary(&self, base: Option<&Path>) -> Result<PatchSummary, PatchError> {
        let weights = match base {
            Some(folder) => {
                let weights = TensorFiles::of_folder(folder)?;
                self.check_base(folder, &weights)?;
                Some(weights)
            }
            None => None,
        };
        let description = &self.description;
        let mut tensors = Vec::new();
        for change in self.changes.values() {
            let norms = weights.as_ref().map(|weights| self.norms(change, weights)).transpose()?.flatten();
            tensors.extend(self.slices(change, norms));
        }
        tensors.extend(self.added.union(&self.removed).map(|name| self.whole(name)));
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let bytes = std::fs::metadata(&self.path).map(|file| file.len());
        let scalars = tensors.iter().map(|tensor| tensor.scalars).sum();
        let changes = || self.changes.values();
        Ok(PatchSummary {
            format: description.format,
            version: description.version.clone(),
            base: description.base.clone(),
            base_sha256: description.base_sha256.clone(),
            made: description.made.clone(),
            bytes: bytes.map_err(|source| PatchError::Read { path: self.path.clone(), source })?,
            scalars,
            share: self.share(scalars),
            renamed: changes().filter(|change| change.name != change.what.base).count(),
            widened: changes().filter(|change| change.widening != Widening::None).count(),
            tensors,
            files: self.files(),
        })
    }

    fn share(&self, scalars: u64) -> f64 {
        scalars as f64 / self.description.scalars.max(1) as f64
    }

    fn bytes(&self, tensor: &str) -> u64 {
        self.tensors.get(tensor).map_or(0, |tensor| tensor.bytes() as u64)
    }

    fn slices(&self, change: &Change, norms: Option<[f64; 2]>) -> Option<TensorSummary> {
        let (selection, size, name) = (change.selection.as_ref()?, change.size(), &change.name);
        let [a, b] = selection.shape(size);
        let scalars = (a * b) as u64;
        let kind = selection.axis.name();
        Some(TensorSummary {
            name: name.clone(),
            kind,
            slices: selection.count(),
            of: if kind == "rows" { size.rows } else { size.cols },
            runs: selection.runs.len(),
            scalars,
            bytes: self.bytes(&format!("bits:{name}")) + self.bytes(&format!("{kind}:{name}")),
            share: self.share(scalars),
            change: norms.map(|[change, _]| change),
            relative_change: norms.map(|[change, base]| change / base).filter(|ratio| ratio.is_finite()),
        })
    }

    fn whole(&self, name: &str) -> TensorSummary {
        let tuned = self.tensors.get(&format!("tuned:{name}"));
        let kind = match (self.removed.contains(name), tuned.is_some()) {
            (true, true) => "replaced",
            (true, false) => "removed",
            _ => "new",
        };
        let scalars = tuned.map_or(0, |tensor| tensor.scalars() as u64);
        let rows = tuned.map_or(0, |tensor| tensor.shape.first().copied().unwrap_or(1));
        TensorSummary {
            name: name.into(),
            kind,
            slices: rows,
            of: rows,
            runs: 1,
            scalars,
            bytes: self.bytes(&format!("base:{name}")) + self.bytes(&format!("tuned:{name}")),
            share: self.share(scalars),
            change: None,
            relative_change: None,
        }
    }

    /// `‖θ' − θ‖₂` and `‖θ‖₂` of a change; nothing for types that are no numbers.
    fn norms(&self, change: &Change, weights: &TensorFiles) -> Result<Option<[f64; 2]>, PatchError> {
        let what = &change.what;
        let found =
            weights.get(&what.base).filter(|base| base.shape == what.shape && base.dtype == what.base_dtype);
        let (Some(base), Some(difference)) = (found, self.difference(&change.name)) else { return Ok(None) };
        let size = change.size();
        let row = base.bytes() / size.rows.max(1);
        let mut sums = [0.0; 2];
        for rows in size.chunks(0..size.rows) {
            let mut bytes = Vec::new();
            weights.read(base, rows.start * row..rows.end * row, &mut bytes)?;
            bytes = change.widening.widen(bytes);
            let before = numbers(what.dtype, &bytes);
            xor(&mut bytes, &difference.rows(rows)?);
            let (Some(before), Some(after)) = (before, numbers(what.dtype, &bytes)) else { return Ok(None) };
            for (before, after) in before.iter().zip(&after) {
                sums[0] += (after - before).powi(2);
                sums[1] += before.powi(2);
            }
        }
        Ok(Some(sums.map(f64::sqrt)))
    }

    fn files(&self) -> Vec<FileSummary> {
        let changed = self.description.files.iter().filter(|(_, hashes)| hashes.base != hashes.tuned);
        let file = changed.map(|(name, hashes)| FileSummary {
            name: name.clone(),
            kind: match (&hashes.base, &hashes.tuned) {
                (Some(_), Some(_)) => "changed",
                (None, _) => "new",
                _ => "removed",
            },
            bytes: self.bytes(&format!("base-file:{name}")) + self.bytes(&format!("tuned-file:{name}")),
        });
        file.collect()
    }
}
