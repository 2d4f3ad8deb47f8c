//! The gated activation of SwiGLU (Shazeer 2020): `y = silu(g)·u`, with `silu(g) = g·σ(g)`.
//!
//! Forward leaves in `g` and `u` what backward multiplies `dy` with: `∂y/∂g = u·silu'(g)` and `∂y/∂u = silu(g)`.

use std::ops::Range;

use rayon::prelude::*;

use super::scalar::sigmoid;
use super::{for_row_blocks, rows_per_task};

/// `y = silu(g)·u`; `g` and `u` become their slopes. All of one length.
pub fn swiglu(g: &mut [f32], u: &mut [f32], y: &mut [f32]) {
    let block = rows_per_task(y.len(), 1);
    y.par_chunks_mut(block).zip(g.par_chunks_mut(block)).zip(u.par_chunks_mut(block)).for_each(
        |((y, g), u)| {
            vectorised!(|| {
                for ((y, g), u) in y.iter_mut().zip(g).zip(u) {
                    let s = sigmoid(*g);
                    let silu = *g * s;
                    *y = silu * *u;
                    *g = *u * s * (1.0 + *g * (1.0 - s));
                    *u = silu;
                }
            });
        },
    );
}

/// `g ← silu(g)·u`, for forwards without a backward.
pub fn swiglu_in_place(g: &mut [f32], u: &[f32]) {
    for_row_blocks(g, 1, |first, g| {
        vectorised!(|| g.iter_mut().zip(&u[first..]).for_each(|(g, u)| *g = *g * sigmoid(*g) * u));
    });
}

/// Over the columns `ranges` of `[rows, cols]`: the slopes that forward left in `g` and `u` become dg and du. Other
/// columns are left alone.
pub fn swiglu_backward(dy: &[f32], g: &mut [f32], u: &mut [f32], cols: usize, ranges: &[Range<usize>]) {
    if dy.is_empty() {
        return;
    }
    let block = rows_per_task(dy.len() / cols, cols) * cols;
    let both = g.par_chunks_mut(block).zip(u.par_chunks_mut(block));
    both.zip(dy.par_chunks(block)).for_each(|((g, u), dy)| {
        vectorised!(|| {
            for slope in [g, u] {
                for (slope, dy) in slope.chunks_exact_mut(cols).zip(dy.chunks_exact(cols)) {
                    for range in ranges {
                        let pairs = slope[range.clone()].iter_mut().zip(&dy[range.clone()]);
                        pairs.for_each(|(slope, dy)| *slope *= dy);
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn values_and_slopes_match_the_reference() {
        for rows in [3, 900] {
            let cols = 30;
            let numbers = |seed: usize| -> Vec<f32> {
                (0..rows * cols).map(|i| (((i + seed) * 7919) % 997) as f32 / 100.0 - 5.0).collect()
            };
            let (g, u, dy) = (numbers(1), numbers(2), numbers(3));
            let (mut dg, mut du, mut y, mut in_place) = (g.clone(), u.clone(), vec![0.0; g.len()], g.clone());
            swiglu(&mut dg, &mut du, &mut y);
            swiglu_in_place(&mut in_place, &u);
            let slopes = (dg.clone(), du.clone());
            swiglu_backward(&dy, &mut dg, &mut du, cols, &[2..10, 20..30]);
            for i in 0..g.len() {
                let value = |g: f64, u: f64| reference::decoder::swiglu(g, u);
                let (at_g, at_u, h) = (f64::from(g[i]), f64::from(u[i]), 1e-5);
                assert!((f64::from(y[i]) - value(at_g, at_u)).abs() < 2e-5);
                assert!((f64::from(in_place[i]) - value(at_g, at_u)).abs() < 2e-5);
                if !matches!(i % cols, 2..10 | 20..30) {
                    assert_eq!((dg[i], du[i]), (slopes.0[i], slopes.1[i]), "columns outside stay");
                    continue;
                }
                let slope_g = (value(at_g + h, at_u) - value(at_g - h, at_u)) / (2.0 * h);
                let slope_u = (value(at_g, at_u + h) - value(at_g, at_u - h)) / (2.0 * h);
                assert!((f64::from(dg[i]) - slope_g * f64::from(dy[i])).abs() < 2e-4);
                assert!((f64::from(du[i]) - slope_u * f64::from(dy[i])).abs() < 2e-4);
            }
        }
    }
}
