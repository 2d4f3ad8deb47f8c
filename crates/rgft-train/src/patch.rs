//! The patch: what fine-tuning changed in a model, and nothing else, as a file that can be applied and taken back.
//!
//! A patch is a safetensors file that any reader of the format opens. It is made from the *files* of two model
//! folders, so names, shapes and orientation are those in which a model is published, whatever it looks like in
//! memory. For a tensor `W` of the base (a matrix `[first dimension, the others]`) that became `V` it holds, where `S`
//! are the rows, or the columns if that is smaller, in which any bit differs,
//!
//! ```text
//! bits:NAME      X = bits(V_S) ⊕ bits(W_S)      as unsigned integers of the scalars' size
//! rows:NAME      the runs of S, [n, 2] of U32: begin and end         (columns:NAME likewise)
//! ```
//!
//! so `V = W ⊕ X` and `W = V ⊕ X`: one tensor serves both directions, and both are exact to the bit. A base in BF16 or
//! F16 whose fine-tuned form is F32 is widened first, which loses nothing and can be undone. What cannot be told as a
//! difference is stored whole: `base:NAME` alone was removed, `tuned:NAME` alone is new, both together are one of
//! another shape or type; `base-file:NAME` and `tuned-file:NAME` are the files beside the weights that differ.
//!
//! The file's metadata has one key, `rgft-patch`, whose JSON is the `Description`: a checksum of
//! the patch, the SHA-256 of the base's tensors (names, types, shapes, scalars, by name: independent of how files
//! are cut and headers are written), and renamed tensors. [`Patch::apply`] checks what it is
//! given against that SHA-256, [`Patch::revert`] what it would return, before anything is written.
//!
//! Tensors are read, made and written one at a time, several times over: what is in memory is a few times the largest
//! of them, never a model.

mod apply;
mod diff;
mod error;
mod files;
mod fingerprint;
mod format;
mod merge;
mod pieces;
mod slices;
mod summary;
mod widening;

#[cfg(test)]
mod tests;

pub use diff::diff;
pub use error::PatchError;
pub use format::Patch;
pub use merge::{Merged, Overlap, Prefer, merge};
pub use summary::{FileSummary, PatchSummary, TensorSummary};
