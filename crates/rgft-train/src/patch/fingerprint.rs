//! SHA-256 of tensors: names, types, shapes and scalars in the order of the names, whatever files they stand in.

use rgft_nn::TensorFiles;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use super::PatchError;
use super::pieces::Piece;

/// Of all tensors of `files`.
pub(crate) fn of_files(files: &TensorFiles) -> Result<String, PatchError> {
    let pieces = files.iter().map(|(name, tensor)| Piece::copy(name.into(), files, tensor));
    of_pieces(&pieces.collect::<Vec<_>>())
}

/// Of `pieces`, in any order.
pub(crate) fn of_pieces(pieces: &[Piece<'_>]) -> Result<String, PatchError> {
    let mut order: Vec<&Piece<'_>> = pieces.iter().collect();
    order.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for piece in order {
        head(&mut hash, &piece.name, piece.dtype, &piece.shape);
        hash.update((piece.source)()?);
    }
    Ok(hex(hash))
}

/// Every part has its length in front, so that no two lists of tensors look alike.
fn head(hash: &mut Sha256, name: &str, dtype: Dtype, shape: &[usize]) {
    let dtype = dtype.to_string();
    for text in [name, &dtype] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update((shape.len() as u64).to_le_bytes());
    shape.iter().for_each(|side| hash.update((*side as u64).to_le_bytes()));
}

/// Of some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The start of one, as people compare them.
pub(crate) fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
