//! `show`: what a patch holds, tensor by tensor.

use serde::Serialize;

use super::PatchError;
use super::format::{Change, Patch};
use super::widening::Widening;

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
    /// Scalars of the fine-tuned model stored.
    pub scalars: u64,
    /// Bytes that it takes in the patch.
    pub bytes: u64,
    /// Scalars over those of the base.
    pub share: f64,
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
    /// What it holds.
    ///
    /// # Errors
    /// If the file is gone.
    pub fn summary(&self) -> Result<PatchSummary, PatchError> {
        let description = &self.description;
        let mut tensors: Vec<_> =
            self.description.changed.iter().filter_map(|(name, change)| self.slices(name, change)).collect();
        tensors.extend(self.added.union(&self.removed).map(|name| self.whole(name)));
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let bytes = std::fs::metadata(&self.path).map(|file| file.len());
        let scalars = tensors.iter().map(|tensor| tensor.scalars).sum();
        let changes = || description.changed.iter();
        Ok(PatchSummary {
            format: description.format,
            version: description.version.clone(),
            base: description.base.clone(),
            base_sha256: description.base_sha256.clone(),
            bytes: bytes.map_err(|source| PatchError::Read { path: self.path.clone(), source })?,
            scalars,
            share: self.share(scalars),
            renamed: changes().filter(|(name, change)| **name != change.base).count(),
            widened: changes().filter(|(_, change)| change.widening != Widening::None).count(),
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

    fn slices(&self, name: &str, change: &Change) -> Option<TensorSummary> {
        let (selection, size) = (change.selection.as_ref()?, change.size);
        let [a, b] = selection.shape(size);
        let scalars = (a * b) as u64;
        let kind = selection.axis.name();
        Some(TensorSummary {
            name: name.into(),
            kind,
            slices: selection.count(),
            of: size.along(selection.axis),
            scalars,
            bytes: self.bytes(&format!("bits:{name}")) + self.bytes(&format!("{kind}:{name}")),
            share: self.share(scalars),
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
            scalars,
            bytes: self.bytes(&format!("base:{name}")) + self.bytes(&format!("tuned:{name}")),
            share: self.share(scalars),
        }
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
