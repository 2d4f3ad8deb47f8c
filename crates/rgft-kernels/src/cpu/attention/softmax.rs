//! Softmax of rows of scores, and its slope.
//!
//! `p = 2^{(s − max s)·c} / Σ`, with `c = log₂e/√d`. A power of two is `2^y = 2^n·2^r` with `n = round(y)`, `|r| ≤ ½`, and
//! `2^r` a polynomial (`(2^r − 1)/r` interpolated at Chebyshev's nodes: 1.2e-7 with the rounding). Rows are padded to whole
//! vectors with `−∞`, whose power is 0.

use std::f32::consts::{LN_2, LOG2_E};

use pulp::{Simd, WithSimd};

use super::super::ARCH;
use super::super::panels::padded;
use super::super::scalar::Dropout;

/// Each row of `x` (`[_, stride]`): its first `seen(row)` elements become `softmax(scale·x)`, those after them up to
/// `padded(keys)` 0. The first `keys` of each are also written to `kept`'s rows, `kept.1` apart, where given.
pub(super) fn softmax_rows(
    x: &mut [f32],
    stride: usize,
    keys: usize,
    scale: f32,
    seen: impl Fn(usize) -> usize,
    kept: Option<(&mut [f32], usize)>,
) {
    ARCH.dispatch(SoftmaxRows { x, stride, keys, scale, seen, kept });
}

struct SoftmaxRows<'a, F> {
    x: &'a mut [f32],
    stride: usize,
    keys: usize,
    scale: f32,
    seen: F,
    kept: Option<(&'a mut [f32], usize)>,
}

impl<F: Fn(usize) -> usize> WithSimd for SoftmaxRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let factor = simd.splat_f32s(self.scale * LOG2_E);
        for (r, row) in self.x.chunks_exact_mut(self.stride).enumerate() {
            let row = &mut row[..padded(self.keys)];
            row[(self.seen)(r)..].fill(f32::NEG_INFINITY);
            let row = S::as_mut_simd_f32s(row).0;
            let lowest = simd.splat_f32s(f32::NEG_INFINITY);
            let largest = row.iter().fold(lowest, |largest, x| simd.max_f32s(largest, *x));
            let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
            let mut sum = simd.splat_f32s(0.0);
            for x in row.iter_mut() {
                *x = power_of_two(simd, simd.mul_f32s(simd.sub_f32s(*x, largest), factor));
                sum = simd.add_f32s(sum, *x);
            }
            let inverse = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            row.iter_mut().for_each(|x| *x = simd.mul_f32s(*x, inverse));
            if let Some((kept, stride)) = &mut self.kept {
                let (kept, tail) = S::as_mut_simd_f32s(&mut kept[r * *stride..][..self.keys]);
                kept.iter_mut().zip(&*row).for_each(|(kept, x)| *kept = *x);
                if !tail.is_empty() {
                    simd.partial_store_f32s(tail, row[kept.len()]);
                }
            }
        }
    }
}

/// `2^y` for `y ≤ 0`; 0 below −127.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    // Adding 1.5·2²³ rounds to an integer and leaves that integer in the low bits of the sum.
    let round = simd.splat_f32s(12_582_912.0);
    // What is not a number stays so, as in no maximum on every processor.
    let lowest = simd.splat_f32s(-127.0);
    let y = simd.select_f32s(simd.less_than_f32s(y, lowest), lowest, y);
    let shifted = simd.add_f32s(y, round);
    let r = simd.sub_f32s(y, simd.sub_f32s(shifted, round));
    let mut p = simd.splat_f32s(0.000_154_547_67);
    for coefficient in [0.001_339_271_5, 0.009_618_079, 0.055_503_536, 0.240_226_5, LN_2, 1.0] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// Dropout of probabilities: its factor for each, by where they are stored.
#[derive(Clone, Copy)]
pub(super) struct Drops {
    pub(super) dropout: Dropout,
    /// Where the first of the block stands among all.
    pub(super) first: usize,
    /// From row to row.
    pub(super) t: usize,
}

impl Drops {
    #[inline(always)]
    fn factor(self, row: usize, column: usize) -> f32 {
        self.dropout.factor(self.first + row * self.t + column)
    }
}

