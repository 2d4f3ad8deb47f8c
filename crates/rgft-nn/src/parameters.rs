//! A model's parameters: named, shaped, f32.

use std::sync::atomic::{AtomicU64, Ordering};

use rgft_core::Slices;

use crate::engine::Statistic;

/// How a parameter stands in a file, where that differs from how it stands in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// Alike.
    #[default]
    AsIs,
    /// The same scalars in another shape.
    Reshaped(Vec<usize>),
    /// `[out, height, width, in]` in memory, so that a patch of a channels-last image is a dot product with a row;
    /// `[out, in, height, width]` in the file.
    ChannelsLast,
    /// `[out, in]` or `[out]` in memory; in the file one of `blocks` blocks of columns of the transposed `tensor`:
    /// `[in, blocks · out]` or `[blocks · out]`.
    TransposedBlock {
        /// The name in the file, which several parameters share.
        tensor: String,
        /// Which block.
        block: usize,
        /// How many there are.
        blocks: usize,
    },
}

impl Stored {
    /// The shape in the file of what has `shape` in memory.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        match self {
            Self::AsIs => shape.to_vec(),
            Self::Reshaped(stored) => stored.clone(),
            Self::ChannelsLast => vec![shape[0], shape[3], shape[1], shape[2]],
            Self::TransposedBlock { blocks, .. } => {
                shape[1..].iter().copied().chain([blocks * shape[0]]).collect()
            }
        }
    }

    /// The name in the file of what is called `name`.
    pub(crate) fn name<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Self::TransposedBlock { tensor, .. } => tensor,
            _ => name,
        }
    }

    /// Where in the file's tensor each scalar stands, row by row, for a [`Stored::TransposedBlock`] of `shape`.
    pub(crate) fn places(&self, shape: &[usize]) -> impl Iterator<Item = usize> + use<> {
        let (out, input) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let (block, blocks) = match self {
            Self::TransposedBlock { block, blocks, .. } => (*block, *blocks),
            _ => (0, 1),
        };
        (0..out).flat_map(move |o| (0..input).map(move |i| (i * blocks + block) * out + o))
    }

    /// The scalars of a file as they stand in memory, where they have `shape`.
    pub(crate) fn read(&self, data: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match self {
            Self::AsIs | Self::Reshaped(_) => data,
            Self::ChannelsLast => swap_inner(&data, shape[0], shape[3], shape[1] * shape[2]),
            Self::TransposedBlock { .. } => self.places(shape).map(|at| data[at]).collect(),
        }
    }

    /// The scalars as they stand in a file; `None` where they stand alike, or as a part of something larger.
    pub(crate) fn write(&self, data: &[f32], shape: &[usize]) -> Option<Vec<f32>> {
        match self {
            Self::AsIs | Self::Reshaped(_) | Self::TransposedBlock { .. } => None,
            Self::ChannelsLast => Some(swap_inner(data, shape[0], shape[1] * shape[2], shape[3])),
        }
    }
}

/// `[n, a, b]` → `[n, b, a]`.
fn swap_inner(data: &[f32], n: usize, a: usize, b: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for block in data.chunks_exact((a * b).max(1)).take(n) {
        out.extend((0..b).flat_map(|j| (0..a).map(move |i| block[i * b + j])));
    }
    out
}

/// One parameter. Seen by plans as a matrix `[rows, cols]`; a vector is `[n, 1]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameter {
    /// Its path in safetensors files: `encoder.layer.3.attention.self.query.weight`.
    pub name: String,
    /// Its shape in memory.
    pub shape: Vec<usize>,
    /// Its scalars, row by row.
    pub data: Vec<f32>,
    /// Whether it was initialised here instead of being loaded.
    pub fresh: bool,
    /// How it stands in files.
    pub stored: Stored,
    /// Whether it is a running statistic: observed while training, never trained, part of no component.
    pub buffer: bool,
    /// Whether it belongs to an adapter: no part of the model as it was loaded, nor as it is saved.
    pub adapter: bool,
}

impl Parameter {
    /// First dimension.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Whether full fine-tuning trains it.
    fn is_own(&self) -> bool {
        !(self.buffer || self.adapter)
    }

