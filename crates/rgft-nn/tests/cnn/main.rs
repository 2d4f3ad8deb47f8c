//! Convolutional networks: blocks under every kind of need against finite differences, whole models against PyTorch's
//! goldens, costs against a count by hand, and what freezing promises.

// `rows([2..5])` means that range.
#![allow(clippy::single_range_in_vec_init)]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod blocks;
mod common;
mod frozen;
mod goldens;
mod models;
#[path = "../pytorch/mod.rs"]
mod pytorch;
mod truth;
