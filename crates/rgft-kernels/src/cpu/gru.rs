//! One time step of a GRU (Cho et al. 2014) in PyTorch's form, gates in its order `r, z, n`.
//!
//! `r, z = σ(a + u)`, `n = tanh(a + r·u)`, `h = (1 − z)·n + z·h'`, where `a` `[rows, 3·hidden]` is the input's share
//! (with its bias), `u` `[rows, 3·hidden]` the share of the hidden state `h'` of the step before (with its bias).
//! Products are not computed here.

use rayon::prelude::*;

use super::lanes::{LANES, each, load, store};
use super::rows_per_task;
use super::scalar::{sigmoid, tanh};

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
        vectorised!(|| {
            let rows = gates.chunks_exact_mut(3 * hidden).zip(u.chunks_exact(3 * hidden));
            let states = h_previous.chunks_exact(hidden).zip(candidate.chunks_exact_mut(hidden));
            for (((gates, u), (h_previous, candidate)), h) in rows.zip(states).zip(h.chunks_exact_mut(hidden))
            {
                let [r, z, n] = parts(gates, hidden);
                let (ur, uz, un) = (&u[..hidden], &u[hidden..2 * hidden], &u[2 * hidden..]);
                for at in (0..hidden).step_by(LANES) {
                    let (ar, az, an) = (load(r, at), load(z, at), load(n, at));
                    let (ur, uz, un) = (load(ur, at), load(uz, at), load(un, at));
                    let before = load(h_previous, at);
                    let gr = each(|k| sigmoid(ar[k] + ur[k]));
                    let gz = each(|k| sigmoid(az[k] + uz[k]));
                    let gn = each(|k| tanh(an[k] + gr[k] * un[k]));
                    store(h, at, each(|k| gn[k] + gz[k] * (before[k] - gn[k])));
                    store(candidate, at, un);
                    store(r, at, gr);
                    store(z, at, gz);
                    store(n, at, gn);
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
        vectorised!(|| {
            let rows = gates.chunks_exact_mut(3 * hidden).zip(du.chunks_exact_mut(3 * hidden));
            let states = h_previous.chunks_exact(hidden).zip(candidate.chunks_exact(hidden));
            let from_above = dy.chunks_exact(hidden).zip(carried.chunks_exact_mut(hidden));
            for (((gates, du), (h_previous, candidate)), (dy, carried)) in rows.zip(states).zip(from_above) {
                let ([r, z, n], [ur, uz, un]) = (parts(gates, hidden), parts(du, hidden));
                for at in (0..hidden).step_by(LANES) {
                    let (gr, gz, gn) = (load(r, at), load(z, at), load(n, at));
                    let (before, u, dy, later) =
                        (load(h_previous, at), load(candidate, at), load(dy, at), load(carried, at));
                    let dh = each(|k| dy[k] + later[k]);
                    let dn = each(|k| dh[k] * (1.0 - gz[k]) * (1.0 - gn[k] * gn[k]));
                    let dr = each(|k| dn[k] * u[k] * gr[k] * (1.0 - gr[k]));
                    let dz = each(|k| dh[k] * (before[k] - gn[k]) * gz[k] * (1.0 - gz[k]));
                    store(r, at, dr);
                    store(z, at, dz);
                    store(n, at, dn);
                    store(ur, at, dr);
                    store(uz, at, dz);
                    store(un, at, each(|k| dn[k] * gr[k]));
                    store(carried, at, each(|k| dh[k] * gz[k]));
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

/// The three gates of one row, each `[hidden]`.
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
