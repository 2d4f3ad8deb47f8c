//! Weights on disk: safetensors in the public layouts, whole or sharded.
//!
//! Tensors are read one at a time, as a model takes them ([`TensorFiles`]), so loading needs no more memory than the model
//! and its largest tensor. A checkpoint is written beside its final name and renamed, so a crash leaves the old file whole.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View};

use crate::NnError;
use crate::models::HeadRequest;
use crate::parameters::{Parameter, Stored as Placement};
use crate::tensor_files::{FileTensor, TensorFiles};

/// Named tensors to write, in their stored types; borrowed where they can be.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint<'a> {
    tensors: Vec<Stored<'a>>,
    by_name: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Stored<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Checkpoint<'a> {
    fn push(&mut self, stored: Stored<'a>) {
        match self.by_name.get(&stored.name) {
            Some(&i) => self.tensors[i] = stored,
            None => {
                self.by_name.insert(stored.name.clone(), self.tensors.len());
                self.tensors.push(stored);
            }
        }
    }

    /// Adds (or replaces) an f32 tensor.
    pub fn push_f32(&mut self, name: &str, shape: &[usize], data: &'a [f32]) {
        let bytes = if cfg!(target_endian = "little") {
            Cow::Borrowed(bytemuck::cast_slice(data))
        } else {
            data.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        self.push(Stored { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes });
    }

    /// Adds (or replaces) a parameter, as it stands in files.
    pub fn push_parameter(&mut self, parameter: &'a Parameter) {
        let shape = parameter.stored.shape(&parameter.shape);
        if self.push_block(parameter, &shape) {
            return;
        }
        match parameter.stored.write(&parameter.data, &parameter.shape) {
            None => self.push_f32(&parameter.name, &shape, &parameter.data),
            Some(data) => self.push_owned(&parameter.name, &shape, &data),
        }
    }

    /// As [`Checkpoint::push_parameter`], of a parameter that lives no longer than this call.
    pub fn push_merged(&mut self, parameter: &Parameter) {
        let shape = parameter.stored.shape(&parameter.shape);
        if !self.push_block(parameter, &shape) {
            let data = parameter.stored.write(&parameter.data, &parameter.shape);
            self.push_owned(&parameter.name, &shape, data.as_ref().unwrap_or(&parameter.data));
        }
    }

    /// Puts a parameter that is a block of a larger tensor into that tensor; returns whether it is one.
    fn push_block(&mut self, parameter: &Parameter, shape: &[usize]) -> bool {
        if let Placement::TransposedBlock { tensor, .. } = &parameter.stored {
            let own = |stored: &Stored<'_>| stored.dtype == Dtype::F32 && stored.shape == shape;
            if !self.by_name.get(tensor).is_some_and(|at| own(&self.tensors[*at])) {
                self.push_owned(tensor, shape, &vec![0.0; shape.iter().product()]);
            }
            let bytes = self.tensors[self.by_name[tensor]].bytes.to_mut();
            for (at, x) in parameter.stored.places(&parameter.shape).zip(&parameter.data) {
                bytes[4 * at..4 * at + 4].copy_from_slice(&x.to_le_bytes());
            }
            return true;
        }
        false
    }

    /// Adds (or replaces) an f32 tensor that lives no longer than this call.
    pub fn push_owned(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        let bytes = Cow::Owned(data.iter().flat_map(|x| x.to_le_bytes()).collect());
        self.push(Stored { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes });
    }

    /// Names of all tensors, in file order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|stored| &stored.name[..])
    }

    /// Writes `path`, whole or not at all.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), NnError> {
        let failed = |error| match error {
            SafeTensorError::IoError(source) => NnError::Io { path: path.into(), source },
            other => NnError::Safetensors { path: path.into(), reason: other.to_string() },
        };
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let tensors = self.tensors.iter().map(|stored| (&stored.name[..], stored));
        let io = |source| failed(SafeTensorError::IoError(source));
        write_beside(path, io, |beside| {
            safetensors::serialize_to_file(tensors, Some(metadata), beside).map_err(failed)
        })
    }
}

