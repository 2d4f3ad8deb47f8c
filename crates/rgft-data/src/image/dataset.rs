//! Decoded pictures in memory, laid out as normalised batches.

use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use rgft_core::{Extent, Images, Inputs};

use super::augment::{Augment, Variation};
use super::corrupt::{add_noise, key};
use super::decode::decode;
use super::spec::ImageSpec;
use super::table::{IMAGE_OPTION, ImageRow, ImageTable, Place};
use crate::dataset::{Augmentation, Dataset, PackedBatch, Targets};
use crate::error::DataError;
use crate::label::{LabelMap, Target};
use crate::parquet::{ParquetFile, ParquetValues};

/// Pictures that are decoded at a time, by all threads together: so many encoded files are in memory.
const AT_A_TIME: usize = 1024;

/// Pictures of one size, with a class each or none.
///
/// Subsets share the pictures and cost nothing.
#[derive(Debug, Clone)]
pub struct ImageDataset {
    pictures: Arc<Pictures>,
    /// Which of the pictures are the examples.
    examples: Vec<u32>,
}

#[derive(Debug)]
struct Pictures {
    /// `[pictures, height, width, channels]`.
    pixels: Vec<u8>,
    height: usize,
    width: usize,
    channels: usize,
    /// Normalised value of each byte, by channel: `(byte / 255 − mean) / std`.
    normalised: Vec<[f32; 256]>,
    /// The class of each; empty where they are not known.
    classes: Vec<u32>,
    /// What the noise of each is drawn from; empty where there is none.
    keys: Vec<u64>,
    /// Deviation of the noise on normalised values.
    sigma: Option<f32>,
    augment: Augment,
    /// The row of each in its part.
    rows: Vec<usize>,
    /// The file of each, and its row where the file holds several.
    places: Vec<String>,
    /// How many classes there are.
    outputs: usize,
}

impl ImageDataset {
    /// Decodes the pictures of a table, with their classes.
    ///
    /// # Errors
    /// A picture without a class or with one that is not in `labels`; then those of reading and decoding, the first
    /// in the order of the table.
    pub fn labelled(table: &ImageTable, spec: &ImageSpec, labels: &LabelMap) -> Result<Self, DataError> {
        // Labels first: they are cheap, and wrong ones should be told before a long decoding.
        let classes = table.classes(labels)?;
        Self::new(table, spec, classes, labels.len())
    }

    /// Decodes the pictures of a table to predict their classes, of which there are `outputs`.
    ///
    /// # Errors
    /// Those of reading and decoding.
    pub fn unlabelled(table: &ImageTable, spec: &ImageSpec, outputs: usize) -> Result<Self, DataError> {
        Self::new(table, spec, Vec::new(), outputs)
    }

    fn new(
        table: &ImageTable,
        spec: &ImageSpec,
        classes: Vec<u32>,
        outputs: usize,
    ) -> Result<Self, DataError> {
        spec.check()?;
        let sigma = spec.corrupt.and_then(|corrupt| corrupt.sigma());
        let (pixels, keys) = decode_all(table, spec)?;
        let normalise =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        let pictures = Pictures {
            pixels,
            height: spec.height,
            width: spec.width,
            channels: spec.channels,
            normalised: spec.mean.iter().zip(&spec.std).map(normalise).collect(),
            classes,
            keys: if sigma.is_some() { keys } else { Vec::new() },
            sigma,
            augment: spec.augment,
            rows: table.rows.iter().map(|row| row.number).collect(),
            places: table.rows.iter().map(|row| table.place(row)).collect(),
            outputs,
        };
        let examples = (0..table.rows.len() as u32).collect();
        Ok(Self { pictures: Arc::new(pictures), examples })
    }

    /// The data set of some of the examples, in the order given, without a copy of their pictures.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn subset(&self, examples: impl IntoIterator<Item = usize>) -> Self {
        let examples = examples.into_iter().map(|example| self.examples[example]).collect();
        Self { pictures: self.pictures.clone(), examples }
    }

    /// The target of each example, as [`crate::split_stratified`] takes them.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        (0..self.examples.len())
            .map(|example| self.class(example).map_or(Target::Unknown, Target::Class))
            .collect()
    }

    /// The class of an example, where it is known.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn class(&self, example: usize) -> Option<u32> {
        self.pictures.classes.get(self.examples[example] as usize).copied()
    }

    /// The file of an example, with its row from 1 where the file holds several: `train.parquet: row 17`.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn place(&self, example: usize) -> &str {
        &self.pictures.places[self.examples[example] as usize]
    }

    /// The bytes of an example, `[height, width, channels]`: resized and corrupted, neither varied nor normalised;
    /// without noise on normalised values.
    ///
    /// # Panics
    /// If there is no such example.
    #[must_use]
    pub fn pixels(&self, example: usize) -> &[u8] {
        let values = self.pictures.values();
        let at = self.examples[example] as usize * values;
        &self.pictures.pixels[at..at + values]
    }

    /// Memory that the pictures take, shared by all subsets, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pictures.pixels.len()
    }
}

