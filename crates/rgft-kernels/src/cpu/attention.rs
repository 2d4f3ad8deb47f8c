//! Softmax attention over packed sequences: no padding exists, a sequence's end is its mask.
//!
//! Per sequence of `t` tokens and per head of width `d`:
//! `S = Q·Kᵀ/√d`, `P = softmax(S)` row by row, `P̃ = dropout(P)`, `C = P̃·V`. Backward:
//! `dV = P̃ᵀ·dC`, `dP = dropout(dC·Vᵀ)`, `dS = P∘(dP − rowsum(dP∘P))/√d`, `dQ = dS·K`, `dK = dSᵀ·Q`.
//!
//! *Grouped queries* (Ainslie et al. 2023): `heads / kv_heads` query heads in a row share a head of keys and values, whose
//! gradients are sums over them. *Causal*: a token sees those before it and itself; rows are gone through in [`blocks`],
//! so that little more than the lower triangle is computed.
//!
//! Products are small, so each runs serially, and sequences run in parallel.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::norm::dot;
use super::scalar::{Dropout, exp};
use super::{for_row_blocks, vectorised};
use crate::gemm::{Precision, gemm_serial};
use crate::{Mat, MatMut};

/// Rows of queries that causal attention computes at a time.
const BLOCK: usize = 64;

/// The shape of a packed batch and of its heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Tokens of each sequence; they sum to `tokens`.
    pub lengths: &'a [usize],
    /// Number of query heads; a row of queries is `heads · width` long.
    pub heads: usize,
    /// Number of heads of keys and values, which divides `heads`; their rows are `kv_heads · width` long.
    pub kv_heads: usize,
    /// Width `d` of one head.
    pub width: usize,
    /// Whether a token sees those before it and itself alone.
    pub causal: bool,
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

    /// Query heads that share a head of keys and values.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The columns of query head `head`, and of the keys and values that it reads.
    fn columns(&self, head: usize) -> (Range<usize>, Range<usize>) {
        let of = |head: usize| head * self.width..(head + 1) * self.width;
        (of(head), of(head / self.group()))
    }
}

/// Rows of queries that are computed together in a sequence of `t` tokens, and how many keys they see: `(rows, keys)`.
pub fn blocks(t: usize, causal: bool) -> impl DoubleEndedIterator<Item = (Range<usize>, usize)> {
    let size = if causal { BLOCK } else { t.max(1) };
    (0..t.div_ceil(size)).map(move |i| {
        let rows = i * size..((i + 1) * size).min(t);
        let keys = rows.end;
        (rows, keys)
    })
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

/// `t` rows of a packed matrix.
fn rows_of(x: &[f32], first: usize, t: usize, cols: usize) -> Mat<'_> {
    Mat::new(&x[first * cols..(first + t) * cols], t, cols)
}

/// Forward: `q`, `context` `[tokens, heads · width]`, `k`, `v` `[tokens, kv_heads · width]`. `probabilities` (before
/// dropout, laid out `[sequence][head][t, t]`, arbitrary where a causal block does not reach) is written when given;
/// backward reads it.
pub fn attention(
    heads: Heads,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    context: &mut [f32],
    probabilities: Option<&mut [f32]>,
) {
    let (q_cols, kv_cols) = (heads.heads * heads.width, heads.kv_heads * heads.width);
    let keep = probabilities.is_some();
    let scale = 1.0 / (heads.width as f32).sqrt();
    let sequences = split(&heads, [q_cols, 0, q_cols], [context, probabilities.unwrap_or_default(), &mut []]);
    sequences.into_par_iter().for_each(|sequence| {
        let Sequence { length: t, first_token, first_probability, outputs: [context, kept, _] } = sequence;
        with_scratch(2 * t * t, |scratch| {
            let (own, dropped) = scratch.split_at_mut(t * t);
            for head in 0..heads.heads {
                let (columns, shared) = heads.columns(head);
                let q = rows_of(q, first_token, t, q_cols).columns(columns.clone());
                let [k, v] = [k, v].map(|x| rows_of(x, first_token, t, kv_cols).columns(shared.clone()));
                let p = if keep { &mut kept[head * t * t..][..t * t] } else { &mut *own };
                for (rows, keys) in blocks(t, heads.causal) {
                    let q = q.rows_range(rows.clone());
                    let part = &mut p[rows.start * t..rows.end * t];
                    let scores = MatMut::strided(part, rows.len(), keys, t);
                    gemm_serial(q, k.rows_range(0..keys).t(), scores, false, heads.precision);
                    softmax_rows(part, t, scale, |r| if heads.causal { rows.start + r + 1 } else { t }, keys);
                    let used: &[f32] = match heads.dropout {
                        None => part,
                        Some(dropout) => {
                            let first = first_probability + (head * t + rows.start) * t;
                            drop_into(dropout, first, part, dropped, t, keys);
                            dropped
                        }
                    };
                    let weights = Mat::strided(used, rows.len(), keys, t);
                    let context = &mut context[rows.start * q_cols..rows.end * q_cols];
                    let context = MatMut::new(context, rows.len(), q_cols).columns(columns.clone());
                    gemm_serial(weights, v.rows_range(0..keys), context, false, heads.precision);
                }
            }
        });
    });
}

