//! Softmax attention over packed sequences: no padding exists, a sequence's end is its mask.
//!
//! Per sequence of `t` tokens and per head of width `d`:
//! `S = Q·Kᵀ/√d`, `P = softmax(S)` row by row, `P̃ = dropout(P)`, `C = P̃·V`. Backward:
//! `dV = P̃ᵀ·dC`, `dP = dropout(dC·Vᵀ)`, `dS = P∘(dP − rowsum(dP∘P))/√d`, `dQ = dS·K`, `dK = dSᵀ·Q`.
//!
//! Products are small, so each runs serially, and sequences run in parallel.

use std::cell::RefCell;

use rayon::prelude::*;

use super::norm::dot;
use super::scalar::{Dropout, exp};
use super::vectorised;
use crate::gemm::{Precision, gemm_serial};
use crate::{Mat, MatMut};

/// The shape of a packed batch and of its heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Tokens of each sequence; they sum to `tokens`.
    pub lengths: &'a [usize],
    /// Number of heads; a row is `heads · width` long.
    pub heads: usize,
    /// Width `d` of one head.
    pub width: usize,
    /// Dropout on the probabilities (indexed as they are stored).
    pub dropout: Option<Dropout>,
    /// In what precision the products run.
    pub precision: Precision,
}

impl Heads<'_> {
    /// Floats that the probabilities of all heads take: `heads · Σ t²`.
    pub fn probabilities(&self) -> usize {
        self.heads * self.lengths.iter().map(|t| t * t).sum::<usize>()
    }

    fn hidden(&self) -> usize {
        self.heads * self.width
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends `n` floats of this thread's scratch memory (contents arbitrary).
fn with_scratch(n: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < n {
            scratch.resize(n, 0.0);
        }
        work(&mut scratch[..n]);
    });
}

/// One sequence's share of the buffers.
struct Sequence<'a> {
    length: usize,
    first_token: usize,
    first_probability: usize,
    outputs: [&'a mut [f32]; 3],
}

/// Cuts buffers that belong to tokens (`width` floats each) or probabilities into one piece per sequence.
fn split<'a>(heads: &Heads, widths: [usize; 3], buffers: [&'a mut [f32]; 3]) -> Vec<Sequence<'a>> {
    let mut rest = buffers;
    let (mut first_token, mut first_probability) = (0, 0);
    let sequences = heads.lengths.iter().map(|&length| {
        let mut index = 0;
        let outputs = rest.each_mut().map(|buffer| {
            // Probabilities (width 0) take heads·t² floats, everything else t rows.
            let n = if widths[index] == 0 { heads.heads * length * length } else { length * widths[index] };
            index += 1;
            // A buffer that was not given (probabilities of a forward alone) is empty for every sequence.
            let n = n.min(buffer.len());
            let (own, tail) = std::mem::take(buffer).split_at_mut(n);
            *buffer = tail;
            own
        });
        let sequence = Sequence { length, first_token, first_probability, outputs };
        first_token += length;
        first_probability += heads.heads * length * length;
        sequence
    });
    sequences.collect()
}

/// Forward: `q`, `k`, `v`, `context` `[tokens, hidden]`. `probabilities` (before dropout, laid out
/// `[sequence][head][t, t]`) is written when given; backward reads it.
pub fn attention(
    heads: Heads,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    context: &mut [f32],
    probabilities: Option<&mut [f32]>,
) {
    let hidden = heads.hidden();
    let keep = probabilities.is_some();
    let sequences = split(&heads, [hidden, 0, hidden], [context, probabilities.unwrap_or_default(), &mut []]);
    sequences.into_par_iter().for_each(|sequence| {
        let Sequence { length: t, first_token, first_probability, outputs: [context, kept, _] } = sequence;
        let rows = first_token * hidden..(first_token + t) * hidden;
        let (q, k, v) = (&q[rows.clone()], &k[rows.clone()], &v[rows]);
        with_scratch(2 * t * t, |scratch| {
            let (own, dropped) = scratch.split_at_mut(t * t);
            for head in 0..heads.heads {
                let columns = head * heads.width..(head + 1) * heads.width;
                let part = |x| Mat::new(x, t, hidden).columns(columns.clone());
                let p = if keep { &mut kept[head * t * t..][..t * t] } else { &mut *own };
                gemm_serial(part(q), part(k).t(), MatMut::new(p, t, t), false, heads.precision);
                softmax_rows(p, t, 1.0 / (heads.width as f32).sqrt());
                let p: &[f32] = match heads.dropout {
                    None => p,
                    Some(dropout) => {
                        let first = first_probability + head * t * t;
                        drop_into(dropout, first, p, dropped);
                        dropped
                    }
                };
                let context = MatMut::new(context, t, hidden).columns(columns.clone());
                gemm_serial(Mat::new(p, t, t), part(v), context, false, heads.precision);
            }
        });
    });
}

/// What backward reads; all `[tokens, hidden]` but the probabilities.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSaved<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Probabilities before dropout, as forward wrote them.
    pub probabilities: &'a [f32],
}

