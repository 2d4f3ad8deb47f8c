//! What the machine does at most: the measure of every figure here.
//!
//! ```text
//! floor = FLOPs of products / measured peak + bytes of all other kernels / measured bandwidth
//! ```
//!
//! That is what work takes if products cost nothing but multiplying and every pass reads and writes memory once; where its
//! operands are still in a cache, a pass can take less.

use rgft_kernels::{Precision, peak};
use serde::Serialize;

/// What the machine does at most, with the threads of the pool.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Peak {
    pub(crate) f32_gflops: f64,
    pub(crate) bf16_gflops: Option<f64>,
    pub(crate) gigabytes_per_second: f64,
}

impl Peak {
    /// Takes about a second.
    pub(crate) fn measure() -> Self {
        Self {
            f32_gflops: peak::f32_flops_per_second() / 1e9,
            bf16_gflops: peak::bf16_flops_per_second().map(|flops| flops / 1e9),
            gigabytes_per_second: peak::bytes_per_second() / 1e9,
        }
    }

    /// Of products in `precision`.
    pub(crate) fn gflops(self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_gflops,
            Precision::Bf16 => self.bf16_gflops.unwrap_or(self.f32_gflops),
        }
    }

    /// Milliseconds of products of so many GFLOP, and of passes over so many megabytes.
    pub(crate) fn floor(self, precision: Precision, gflop: f64, megabytes: f64) -> f64 {
        gflop / self.gflops(precision) * 1e3 + megabytes / self.gigabytes_per_second
    }

    /// `f32 289 GFLOP/s, bf16 4463 GFLOP/s; memory 39.4 GB/s`.
    pub(crate) fn in_words(self) -> String {
        let bf16 = self.bf16_gflops.map_or_else(|| "none".into(), |gflops| format!("{gflops:.0} GFLOP/s"));
        let Self { f32_gflops, gigabytes_per_second, .. } = self;
        format!("f32 {f32_gflops:.0} GFLOP/s, bf16 {bf16}; memory {gigabytes_per_second:.1} GB/s")
    }
}

/// What recipes call it.
pub(crate) fn name_of(precision: Precision) -> &'static str {
    if precision == Precision::F32 { "f32" } else { "bf16" }
}