/// Writes a file beside its final name, flushes it to the disk and renames it: readers see the old file or the new one,
/// never a part. `write` is given the name beside; what it refuses never gets the final name.
///
/// # Errors
/// That of `write`; what the file system says, made by `failed`.
pub fn write_beside<T, E>(
    path: &Path,
    failed: impl FnOnce(std::io::Error) -> E,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = Path::new(&beside);
    let finish =
        || File::options().write(true).open(beside)?.sync_all().and_then(|()| std::fs::rename(beside, path));
    let written = write(beside).and_then(|made| finish().map(|()| made).map_err(failed));
    // If what could not be finished cannot be taken away either, the first error is the one to tell.
    written.inspect_err(|_| drop(std::fs::remove_file(beside)))
}

/// Writes `bytes` to a file as [`write_beside`] does.
///
/// # Errors
/// As the file system says.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_beside(path, |error| error, |beside| std::fs::write(beside, bytes))
}

/// The files that hold a folder's weights: `model.safetensors`, or all shards that `model.safetensors.index.json` names.
///
/// # Errors
/// If there is neither, or a shard is missing.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, NnError> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.is_file() {
        Ok(vec![single])
    } else if index.is_file() {
        shards(folder, &index)
    } else {
        Err(NnError::MissingFile { folder: folder.into(), file: "model.safetensors".into() })
    }
}

/// The shard files that an index names, each once.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, NnError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = std::fs::read(index).map_err(|source| NnError::Io { path: index.into(), source })?;
    let parsed: Index =
        serde_json::from_slice(&bytes).map_err(|source| NnError::Json { path: index.into(), source })?;
    let mut files: Vec<String> = parsed.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    let path = |file: String| {
        let path = folder.join(&file);
        // An index may name files of its own folder only.
        if file.contains(['/', '\\']) || !path.is_file() {
            return Err(NnError::MissingFile { folder: folder.into(), file });
        }
        Ok(path)
    };
    files.into_iter().map(path).collect()
}

/// What a parameter starts from where it is not loaded.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// Required in the folder; normal with this deviation when everything is initialised.
    Normal(f32),
    /// Required in the folder; this number when everything is initialised.
    Constant(f32),
    /// May be missing, or of another size (another task's head): then normal with this deviation.
    Fresh(f32),
    /// The same for what makes a task's outputs, which may not be wanted either ([`HeadRequest::new_head`]).
    Outputs(f32),
}

impl Init {
    /// Whether it belongs to a task head, which a folder may lack.
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh(_) | Self::Outputs(_))
    }
}

/// Scalars of the largest tensor that is made: 16 GiB of them are a mistake in `config.json`.
const MOST_SCALARS: u64 = 1 << 32;

/// Hands out the tensors of files as f32, checked, and remembers which were used.
pub struct Weights<'a> {
    folder: &'a Path,
    files: &'a TensorFiles,
    used: BTreeSet<String>,
    seed: u64,
    random: bool,
    new_head: bool,
    drawn: u64,
}

impl<'a> Weights<'a> {
    /// What is read of `folder` for what is requested: nothing, where the weights are random.
    ///
    /// # Errors
    /// If a file is missing, truncated or no safetensors.
    pub fn files(folder: &Path, request: &HeadRequest) -> Result<TensorFiles, NnError> {
        if request.random { Ok(TensorFiles::default()) } else { TensorFiles::of_folder(folder) }
    }

    /// Tensors of `files`, which are those of `folder`, for what is requested.
    pub fn new(folder: &'a Path, files: &'a TensorFiles, request: &HeadRequest) -> Self {
        let HeadRequest { seed, random, new_head, .. } = *request;
        Self { folder, files, used: BTreeSet::new(), seed, random, new_head, drawn: 0 }
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.files.get(name).is_some()
    }

