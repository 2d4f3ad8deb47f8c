//! The selective engine: tensors, tape, layers with explicit backward, and models.
//!
//! A plan becomes [`Needs`], one per site, before forward runs. Forward saves only what they will read, backward
//! computes nothing that they do not ask for, frozen slices have no gradient buffer, and every product that runs
//! is counted. Methods, optimizers and data may not come in.

mod adapter;
mod decoding;
mod engine;
mod error;
mod gradients;
pub mod layers;
pub mod models;
mod needs;
mod packed_weights;
mod parameters;
mod probe;
mod product;
mod tape;
mod tensor;
mod tensor_files;
pub mod weights;

pub use adapter::Adapter;
pub use decoding::Cache;
pub use engine::{Engine, Mode, Statistic};
pub use error::NnError;
pub use gradients::{Gradient, GradientBlock, Gradients, RowGradient};
pub use needs::Needs;
pub use parameters::{Parameter, Parameters, Stored};
pub use probe::{Activation, Blind, Observer, Passed, Probe};
pub use product::{Flops, Pass, Product};
pub use tape::Tape;
pub use tensor::{Arena, Tensor};
pub use tensor_files::{FileTensor, TensorFiles};
