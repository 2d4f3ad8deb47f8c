//! One time step of an LSTM (Hochreiter & Schmidhuber 1997, with Gers' forget gate), gates in PyTorch's order `i, f, g, o`.
//!
//! `i, f, o = σ(a)`, `g = tanh(a)`, `c = f·c' + i·g`, `h = o·tanh c`, where `a` `[rows, 4·hidden]` is what the products and
//! biases add up to, and `c'` the cell state of the step before. Products are not computed here.

use rayon::prelude::*;

use super::lanes::{LANES, each, load, store};
use super::rows_per_task;
use super::scalar::{sigmoid, tanh};

/// Forward. `gates` turns from `a` into `i, f, g, o` `[rows, 4·hidden]`, which backward reads; `c_previous`, `c`, `h`
/// `[rows, hidden]`.
pub fn lstm_cell(gates: &mut [f32], c_previous: &[f32], c: &mut [f32], h: &mut [f32], hidden: usize) {
    if h.is_empty() {
        return;
    }
    let pass = |gates: &mut [f32], c_previous: &[f32], c: &mut [f32], h: &mut [f32]| {
        vectorised!(|| {
            let rows = gates.chunks_exact_mut(4 * hidden).zip(c_previous.chunks_exact(hidden));
            let out = c.chunks_exact_mut(hidden).zip(h.chunks_exact_mut(hidden));
            for ((gates, c_previous), (c, h)) in rows.zip(out) {
                let [i, f, g, o] = parts(gates, hidden);
                for at in (0..hidden).step_by(LANES) {
                    let (ai, af, ag, ao) = (load(i, at), load(f, at), load(g, at), load(o, at));
                    let before = load(c_previous, at);
                    let (gi, gf) = (each(|k| sigmoid(ai[k])), each(|k| sigmoid(af[k])));
                    let (gg, go) = (each(|k| tanh(ag[k])), each(|k| sigmoid(ao[k])));
                    let state = each(|k| gf[k] * before[k] + gi[k] * gg[k]);
                    store(h, at, each(|k| go[k] * tanh(state[k])));
                    store(c, at, state);
                    store(i, at, gi);
                    store(f, at, gf);
                    store(g, at, gg);
                    store(o, at, go);
                }
            }
        });
    };
    let task = rows_per_task(h.len() / hidden, 4 * hidden);
    if task * hidden >= h.len() {
        return pass(gates, c_previous, c, h);
    }
    let task = task * hidden;
    let rows = gates.par_chunks_mut(4 * task).zip(c_previous.par_chunks(task));
    let out = c.par_chunks_mut(task).zip(h.par_chunks_mut(task));
    rows.zip(out).for_each(|((gates, c_previous), (c, h))| pass(gates, c_previous, c, h));
}

