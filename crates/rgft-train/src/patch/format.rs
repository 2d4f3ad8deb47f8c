//! A patch file: its description, and reading one that nobody vouches for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::pieces::Piece;
use super::slices::{Axis, Difference, Selection, Size};
use super::tensor_files::{Tensor, TensorFiles};
use super::widening::Widening;
use super::{PatchError, files, fingerprint, pieces};

/// The metadata's key.
const KEY: &str = "rgft-patch";

/// The format that is written and read here.
const FORMAT: u64 = 1;

/// What stands in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) format: u64,
    /// SHA-256 of the rest of the description and of the patch's tensors.
    pub(crate) contents: String,
    /// Version of the program that wrote it.
    pub(crate) version: String,
    /// Name of the base's folder.
    pub(crate) base: String,
    /// SHA-256 of the base's tensors.
    pub(crate) base_sha256: String,
    /// Scalars of the base.
    pub(crate) scalars: u64,
    /// Tensors of the fine-tuned model that have bits, another name or another type than in the base, by name.
    pub(crate) changed: BTreeMap<String, Changed>,
    /// Files beside the weights.
    pub(crate) files: BTreeMap<String, Hashes>,
}

/// A tensor that stands in both models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changed {
    pub(crate) shape: Vec<usize>,
    /// Its type in the fine-tuned model.
    pub(crate) dtype: Dtype,
    /// Its name in the base.
    pub(crate) base: String,
    /// Its type there.
    pub(crate) base_dtype: Dtype,
}

/// SHA-256 of a file in both folders, where it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hashes {
    pub(crate) base: Option<String>,
    pub(crate) tuned: Option<String>,
}

/// A change, checked: what is known of it without the base.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Its name in the fine-tuned model.
    pub(crate) name: String,
    pub(crate) what: Changed,
    pub(crate) widening: Widening,
    /// The slices whose bits are stored; nothing where the scalars are the base's.
    pub(crate) selection: Option<Selection>,
}

impl Change {
    /// Its size in the fine-tuned model.
    pub(crate) fn size(&self) -> Size {
        Size::of(&self.what.shape, self.what.dtype).unwrap_or(Size { rows: 0, cols: 0, unit: 1 })
    }
}

/// A patch file, opened and checked.
#[derive(Debug)]
pub struct Patch {
    pub(crate) path: PathBuf,
    pub(crate) tensors: TensorFiles,
    pub(crate) description: Description,
    /// By their names in the fine-tuned model.
    pub(crate) changes: BTreeMap<String, Change>,
    /// Tensors of the base that are gone, or stand in the fine-tuned model with another shape or type.
    pub(crate) removed: BTreeSet<String>,
    /// Tensors of the fine-tuned model that are new, or that replace those of the base.
    pub(crate) added: BTreeSet<String>,
}

