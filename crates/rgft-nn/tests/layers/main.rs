//! Every layer under every kind of need, against finite differences.
//!
//! The truth is the layer written in f64 with `rgft_kernels::reference`, under the scalar loss `Σ cᵢ·yᵢ`; central
//! differences of it give the gradient of each parameter, of the input, and of each site's output (`δ`). For every
//! plan, [`check::check`] compares forward, dx, the gradients and what a probe sees, and the list of products.
//!
//! A file per layer: its truth, how it is called, and the plans.

// `rows([2..5])` means that range.
#![allow(clippy::single_range_in_vec_init)]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod attention;
mod check;
mod embedding;
mod feed_forward;
mod final_state_head;
mod head;
mod linear;
mod net;
mod norm;
mod patches;
mod pre_norm;
mod recurrent;
mod truth;
