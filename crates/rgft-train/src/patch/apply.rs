//! `apply` and `revert`: the same exclusive or, in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rgft_nn::TensorFiles;

use super::format::{Change, Patch};
use super::pieces::Piece;
use super::{PatchError, files, fingerprint, pieces};

impl Patch {
    /// Writes to folder `out`, which must be empty or not yet there, what this patch makes of its base: bit-equal to the
    /// fine-tuned model, with the files that it is used with.
    ///
    /// # Errors
    /// [`PatchError::WrongBase`] if `base` is another model, in its tensors or in the files beside them, but for
    /// `recipe.toml`; if `out` holds something or cannot be written.
    pub fn apply(&self, base: &Path, out: &Path) -> Result<(), PatchError> {
        let weights = TensorFiles::of_folder(base)?;
        self.check_base(base, &weights)?;
        let files = files::patched(self, base, true, &|difference| self.wrong_base(base, difference))?;
        let damaged = |reason| PatchError::Damaged { path: self.path.clone(), reason };
        let pieces = self.pieces(&weights, true, &damaged)?;
        write_folder(out, &files, pieces)
    }

    /// Writes to folder `out`, which must be empty or not yet there, the base of the fine-tuned model `tuned`, exact to
    /// the bit.
    ///
    /// # Errors
    /// [`PatchError::WrongTuned`] if taking the changes back from `tuned` does not give the base's tensors, or a file that
    /// the patch leaves alone is not the base's (one that it changes is not looked at); if `out` holds something or cannot be written.
    pub fn revert(&self, tuned: &Path, out: &Path) -> Result<(), PatchError> {
        let weights = TensorFiles::of_folder(tuned)?;
        let wrong = |difference| PatchError::WrongTuned {
            folder: tuned.into(),
            patch: self.path.clone(),
            difference,
        };
        let pieces = self.pieces(&weights, false, &wrong)?;
        // Only the base's own scalars have the base's hash, so nothing need be known of the fine-tuned ones.
        if fingerprint::of_pieces(&pieces)? != self.description.base_sha256 {
            return Err(wrong("reverting it does not give the base's weights".into()));
        }
        let files = files::patched(self, tuned, false, &wrong)?;
        write_folder(out, &files, pieces)
    }

    /// Refuses every folder but that of the base.
    pub(crate) fn check_base(&self, folder: &Path, weights: &TensorFiles) -> Result<(), PatchError> {
        let (found, expected) = (fingerprint::of_files(weights)?, &self.description.base_sha256);
        if found == *expected {
            return Ok(());
        }
        let [found, expected] = [&found, expected].map(|hash| fingerprint::short(hash).to_string());
        Err(self.wrong_base(folder, format!("its weights have SHA-256 {found}…, expected {expected}…")))
    }

    fn wrong_base(&self, folder: &Path, difference: String) -> PatchError {
        let (patch, base) = (self.path.clone(), self.description.base.clone());
        PatchError::WrongBase { folder: folder.into(), patch, difference, base }
    }

    /// The tensors that come of `input`; `wrong` makes the error of what does not fit.
    fn pieces<'a>(
        &'a self,
        input: &'a TensorFiles,
        forward: bool,
        wrong: &dyn Fn(String) -> PatchError,
    ) -> Result<Vec<Piece<'a>>, PatchError> {
        let (gone, new, kind) = if forward {
            (&self.removed, &self.added, "tuned")
        } else {
            (&self.added, &self.removed, "base")
        };
        let changed = self.description.changed.iter();
        let changes: BTreeMap<&str, (&str, &Change)> = changed
            .map(|(name, change)| (if forward { &change.base[..] } else { name }, (&name[..], change)))
            .collect();
        let missing = gone.iter().map(String::as_str).chain(changes.keys().copied());
        if let Some(name) = missing.into_iter().find(|name| input.get(name).is_none()) {
            return Err(wrong(format!("it has no tensor {name:?}")));
        }
        let mut pieces: Vec<Piece<'a>> = new.iter().filter_map(|name| self.stored(kind, name)).collect();
        for (own, tensor) in input.iter().filter(|(name, _)| !gone.contains(*name)) {
            let Some(&(name, change)) = changes.get(own) else {
                pieces.push(Piece::copy(own.into(), input, tensor));
                continue;
            };
            let (base, tuned) = ((&change.base[..], change.base_dtype), (name, change.dtype));
            let ((_, from), (to, dtype)) = if forward { (base, tuned) } else { (tuned, base) };
            if tensor.shape != change.shape || tensor.dtype != from {
                return Err(wrong(format!("its tensor {own:?} has another shape or type")));
            }
            let source = Box::new(move || {
                let mut bytes = input.read(tensor)?;
                if forward {
                    bytes = change.widening.widen(bytes);
                }
                self.xor(name, change, &mut bytes)?;
                Ok(if forward { bytes } else { change.widening.narrow(bytes) })
            });
            pieces.push(Piece { name: to.into(), dtype, shape: change.shape.clone(), source });
        }
        let mut names = BTreeSet::new();
        match pieces.iter().find(|piece| !names.insert(&piece.name)) {
            Some(twice) => Err(wrong(format!("two tensors would be called {:?}", twice.name))),
            None => Ok(pieces),
        }
    }
}

/// Writes a model folder.
fn write_folder(
    out: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    pieces: Vec<Piece<'_>>,
) -> Result<(), PatchError> {
    let refuse = |problem: String, hint| PatchError::Out { path: out.into(), problem, hint };
    let unusable = |error: std::io::Error| refuse(error.to_string(), "choose a folder that can be written");
    if out.exists() && !out.is_dir() {
        return Err(refuse("is a file".into(), "give a folder to --out"));
    }
    if out.is_dir() && std::fs::read_dir(out).map_err(unusable)?.next().is_some() {
        return Err(refuse("holds files".into(), "choose an empty folder"));
    }
    std::fs::create_dir_all(out).map_err(unusable)?;
    files::write(out, files)?;
    pieces::write(&out.join("model.safetensors"), ("format", "pt".into()), pieces, |_| Ok(()))
}
