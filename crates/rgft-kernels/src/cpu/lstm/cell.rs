//! One time step, element by element, in vectors. See [`super`] for the formula.
//!
//! The four gates share one division: `σ(a) = 1/(1 + e^{-a})` and `tanh a = m/(m + 2)` with `m = e^{2a} − 1` have divisors whose
//! product is far below the largest number, because exponents are held to ±30 and ±27, where both functions are what they
//! are at infinity but for 1e-9. Powers of two are those of `scalar.rs`, by fused multiply-adds.

use std::f32::consts::{LN_2, LOG2_E};

use pulp::{Simd, WithSimd};

use super::super::ARCH;

/// One step of a few rows: `gates` turns from `a` into `i, f, g, o` `[rows, 4·hidden]`; `c_previous`, `c`, `h` `[rows, hidden]`.
pub fn lstm_cell(gates: &mut [f32], c_previous: &[f32], c: &mut [f32], h: &mut [f32], hidden: usize) {
    struct Rows<'a>(&'a mut [f32], &'a [f32], &'a mut [f32], &'a mut [f32], usize);
    impl WithSimd for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(gates, before, c, h, hidden) = self;
            let rows = gates.chunks_exact_mut(4 * hidden).zip(before.chunks_exact(hidden));
            let out = c.chunks_exact_mut(hidden).zip(h.chunks_exact_mut(hidden));
            for ((gates, before), (c, h)) in rows.zip(out) {
                let [i, f, g, o] = parts_mut(gates, hidden);
                for at in (0..hidden).step_by(S::F32_LANES) {
                    let a = [load(simd, i, at), load(simd, f, at), load(simd, g, at), load(simd, o, at)];
                    let ([vi, vf, vg, vo], state, output) = step(simd, a, load(simd, before, at));
                    store(simd, i, at, vi);
                    store(simd, f, at, vf);
                    store(simd, g, at, vg);
                    store(simd, o, at, vo);
                    store(simd, c, at, state);
                    store(simd, h, at, output);
                }
            }
        }
    }
    if hidden > 0 {
        ARCH.dispatch(Rows(gates, c_previous, c, h, hidden));
    }
}

/// `i, f, g, o`, `c` and `h` of the sums `a` and `c'`.
#[inline(always)]
fn step<S: Simd>(simd: S, [i, f, g, o]: [S::f32s; 4], before: S::f32s) -> ([S::f32s; 4], S::f32s, S::f32s) {
    let (by_i, by_f, by_o) = (divisor(simd, i), divisor(simd, f), divisor(simd, o));
    let m = tanh_part(simd, g);
    let by_g = simd.add_f32s(m, simd.splat_f32s(2.0));
    let (by_if, by_go) = (simd.mul_f32s(by_i, by_f), simd.mul_f32s(by_g, by_o));
    let inverse = simd.div_f32s(simd.splat_f32s(1.0), simd.mul_f32s(by_if, by_go));
    let (of_if, of_go) = (simd.mul_f32s(inverse, by_go), simd.mul_f32s(inverse, by_if));
    let (i, f) = (simd.mul_f32s(of_if, by_f), simd.mul_f32s(of_if, by_i));
    let (g, o) = (simd.mul_f32s(simd.mul_f32s(of_go, by_o), m), simd.mul_f32s(of_go, by_g));
    let state = simd.mul_add_e_f32s(f, before, simd.mul_f32s(i, g));
    let output = simd.mul_f32s(o, tanh(simd, state));
    ([i, f, g, o], state, output)
}

/// `(2ⁿ, f, p)` with `n = round(y)`, `f = y − n` and `2^f = 1 + f·p`, `y` held to `±most`. What is no number stays so.
#[inline(always)]
fn exp2_parts<S: Simd>(simd: S, y: S::f32s, most: f32) -> (S::f32s, S::f32s, S::f32s) {
    let (lowest, highest) = (simd.splat_f32s(-most), simd.splat_f32s(most));
    let y = simd.select_f32s(simd.less_than_f32s(y, lowest), lowest, y);
    let y = simd.select_f32s(simd.less_than_f32s(highest, y), highest, y);
    // Adding 1.5·2²³ rounds to an integer and leaves that integer in the low bits of the sum.
    let round = simd.splat_f32s(12_582_912.0);
    let shifted = simd.add_f32s(y, round);
    let f = simd.sub_f32s(y, simd.sub_f32s(shifted, round));
    let p = simd.splat_f32s(1.540_351_2e-4);
    let p = simd.mul_add_e_f32s(f, p, simd.splat_f32s(1.339_073_5e-3));
    let p = simd.mul_add_e_f32s(f, p, simd.splat_f32s(9.618_238e-3));
    let p = simd.mul_add_e_f32s(f, p, simd.splat_f32s(5.550_357_3e-2));
    let p = simd.mul_add_e_f32s(f, p, simd.splat_f32s(0.240_226_5));
    let p = simd.mul_add_e_f32s(f, p, simd.splat_f32s(LN_2));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scale = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(0x3f80_0000)));
    (scale, f, p)
}