/// What backward reads, laid out as in [`attention`].
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

/// Backward for the heads of keys and values in `active` alone, with the query heads that share them: reads their
/// columns of `dcontext`, writes their columns of `dq` (shaped as `q`) and `dk`, `dv` (as `k`), and leaves the other
/// columns alone.
pub fn attention_backward(
    heads: Heads,
    active: &[usize],
    saved: AttentionSaved,
    dcontext: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (q_cols, kv_cols) = (heads.heads * heads.width, heads.kv_heads * heads.width);
    let (scale, precision) = (1.0 / (heads.width as f32).sqrt(), heads.precision);
    split(&heads, [q_cols, kv_cols, kv_cols], [dq, dk, dv]).into_par_iter().for_each(|sequence| {
        let Sequence { length: t, first_token, first_probability, outputs: [dq, dk, dv] } = sequence;
        with_scratch(2 * t * t, |scratch| {
            let (ds, dropped) = scratch.split_at_mut(t * t);
            let group = |kv_head: usize| kv_head * heads.group()..(kv_head + 1) * heads.group();
            for (in_group, head) in active.iter().flat_map(|&kv_head| group(kv_head).enumerate()) {
                let (columns, shared) = heads.columns(head);
                let [q, dc] =
                    [saved.q, dcontext].map(|x| rows_of(x, first_token, t, q_cols).columns(columns.clone()));
                let [k, v] =
                    [saved.k, saved.v].map(|x| rows_of(x, first_token, t, kv_cols).columns(shared.clone()));
                // Last rows first: they see all keys, so that their product assigns every row of dk and dv.
                for (rows, keys) in blocks(t, heads.causal).rev() {
                    let accumulate = in_group > 0 || keys < t;
                    let first = first_probability + (head * t + rows.start) * t;
                    let p = &saved.probabilities[first..][..rows.len() * t];
                    let used: &[f32] = match heads.dropout {
                        None => p,
                        Some(dropout) => {
                            drop_into(dropout, first, p, dropped, t, keys);
                            dropped
                        }
                    };
                    let (q, dc) = (q.rows_range(rows.clone()), dc.rows_range(rows.clone()));
                    let [k, v] = [k, v].map(|x| x.rows_range(0..keys));
                    let into_shared = |x| MatMut::new(x, keys, kv_cols).columns(shared.clone());
                    let weights = Mat::strided(used, rows.len(), keys, t);
                    gemm_serial(weights.t(), dc, into_shared(&mut *dv), accumulate, precision);
                    gemm_serial(dc, v.t(), MatMut::strided(ds, rows.len(), keys, t), false, precision);
                    softmax_backward_rows(heads.dropout, first, p, &mut ds[..rows.len() * t], t, keys, scale);
                    let ds = Mat::strided(ds, rows.len(), keys, t);
                    let dq = &mut dq[rows.start * q_cols..rows.end * q_cols];
                    let dq = MatMut::new(dq, rows.len(), q_cols).columns(columns.clone());
                    gemm_serial(ds, k, dq, false, precision);
                    gemm_serial(ds.t(), q, into_shared(&mut *dk), accumulate, precision);
                }
            }
        });
    });
}