    /// The tensor called by one of `aliases`, as f32, and whether it had to be initialised.
    ///
    /// # Errors
    /// If it is missing and required, has another shape or type, or holds NaN or infinity.
    pub fn take(
        &mut self,
        aliases: &[&str],
        shape: &[usize],
        init: Init,
    ) -> Result<(Vec<f32>, bool), NnError> {
        let found = aliases.iter().find_map(|name| self.find(name));
        let n = shape
            .iter()
            .try_fold(1usize, |n, side| n.checked_mul(*side))
            .filter(|n| *n as u64 <= MOST_SCALARS);
        let Some(n) = n else {
            let (folder, name) = (self.folder.into(), aliases.first().copied().unwrap_or_default().into());
            return Err(NnError::TooLarge { folder, name, shape: shape.to_vec() });
        };
        match (found, init) {
            (Some((name, _)), Init::Outputs(_)) if self.new_head => drop(self.used.insert(name)),
            (Some((name, tensor)), _) if init.is_fresh() && tensor.shape != shape => {
                self.used.insert(name);
            }
            (Some((name, tensor)), _) => {
                let data = self.to_f32(&name, tensor, shape)?;
                self.used.insert(name);
                return Ok((data, false));
            }
            (None, _) if init.is_fresh() => {}
            (None, _) if self.random => {}
            (None, _) => {
                let name = aliases.last().copied().unwrap_or_default();
                let nearest = self.nearest(name);
                return Err(NnError::MissingTensor {
                    folder: self.folder.into(),
                    name: name.into(),
                    nearest,
                });
            }
        }
        self.drawn += 1;
        Ok(match init {
            Init::Constant(value) => (vec![value; n], true),
            Init::Normal(deviation) | Init::Fresh(deviation) | Init::Outputs(deviation) => {
                (normal(self.seed, self.drawn, n, deviation), true)
            }
        })
    }

    /// A tensor of the file that says nothing: it is neither read nor written back.
    pub fn discard(&mut self, name: &str) {
        self.used.insert(name.into());
    }

    /// A number of a tensor that cannot be.
    pub fn impossible(&self, name: &str, position: usize, value: f32) -> NnError {
        NnError::NotFinite { folder: self.folder.into(), name: name.into(), position, value }
    }

    /// By name, or by the names that old checkpoints give to a norm's parameters.
    fn find(&self, name: &str) -> Option<(String, &'a FileTensor)> {
        let old =
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        [name, &old].into_iter().find_map(|name| Some((name.to_string(), self.files.get(name)?)))
    }

    fn to_f32(&self, name: &str, tensor: &FileTensor, shape: &[usize]) -> Result<Vec<f32>, NnError> {
        let (folder, name) = (self.folder.to_path_buf(), name.to_string());
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape.clone(), shape.to_vec());
            return Err(NnError::Shape { folder, name, found, expected });
        }
        let words16 = |bytes: Vec<u8>, widen: fn(u16) -> f32| -> Vec<f32> {
            bytes.chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
        };
        let data: Vec<f32> = match tensor.dtype {
            Dtype::F32 => {
                let mut data = vec![0.0f32; tensor.scalars()];
                self.files.read_into(tensor, bytemuck::cast_slice_mut(&mut data))?;
                if cfg!(target_endian = "big") {
                    data.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
                }
                data
            }
            Dtype::BF16 => words16(self.files.read(tensor)?, |w| half::bf16::from_bits(w).to_f32()),
            Dtype::F16 => words16(self.files.read(tensor)?, |w| half::f16::from_bits(w).to_f32()),
            Dtype::F64 => self
                .files
                .read(tensor)?
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                .collect(),
            other => return Err(NnError::Dtype { folder, name, found: format!("{other:?}") }),
        };
        match data.iter().position(|x| !x.is_finite()) {
            Some(position) => Err(NnError::NotFinite { folder, name, position, value: data[position] }),
            None => Ok(data),
        }
    }

    /// The name in the checkpoint that shares the longest ending with `name`, the first of equals.
    fn nearest(&self, name: &str) -> Option<String> {
        let shared =
            |other: &str| name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        let names = self.files.iter().map(|(name, _)| name);
        let best = names.max_by_key(|other| (shared(other), Reverse(*other)))?;
        (shared(best) >= 8).then(|| best.to_string())
    }

    /// The tensors that nobody took, renamed.
    ///
    /// # Errors
    /// As the file system says.
    pub fn unused(&self, rename: impl Fn(&str) -> String) -> Result<Checkpoint<'static>, NnError> {
        let mut rest = Checkpoint::default();
        for (name, tensor) in self.files.iter().filter(|(name, _)| !self.used.contains(*name)) {
            let bytes = Cow::Owned(self.files.read(tensor)?);
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            rest.push(Stored { name: rename(name), dtype, shape, bytes });
        }
        Ok(rest)
    }
}

/// `n` draws from N(0, deviation²), a stream of its own for each `stream` (Box–Muller over SplitMix64).
pub(crate) fn normal(seed: u64, stream: u64, n: usize, deviation: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let draw = |_| {
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
        (radius * angle.cos()) as f32 * deviation
    };
    (0..n).map(draw).collect()
}
