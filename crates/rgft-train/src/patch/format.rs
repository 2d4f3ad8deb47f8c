//! A patch file: its description, and reading one that nobody vouches for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rgft_nn::{FileTensor, TensorFiles};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::pieces::Piece;
use super::slices::{Axis, Selection, Size};
use super::widening::Widening;
use super::{PatchError, files, fingerprint, pieces};

/// The metadata's key.
const KEY: &str = "rgft-patch";

/// The format that is written and read here.
const FORMAT: u64 = 1;

/// Bytes of a tensor that are made on the word of any patch, and how many times what a patch stores: merging sees no
/// base that would vouch for a shape.
const MOST_BYTES: usize = 1 << 30;
const MOST_TIMES: usize = 1 << 16;

/// What stands in the metadata.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    pub(crate) changed: BTreeMap<String, Change>,
    /// Files beside the weights.
    pub(crate) files: BTreeMap<String, Hashes>,
}

/// A tensor that stands in both models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    pub(crate) shape: Vec<usize>,
    /// Its type in the fine-tuned model.
    pub(crate) dtype: Dtype,
    /// Its name in the base.
    pub(crate) base: String,
    /// Its type there.
    pub(crate) base_dtype: Dtype,
    /// What follows from the types.
    #[serde(skip)]
    pub(crate) widening: Widening,
    /// Its size in the fine-tuned model.
    #[serde(skip)]
    pub(crate) size: Size,
    /// The slices whose bits a patch stores; nothing where the scalars are the base's.
    #[serde(skip)]
    pub(crate) selection: Option<Selection>,
}

impl Change {
    /// From tensor `base` of the base to `tuned`; nothing if their difference cannot be told.
    pub(crate) fn between(name: &str, base: &FileTensor, tuned: &FileTensor) -> Option<Self> {
        Some(Self {
            shape: tuned.shape.clone(),
            dtype: tuned.dtype,
            base: name.into(),
            base_dtype: base.dtype,
            widening: Widening::between(base.dtype, tuned.dtype).filter(|_| base.shape == tuned.shape)?,
            size: Size::of(&tuned.shape, tuned.dtype)?,
            selection: None,
        })
    }

    /// Whether the two make the same of a tensor, but for its bits.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (&self.shape, self.dtype, &self.base, self.base_dtype)
            == (&other.shape, other.dtype, &other.base, other.base_dtype)
    }

    /// Finds what the description does not say in the patch's tensors.
    fn complete(&mut self, name: &str, tensors: &TensorFiles) -> Result<(), String> {
        let wrong = |problem: &str| format!("{name:?} {problem}");
        self.widening = Widening::between(self.base_dtype, self.dtype)
            .ok_or_else(|| wrong("changes to a type that it cannot have"))?;
        self.size =
            Size::of(&self.shape, self.dtype).ok_or_else(|| wrong("has an impossible shape or type"))?;
        let stored = |kind: &str| tensors.get(&format!("{kind}:{name}"));
        let (bits, axis, list) = match (stored("bits"), stored("rows"), stored("columns")) {
            (None, None, None) => return Ok(()),
            (Some(bits), Some(list), None) => (bits, Axis::Rows, list),
            (Some(bits), None, Some(list)) => (bits, Axis::Columns, list),
            _ => return Err(wrong("has bits without one list of slices, or a list without bits")),
        };
        if list.dtype != Dtype::U32 || list.shape.len() != 2 || list.shape[1] != 2 {
            return Err(wrong("has runs that are none"));
        }
        let bytes = tensors.read(list).map_err(|error| error.to_string())?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize;
        let runs = bytes.chunks_exact(8).map(|run| word(&run[..4])..word(&run[4..])).collect();
        let selection = Selection { axis, runs };
        if selection.runs.is_empty() {
            return Err(wrong("has bits, but no slices that they belong to"));
        }
        // Ascending and apart: no slice is changed twice.
        let (limit, mut end) = (self.size.along(axis), 0);
        for run in &selection.runs {
            if run.is_empty() || run.start < end || run.end > limit {
                let problem = format!("changes {} {run:?} of {limit}, after {end}", axis.name());
                return Err(wrong(&problem));
            }
            end = run.end;
        }
        if bits.dtype != self.size.bits() || bits.shape != selection.shape(self.size) {
            return Err(wrong("has bits of another shape or type than it says"));
        }
        self.selection = Some(selection);
        Ok(())
    }
}