/// Backward for the heads in `active` alone: reads their columns of `dcontext`, writes their columns of `dq`,
/// `dk`, `dv` (`[tokens, hidden]`), and leaves the other columns alone.
pub fn attention_backward(
    heads: Heads,
    active: &[usize],
    saved: AttentionSaved,
    dcontext: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let hidden = heads.hidden();
    let scale = 1.0 / (heads.width as f32).sqrt();
    split(&heads, [hidden; 3], [dq, dk, dv]).into_par_iter().for_each(|sequence| {
        let Sequence { length: t, first_token, first_probability, outputs: [dq, dk, dv] } = sequence;
        let rows = first_token * hidden..(first_token + t) * hidden;
        let (q, k, v) = (&saved.q[rows.clone()], &saved.k[rows.clone()], &saved.v[rows.clone()]);
        let dcontext = &dcontext[rows];
        with_scratch(2 * t * t, |scratch| {
            let (ds, dropped) = scratch.split_at_mut(t * t);
            for &head in active {
                let columns = head * heads.width..(head + 1) * heads.width;
                let part = |x| Mat::new(x, t, hidden).columns(columns.clone());
                let first = first_probability + head * t * t;
                let p = &saved.probabilities[first..][..t * t];
                let used: &[f32] = match heads.dropout {
                    None => p,
                    Some(dropout) => {
                        drop_into(dropout, first, p, dropped);
                        dropped
                    }
                };
                let (dc, precision) = (part(dcontext), heads.precision);
                let into = |x| MatMut::new(x, t, hidden).columns(columns.clone());
                gemm_serial(Mat::new(used, t, t).t(), dc, into(dv), false, precision);
                gemm_serial(dc, part(v).t(), MatMut::new(ds, t, t), false, precision);
                softmax_backward_rows(heads.dropout, first, p, ds, t, scale);
                gemm_serial(Mat::new(ds, t, t), part(k), into(dq), false, precision);
                gemm_serial(Mat::new(ds, t, t).t(), part(q), into(dk), false, precision);
            }
        });
    });
}

fn drop_into(dropout: Dropout, first: usize, p: &[f32], dropped: &mut [f32]) {
    vectorised(|| {
        dropped.iter_mut().zip(p).enumerate().for_each(|(i, (d, p))| *d = p * dropout.factor(first + i));
    });
}

/// Each row of `[_, cols]`: `x ← softmax(scale·x)`.
fn softmax_rows(x: &mut [f32], cols: usize, scale: f32) {
    vectorised(|| {
        for row in x.chunks_exact_mut(cols) {
            let mut lanes = [f32::NEG_INFINITY; 16];
            let mut chunks = row.chunks_exact(16);
            for chunk in &mut chunks {
                lanes.iter_mut().zip(chunk).for_each(|(m, x)| *m = if *x > *m { *x } else { *m });
            }
            let largest = lanes
                .iter()
                .chain(chunks.remainder())
                .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
            row.iter_mut().for_each(|x| *x = exp((*x - largest) * scale));
            let inverse = 1.0 / super::norm::sum(row);
            row.iter_mut().for_each(|x| *x *= inverse);
        }
    });
}

/// Each row: `d ← p∘(d̃ − Σ d̃∘p)·scale` with `d̃ = dropout(d)`.
fn softmax_backward_rows(
    dropout: Option<Dropout>,
    first: usize,
    p: &[f32],
    d: &mut [f32],
    cols: usize,
    scale: f32,
) {
    vectorised(|| {
        for (r, (p, d)) in p.chunks_exact(cols).zip(d.chunks_exact_mut(cols)).enumerate() {
            if let Some(dropout) = dropout {
                d.iter_mut().enumerate().for_each(|(c, d)| *d *= dropout.factor(first + r * cols + c));
            }
            let along = dot(d, p);
            d.iter_mut().zip(p).for_each(|(d, p)| *d = (*d - along) * p * scale);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn numbers(seed: usize, n: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 400.0 - 1.2).collect()
    }

    #[test]
    fn forward_and_backward_match_the_reference() {
        let lengths = [3, 1, 21, 6];
        let (tokens, width) = (31, 5);
        for dropout in [None, Some(Dropout { seed: 3, probability: 0.25 })] {
            let heads = Heads { lengths: &lengths, heads: 3, width, dropout, precision: Precision::F32 };
            let n = tokens * 15;
            let (q, k, v) = (numbers(1, n), numbers(2, n), numbers(3, n));
            let (mut context, mut p) = (vec![0.0; n], vec![0.0; heads.probabilities()]);
            attention(heads, &q, &k, &v, &mut context, Some(&mut p));
            let mut unsaved = vec![0.0; n];
            attention(heads, &q, &k, &v, &mut unsaved, None);
            assert_eq!(context, unsaved);

            let keep = |i: usize| dropout.map_or(1.0, |d| d.factor(i)) as f64;
            let truth = |qkv: &[f64]| {
                reference::attention(&qkv[..n], &qkv[n..2 * n], &qkv[2 * n..], &lengths, 3, width, keep)
            };
            let qkv: Vec<f64> = q.iter().chain(&k).chain(&v).map(|&x| x as f64).collect();
            reference::assert_close(&context, &truth(&qkv), 1e-5);

            let dcontext = numbers(4, n);
            let mut d = [vec![7.0f32; n], vec![7.0; n], vec![7.0; n]];
            let [dq, dk, dv] = &mut d;
            let saved = AttentionSaved { q: &q, k: &k, v: &v, probabilities: &p };
            attention_backward(heads, &[0, 2], saved, &dcontext, dq, dk, dv);
            let loss =
                |qkv: &[f64]| -> f64 { truth(qkv).iter().zip(&dcontext).map(|(c, d)| c * *d as f64).sum() };
            for i in (0..3 * n).step_by(7) {
                let found = d[i / n][i % n] as f64;
                if (5..10).contains(&(i % 15)) {
                    assert_eq!(found, 7.0, "the inactive head's columns must not be touched");
                } else {
                    let expected = reference::difference(&qkv, i, loss);
                    assert!((found - expected).abs() < 1e-4, "{i}: {found} against {expected}");
                }
            }
        }
    }
}
