//! The files of a model folder beside its weights: what is needed to use the model, and nothing about the run.

use std::collections::BTreeMap;
use std::path::Path;

use rgft_data::{SeriesScaling, TOKENIZER_FILES};
use rgft_nn::weights::write_whole;
use safetensors::tensor::Dtype;

use super::format::{Description, Hashes, Patch};
use super::pieces::Piece;
use super::{PatchError, fingerprint};

/// The recipe: by it `eval` and `predict` know the settings of the training. It says how a model was made, not what it
/// is.
pub(crate) const RECIPE: &str = "recipe.toml";

/// Their names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ["config.json", SeriesScaling::FILE, RECIPE].into_iter().chain(TOKENIZER_FILES)
}

/// Those of `folder`, by name.
pub(crate) fn read(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, PatchError> {
    let present = names().map(|name| (name, folder.join(name))).filter(|(_, path)| path.is_file());
    let read = present.map(|(name, path)| match std::fs::read(&path) {
        Ok(bytes) => Ok((name.to_string(), bytes)),
        Err(source) => Err(PatchError::Read { path, source }),
    });
    read.collect()
}

/// Describes the files of both folders; the tensors for those that differ.
pub(crate) fn compare(
    base: &BTreeMap<String, Vec<u8>>,
    tuned: &BTreeMap<String, Vec<u8>>,
    description: &mut Description,
) -> Vec<Piece<'static>> {
    let mut pieces = Vec::new();
    for name in names() {
        let sides = [("base-file", base.get(name)), ("tuned-file", tuned.get(name))];
        let [base, tuned] = sides.map(|(_, bytes)| bytes.map(|bytes| fingerprint::of_bytes(bytes)));
        if base != tuned {
            let stored = sides.into_iter().filter_map(|(side, bytes)| Some((side, bytes?)));
            pieces.extend(stored.map(|(side, bytes)| {
                Piece::of_bytes(format!("{side}:{name}"), Dtype::U8, vec![bytes.len()], bytes.clone())
            }));
        }
        if base.is_some() || tuned.is_some() {
            description.files.insert(name.into(), Hashes { base, tuned });
        }
    }
    pieces
}

/// What the files beside the weights become from those of `folder`: the patch's where it changes them, those that are
/// there where it does not. Those of a base must be its own, but for the recipe, and those that the patch leaves alone
/// must be everywhere; `wrong` makes the error.
pub(crate) fn patched(
    patch: &Patch,
    folder: &Path,
    forward: bool,
    wrong: &dyn Fn(String) -> PatchError,
) -> Result<BTreeMap<String, Vec<u8>>, PatchError> {
    let mut found = read(folder)?;
    let mut out = BTreeMap::new();
    for (name, hashes) in &patch.description.files {
        let side = if forward { "tuned-file" } else { "base-file" };
        let changes = hashes.base != hashes.tuned;
        let hash = found.get(name).map(|bytes| fingerprint::of_bytes(bytes));
        if hash != hashes.base && (!changes || forward && name != RECIPE) {
            return Err(wrong(format!("its {name} is another one")));
        }
        if !changes {
            out.extend(found.remove_entry(name));
        } else if let Some(tensor) = patch.tensors.get(&format!("{side}:{name}")) {
            out.insert(name.clone(), patch.tensors.read(tensor)?);
        }
    }
    Ok(out)
}

/// Writes them into `folder`.
pub(crate) fn write(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), PatchError> {
    files.iter().try_for_each(|(name, bytes)| {
        let path = folder.join(name);
        write_whole(&path, bytes).map_err(|source| PatchError::Write { path, source })
    })
}