/// SHA-256 of a file in both folders, where it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hashes {
    pub(crate) base: Option<String>,
    pub(crate) tuned: Option<String>,
}

/// A patch file, opened and checked.
#[derive(Debug)]
pub struct Patch {
    pub(crate) path: PathBuf,
    pub(crate) tensors: TensorFiles,
    pub(crate) description: Description,
    /// Tensors of the base that are gone, or stand in the fine-tuned model with another shape or type.
    pub(crate) removed: BTreeSet<String>,
    /// Tensors of the fine-tuned model that are new, or that replace those of the base.
    pub(crate) added: BTreeSet<String>,
}

impl Patch {
    /// Opens a patch and checks it against its checksum and against itself.
    ///
    /// # Errors
    /// [`PatchError::Damaged`], or that it cannot be read.
    pub fn open(path: &Path) -> Result<Self, PatchError> {
        Self::of_tensors(TensorFiles::of_file(path)?, path)
    }

    /// Checks what was read of `path`.
    fn of_tensors(tensors: TensorFiles, path: &Path) -> Result<Self, PatchError> {
        let damaged = |reason: String| PatchError::Damaged { path: path.into(), reason };
        let text = tensors
            .metadata(KEY)
            .ok_or_else(|| damaged("a safetensors file without a description of changes".into()))?;
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(damaged(format!("of format {other}, this version reads format {FORMAT}")));
            }
            None => return Err(damaged("its description has no format".into())),
        }
        let description: Description =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
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
            removed: BTreeSet::new(),
            added: BTreeSet::new(),
        };
        patch.check().map_err(damaged)?;
        Ok(patch)
    }

    /// Sorts the tensors by what they are for; says what contradicts what.
    fn check(&mut self) -> Result<(), String> {
        let mut used = 0;
        for (name, change) in &mut self.description.changed {
            change.complete(name, &self.tensors)?;
            used += if change.selection.is_some() { 2 } else { 0 };
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
        for (name, change) in &self.description.changed {
            let base = &change.base;
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

    /// Takes the difference of tensor `name` into its scalars.
    pub(crate) fn xor(&self, name: &str, change: &Change, scalars: &mut [u8]) -> Result<(), PatchError> {
        let bits = self.tensors.get(&format!("bits:{name}"));
        if let (Some(selection), Some(bits)) = (&change.selection, bits) {
            selection.xor(scalars, &self.tensors.read(bits)?, change.size);
        }
        Ok(())
    }

    /// The difference of tensor `name`, zeros included; refused where so large a tensor is not to be believed.
    pub(crate) fn difference(&self, name: &str, change: &Change) -> Result<Vec<u8>, PatchError> {
        let (bytes, stored) = (change.size.bytes(), self.tensors.iter().map(|(_, tensor)| tensor.bytes()));
        if bytes > MOST_BYTES.max(stored.sum::<usize>().saturating_mul(MOST_TIMES)) {
            let reason = format!("{name:?} of {bytes} bytes is too large for what is stored");
            return Err(PatchError::Damaged { path: self.path.clone(), reason });
        }
        let mut bits = vec![0; bytes];
        self.xor(name, change, &mut bits)?;
        Ok(bits)
    }

    /// The stored tensor `kind:name`, as a tensor called `name`.
    pub(crate) fn stored<'a>(&'a self, kind: &str, name: &str) -> Option<Piece<'a>> {
        let tensor = self.tensors.get(&format!("{kind}:{name}"))?;
        Some(Piece::copy(name.into(), &self.tensors, tensor))
    }
}

/// Writes a patch and opens it; fills in format, version and checksum. An earlier patch is replaced, nothing else, and
/// only by one that can be read.
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
    pieces::write(path, (KEY, text(&description)), pieces, |beside| {
        Patch::of_tensors(TensorFiles::of_file(beside)?.called(path), path)
    })
}

/// SHA-256 of a description, but for this field, and of the tensors beside it.
fn checksum(description: &Description, pieces: &[Piece<'_>]) -> Result<String, PatchError> {
    let described = text(&Description { contents: String::new(), ..description.clone() });
    Ok(fingerprint::of_bytes((described + &fingerprint::of_pieces(pieces)?).as_bytes()))
}

fn text(description: &Description) -> String {
    serde_json::to_string(description).unwrap_or_default()
}