impl Patch {
    /// Opens a patch and checks it against its checksum and against itself.
    ///
    /// # Errors
    /// [`PatchError::NotAPatch`], [`PatchError::Damaged`], or that it cannot be read.
    pub fn open(path: &Path) -> Result<Self, PatchError> {
        let tensors = TensorFiles::of_file(path)?;
        let not = |reason: String| PatchError::NotAPatch { path: path.into(), reason };
        let damaged = |reason: String| PatchError::Damaged { path: path.into(), reason };
        let text = tensors.metadata(KEY).ok_or_else(|| not("a safetensors file, but not a patch".into()))?;
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(not(format!("a patch of format {other}, this version reads format {FORMAT}")));
            }
            None => return Err(damaged("its description has no format".into())),
        }
        let description: Description =
            serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        let copies: Vec<Piece<'_>> =
            tensors.iter().map(|(name, tensor)| Piece::copy(name.into(), &tensors, tensor)).collect();
        if checksum(&description, &copies)? != description.contents {
            return Err(damaged("its contents do not match their checksum".into()));
        }
        drop(copies);
        let mut patch = Self {
            path: path.into(),
            tensors,
            description,
            changes: BTreeMap::new(),
            removed: BTreeSet::new(),
            added: BTreeSet::new(),
        };
        patch.check().map_err(damaged)?;
        Ok(patch)
    }

    /// Sorts the tensors by what they are for; says what contradicts what.
    fn check(&mut self) -> Result<(), String> {
        let mut used = 0;
        for (name, what) in &self.description.changed {
            let change = self.change(name, what)?;
            used += if change.selection.is_some() { 2 } else { 0 };
            self.changes.insert(name.clone(), change);
        }
        for (name, _) in self.tensors.iter() {
            let (kind, of) = name.split_once(':').unwrap_or(("", name));
            match kind {
                "base" => used += usize::from(self.removed.insert(of.into())),
                "tuned" => used += usize::from(self.added.insert(of.into())),
                "base-file" | "tuned-file" => {
                    used += 1;
                    if !self.description.files.contains_key(of) {
                        return Err(format!("{name:?} is not in its description"));
                    }
                }
                _ => {}
            }
        }
        if used != self.tensors.iter().count() {
            return Err("it holds tensors that belong to nothing".into());
        }
        let mut bases = BTreeSet::new();
        for (name, change) in &self.changes {
            let base = &change.what.base;
            if self.added.contains(name) || self.removed.contains(base) || !bases.insert(base) {
                return Err(format!("it changes {name:?} twice"));
            }
        }
        for (name, hashes) in &self.description.files {
            if !files::names().any(|known| known == name) {
                return Err(format!("{name:?} is no file of a model"));
            }
            for (side, hash) in [("base-file", &hashes.base), ("tuned-file", &hashes.tuned)] {
                let stored = self.tensors.get(&format!("{side}:{name}"));
                if stored.is_some() != (hash.is_some() && hashes.base != hashes.tuned) {
                    return Err(format!("{name:?} is described otherwise than it is stored"));
                }
            }
        }
        Ok(())
    }

    fn change(&self, name: &str, what: &Changed) -> Result<Change, String> {
        let wrong = |problem: &str| format!("{name:?} {problem}");
        let widening = Widening::between(what.base_dtype, what.dtype)
            .ok_or_else(|| wrong("changes to a type that it cannot have"))?;
        let size =
            Size::of(&what.shape, what.dtype).ok_or_else(|| wrong("has an impossible shape or type"))?;
        let runs = |axis: Axis| self.tensors.get(&format!("{}:{name}", axis.name())).map(|runs| (axis, runs));
        let selection = match (self.bits(name), runs(Axis::Rows), runs(Axis::Columns)) {
            (None, None, None) => None,
            (Some(bits), Some((axis, runs)), None) | (Some(bits), None, Some((axis, runs))) => {
                let selection =
                    Selection { axis, runs: self.runs(runs).ok_or_else(|| wrong("has runs that are none"))? };
                let limit = if axis == Axis::Rows { size.rows } else { size.cols };
                // Ascending and apart: no slice is changed twice.
                let mut end = 0;
                if selection.runs.is_empty() {
                    return Err(wrong("has bits, but no slices that they belong to"));
                }
                for run in &selection.runs {
                    if run.is_empty() || run.start < end || run.end > limit {
                        return Err(wrong(&format!(
                            "changes {} {run:?} of {limit}, after {end}",
                            axis.name()
                        )));
                    }
                    end = run.end;
                }
                if bits.dtype != size.bits() || bits.shape != selection.shape(size) {
                    return Err(wrong("has bits of another shape or type than it says"));
                }
                Some(selection)
            }
            _ => return Err(wrong("has bits without one list of slices, or a list without bits")),
        };
        Ok(Change { name: name.into(), what: what.clone(), widening, selection })
    }

    /// The list of runs `[n, 2]`.
    fn runs(&self, tensor: &Tensor) -> Option<Vec<Range<usize>>> {
        let well_formed = tensor.dtype == Dtype::U32 && tensor.shape.len() == 2 && tensor.shape[1] == 2;
        let bytes = self.tensors.whole(tensor).ok().filter(|_| well_formed)?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize;
        Some(bytes.chunks_exact(8).map(|run| word(&run[..4])..word(&run[4..])).collect())
    }

    /// The stored bits of tensor `name`.
    pub(crate) fn bits(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("bits:{name}"))
    }

    /// The difference of tensor `name`, if any of its bits differ.
    pub(crate) fn difference<'a>(&'a self, name: &str) -> Option<Recorded<'a>> {
        let change = self.changes.get(name)?;
        Some(Recorded {
            patch: self,
            bits: self.bits(name)?,
            size: change.size(),
            selection: change.selection.as_ref()?,
        })
    }

    /// The stored tensor `kind:name`, as a tensor called `name`.
    pub(crate) fn stored<'a>(&'a self, kind: &str, name: &str) -> Option<Piece<'a>> {
        let tensor = self.tensors.get(&format!("{kind}:{name}"))?;
        Some(Piece::copy(name.into(), &self.tensors, tensor))
    }
}

