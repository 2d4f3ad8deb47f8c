//! What the machine can do at most: multiply-adds that never leave the registers, and a streaming read.
//! Benchmarks state their figures as shares of these.

use std::time::Instant;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::gemm::has_bf16;
#[cfg(target_arch = "x86_64")]
use crate::instructions::{Instructions, allowed};

/// Independent accumulators, enough to hide the latency of a fused multiply-add.
const ACCUMULATORS: usize = 12;

/// The highest rate of f32 multiply-adds that all threads of the current pool reach together, in FLOP/s.
pub fn f32_flops_per_second() -> f64 {
    best_of(|rounds| {
        let (lanes, sum) = f32_multiply_adds(rounds);
        std::hint::black_box(sum);
        (rounds * ACCUMULATORS * lanes * 2) as f64
    })
}

/// The same for bf16 products accumulated in f32; `None` where the processor has no such instruction.
pub fn bf16_flops_per_second() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if amx::is_available() {
        return Some(best_of(amx::flops_in_registers));
    }
    has_bf16().then(|| {
        best_of(|rounds| {
            std::hint::black_box(bf16_multiply_adds(rounds));
            (rounds * ACCUMULATORS * 32 * 2) as f64
        })
    })
}

/// Numbers in each of the two arrays of [`bytes_per_second`]: more than caches hold.
const STREAMED: usize = 1 << 25;

/// The highest rate at which all threads of the current pool together stream memory, in bytes per second: `x += y`, two
/// numbers read and one written.
pub fn bytes_per_second() -> f64 {
    let (mut x, y) = (vec![1f32; STREAMED], vec![1f32; STREAMED]);
    let part = STREAMED.div_ceil(rayon::current_num_threads());
    let mut run = || {
        let start = Instant::now();
        x.par_chunks_mut(part).zip(y.par_chunks(part)).for_each(|(x, y)| {
            vectorised!(|| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        });
        (3 * STREAMED * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

/// The best of several runs of `work` on every thread at once; `work(rounds)` returns the FLOPs it did.
fn best_of(work: impl Fn(usize) -> f64 + Sync) -> f64 {
    let run = || {
        let start = Instant::now();
        let flops: f64 = rayon::broadcast(|_| work(4_000_000)).iter().sum();
        flops / start.elapsed().as_secs_f64()
    };
    (0..7).map(|_| run()).fold(0.0, f64::max)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn f32_multiply_adds(rounds: usize) -> (usize, f32) {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    fn avx512(rounds: usize) -> f32 {
        let (a, b) = (_mm512_set1_ps(0.999_999), _mm512_set1_ps(1e-9));
        let mut x = [_mm512_set1_ps(1.0); ACCUMULATORS];
        for _ in 0..rounds {
            x.iter_mut().for_each(|x| *x = _mm512_fmadd_ps(*x, a, b));
        }
        x.into_iter().map(|x| _mm512_reduce_add_ps(x)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(rounds: usize) -> f32 {
        let (a, b) = (_mm256_set1_ps(0.999_999), _mm256_set1_ps(1e-9));
        let mut x = [_mm256_set1_ps(1.0); ACCUMULATORS];
        for _ in 0..rounds {
            x.iter_mut().for_each(|x| *x = _mm256_fmadd_ps(*x, a, b));
        }
        x.into_iter().map(|x| _mm_cvtss_f32(_mm256_castps256_ps128(x))).sum()
    }

    if allowed() == Instructions::Avx512 && std::is_x86_feature_detected!("avx512f") {
        // SAFETY: AVX-512F was detected.
        (16, unsafe { avx512(rounds) })
    } else if allowed() >= Instructions::Avx2
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
    {
        // SAFETY: AVX2 and FMA were detected.
        (8, unsafe { avx2(rounds) })
    } else {
        portable_multiply_adds(rounds)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn f32_multiply_adds(rounds: usize) -> (usize, f32) {
    portable_multiply_adds(rounds)
}

fn portable_multiply_adds(rounds: usize) -> (usize, f32) {
    let mut x = [[1.0f32; 4]; ACCUMULATORS];
    vectorised!(|| {
        for _ in 0..rounds {
            x.iter_mut().flatten().for_each(|x| *x = *x * 0.999_999 + 1e-9);
        }
    });
    (4, x.iter().flatten().sum())
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn bf16_multiply_adds(rounds: usize) -> f32 {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn run(rounds: usize) -> f32 {
        let a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3), _mm512_set1_ps(1e-3));
        let mut x = [_mm512_set1_ps(1.0); ACCUMULATORS];
        for _ in 0..rounds {
            x.iter_mut().for_each(|x| *x = _mm512_dpbf16_ps(*x, a, a));
        }
        x.into_iter().map(|x| _mm512_reduce_add_ps(x)).sum()
    }

    // SAFETY: called only where AVX512_BF16 was detected (`has_bf16`).
    unsafe { run(rounds) }
}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_multiply_adds(_rounds: usize) -> f32 {
    0.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_peak_is_found() {
        assert!(super::f32_flops_per_second() > 1e8);
        assert!(super::bytes_per_second() > 1e7);
        assert_eq!(super::bf16_flops_per_second().is_some(), crate::gemm::has_bf16());
    }
}