/// `1 + e^{-x}`.
#[inline(always)]
fn divisor<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (scale, f, p) = exp2_parts(simd, simd.mul_f32s(x, simd.splat_f32s(-LOG2_E)), 30.0);
    let one = simd.splat_f32s(1.0);
    simd.mul_add_e_f32s(scale, simd.mul_add_e_f32s(f, p, one), one)
}

/// `m = e^{2x} − 1`, which does not cancel around 0.
#[inline(always)]
fn tanh_part<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (scale, f, p) = exp2_parts(simd, simd.mul_f32s(x, simd.splat_f32s(2.0 * LOG2_E)), 27.0);
    simd.mul_add_e_f32s(scale, simd.mul_f32s(f, p), simd.sub_f32s(scale, simd.splat_f32s(1.0)))
}

#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let m = tanh_part(simd, x);
    simd.div_f32s(m, simd.add_f32s(m, simd.splat_f32s(2.0)))
}

/// What backward reads of a row: `i, f, g, o` `[4·hidden]`, and the states before it `[hidden]`.
pub(super) struct Kept<'a> {
    pub(super) gates: &'a mut [f32],
    pub(super) c: &'a mut [f32],
    pub(super) h: &'a mut [f32],
}

/// One row of sums `a`, to which `bias` is added: `c` and `h` turn from the states before it into those after it.
#[inline(always)]
pub(super) fn forward_row<S: Simd>(
    simd: S,
    [a, bias]: [&[f32]; 2],
    c: &mut [f32],
    h: &mut [f32],
    kept: Option<Kept<'_>>,
) {
    let hidden = h.len();
    let (a, bias) = (parts(a, hidden), parts(bias, hidden));
    let vectors = (0..hidden).step_by(S::F32_LANES);
    match kept {
        None => {
            for at in vectors {
                let sums = sums(simd, a, bias, at);
                let (_, state, output) = step(simd, sums, load(simd, c, at));
                store(simd, c, at, state);
                store(simd, h, at, output);
            }
        }
        Some(kept) => {
            kept.h.copy_from_slice(h);
            kept.c.copy_from_slice(c);
            let [i, f, g, o] = parts_mut(kept.gates, hidden);
            for at in vectors {
                let sums = sums(simd, a, bias, at);
                let ([vi, vf, vg, vo], state, output) = step(simd, sums, load(simd, c, at));
                store(simd, i, at, vi);
                store(simd, f, at, vf);
                store(simd, g, at, vg);
                store(simd, o, at, vo);
                store(simd, c, at, state);
                store(simd, h, at, output);
            }
        }
    }
}

/// The vector of each gate of `a + b` that begins at `at`.
#[inline(always)]
fn sums<S: Simd>(simd: S, a: [&[f32]; 4], b: [&[f32]; 4], at: usize) -> [S::f32s; 4] {
    [
        simd.add_f32s(load(simd, a[0], at), load(simd, b[0], at)),
        simd.add_f32s(load(simd, a[1], at), load(simd, b[1], at)),
        simd.add_f32s(load(simd, a[2], at), load(simd, b[2], at)),
        simd.add_f32s(load(simd, a[3], at), load(simd, b[3], at)),
    ]
}

#[inline(always)]
fn times<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.mul_f32s(a, b)
}

/// `x·(1 − x)`, the slope of `x = σ(a)`.
#[inline(always)]
fn rise<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, simd.sub_f32s(simd.splat_f32s(1.0), x))
}

/// `1 − x²`, the slope of `x = tanh a`.
#[inline(always)]
fn rest<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.sub_f32s(simd.splat_f32s(1.0), simd.mul_f32s(x, x))
}

/// What reaches a row from above and from the next step, and what leaves it.
pub(super) struct Slopes<'a> {
    /// `∂ℓ/∂h` by the layer's output.
    pub(super) dy: &'a [f32],
    /// `∂ℓ/∂h` by the next step.
    pub(super) dh: &'a [f32],
    /// Turns from `∂ℓ/∂c` by the next step into that of `c'`.
    pub(super) dc: &'a mut [f32],
    /// Becomes `δ = ∂ℓ/∂a` `[4·hidden]`, as `gates` does.
    pub(super) delta: &'a mut [f32],
}

