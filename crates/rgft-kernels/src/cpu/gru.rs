//! One time step of a GRU (Cho et al. 2014) in PyTorch's form, gates in its order `r, z, n`.
//!
//! `r, z = σ(a + u)`, `n = tanh(a + r·u)`, `h = (1 − z)·n + z·h'`, where `a` `[rows, 3·hidden]` is the input's share
//! (with its bias), `u` `[rows, 3·hidden]` the share of the hidden state `h'` of the step before (with its bias).
//! Products are not computed here.

use rayon::prelude::*;

use super::scalar::{sigmoid, tanh};
use super::{rows_per_task, vectorised};

/// Forward. `gates` turns from `a` into `r, z, n` `[rows, 3·hidden]`; `candidate` takes the last third of `u`; backward
/// reads both. `h_previous`, `candidate`, `h` `[rows, hidden]`.
pub fn gru_cell(
    gates: &mut [f32],
    u: &[f32],
    h_previous: &[f32],
    candidate: &mut [f32],
    h: &mut [f32],
    hidden: usize,
) {
    if h.is_empty() {
        return;
    }
    let pass = |gates: &mut [f32], u: &[f32], h_previous: &[f32], candidate: &mut [f32], h: &mut [f32]| {
        vectorised(|| {
            let rows = gates.chunks_exact_mut(3 * hidden).zip(u.chunks_exact(3 * hidden));
            let states = h_previous.chunks_exact(hidden).zip(candidate.chunks_exact_mut(hidden));
            for (((gates, u), (h_previous, candidate)), h) in rows.zip(states).zip(h.chunks_exact_mut(hidden))
            {
                let [r, z, n] = parts(gates, hidden);
                let (ur, uz, un) = (&u[..hidden], &u[hidden..2 * hidden], &u[2 * hidden..]);
                for k in 0..hidden {
                    r[k] = sigmoid(r[k] + ur[k]);
                    z[k] = sigmoid(z[k] + uz[k]);
                    n[k] = tanh(n[k] + r[k] * un[k]);
                    candidate[k] = un[k];
                    h[k] = n[k] + z[k] * (h_previous[k] - n[k]);
                }
            }
        });
    };
    let task = rows_per_task(h.len() / hidden, 3 * hidden) * hidden;
    if task >= h.len() {
        return pass(gates, u, h_previous, candidate, h);
    }
    let rows = gates.par_chunks_mut(3 * task).zip(u.par_chunks(3 * task));
    let states = h_previous.par_chunks(task).zip(candidate.par_chunks_mut(task));
    rows.zip(states)
        .zip(h.par_chunks_mut(task))
        .for_each(|(((gates, u), (h_previous, candidate)), h)| pass(gates, u, h_previous, candidate, h));
}

/// Backward. `gates` turns from `r, z, n` into `∂ℓ/∂a`, and `du` takes `∂ℓ/∂u`, both `[rows, 3·hidden]`. The gradient
/// of `h` is `dy` plus `carried`; `carried` turns from what the next step sent into what reaches `h_previous` past
/// the products. All others are `[rows, hidden]`.
pub fn gru_cell_backward(
    gates: &mut [f32],
    h_previous: &[f32],
    candidate: &[f32],
    dy: &[f32],
    carried: &mut [f32],
    du: &mut [f32],
    hidden: usize,
) {
    if dy.is_empty() {
        return;
    }
    let pass = |gates: &mut [f32],
                (h_previous, candidate): (&[f32], &[f32]),
                dy: &[f32],
                carried: &mut [f32],
                du: &mut [f32]| {
        vectorised(|| {
            let rows = gates.chunks_exact_mut(3 * hidden).zip(du.chunks_exact_mut(3 * hidden));
            let states = h_previous.chunks_exact(hidden).zip(candidate.chunks_exact(hidden));
            let from_above = dy.chunks_exact(hidden).zip(carried.chunks_exact_mut(hidden));
            for (((gates, du), (h_previous, candidate)), (dy, carried)) in rows.zip(states).zip(from_above) {
                let [dr, dz, dn] = parts(gates, hidden);
                let [ur, uz, un] = parts(du, hidden);
                for k in 0..hidden {
                    let (r, z, n) = (dr[k], dz[k], dn[k]);
                    let dh = dy[k] + carried[k];
                    let inner = dh * (1.0 - z) * (1.0 - n * n);
                    dr[k] = inner * candidate[k] * r * (1.0 - r);
                    dz[k] = dh * (h_previous[k] - n) * z * (1.0 - z);
                    dn[k] = inner;
                    ur[k] = dr[k];
                    uz[k] = dz[k];
                    un[k] = inner * r;
                    carried[k] = dh * z;
                }
            }
        });
    };
    let task = rows_per_task(dy.len() / hidden, 3 * hidden) * hidden;
    if task >= dy.len() {
        return pass(gates, (h_previous, candidate), dy, carried, du);
    }
    let rows = gates.par_chunks_mut(3 * task).zip(du.par_chunks_mut(3 * task));
    let states = h_previous.par_chunks(task).zip(candidate.par_chunks(task));
    let from_above = dy.par_chunks(task).zip(carried.par_chunks_mut(task));
    rows.zip(states)
        .zip(from_above)
        .for_each(|(((gates, du), states), (dy, carried))| pass(gates, states, dy, carried, du));
}

/// The three gates of one row; all exactly `hidden` long, so that loops over them need no checks.
#[inline(always)]
fn parts(row: &mut [f32], hidden: usize) -> [&mut [f32]; 3] {
    let (r, rest) = row.split_at_mut(hidden);
    let (z, n) = rest.split_at_mut(hidden);
    [r, z, n]
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
            let (a, u, before) = (numbers(1, 3 * n), numbers(2, 3 * n), numbers(3, n));
            let (mut gates, mut candidate, mut h) = (a.clone(), vec![f32::NAN; n], vec![f32::NAN; n]);
            gru_cell(&mut gates, &u, &before, &mut candidate, &mut h, hidden);
            let (a, u, wide_before) = (wide(&a), wide(&u), wide(&before));
            reference::assert_close(&h, &recurrent::gru_cell(&a, &u, &wide_before, hidden), 2e-6);

            let (dy, from_next) = (numbers(4, n), numbers(5, n));
            let (mut carried, mut du) = (from_next.clone(), vec![f32::NAN; 3 * n]);
            gru_cell_backward(&mut gates, &before, &candidate, &dy, &mut carried, &mut du, hidden);
            let loss = |a: &[f64], u: &[f64], before: &[f64]| -> f64 {
                let h = recurrent::gru_cell(a, u, before, hidden);
                (0..n).map(|k| h[k] * f64::from(dy[k] + from_next[k])).sum()
            };
            for at in (0..3 * n).step_by(1 + n / 40) {
                let by_a = reference::difference(&a, at, |a| loss(a, &u, &wide_before));
                let by_u = reference::difference(&u, at, |u| loss(&a, u, &wide_before));
                assert!((f64::from(gates[at]) - by_a).abs() < 2e-5, "δ of a at {at}: {by_a}");
                assert!((f64::from(du[at]) - by_u).abs() < 2e-5, "δ of u at {at}: {by_u}");
            }
            for at in (0..n).step_by(1 + n / 40) {
                let by_h = reference::difference(&wide_before, at, |before| loss(&a, &u, before));
                assert!((f64::from(carried[at]) - by_h).abs() < 2e-5, "dh at {at}: {by_h}");
            }
        }
    }
}