impl Pictures {
    fn values(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Normalises and varies a picture into `out`, `[height, width, channels]`; `scratch` holds it before it moves.
    fn write(&self, picture: usize, variation: Variation, out: &mut [f32], scratch: &mut Vec<f32>) {
        let (h, w, c) = (self.height, self.width, self.channels);
        let bytes = &self.pixels[picture * self.values()..][..self.values()];
        let still = variation == Variation::default();
        scratch.resize(bytes.len(), 0.0);
        let values = if still { &mut *out } else { scratch.as_mut_slice() };
        for (pixel, bytes) in values.chunks_exact_mut(c).zip(bytes.chunks_exact(c)) {
            for ((value, byte), normalised) in pixel.iter_mut().zip(bytes).zip(&self.normalised) {
                *value = normalised[usize::from(*byte)];
            }
        }
        if let Some(sigma) = self.sigma {
            add_noise(values, sigma, self.keys[picture]);
        }
        if still {
            return;
        }
        for (y, row) in out.chunks_exact_mut(w * c).enumerate() {
            let from_row = y.checked_add_signed(variation.top).filter(|y| *y < h);
            for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
                let x = if variation.flip { w - 1 - x } else { x };
                let from_column = x.checked_add_signed(variation.left).filter(|x| *x < w);
                match (from_row, from_column) {
                    (Some(y), Some(x)) => pixel.copy_from_slice(&scratch[(y * w + x) * c..][..c]),
                    _ => pixel.iter_mut().zip(&self.normalised).for_each(|(value, black)| *value = black[0]),
                }
            }
        }
    }
}

impl Dataset for ImageDataset {
    fn len(&self) -> usize {
        self.examples.len()
    }

    /// Pixels: the same for all.
    fn size(&self, _: usize) -> usize {
        self.pictures.height * self.pictures.width
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        Extent::Maps { examples: examples.len(), height: self.pictures.height, width: self.pictures.width }
    }

    fn pack(&self, examples: &[usize], augmentation: Option<Augmentation>) -> PackedBatch {
        let pictures = &*self.pictures;
        let border = pictures.height.min(pictures.width) / 8;
        let mut pixels = vec![0.0; examples.len() * pictures.values()];
        let outs = pixels.par_chunks_exact_mut(pictures.values()).zip(examples);
        outs.for_each_init(Vec::new, |scratch, (out, &example)| {
            let picture = self.examples[example] as usize;
            let draw = |of| pictures.augment.draw(of, pictures.rows[picture], border);
            pictures.write(picture, augmentation.map_or_else(Variation::default, draw), out, scratch);
        });
        let classes: Option<Vec<u32>> = examples.iter().map(|&example| self.class(example)).collect();
        PackedBatch {
            inputs: Inputs::Images(Images {
                pixels,
                height: pictures.height,
                width: pictures.width,
                channels: pictures.channels,
            }),
            targets: classes.map_or(Targets::Unknown, Targets::Classes),
            rows: examples.to_vec(),
        }
    }

    fn outputs(&self) -> usize {
        self.pictures.outputs
    }
}

/// Decodes, resizes and corrupts all pictures of a table, in its order; and the key of each.
fn decode_all(table: &ImageTable, spec: &ImageSpec) -> Result<(Vec<u8>, Vec<u64>), DataError> {
    let values = spec.values();
    let mut pixels = vec![0; table.rows.len() * values];
    let mut keys = vec![0; table.rows.len()];
    let mut place = 0;
    let mut open: Option<(usize, ParquetFile)> = None;
    // Runs of rows of one group of one file; pictures in files of their own are all of one run.
    let run = |row: &ImageRow| match &row.place {
        Place::File(_) => None,
        Place::Row { shard, group, .. } => Some((*shard, *group)),
    };
    for rows in table.rows.chunk_by(|a, b| run(a) == run(b)) {
        let encoded = match run(&rows[0]) {
            None => Vec::new(),
            Some((shard, group)) => {
                let file = match open.take() {
                    Some((number, file)) if number == shard => file,
                    _ => ParquetFile::open(&table.shards[shard].path)?,
                };
                let encoded = images_of(&file, group, &table.shards[shard].column)?;
                open = Some((shard, file));
                encoded
            }
        };
        for rows in rows.chunks(AT_A_TIME) {
            let outs = pixels[place * values..].par_chunks_exact_mut(values).zip(&mut keys[place..]);
            let outcomes: Vec<Result<(), DataError>> = rows
                .par_iter()
                .zip(outs)
                .map(|(row, (out, key_of))| {
                    let bytes = match &row.place {
                        Place::File(path) => &read(path)?,
                        Place::Row { row: at, .. } => encoded
                            .get(*at)
                            .and_then(Option::as_ref)
                            .ok_or_else(|| DataError::NoImage { place: table.place(row) })?,
                    };
                    let picture = decode(bytes, spec)
                        .map_err(|message| DataError::BadImage { place: table.place(row), message })?;
                    *key_of = key(bytes);
                    let picture = match spec.corrupt {
                        Some(corrupt) => corrupt.apply(picture, *key_of),
                        None => picture,
                    };
                    out.copy_from_slice(&picture.pixels);
                    Ok(())
                })
                .collect();
            // The first of the failures in the order of the table, whichever thread was faster.
            outcomes.into_iter().collect::<Result<(), DataError>>()?;
            place += rows.len();
        }
    }
    Ok((pixels, keys))
}

fn images_of(file: &ParquetFile, group: usize, column: &str) -> Result<Vec<Option<Vec<u8>>>, DataError> {
    match file.values(group, column, IMAGE_OPTION)? {
        ParquetValues::Bytes(images) => Ok(images),
        other => Err(file.wrong_kind(column, other.kind(), "encoded images")),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, DataError> {
    let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.clone(), reason })?;
    match bytes.is_empty() {
        true => Err(DataError::Empty { path: path.clone() }),
        false => Ok(bytes),
    }
}
