//! Tensors in safetensors files, read one at a time: what is in memory is never a whole file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};

use crate::NnError;
use crate::weights::weight_files;

/// Bytes of the longest header that is read, as the format has it.
const LONGEST_HEADER: u64 = 100_000_000;

/// Where a tensor stands, and what it is.
#[derive(Clone, Debug)]
pub struct FileTensor {
    /// The type of its scalars.
    pub dtype: Dtype,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    file: usize,
    at: u64,
    bytes: usize,
}

impl FileTensor {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of its scalars.
    pub fn scalars(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The tensors of one file, or of all shards of a model.
#[derive(Debug, Default)]
pub struct TensorFiles {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, FileTensor>,
    metadata: BTreeMap<String, String>,
}

impl TensorFiles {
    /// The weights of a model folder: `model.safetensors`, or all shards that its index names.
    ///
    /// # Errors
    /// If a file is missing, truncated or no safetensors.
    pub fn of_folder(folder: &Path) -> Result<Self, NnError> {
        let mut all = Self::default();
        for path in weight_files(folder)? {
            all.add(&path)?;
        }
        Ok(all)
    }

    /// The tensors of one file.
    ///
    /// # Errors
    /// If it is missing, truncated or no safetensors.
    pub fn of_file(path: &Path) -> Result<Self, NnError> {
        let mut all = Self::default();
        all.add(path)?;
        Ok(all)
    }

    /// The same files, for messages all called `path`.
    pub fn called(mut self, path: &Path) -> Self {
        self.files.iter_mut().for_each(|file| file.0 = path.into());
        self
    }

    /// Reads a header and checks it against the file's length.
    fn add(&mut self, path: &Path) -> Result<(), NnError> {
        let io = |source| NnError::Io { path: path.into(), source };
        let damaged =
            |reason: &dyn ToString| NnError::Safetensors { path: path.into(), reason: reason.to_string() };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut word = [0; 8];
        if length < 8 {
            return Err(damaged(&"it is shorter than a header"));
        }
        file.read_exact(&mut word).map_err(io)?;
        let header = u64::from_le_bytes(word);
        if header > LONGEST_HEADER.min(length - 8) {
            return Err(damaged(&"its header is longer than the file"));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(io)?;
        let parsed: Metadata = serde_json::from_slice(&text).map_err(|error| damaged(&error))?;
        let (start, found) = (8 + header, length - 8 - header);
        if parsed.data_len() as u64 != found {
            let reason = format!("{found} bytes of tensors, its header says {}", parsed.data_len());
            return Err(damaged(&reason));
        }
        for (name, info) in parsed.tensors() {
            let (begin, end) = info.data_offsets;
            let tensor = FileTensor {
                dtype: info.dtype,
                shape: info.shape.clone(),
                file: self.files.len(),
                at: start + begin as u64,
                bytes: end - begin,
            };
            self.tensors.insert(name, tensor);
        }
        self.metadata
            .extend(parsed.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        self.files.push((path.into(), file));
        Ok(())
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileTensor)> {
        self.tensors.iter().map(|(name, tensor)| (&name[..], tensor))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&FileTensor> {
        self.tensors.get(name)
    }

    /// What a header's metadata say under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The bytes of `tensor`.
    ///
    /// # Errors
    /// As the file system says.
    pub fn read(&self, tensor: &FileTensor) -> Result<Vec<u8>, NnError> {
        let mut bytes = vec![0; tensor.bytes];
        self.read_into(tensor, &mut bytes)?;
        Ok(bytes)
    }

    /// [`TensorFiles::read`] into `bytes`, as many as the tensor has.
    ///
    /// # Errors
    /// As the file system says.
    pub fn read_into(&self, tensor: &FileTensor, bytes: &mut [u8]) -> Result<(), NnError> {
        let (path, mut file) = (&self.files[tensor.file].0, &self.files[tensor.file].1);
        file.seek(SeekFrom::Start(tensor.at))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|source| NnError::Io { path: path.clone(), source })
    }
}
