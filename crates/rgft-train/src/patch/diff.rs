//! `diff`: the patch between two model folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rgft_nn::{FileTensor, TensorFiles};

use super::format::{self, Change, Description, Patch};
use super::pieces::Piece;
use super::slices::{Selection, xor};
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
    for (name, [before, after], change) in pairs(of_base, of_tuned) {
        let (widening, size) = (change.widening, change.size);
        // A signalling NaN does not come back from F32.
        let comes_back = |bytes: Vec<u8>| widening.narrow(widening.widen(bytes.clone())) == bytes;
        if widening == Widening::F16 && !comes_back(of_base.read(before)?) {
            continue;
        }
        bases.remove(&change.base[..]);
        added.remove(name);
        let bits = move || {
            let mut bits = widening.widen(of_base.read(before)?);
            xor(&mut bits, &of_tuned.read(after)?);
            Ok(bits)
        };
        let selection = Selection::of(&bits()?, size);
        if selection.is_some() || name != change.base || widening != Widening::None {
            description.changed.insert(name.into(), change);
        }
        pieces.extend(selection.into_iter().flat_map(|selection| selection.pieces(name, size, bits)));
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

/// The tensors that stand in both models: the fine-tuned name, both tensors, what changes. Equal names first; then those whose base
/// name lacks a prefix (`bert.`) or has it in excess, or is the old one of a norm's parameter.
fn pairs<'a>(base: &'a TensorFiles, tuned: &'a TensorFiles) -> Vec<(&'a str, [&'a FileTensor; 2], Change)> {
    let pair =
        |name, base_name, base, tuned| Some((name, [base, tuned], Change::between(base_name, base, tuned)?));
    let mut pairs = Vec::new();
    let mut left: Vec<(&str, &FileTensor)> = Vec::new();
    for (name, tensor) in tuned.iter() {
        match base.get(name) {
            None => left.push((name, tensor)),
            Some(own) => pairs.extend(pair(name, name, own, tensor)),
        }
    }
    let mut free: BTreeMap<&str, &FileTensor> =
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
            && let Some(pair) = pair(name, base_name, own, tensor)
        {
            free.remove(base_name);
            pairs.push(pair);
        }
    }
    pairs
}