/// Backward. `gates` turns from `i, f, g, o` into `δ = ∂ℓ/∂a`. The gradient of `h` is `dy` plus `carried`, what the
/// next step sends; `dc` turns from the gradient that reaches `c` from the next step into the one that leaves for
/// `c_previous`. All but `gates` are `[rows, hidden]`.
pub fn lstm_cell_backward(
    gates: &mut [f32],
    c_previous: &[f32],
    dy: &[f32],
    carried: &[f32],
    dc: &mut [f32],
    hidden: usize,
) {
    if dc.is_empty() {
        return;
    }
    let pass = |gates: &mut [f32], c_previous: &[f32], dy: &[f32], carried: &[f32], dc: &mut [f32]| {
        vectorised!(|| {
            let rows = gates.chunks_exact_mut(4 * hidden).zip(c_previous.chunks_exact(hidden));
            let from_above = dy.chunks_exact(hidden).zip(carried.chunks_exact(hidden));
            for (((gates, c_previous), (dy, carried)), dc) in
                rows.zip(from_above).zip(dc.chunks_exact_mut(hidden))
            {
                let [i, f, g, o] = parts(gates, hidden);
                for at in (0..hidden).step_by(LANES) {
                    let (gi, gf, gg, go) = (load(i, at), load(f, at), load(g, at), load(o, at));
                    let (before, dy, carried, later) =
                        (load(c_previous, at), load(dy, at), load(carried, at), load(dc, at));
                    let t = each(|k| tanh(gf[k] * before[k] + gi[k] * gg[k]));
                    let dh = each(|k| dy[k] + carried[k]);
                    let d = each(|k| later[k] + dh[k] * go[k] * (1.0 - t[k] * t[k]));
                    store(i, at, each(|k| d[k] * gg[k] * gi[k] * (1.0 - gi[k])));
                    store(f, at, each(|k| d[k] * before[k] * gf[k] * (1.0 - gf[k])));
                    store(g, at, each(|k| d[k] * gi[k] * (1.0 - gg[k] * gg[k])));
                    store(o, at, each(|k| dh[k] * t[k] * go[k] * (1.0 - go[k])));
                    store(dc, at, each(|k| d[k] * gf[k]));
                }
            }
        });
    };
    let task = rows_per_task(dc.len() / hidden, 4 * hidden) * hidden;
    if task >= dc.len() {
        return pass(gates, c_previous, dy, carried, dc);
    }
    let rows = gates.par_chunks_mut(4 * task).zip(c_previous.par_chunks(task));
    let from_above = dy.par_chunks(task).zip(carried.par_chunks(task));
    rows.zip(from_above)
        .zip(dc.par_chunks_mut(task))
        .for_each(|(((gates, c_previous), (dy, carried)), dc)| pass(gates, c_previous, dy, carried, dc));
}

/// The four gates of one row, each `[hidden]`.
#[inline(always)]
fn parts(row: &mut [f32], hidden: usize) -> [&mut [f32]; 4] {
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

    fn numbers(seed: u32, n: usize) -> Vec<f32> {
        (0..n as u32).map(|i| hash(seed, i) as f32 / 2f32.powi(30) - 2.0).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| x.into()).collect()
    }

    #[test]
    fn a_step_and_its_gradient_match_the_reference() {
        // Small, ragged, and large enough for several tasks.
        for (rows, hidden) in [(1, 1), (3, 5), (2, 33), (120, 70)] {
            let n = rows * hidden;
            let (a, before) = (numbers(1, 4 * n), numbers(2, n));
            let (mut gates, mut c, mut h) = (a.clone(), vec![f32::NAN; n], vec![f32::NAN; n]);
            lstm_cell(&mut gates, &before, &mut c, &mut h, hidden);
            let (expected_c, expected_h) = recurrent::lstm_cell(&wide(&a), &wide(&before), hidden);
            reference::assert_close(&c, &expected_c, 2e-6);
            reference::assert_close(&h, &expected_h, 2e-6);

            let (dy, carried, dc_next) = (numbers(3, n), numbers(4, n), numbers(5, n));
            let mut dc = dc_next.clone();
            lstm_cell_backward(&mut gates, &before, &dy, &carried, &mut dc, hidden);
            let loss = |a: &[f64], before: &[f64]| -> f64 {
                let (c, h) = recurrent::lstm_cell(a, before, hidden);
                (0..n).map(|k| h[k] * f64::from(dy[k] + carried[k]) + c[k] * f64::from(dc_next[k])).sum()
            };
            let (a, before) = (wide(&a), wide(&before));
            for at in (0..4 * n).step_by(1 + n / 40) {
                let difference = reference::difference(&a, at, |a| loss(a, &before));
                assert!((f64::from(gates[at]) - difference).abs() < 2e-5, "δ at {at}: {difference}");
            }
            for at in (0..n).step_by(1 + n / 40) {
                let difference = reference::difference(&before, at, |before| loss(&a, before));
                assert!((f64::from(dc[at]) - difference).abs() < 2e-5, "dc at {at}: {difference}");
            }
        }
    }
}