/// `p ← dropout(p)`, the first `keys` of each row of `[_, stride]`.
pub(super) fn drop_rows(drops: Drops, p: &mut [f32], stride: usize, keys: usize) {
    ARCH.dispatch(DropRows { drops, p, stride, keys });
}

struct DropRows<'a> {
    drops: Drops,
    p: &'a mut [f32],
    stride: usize,
    keys: usize,
}

impl WithSimd for DropRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (r, p) in self.p.chunks_exact_mut(self.stride).enumerate() {
            let pairs = p[..self.keys].iter_mut().enumerate();
            pairs.for_each(|(c, p)| *p *= self.drops.factor(r, c));
        }
    }
}

/// Backward of a block of rows: `d ← p∘(d̃ − Σ d̃∘p)·scale`, the first `keys` elements of each.
pub(super) struct RowsBackward<'a> {
    /// The probabilities, `[_, t]`.
    pub(super) p: &'a [f32],
    pub(super) t: usize,
    pub(super) keys: usize,
    pub(super) scale: f32,
    /// The slopes, `[_, stride]`.
    pub(super) d: &'a mut [f32],
    pub(super) stride: usize,
    /// With `d̃ = dropout(d)` where there is dropout, else `d`; `dropout(p)` is written here too, as far apart as `d`.
    pub(super) drops: Option<(Drops, &'a mut [f32])>,
}

impl RowsBackward<'_> {
    pub(super) fn run(self) {
        ARCH.dispatch(self);
    }
}

impl WithSimd for RowsBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for (r, (p, d)) in self.p.chunks_exact(self.t).zip(self.d.chunks_exact_mut(self.stride)).enumerate() {
            let (p, d) = (&p[..self.keys], &mut d[..self.keys]);
            if let Some((drops, dropped)) = &mut self.drops {
                let dropped = &mut dropped[r * self.stride..][..self.keys];
                dropped.iter_mut().enumerate().for_each(|(c, factor)| *factor = drops.factor(r, c));
                for ((d, dropped), p) in d.iter_mut().zip(dropped).zip(p) {
                    *d *= *dropped;
                    *dropped *= *p;
                }
            }
            let ((p, p_tail), (d, d_tail)) = (S::as_simd_f32s(p), S::as_mut_simd_f32s(d));
            let (last_p, last_d) = (simd.partial_load_f32s(p_tail), simd.partial_load_f32s(d_tail));
            let mut sum = simd.mul_f32s(last_p, last_d);
            p.iter().zip(&*d).for_each(|(p, d)| sum = simd.mul_add_e_f32s(*p, *d, sum));
            let along = simd.splat_f32s(simd.reduce_sum_f32s(sum));
            let scale = simd.splat_f32s(self.scale);
            let slope = |p, d| simd.mul_f32s(simd.mul_f32s(simd.sub_f32s(d, along), p), scale);
            d.iter_mut().zip(p).for_each(|(d, p)| *d = slope(*p, *d));
            simd.partial_store_f32s(d_tail, slope(last_p, last_d));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Powers<'a>(&'a mut [f32]);

    impl WithSimd for Powers<'_> {
        type Output = ();
        fn with_simd<S: Simd>(self, simd: S) {
            S::as_mut_simd_f32s(self.0).0.iter_mut().for_each(|y| *y = power_of_two(simd, *y));
        }
    }

    #[test]
    fn powers_of_two_are_accurate_and_vanish() {
        let exponents: Vec<f32> = (0..32_000).map(|i| i as f32 * -126.0 / 32_000.0).collect();
        let mut powers = exponents.clone();
        ARCH.dispatch(Powers(&mut powers));
        for (y, found) in exponents.iter().zip(powers) {
            let truth = (*y as f64).exp2();
            assert!(((found as f64 - truth) / truth).abs() < 2e-7, "2^{y}: {found}");
        }
        let mut ends = [f32::NEG_INFINITY, f32::MIN, -127.5, 0.0].repeat(8);
        ends[4] = f32::NAN;
        ARCH.dispatch(Powers(&mut ends));
        assert_eq!(ends[..4], [0.0, 0.0, 0.0, 1.0]);
        assert!(ends[4].is_nan());
    }
}
