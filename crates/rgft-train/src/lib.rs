//! Training: from a checked recipe to a fine-tuned model, its events and its files.
//!
//! `recipe → workload (model + data) → method's plan → forward → loss → backward → optimizer → event`. Methods see
//! components and costs, never an architecture; the command line and the reports are elsewhere.

mod costs;
mod error;
mod evaluate;
mod generate;
mod memory;
pub mod methods;
mod optimizer;
mod out_folder;
mod outlook;
pub mod patch;
mod predict;
pub mod prefix_cache;
mod process;
pub mod recipe;
pub mod schedule_of_batches;
mod snippets;
mod tracking;
mod trainer;
mod workload;

pub use costs::Costs;
pub use error::TrainError;
pub use evaluate::{Evaluation, evaluate, loss as batch_loss};
pub use generate::{Generated, Generation, Generator, Sampler, Sampling, StopReason, generate};
pub use memory::{MemoryForecast, within_limit};
pub use optimizer::{Optimizer, StepSize};
pub use out_folder::OutFolder;
pub use outlook::{MapOutcome, Outlook, map, outlook};
pub use predict::{Measured, Predicted, Prediction, Predictor};
pub use prefix_cache::PrefixCache;
pub use process::{peak_rss_bytes, peak_rss_bytes_of};
pub use snippets::Snippets;
pub use tracking::{Tracker, squared_norms};
pub use trainer::{RunOutcome, train};
pub use workload::Workload;
