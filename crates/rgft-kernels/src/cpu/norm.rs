//! Layer norm fused with what stands before it in a post-norm block: bias, dropout and the residual.
//!
//! `z = residual + dropout(projection + bias)`, `ẑ = (z − mean z) / √(var z + ε)`, `y = γ·ẑ + β` (Ba et al. 2016).
//! Backward: `dz = (dẑ − mean dẑ − ẑ · mean(dẑ·ẑ)) / √(var z + ε)` with `dẑ = γ·dy`.

use rayon::prelude::*;

use super::rows_per_task;
use super::scalar::Dropout;

/// What is added and normalised. All are `[rows, cols]` or `[cols]`.
#[derive(Clone, Copy, Debug)]
pub struct NormInput<'a> {
    /// The branch's output before its bias, `[rows, cols]`.
    pub projection: &'a [f32],
    /// The branch's bias, `[cols]`.
    pub bias: Option<&'a [f32]>,
    /// Dropout on the branch (indexed by element).
    pub dropout: Option<Dropout>,
    /// What the branch is added to, `[rows, cols]`.
    pub residual: Option<&'a [f32]>,
}

/// γ, β `[cols]` and ε.
#[derive(Clone, Copy, Debug)]
pub struct NormWeights<'a> {
    /// γ.
    pub weight: &'a [f32],
    /// β.
    pub bias: &'a [f32],
    /// ε, added to the variance.
    pub epsilon: f32,
}

/// Forward. `y` `[rows, cols]`; `saved` takes ẑ `[rows, cols]` and `1/√(var + ε)` `[rows]` for backward.
pub fn layer_norm(
    input: NormInput,
    weights: NormWeights,
    y: &mut [f32],
    saved: Option<(&mut [f32], &mut [f32])>,
) {
    let cols = weights.weight.len();
    if y.is_empty() {
        return;
    }
    let block = rows_per_task(y.len() / cols, cols);
    let pass = |first: usize, y: &mut [f32], mut saved: Option<(&mut [f32], &mut [f32])>| {
        vectorised!(|| {
            for (r, y) in y.chunks_exact_mut(cols).enumerate() {
                let row = first + r;
                sum_row(input, row, y);
                let mean = sum(y) / cols as f32;
                y.iter_mut().for_each(|y| *y -= mean);
                let scale = 1.0 / (sum_of_squares(y) / cols as f32 + weights.epsilon).sqrt();
                if let Some((normalised, scales)) = &mut saved {
                    scales[r] = scale;
                    let normalised = &mut normalised[r * cols..][..cols];
                    normalised.iter_mut().zip(&*y).for_each(|(n, y)| *n = y * scale);
                }
                for ((y, g), b) in y.iter_mut().zip(weights.weight).zip(weights.bias) {
                    *y = *y * scale * g + b;
                }
            }
        });
    };
    match saved {
        None => y.par_chunks_mut(block * cols).enumerate().for_each(|(i, y)| pass(i * block, y, None)),
        Some((normalised, scales)) => y
            .par_chunks_mut(block * cols)
            .zip(normalised.par_chunks_mut(block * cols))
            .zip(scales.par_chunks_mut(block))
            .enumerate()
            .for_each(|(i, ((y, n), s))| pass(i * block, y, Some((n, s)))),
    }
}

/// Backward: turns `d` from dy into dz `[rows, cols]` in place; `normalised` and `scales` as saved.
pub fn layer_norm_backward(weight: &[f32], normalised: &[f32], scales: &[f32], d: &mut [f32]) {
    let cols = weight.len();
    super::for_row_blocks(d, cols, |first, d| {
        vectorised!(|| {
            for (r, d) in d.chunks_exact_mut(cols).enumerate() {
                let n = &normalised[(first + r) * cols..][..cols];
                d.iter_mut().zip(weight).for_each(|(d, g)| *d *= g);
                let mean = sum(d) / cols as f32;
                let along = dot(d, n) / cols as f32;
                let scale = scales[first + r];
                d.iter_mut().zip(n).for_each(|(d, n)| *d = (*d - mean - n * along) * scale);
            }
        });
    });
}

#[inline(always)]
fn sum_row(input: NormInput, row: usize, z: &mut [f32]) {
    let cols = z.len();
    z.copy_from_slice(&input.projection[row * cols..][..cols]);
    if let Some(bias) = input.bias {
        z.iter_mut().zip(bias).for_each(|(z, b)| *z += b);
    }
    if let Some(dropout) = input.dropout {
        z.iter_mut().enumerate().for_each(|(c, z)| *z *= dropout.factor(row * cols + c));
    }
    if let Some(residual) = input.residual {
        z.iter_mut().zip(&residual[row * cols..][..cols]).for_each(|(z, r)| *z += r);
    }
}

/// Sums in 16 lanes, so that the loop vectorises (floating-point addition may not be reordered otherwise).
#[inline(always)]
pub(crate) fn lanes(n: usize, at: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let whole = n / 16 * 16;
    for i in (0..whole).step_by(16) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += at(i + lane);
        }
    }
    let tail: f32 = (whole..n).map(&at).sum();
    lanes.iter().sum::<f32>() + tail
}

#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    lanes(x.len(), |i| x[i])
}

#[inline(always)]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    lanes(x.len(), |i| x[i] * x[i])
}

#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    lanes(x.len(), |i| x[i] * y[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn forward_and_backward_match_the_reference() {
        let (rows, cols) = (70, 37);
        let numbers = |seed: usize, n: usize| -> Vec<f32> {
            (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 300.0 - 1.5).collect()
        };
        let (projection, residual) = (numbers(1, rows * cols), numbers(2, rows * cols));
        let (bias, gamma, beta) = (numbers(3, cols), numbers(4, cols), numbers(5, cols));
        for dropout in [None, Some(Dropout { seed: 9, probability: 0.3 })] {
            let input =
                NormInput { projection: &projection, bias: Some(&bias), dropout, residual: Some(&residual) };
            let weights = NormWeights { weight: &gamma, bias: &beta, epsilon: 1e-5 };
            let (mut y, mut n, mut s) = (vec![0.0; rows * cols], vec![0.0; rows * cols], vec![0.0; rows]);
            layer_norm(input, weights, &mut y, Some((&mut n, &mut s)));
            let mut unsaved = vec![0.0; rows * cols];
            layer_norm(input, weights, &mut unsaved, None);
            assert_eq!(y, unsaved);

            let z: Vec<f64> = (0..rows * cols)
                .map(|i| {
                    let keep = dropout.map_or(1.0, |d| d.factor(i)) as f64;
                    residual[i] as f64 + keep * (projection[i] as f64 + bias[i % cols] as f64)
                })
                .collect();
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| x as f64).collect() };
            let expected = reference::layer_norm(&z, &wide(&gamma), &wide(&beta), 1e-5);
            reference::assert_close(&y, &expected, 2e-5);

            let dy = numbers(6, rows * cols);
            let mut dz = dy.clone();
            layer_norm_backward(&gamma, &n, &s, &mut dz);
            let loss = |z: &[f64]| -> f64 {
                let y = reference::layer_norm(z, &wide(&gamma), &wide(&beta), 1e-5);
                y.iter().zip(&dy).map(|(y, d)| y * *d as f64).sum()
            };
            for i in (0..z.len()).step_by(101) {
                let difference = reference::difference(&z, i, loss);
                assert!((dz[i] as f64 - difference).abs() < 2e-4, "{} against {difference}", dz[i]);
            }
        }
    }
}