    /// Product of the other dimensions.
    pub fn cols(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// All parameters of a model, addressed by index.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    all: Vec<Parameter>,
    versions: Vec<Version>,
}

/// A number that no two states of parameters share, unless they are copies of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u64);

impl Version {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Versions play no part.
impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Parameters {
    /// Moves running statistics: `s ← (1 − momentum)·s + momentum·observed`, in the order of the observations.
    pub fn move_statistics(&mut self, observed: &[Statistic]) {
        for Statistic { parameter, values, momentum } in observed {
            for (own, observed) in self[*parameter].data.iter_mut().zip(values) {
                *own += momentum * (observed - *own);
            }
        }
    }

    /// Replaces running statistics by the mean of what several batches observed.
    pub fn set_statistics(&mut self, observed: &[Statistic]) {
        let mut times = vec![0; self.len()];
        for Statistic { parameter, values, .. } in observed {
            times[*parameter] += 1;
            let share = 1.0 / times[*parameter] as f32;
            for (own, observed) in self[*parameter].data.iter_mut().zip(values) {
                *own += share * (observed - *own);
            }
        }
    }

    /// Adds one; returns its index.
    pub fn push(&mut self, parameter: Parameter) -> usize {
        self.all.push(parameter);
        self.versions.push(Version::next());
        self.all.len() - 1
    }

    /// The scalars of parameter `index`.
    pub fn data(&self, index: usize) -> &[f32] {
        &self.all[index].data
    }

    /// In order of index.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.all.iter()
    }

    /// In order of index, writable: all count as changed.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.versions.iter_mut().for_each(|version| *version = Version::next());
        self.all.iter_mut()
    }

    /// Those that `is_chosen`, writable, with their indices: they alone count as changed.
    pub fn chosen_mut(
        &mut self,
        is_chosen: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (usize, &mut Parameter)> {
        let all = self.all.iter_mut().zip(&mut self.versions).enumerate();
        all.filter(move |(index, _)| is_chosen(*index)).map(|(index, (parameter, version))| {
            *version = Version::next();
            (index, parameter)
        })
    }

    /// What changes whenever someone could write to parameter `index`: what was made of its scalars is good for as long as
    /// this stays, also for copies of them, and no other scalars have the same.
    pub fn version(&self, index: usize) -> u64 {
        self.versions[index].0
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Number of scalars that full fine-tuning trains.
    pub fn scalars(&self) -> usize {
        self.all.iter().filter(|parameter| parameter.is_own()).map(|parameter| parameter.data.len()).sum()
    }

    /// The update of full fine-tuning, one entry per parameter.
    pub fn everything(&self) -> Vec<Slices> {
        self.all.iter().map(|parameter| if parameter.is_own() { Slices::All } else { Slices::None }).collect()
    }

    /// Takes the adapters' away, which are the last ones.
    pub(crate) fn drop_adapters(&mut self) {
        let mut all = self.all.iter();
        self.versions.retain(|_| all.next().is_some_and(|parameter| !parameter.adapter));
        self.all.retain(|parameter| !parameter.adapter);
    }

    /// The index of the parameter called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|parameter| parameter.name == name)
    }
}

impl std::ops::Index<usize> for Parameters {
    type Output = Parameter;
    fn index(&self, index: usize) -> &Parameter {
        &self.all[index]
    }
}

impl std::ops::IndexMut<usize> for Parameters {
    fn index_mut(&mut self, index: usize) -> &mut Parameter {
        self.versions[index] = Version::next();
        &mut self.all[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_last_is_a_permutation_that_comes_back() {
        let shape = [2, 2, 3, 4];
        let memory: Vec<f32> = (0..48u8).map(f32::from).collect();
        let stored = Stored::ChannelsLast;
        assert_eq!(stored.shape(&shape), [2, 4, 2, 3]);
        let Some(file) = stored.write(&memory, &shape) else { panic!("the layouts differ") };
        // Output 1, input 2, row 1, column 0.
        assert_eq!(file[24 + 2 * 6 + 3], memory[24 + 3 * 4 + 2]);
        assert_eq!(stored.read(file, &shape), memory);
    }

    #[test]
    fn blocks_of_a_transposed_tensor_are_found() {
        // [in 2, 3 blocks of out 2]
        let file: Vec<f32> = (0..12u8).map(f32::from).collect();
        let stored = |block| Stored::TransposedBlock { tensor: "c_attn.weight".into(), block, blocks: 3 };
        assert_eq!(stored(1).shape(&[2, 2]), [2, 6]);
        assert_eq!(stored(1).read(file.clone(), &[2, 2]), [2.0, 8.0, 3.0, 9.0]);
        assert_eq!(stored(2).shape(&[4]), [12]);
        assert_eq!(stored(2).read(file, &[4]), [8.0, 9.0, 10.0, 11.0]);
    }
}
