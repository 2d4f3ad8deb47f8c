//! Tensors that are made while they are written, one at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rgft_nn::weights::write_beside;
use rgft_nn::{FileTensor, TensorFiles};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::PatchError;

/// A tensor, as what it is and what makes its bytes.
pub(crate) struct Piece<'a> {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Makes its bytes; may be asked several times.
    pub(crate) source: Box<dyn Fn() -> Result<Vec<u8>, PatchError> + 'a>,
}

impl<'a> Piece<'a> {
    /// One whose bytes are at hand.
    pub(crate) fn of_bytes(name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        Self { name, dtype, shape, source: Box::new(move || Ok(bytes.clone())) }
    }

    /// `tensor` of `files`, as it stands.
    pub(crate) fn copy(name: String, files: &'a TensorFiles, tensor: &'a FileTensor) -> Self {
        let source = Box::new(|| Ok(files.read(tensor)?));
        Self { name, dtype: tensor.dtype, shape: tensor.shape.clone(), source }
    }
}

/// Writes a safetensors file with one entry of metadata, whole or not at all; laid out as the format's own library does,
/// so equal tensors give equal files. `check` is given the written file before it has its name.
pub(crate) fn write<T>(
    path: &Path,
    metadata: (&str, String),
    mut pieces: Vec<Piece<'_>>,
    check: impl FnOnce(&Path) -> Result<T, PatchError>,
) -> Result<T, PatchError> {
    pieces.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let mut end = 0;
    let infos = pieces.iter().map(|piece| {
        let begin = end;
        end += piece.shape.iter().product::<usize>() * piece.dtype.bitsize() / 8;
        let info = TensorInfo { dtype: piece.dtype, shape: piece.shape.clone(), data_offsets: (begin, end) };
        (piece.name.clone(), info)
    });
    let impossible =
        |reason: String| PatchError::Write { path: path.into(), source: std::io::Error::other(reason) };
    let metadata = HashMap::from([(metadata.0.to_string(), metadata.1)]);
    let header =
        Metadata::new(Some(metadata), infos.collect()).map_err(|error| impossible(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| impossible(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let failed = |source| PatchError::Write { path: path.into(), source };
    write_beside(path, failed, |beside| {
        let mut file = File::create(beside).map_err(failed)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        for piece in &pieces {
            file.write_all(&(piece.source)()?).map_err(failed)?;
        }
        check(beside)
    })
}
