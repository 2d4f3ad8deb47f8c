//! `diff`: the patch between two model folders.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::format::{self, Changed, Description, Patch};
use super::pieces::Piece;
use super::slices::{Difference, Selection, Size, size_of, xor};
use super::tensor_files::{Tensor, TensorFiles};
use super::widening::Widening;
use super::{PatchError, files, fingerprint};

/// Writes to `out` what the model of folder `tuned` changes in that of folder `base`.
///
/// # Errors
/// If a folder holds no readable weights, or `out` cannot be written.
pub fn diff(base: &Path, tuned: &Path, out: &Path) -> Result<Patch, PatchError> {
    let weights = [TensorFiles::of_folder(base)?, TensorFiles::of_folder(tuned)?];
    let [of_base, of_tuned] = &weights;
    let mut description = Description {
        base: name_of(base),
        base_sha256: fingerprint::of_files(of_base)?,
        scalars: of_base.iter().map(|(_, tensor)| tensor.scalars() as u64).sum(),
        ..Description::default()
    };
    let mut pieces = files::compare(&files::read(base)?, &files::read(tuned)?, &mut description);
    let mut bases: BTreeSet<&str> = of_base.iter().map(|(name, _)| name).collect();
    let mut added: BTreeSet<&str> = of_tuned.iter().map(|(name, _)| name).collect();
    for (name, base_name, pair) in pairs(of_base, of_tuned) {
        if !pair.comes_back()? {
            continue;
        }
        bases.remove(base_name);
        added.remove(name);
        let selection = Selection::of(&pair)?;
        if selection.is_some() || name != base_name || pair.widening != Widening::None {
            let (b, t) = (pair.base, pair.tuned);
            let changed = Changed {
                shape: t.shape.clone(),
                dtype: t.dtype,
                base: base_name.into(),
                base_dtype: b.dtype,
            };
            description.changed.insert(name.into(), changed);
        }
        if let Some(selection) = selection {
            pieces.extend(selection.pieces(name, pair));
        }
    }
    for (kind, names, files) in [("base", bases, of_base), ("tuned", added, of_tuned)] {
        let tensors = names.into_iter().filter_map(|name| Some((name, files.get(name)?)));
        pieces.extend(tensors.map(|(name, tensor)| Piece::copy(format!("{kind}:{name}"), files, tensor)));
    }
    format::write(out, description, pieces)
}

fn name_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A tensor of the base and what became of it.
struct Pair<'a> {
    files: [&'a TensorFiles; 2],
    base: &'a Tensor,
    tuned: &'a Tensor,
    size: Size,
    widening: Widening,
}

impl Pair<'_> {
    /// Rows of the base's tensor, as they stand there.
    fn base_rows(&self, rows: &Range<usize>) -> Result<Vec<u8>, PatchError> {
        let row = self.base.bytes() / self.size.rows.max(1);
        let mut bytes = Vec::new();
        self.files[0].read(self.base, rows.start * row..rows.end * row, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether widening can be undone: a signalling NaN does not survive it.
    fn comes_back(&self) -> Result<bool, PatchError> {
        if self.widening == Widening::F16 {
            for rows in self.size.chunks(0..self.size.rows) {
                let bytes = self.base_rows(&rows)?;
                if self.widening.narrow(self.widening.widen(bytes.clone())) != bytes {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Difference for Pair<'_> {
    fn size(&self) -> Size {
        self.size
    }

    fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>, PatchError> {
        let mut bits = self.widening.widen(self.base_rows(&rows)?);
        let mut tuned = Vec::new();
        self.files[1].read(
            self.tuned,
            rows.start * self.size.row()..rows.end * self.size.row(),
            &mut tuned,
        )?;
        xor(&mut bits, &tuned);
        Ok(bits)
    }
}

/// The tensors that stand in both models: fine-tuned name, name in the base. Equal names first; then those whose base
/// name lacks a prefix (`bert.`) or has it in excess, or is the old one of a norm's parameter.
fn pairs<'a>(base: &'a TensorFiles, tuned: &'a TensorFiles) -> Vec<(&'a str, &'a str, Pair<'a>)> {
    let pair = |b: &'a Tensor, t: &'a Tensor| {
        let widening = Widening::between(b.dtype, t.dtype).filter(|_| b.shape == t.shape)?;
        let size = size_of(t)?;
        Some(Pair { files: [base, tuned], base: b, tuned: t, size, widening })
    };
    let mut pairs = Vec::new();
    let mut left: Vec<(&str, &Tensor)> = Vec::new();
    for (name, tensor) in tuned.iter() {
        match base.get(name) {
            None => left.push((name, tensor)),
            Some(own) => pairs.extend(pair(own, tensor).map(|pair| (name, name, pair))),
        }
    }
    let mut free: BTreeMap<&str, &Tensor> =
        base.iter().filter(|(name, _)| tuned.get(name).is_none()).collect();
    for (name, tensor) in left {
        let alike = |base: &str| {
            let base = base
                .replace("LayerNorm.gamma", "LayerNorm.weight")
                .replace("LayerNorm.beta", "LayerNorm.bias");
            let ends =
                |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
            name == base || ends(name, &base) || ends(&base, name)
        };
        let mut found = free.iter().filter(|(base, own)| alike(base) && own.shape == tensor.shape);
        if let (Some((&base_name, &own)), None) = (found.next(), found.next())
            && let Some(pair) = pair(own, tensor)
        {
            free.remove(base_name);
            pairs.push((name, base_name, pair));
        }
    }
    pairs
}