/// Attention of new tokens at the end of one sequence, without a backward: `q`, `context` `[new, heads · width]`, `k`,
/// `v` `[tokens, kv_heads · width]` with the new tokens' own rows last. A new token sees those before it and itself.
/// Of `heads`, `lengths`, dropout and precision play no part.
pub fn attention_cached(heads: Heads, q: &[f32], k: &[f32], v: &[f32], context: &mut [f32]) {
    let (q_cols, kv_cols) = (heads.heads * heads.width, heads.kv_heads * heads.width);
    let before = (k.len() / kv_cols).saturating_sub(q.len() / q_cols);
    let scale = 1.0 / (heads.width as f32).sqrt();
    context.fill(0.0);
    for_row_blocks(context, q_cols, |first, context| {
        for (r, context) in context.chunks_exact_mut(q_cols).enumerate() {
            let tokens = before + first + r + 1;
            let q = &q[(first + r) * q_cols..][..q_cols];
            with_scratch(tokens, |scores| {
                for head in 0..heads.heads {
                    let (columns, shared) = heads.columns(head);
                    let rows = |token: usize| token * kv_cols + shared.start..token * kv_cols + shared.end;
                    vectorised(|| {
                        let q = &q[columns.clone()];
                        scores.iter_mut().enumerate().for_each(|(j, s)| *s = dot(q, &k[rows(j)]));
                    });
                    softmax_rows(scores, tokens, scale, |_| tokens, tokens);
                    vectorised(|| {
                        let context = &mut context[columns];
                        for (j, p) in scores.iter().enumerate() {
                            context.iter_mut().zip(&v[rows(j)]).for_each(|(c, v)| *c += p * v);
                        }
                    });
                }
            });
        }
    });
}

/// The first `keys` elements of each row of `[_, cols]`: `dropped = dropout(p)`.
fn drop_into(dropout: Dropout, first: usize, p: &[f32], dropped: &mut [f32], cols: usize, keys: usize) {
    vectorised(|| {
        for (r, (p, dropped)) in p.chunks_exact(cols).zip(dropped.chunks_exact_mut(cols)).enumerate() {
            let pairs = dropped[..keys].iter_mut().zip(&p[..keys]).enumerate();
            pairs.for_each(|(c, (d, p))| *d = p * dropout.factor(first + r * cols + c));
        }
    });
}

