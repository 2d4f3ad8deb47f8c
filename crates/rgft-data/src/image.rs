//! Pictures with classes: from files on the disk to normalised batches, channels last.
//!
//! ```text
//! locate_images   --data, --test, --validation → where each part lies            files.rs
//! read_images     → ImageTable: rows and raw labels; nothing is decoded yet      table.rs
//! label_map       → LabelMap of the training part (or the model's own)
//! labelled        → ImageDataset: decoded, resized, corrupted, u8 in memory      decode.rs resample.rs corrupt.rs
//! pack            → f32, normalised, varied by seed and epoch                    dataset.rs augment.rs
//! ```
//!
//! **Memory.** A data set holds one byte per pixel and channel, `[examples, height, width, channels]`: 3 kB for a
//! picture of 32×32, 150 kB for one of 224×224. Encoded files are in memory one row group at a time.
//!
//! **Determinism.** Resizing is integer arithmetic. A picture's random corruption depends on its encoded bytes, so
//! that it is the same in each epoch, split, subset and order; its random variation on the run's seed, the epoch
//! and its row in the file. Neither depends on the number of threads.
//!
//! Models and methods may not come in here.

mod augment;
mod corrupt;
mod dataset;
mod decode;
mod files;
mod resample;
mod spec;
mod table;

pub use augment::Augment;
pub use corrupt::{BlurWidth, Corruption, Severity};
pub use dataset::ImageDataset;
pub use files::{ImageFiles, ImageSource, locate_images};
pub use spec::{ImageSpec, Resize};
pub use table::{ImageTable, read_images};
