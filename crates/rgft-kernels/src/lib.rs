//! Matrix products and fused element-wise passes on slices of `f32`. What runs on which instructions is decided
//! here and nowhere else; layers, models and methods may not come in.
//!
//! * [`gemm`]: products, over well-kept libraries and, for bf16, what they lack.
//! * [`Kernels`]: the one trait that layers call; [`Cpu`] implements it.
//! * [`cpu`]: everything else, one file per kernel; passes are vectorised, parallel and free of allocation.
//! * [`reference`](mod@reference): naive f64 twins for tests.
//! * [`Timed`]: the same kernels, saying what each took.
//! * [`instructions`]: which of the processor's they may use.
//! * [`peak`]: what the machine can do at most, for benchmarks.

#[cfg(target_arch = "x86_64")]
mod amx;
#[macro_use]
pub mod cpu;
pub mod gemm;
pub mod instructions;
mod kernels;
mod mat;
pub mod peak;
pub mod reference;
mod timed;

pub use gemm::Precision;
pub use kernels::{Cpu, Kernels};
pub use mat::{Mat, MatMut};
pub use timed::{Spent, Timed, Timings};