/// The difference that a patch has recorded for a tensor.
pub(crate) struct Recorded<'a> {
    patch: &'a Patch,
    bits: &'a Tensor,
    size: Size,
    selection: &'a Selection,
}

impl Difference for Recorded<'_> {
    fn size(&self) -> Size {
        self.size
    }

    fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>, PatchError> {
        let (size, files) = (self.size, &self.patch.tensors);
        let mut out = vec![0; rows.len() * size.row()];
        let mut stored = Vec::new();
        match self.selection.axis {
            Axis::Rows => {
                // Selected rows of a range stand together.
                let before = |end: usize| -> usize {
                    self.selection.runs.iter().map(|run| run.end.min(end).saturating_sub(run.start)).sum()
                };
                files.read(
                    self.bits,
                    before(rows.start) * size.row()..before(rows.end) * size.row(),
                    &mut stored,
                )?;
                let mut rest = &stored[..];
                for run in &self.selection.runs {
                    let (begin, end) = (run.start.max(rows.start), run.end.min(rows.end));
                    if begin < end {
                        let (own, others) = rest.split_at((end - begin) * size.row());
                        out[(begin - rows.start) * size.row()..][..own.len()].copy_from_slice(own);
                        rest = others;
                    }
                }
            }
            Axis::Columns => {
                let width = self.selection.count() * size.unit;
                files.read(self.bits, rows.start * width..rows.end * width, &mut stored)?;
                for (out, stored) in out.chunks_exact_mut(size.row()).zip(stored.chunks_exact(width)) {
                    let mut rest = stored;
                    for run in &self.selection.runs {
                        let (own, others) = rest.split_at(run.len() * size.unit);
                        out[run.start * size.unit..run.end * size.unit].copy_from_slice(own);
                        rest = others;
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Writes a patch and opens it; fills in format, version and checksum. An earlier patch is replaced, nothing else.
pub(crate) fn write(
    path: &Path,
    mut description: Description,
    pieces: Vec<Piece<'_>>,
) -> Result<Patch, PatchError> {
    let refuse =
        |problem: &str, hint| Err(PatchError::Out { path: path.into(), problem: problem.into(), hint });
    let is_patch = || TensorFiles::of_file(path).is_ok_and(|file| file.metadata(KEY).is_some());
    if path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return refuse("its folder does not exist", "choose a file in a folder that exists");
    }
    if path.exists() && !is_patch() {
        return refuse("is there already, and no patch", "choose another file");
    }
    description.format = FORMAT;
    description.version = env!("CARGO_PKG_VERSION").into();
    description.contents = checksum(&description, &pieces)?;
    pieces::write(path, (KEY, text(&description)), pieces)?;
    Patch::open(path)
}

/// SHA-256 of a description, but for this field, and of the tensors beside it.
fn checksum(description: &Description, pieces: &[Piece<'_>]) -> Result<String, PatchError> {
    let described = text(&Description { contents: String::new(), ..description.clone() });
    Ok(fingerprint::of_bytes((described + &fingerprint::of_pieces(pieces)?).as_bytes()))
}

fn text(description: &Description) -> String {
    serde_json::to_string(description).unwrap_or_default()
}