/// Each row of `[_, cols]`: its first `seen(row)` elements become `softmax(scale·x)`, those after them up to `keys` 0.
#[inline(always)]
fn softmax_rows(x: &mut [f32], cols: usize, scale: f32, seen: impl Fn(usize) -> usize, keys: usize) {
    vectorised(|| {
        for (r, row) in x.chunks_exact_mut(cols).enumerate() {
            let (row, unseen) = row[..keys].split_at_mut(seen(r));
            unseen.fill(0.0);
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

/// The first `keys` elements of each row: `d ← p∘(d̃ − Σ d̃∘p)·scale` with `d̃ = dropout(d)`.
fn softmax_backward_rows(
    dropout: Option<Dropout>,
    first: usize,
    p: &[f32],
    d: &mut [f32],
    cols: usize,
    keys: usize,
    scale: f32,
) {
    vectorised(|| {
        for (r, (p, d)) in p.chunks_exact(cols).zip(d.chunks_exact_mut(cols)).enumerate() {
            let (p, d) = (&p[..keys], &mut d[..keys]);
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
    use crate::reference::{self, decoder};

    fn numbers(seed: usize, n: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 400.0 - 1.2).collect()
    }

    #[test]
    fn forward_and_backward_match_the_reference() {
        let dropouts = [None, Some(Dropout { seed: 3, probability: 0.25 })];
        let (short, long): (&[usize], &[usize]) = (&[3, 1, 21, 6], &[2, 130, 64, 65]);
        let shapes = [(3, 3, false, short), (4, 2, true, short), (3, 1, true, long), (2, 2, false, long)];
        for (dropout, (n, kv_heads, causal, lengths)) in
            dropouts.into_iter().flat_map(|dropout| shapes.map(|shape| (dropout, shape)))
        {
            let (tokens, width) = (lengths.iter().sum::<usize>(), 5);
            let precision = Precision::F32;
            let heads = Heads { lengths, heads: n, kv_heads, width, causal, dropout, precision };
            let twin = decoder::Heads { lengths, heads: n, kv_heads, width, causal };
            let (q_cols, kv_cols) = (n * width, kv_heads * width);
            let (qs, kvs) = (tokens * q_cols, tokens * kv_cols);
            let (q, k, v) = (numbers(1, qs), numbers(2, kvs), numbers(3, kvs));
            let (mut context, mut p) = (vec![0.0; qs], vec![f32::NAN; heads.probabilities()]);
            attention(heads, &q, &k, &v, &mut context, Some(&mut p));
            let mut unsaved = vec![0.0; qs];
            attention(heads, &q, &k, &v, &mut unsaved, None);
            assert_eq!(context, unsaved);

            let keep = |i: usize| dropout.map_or(1.0, |d| d.factor(i)) as f64;
            let truth = |qkv: &[f64]| {
                decoder::attention(twin, &qkv[..qs], &qkv[qs..qs + kvs], &qkv[qs + kvs..], keep)
            };
            let qkv: Vec<f64> = q.iter().chain(&k).chain(&v).map(|&x| x as f64).collect();
            reference::assert_close(&context, &truth(&qkv), 1e-5);

            let dcontext = numbers(4, qs);
            let mut d = [vec![7.0f32; qs], vec![7.0; kvs], vec![7.0; kvs]];
            let [dq, dk, dv] = &mut d;
            let saved = AttentionSaved { q: &q, k: &k, v: &v, probabilities: &p };
            // All but the last head of keys, where there are several.
            let active: Vec<usize> = (0..kv_heads.max(2) - 1).collect();
            attention_backward(heads, &active, saved, &dcontext, dq, dk, dv);
            let loss =
                |qkv: &[f64]| -> f64 { truth(qkv).iter().zip(&dcontext).map(|(c, d)| c * *d as f64).sum() };
            let found = d.concat();
            let step = if tokens > 100 { qkv.len() / 40 + 1 } else { 7 };
            for i in (0..qkv.len()).step_by(step) {
                let of_kv =
                    if i < qs { i % q_cols / width / (n / kv_heads) } else { (i - qs) % kv_cols / width };
                if active.contains(&of_kv) {
                    let expected = reference::difference(&qkv, i, loss);
                    let error = (found[i] as f64 - expected).abs();
                    assert!(error < 2e-4, "{i}: {} against {expected}", found[i]);
                } else {
                    assert_eq!(found[i], 7.0, "the inactive heads' columns must not be touched");
                }
            }
        }
    }

    #[test]
    fn blocks_cover_the_triangle_and_no_more_than_they_must() {
        assert_eq!(blocks(130, true).collect::<Vec<_>>(), [(0..64, 64), (64..128, 128), (128..130, 130)]);
        assert_eq!(blocks(130, false).collect::<Vec<_>>(), [(0..130, 130)]);
        assert_eq!(blocks(0, false).count() + blocks(0, true).count(), 0);
    }

    #[test]
    fn cached_attention_is_causal_attention() {
        let (heads, kv_heads, width, tokens) = (4, 2, 5, 23);
        let lengths = [tokens];
        let (precision, dropout) = (Precision::F32, None);
        let heads = Heads { lengths: &lengths, heads, kv_heads, width, causal: true, dropout, precision };
        let (q, k, v) = (numbers(1, tokens * 20), numbers(2, tokens * 10), numbers(3, tokens * 10));
        let mut expected = vec![0.0; q.len()];
        attention(heads, &q, &k, &v, &mut expected, None);
        let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
        for (start, end) in [(0, 23), (22, 23), (7, 12)] {
            let mut context = vec![9.0; (end - start) * 20];
            attention_cached(heads, &q[start * 20..end * 20], &k[..end * 10], &v[..end * 10], &mut context);
            reference::assert_close(&context, &expected[start * 20..end * 20], 1e-5);
        }
    }
}
