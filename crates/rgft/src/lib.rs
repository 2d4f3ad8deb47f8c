//! Residual-Guided Fine-Tuning: find which parts of a pre-trained model cause its errors on your data, spend the
//! training compute there, and skip the rest for real.
//!
//! This facade names the rooms; each one's page says what lives in it. A run in a few lines:
//!
//! ```no_run
//! use rgft::train::{OutFolder, Workload, recipe::RawRecipe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut raw = RawRecipe::default();
//! for setting in ["model=minilm", "data=trec6", "task=text-classification", "budget=0.5"] {
//!     raw.assign(setting)?;
//! }
//! let recipe = raw.check()?;
//! let mut workload = Workload::load(&recipe)?;
//! let mut out = OutFolder::create("runs/trec6".as_ref())?;
//! let outcome = rgft::train::train(&recipe, &mut workload, Some(&mut out), &mut |event| drop(event.clone()))?;
//! println!("{:?}", outcome.summary.metrics.test);
//! # Ok(())
//! # }
//! ```

/// The method without tensors: components, error map, planner, ledger, events.
pub use rgft_core as core;
/// Tables of text, labels, splits, tokenisation, batches, metrics.
pub use rgft_data as data;
/// CPU kernels.
pub use rgft_kernels as kernels;
/// The selective engine and the models.
pub use rgft_nn as nn;
/// Reports from events.
pub use rgft_report as report;
/// Recipe, training, evaluation, prediction.
pub use rgft_train as train;
