//! Tensors that are made while they are written: safetensors files larger than the memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rgft_nn::weights::write_beside;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::PatchError;
use super::tensor_files::{Tensor, TensorFiles};

/// Bytes that are handled together.
pub(crate) const CHUNK: usize = 1 << 20;

/// Takes the bytes of a tensor, in order.
pub(crate) type Sink<'s> = dyn FnMut(&[u8]) -> Result<(), PatchError> + 's;

/// A tensor, as what it is and what makes its bytes.
pub(crate) struct Piece<'a> {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
    pub(crate) source: Source<'a>,
}

/// Hands the bytes of a tensor to a sink; may be asked several times.
pub(crate) type Source<'a> = Box<dyn Fn(&mut Sink<'_>) -> Result<(), PatchError> + 'a>;

impl<'a> Piece<'a> {
    /// One whose bytes are at hand.
    pub(crate) fn of_bytes(name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        Self { name, dtype, shape, bytes: bytes.len(), source: Box::new(move |sink| sink(&bytes)) }
    }

    /// `tensor` of `files`, as it stands.
    pub(crate) fn copy(name: String, files: &'a TensorFiles, tensor: &'a Tensor) -> Self {
        let source: Source<'a> = Box::new(move |sink| {
            let mut buffer = Vec::new();
            for begin in (0..tensor.bytes()).step_by(CHUNK) {
                buffer.clear();
                files.read(tensor, begin..tensor.bytes().min(begin + CHUNK), &mut buffer)?;
                sink(&buffer)?;
            }
            Ok(())
        });
        Self { name, dtype: tensor.dtype, shape: tensor.shape.clone(), bytes: tensor.bytes(), source }
    }
}

/// Writes a safetensors file with at most one entry of metadata, whole or not at all; laid out as the format's own
/// library does, so equal tensors give equal files.
pub(crate) fn write(
    path: &Path,
    metadata: (&str, String),
    mut pieces: Vec<Piece<'_>>,
) -> Result<(), PatchError> {
    pieces.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let mut end = 0;
    let infos = pieces.iter().map(|piece| {
        let begin = end;
        end += piece.bytes;
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
        let mut file = BufWriter::with_capacity(CHUNK, File::create(beside).map_err(failed)?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        for piece in &pieces {
            (piece.source)(&mut |bytes| file.write_all(bytes).map_err(failed))?;
        }
        file.flush().map_err(failed)
    })
}
