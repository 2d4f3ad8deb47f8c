//! Naive twins of the kernels in f64, written as the formula stands: the truth that tests compare with, and
//! what finite differences are taken of. Never called outside tests and benchmarks' checks.

pub mod decoder;
pub mod images;
pub mod patches;
pub mod recurrent;

use crate::Mat;
use crate::cpu::activation::Activation;
use crate::cpu::pooling::Pool;

/// `A·B (+ C)`, `[m, n]`.
pub fn product(a: Mat, b: Mat, c: Option<&[f32]>) -> Vec<f64> {
    let at = |m: &Mat, r: usize, c: usize| m.data[r * m.row_stride + c * m.col_stride] as f64;
    let mut out = Vec::with_capacity(a.rows * b.cols);
    for i in 0..a.rows {
        for j in 0..b.cols {
            let start = c.map_or(0.0, |c| c[i * b.cols + j] as f64);
            out.push(start + (0..a.cols).map(|k| at(&a, i, k) * at(&b, k, j)).sum::<f64>());
        }
    }
    out
}

/// `x·Wᵀ + b`: `x` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`.
pub fn linear(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let out = bias.len();
    let input = weight.len() / out;
    let rows = x.chunks_exact(input);
    rows.flat_map(|x| {
        (0..out).map(move |o| {
            bias[o] + weight[o * input..][..input].iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
        })
    })
    .collect()
}

/// Layer norm of each row of `[rows, cols]`.
pub fn layer_norm(z: &[f64], weight: &[f64], bias: &[f64], epsilon: f64) -> Vec<f64> {
    let cols = weight.len();
    let rows = z.chunks_exact(cols);
    rows.flat_map(|z| {
        let mean = z.iter().sum::<f64>() / cols as f64;
        let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / cols as f64;
        (0..cols).map(move |c| (z[c] - mean) / (variance + epsilon).sqrt() * weight[c] + bias[c])
    })
    .collect()
}

/// One scalar through an activation.
pub fn activation(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
    }
}

/// Softmax attention over packed sequences, every head with keys and values of its own, every token seeing all;
/// `keep(i)` is dropout's factor on probability `i`.
pub fn attention(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    lengths: &[usize],
    heads: usize,
    width: usize,
    keep: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let heads = decoder::Heads { lengths, heads, kv_heads: heads, width, causal: false };
    decoder::attention(heads, q, k, v, keep)
}

/// One row per packed sequence.
pub fn pool(pool: Pool, x: &[f64], cols: usize, lengths: &[usize]) -> Vec<f64> {
    let mut out = Vec::new();
    let mut first = 0;
    for &t in lengths {
        let rows = if pool == Pool::Mean { t } else { 1 };
        out.extend(
            (0..cols).map(|c| (0..rows).map(|r| x[(first + r) * cols + c]).sum::<f64>() / rows as f64),
        );
        first += t;
    }
    out
}

/// The error function to 1e-15, by its Maclaurin series or, for large arguments, its continued fraction.
pub fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 3.0 {
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        2.0 / std::f64::consts::PI.sqrt() * sum
    } else {
        let fraction = (1..60).rev().fold(z, |f, n| z + n as f64 / 2.0 / f);
        1.0 - (-z * z).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    value.copysign(x)
}

/// `∂f/∂x_i` by central differences.
pub fn difference(x: &[f64], i: usize, f: impl Fn(&[f64]) -> f64) -> f64 {
    let h = 1e-5 * x[i].abs().max(1.0);
    let mut moved = x.to_vec();
    moved[i] = x[i] + h;
    let above = f(&moved);
    moved[i] = x[i] - h;
    (above - f(&moved)) / (2.0 * h)
}

/// Panics unless `found` and `expected` agree to `tolerance`, relative to the larger of 1 and `expected`.
///
/// # Panics
/// As said, naming the first place that differs.
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((*f as f64 - e).abs() <= tolerance * e.abs().max(1.0), "at {i}: {f} against {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_at_tabled_points() {
        for (x, y) in
            [(0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7), (3.5, 0.999_999_256_901_627_6)]
        {
            assert!((erf(x) - y).abs() < 1e-14 && (erf(-x) + y).abs() < 1e-14);
        }
    }
}
