//! RMS norm (Zhang & Sennrich 2019): `ẑ = x / √(mean x² + ε)`, `y = γ·ẑ`, row by row.
//!
//! Backward: `dx = (dẑ − ẑ · mean(dẑ·ẑ)) / √(mean x² + ε)` with `dẑ = γ·dy`.

use rayon::prelude::*;

use super::norm::{dot, sum_of_squares};
use super::{for_row_blocks, rows_per_task};

/// Forward. `x`, `y` `[rows, cols]`, `weight` `[cols]`; `saved` takes ẑ `[rows, cols]` and `1/√(mean x² + ε)` `[rows]`
/// for backward.
pub fn rms_norm(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    y: &mut [f32],
    saved: Option<(&mut [f32], &mut [f32])>,
) {
    let cols = weight.len();
    if y.is_empty() {
        return;
    }
    let block = rows_per_task(y.len() / cols, cols);
    let scale_of = |x: &[f32]| 1.0 / (sum_of_squares(x) / cols as f32 + epsilon).sqrt();
    let x = x.par_chunks(block * cols);
    let y = y.par_chunks_mut(block * cols);
    match saved {
        None => y.zip(x).for_each(|(y, x)| {
            vectorised!(|| {
                for (y, x) in y.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
                    let scale = scale_of(x);
                    y.iter_mut().zip(x).zip(weight).for_each(|((y, x), g)| *y = x * scale * g);
                }
            });
        }),
        Some((normalised, scales)) => {
            let saved = normalised.par_chunks_mut(block * cols).zip(scales.par_chunks_mut(block));
            y.zip(x).zip(saved).for_each(|((y, x), (normalised, scales))| {
                vectorised!(|| {
                    let rows = y.chunks_exact_mut(cols).zip(x.chunks_exact(cols));
                    let saved = normalised.chunks_exact_mut(cols).zip(scales);
                    for ((y, x), (normalised, scale)) in rows.zip(saved) {
                        *scale = scale_of(x);
                        normalised.iter_mut().zip(x).for_each(|(n, x)| *n = x * *scale);
                        y.iter_mut().zip(&*normalised).zip(weight).for_each(|((y, n), g)| *y = n * g);
                    }
                });
            });
        }
    }
}

/// Backward: turns `d` from dy into dx `[rows, cols]` in place; `normalised` and `scales` as saved.
pub fn rms_norm_backward(weight: &[f32], normalised: &[f32], scales: &[f32], d: &mut [f32]) {
    let cols = weight.len();
    for_row_blocks(d, cols, |first, d| {
        vectorised!(|| {
            for (r, d) in d.chunks_exact_mut(cols).enumerate() {
                let n = &normalised[(first + r) * cols..][..cols];
                d.iter_mut().zip(weight).for_each(|(d, g)| *d *= g);
                let along = dot(d, n) / cols as f32;
                let scale = scales[first + r];
                d.iter_mut().zip(n).for_each(|(d, n)| *d = (*d - n * along) * scale);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn forward_and_backward_match_the_reference() {
        let numbers = |seed: usize, n: usize| -> Vec<f32> {
            (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 300.0 - 1.5).collect()
        };
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| x.into()).collect() };
        for (rows, cols) in [(70, 37), (1, 4), (600, 64)] {
            let (x, weight, epsilon) = (numbers(1, rows * cols), numbers(2, cols), 1e-2);
            let (mut y, mut n, mut s) = (vec![0.0; rows * cols], vec![0.0; rows * cols], vec![0.0; rows]);
            rms_norm(&x, &weight, epsilon, &mut y, Some((&mut n, &mut s)));
            let mut unsaved = vec![0.0; rows * cols];
            rms_norm(&x, &weight, epsilon, &mut unsaved, None);
            let truth = |x: &[f64]| reference::decoder::rms_norm(x, &wide(&weight), epsilon.into());
            let expected = truth(&wide(&x));
            reference::assert_close(&y, &expected, 1e-5);
            reference::assert_close(&unsaved, &expected, 1e-5);

            let dy = numbers(3, rows * cols);
            let mut dx = dy.clone();
            rms_norm_backward(&weight, &n, &s, &mut dx);
            let step = rows * cols / 40 + 1;
            for i in (0..rows * cols).step_by(step) {
                // A row depends on itself alone.
                let row = i / cols * cols..(i / cols + 1) * cols;
                let loss = |x: &[f64]| -> f64 {
                    truth(x).iter().zip(&dy[row.clone()]).map(|(y, d)| y * f64::from(*d)).sum()
                };
                let expected = reference::difference(&wide(&x[row.clone()]), i - row.start, loss);
                assert!((f64::from(dx[i]) - expected).abs() < 2e-4, "{} against {expected}", dx[i]);
            }
        }
    }
}