/// Backward of one row: `gates` turns from `i, f, g, o` into `δ`; `before` is `c'`.
#[inline(always)]
pub(super) fn backward_row<S: Simd>(simd: S, gates: &mut [f32], before: &[f32], slopes: Slopes) {
    let Slopes { dy, dh, dc, delta } = slopes;
    let hidden = dc.len();
    let [i, f, g, o] = parts_mut(gates, hidden);
    for at in (0..hidden).step_by(S::F32_LANES) {
        let [gi, gf, gg, go] = [load(simd, i, at), load(simd, f, at), load(simd, g, at), load(simd, o, at)];
        let before = load(simd, before, at);
        let t = tanh(simd, simd.mul_add_e_f32s(gf, before, times(simd, gi, gg)));
        let dh = simd.add_f32s(load(simd, dy, at), load(simd, dh, at));
        let d = simd.mul_add_e_f32s(times(simd, dh, go), rest(simd, t), load(simd, dc, at));
        store(simd, i, at, times(simd, times(simd, d, gg), rise(simd, gi)));
        store(simd, f, at, times(simd, times(simd, d, before), rise(simd, gf)));
        store(simd, g, at, times(simd, times(simd, d, gi), rest(simd, gg)));
        store(simd, o, at, times(simd, times(simd, dh, t), rise(simd, go)));
        store(simd, dc, at, times(simd, d, gf));
    }
    delta.copy_from_slice(gates);
}

/// The vector of `x` that begins at `at`; zeros beyond the end.
#[inline(always)]
fn load<S: Simd>(simd: S, x: &[f32], at: usize) -> S::f32s {
    let (whole, tail) = S::as_simd_f32s(&x[at..x.len().min(at + S::F32_LANES)]);
    match whole.first() {
        Some(vector) => *vector,
        None => simd.partial_load_f32s(tail),
    }
}

/// Writes a vector to where it was loaded from.
#[inline(always)]
fn store<S: Simd>(simd: S, x: &mut [f32], at: usize, vector: S::f32s) {
    let end = x.len().min(at + S::F32_LANES);
    let (whole, tail) = S::as_mut_simd_f32s(&mut x[at..end]);
    match whole.first_mut() {
        Some(place) => *place = vector,
        None => simd.partial_store_f32s(tail, vector),
    }
}

/// The four gates of one row, each `[hidden]`.
#[inline(always)]
fn parts(row: &[f32], hidden: usize) -> [&[f32]; 4] {
    let (i, rest) = row.split_at(hidden);
    let (f, rest) = rest.split_at(hidden);
    let (g, rest) = rest.split_at(hidden);
    [i, f, g, &rest[..hidden]]
}

/// The same, writable.
#[inline(always)]
fn parts_mut(row: &mut [f32], hidden: usize) -> [&mut [f32]; 4] {
    let (i, rest) = row.split_at_mut(hidden);
    let (f, rest) = rest.split_at_mut(hidden);
    let (g, o) = rest.split_at_mut(hidden);
    [i, f, g, o]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::scalar::hash;
    use crate::reference::{self, recurrent};

    fn numbers(seed: u32, n: usize, most: f32) -> Vec<f32> {
        (0..n as u32).map(|i| (hash(seed, i) as f32 / 2f32.powi(31) - 1.0) * most).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| x.into()).collect()
    }

    #[test]
    fn a_step_matches_the_reference_also_where_gates_saturate() {
        for (rows, hidden, most) in [(1, 1, 2.0), (3, 5, 2.0), (2, 33, 30.0), (20, 70, 200.0)] {
            let n = rows * hidden;
            let (a, before) = (numbers(1, 4 * n, most), numbers(2, n, 2.0));
            let (mut gates, mut c, mut h) = (a.clone(), vec![f32::NAN; n], vec![f32::NAN; n]);
            lstm_cell(&mut gates, &before, &mut c, &mut h, hidden);
            let (expected_c, expected_h) = recurrent::lstm_cell(&wide(&a), &wide(&before), hidden);
            reference::assert_close(&c, &expected_c, 2e-6);
            reference::assert_close(&h, &expected_h, 2e-6);
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let (mut gates, mut c, mut h) = ([f32::NAN; 4], [0.0], [0.0]);
        lstm_cell(&mut gates, &[1.0], &mut c, &mut h, 1);
        assert!(c[0].is_nan() && h[0].is_nan());
    }
}
