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
//! Products are small, so each runs serially (see `panels`), into memory of the thread's own. Runs of heads of keys and
//! values, with the query heads that share them, are the tasks that run in parallel. The columns of one head lie so far
//! apart that the processor does not foresee which comes next: a task first reads all that it will touch in order.

mod softmax;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

use self::softmax::{Drops, RowsBackward, drop_rows, softmax_rows};
use super::for_row_blocks;
use super::norm::dot;
use super::panels::{Right, padded};
use super::scalar::Dropout;
use super::scratch::{Shared, read_ahead, with_scratch};
use crate::Mat;
use crate::gemm::Precision;

/// Rows of queries that causal attention, and any in f32, computes at a time.
const BLOCK: usize = 64;

/// Floats of queries, keys, values and their like that a task reads ahead.
const CACHED: usize = 1 << 18;

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

    /// The query heads that share head `kv_head` of keys and values.
    fn sharing(&self, kv_head: usize) -> Range<usize> {
        kv_head * self.group()..(kv_head + 1) * self.group()
    }

    /// The columns of a head.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.width..(head + 1) * self.width
    }

    /// Rows of queries that are computed together here, as [`blocks`] has them: the library, which copies its operands for
    /// each product, gets as many as there are.
    fn blocks(&self, t: usize) -> impl DoubleEndedIterator<Item = (Range<usize>, usize)> + use<> {
        let whole = self.precision != Precision::F32 && !self.causal;
        cut(t, if whole { t } else { BLOCK }, self.causal)
    }

    /// Calls `work(sequence, run)` for each sequence and each run of `kv_heads`, in parallel. Runs are as long as leaves
    /// every thread a few tasks, and as their columns of a sequence fit the cache.
    fn for_each_run(&self, kv_heads: &[usize], work: impl Fn(Sequence, &[usize]) + Sync) {
        // No two tasks may have the same columns.
        let ascend = kv_heads.is_sorted_by(|a, b| a < b);
        assert!(ascend && kv_heads.iter().all(|head| *head < self.kv_heads), "heads {kv_heads:?}");
        let share = self.lengths.len() * kv_heads.len() / (4 * rayon::current_num_threads());
        let (mut first_token, mut first_probability) = (0, 0);
        let sequences = self.lengths.iter().map(|&length| {
            let sequence = Sequence { length, first_token, first_probability };
            first_token += length;
            first_probability += self.heads * length * length;
            sequence
        });
        let tasks = sequences.filter(|sequence| sequence.length > 0).flat_map(|sequence| {
            let fit = CACHED / (sequence.length * self.width * 2 * (self.group() + 1));
            kv_heads.chunks(share.min(fit).max(1)).map(move |run| (sequence, run))
        });
        let tasks: Vec<_> = tasks.collect();
        tasks.into_par_iter().for_each(|(sequence, run)| work(sequence, run));
    }

    /// The columns of queries, and of keys and values, from the first head of a run to its last.
    fn run_columns(&self, run: &[usize]) -> [Range<usize>; 2] {
        let (first, last) = (run[0], run[run.len() - 1]);
        [self.group() * self.width, self.width].map(|width| first * width..(last + 1) * width)
    }
}

/// Where a sequence stands in the buffers.
#[derive(Clone, Copy)]
struct Sequence {
    length: usize,
    first_token: usize,
    first_probability: usize,
}

impl Sequence {
    /// The rows of its tokens.
    fn tokens(&self) -> Range<usize> {
        self.first_token..self.first_token + self.length
    }

    /// Its rows of a packed matrix of `cols` columns, and of those `columns`.
    fn of<'a>(&self, x: &'a [f32], cols: usize, columns: Range<usize>) -> Mat<'a> {
        Mat::new(x, x.len() / cols, cols).rows_range(self.tokens()).columns(columns)
    }
}

/// Rows of queries that are computed together in a sequence of `t` tokens, and how many keys they see: `(rows, keys)`.
pub fn blocks(t: usize, causal: bool) -> impl DoubleEndedIterator<Item = (Range<usize>, usize)> {
    cut(t, if causal { BLOCK } else { t }, causal)
}

/// `t` rows, `size` at a time, and how many keys they see.
fn cut(t: usize, size: usize, causal: bool) -> impl DoubleEndedIterator<Item = (Range<usize>, usize)> {
    (0..t.div_ceil(size.max(1))).map(move |i| {
        let rows = i * size..((i + 1) * size).min(t);
        let keys = if causal { rows.end } else { t };
        (rows, keys)
    })
}

/// Forward: `q`, `context` `[tokens, heads · width]`, `k`, `v` `[tokens, kv_heads · width]`. `probabilities` (before
/// dropout, laid out `[sequence][head][t, t]`, arbitrary where a causal block does not reach) is written when given;
/// backward reads it.
#[allow(unsafe_code)]
pub fn attention(
    heads: Heads,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    context: &mut [f32],
    probabilities: Option<&mut [f32]>,
) {
    let (q_cols, kv_cols) = (heads.heads * heads.width, heads.kv_heads * heads.width);
    let scale = 1.0 / (heads.width as f32).sqrt();
    let context = Shared::new(context, q_cols);
    let kept = probabilities.map(|kept| Shared::new(kept, 0));
    let all: Vec<usize> = (0..heads.kv_heads).collect();
    heads.for_each_run(&all, |sequence, run| {
        let t = sequence.length;
        let [q_run, kv_run] = heads.run_columns(run);
        [k, v].iter().for_each(|x| read_ahead(sequence.of(x, kv_cols, kv_run.clone())));
        read_ahead(sequence.of(q, q_cols, q_run.clone()));
        // SAFETY: this task alone has this sequence's columns of these heads.
        unsafe { context.read_ahead(sequence.tokens(), q_run) };
        let (keys_stride, stride) = (padded(t), padded(heads.width));
        let most = heads.blocks(t).map(|(rows, _)| rows.len()).max().unwrap_or(0);
        let sizes = [heads.width * keys_stride, t * stride, most * keys_stride, most * stride];
        with_scratch(sizes, |[k_room, v_room, scores, result]| {
            for &kv_head in run {
                let [k, v] = [k, v].map(|x| sequence.of(x, kv_cols, heads.columns(kv_head)));
                let k = Right::new(k.t(), &mut *k_room, heads.precision);
                let v = Right::new(v, &mut *v_room, heads.precision);
                for head in heads.sharing(kv_head) {
                    let columns = heads.columns(head);
                    let q = sequence.of(q, q_cols, columns.clone());
                    for (rows, keys) in heads.blocks(t) {
                        let first = sequence.first_probability + (head * t + rows.start) * t;
                        let scores = &mut scores[..rows.len() * keys_stride];
                        k.times(q.rows_range(rows.clone()), keys, scores, false);
                        // SAFETY: this task alone has this sequence's probabilities of this head.
                        let kept = kept.as_ref().map(|kept| (unsafe { kept.part(first, rows.len() * t) }, t));
                        let seen = |r| if heads.causal { rows.start + r + 1 } else { t };
                        softmax_rows(scores, keys_stride, keys, scale, seen, kept);
                        if let Some(dropout) = heads.dropout {
                            drop_rows(Drops { dropout, first, t }, scores, keys_stride, keys);
                        }
                        let result = &mut result[..rows.len() * stride];
                        let weights = Mat::strided(scores, rows.len(), keys, keys_stride);
                        v.times(weights, heads.width, result, false);
                        let token = sequence.first_token + rows.start;
                        // SAFETY: this task alone has these rows' columns of this head.
                        unsafe { context.write(token, columns.clone(), result, stride) };
                    }
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
#[allow(unsafe_code)]
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
    let (width, precision) = (heads.width, heads.precision);
    let scale = 1.0 / (width as f32).sqrt();
    let dq = Shared::new(dq, q_cols);
    let [dk, dv] = [dk, dv].map(|x| Shared::new(x, kv_cols));
    heads.for_each_run(active, |sequence, run| {
        let t = sequence.length;
        let [q_run, kv_run] = heads.run_columns(run);
        [saved.k, saved.v].iter().for_each(|x| read_ahead(sequence.of(x, kv_cols, kv_run.clone())));
        [saved.q, dcontext].iter().for_each(|x| read_ahead(sequence.of(x, q_cols, q_run.clone())));
        // SAFETY: this task alone has this sequence's columns of these heads, and no task has those between them.
        unsafe {
            dq.read_ahead(sequence.tokens(), q_run);
            dk.read_ahead(sequence.tokens(), kv_run.clone());
            dv.read_ahead(sequence.tokens(), kv_run);
        }
        let (keys_stride, stride) = (padded(t), padded(width));
        let most = heads.blocks(t).map(|(rows, _)| rows.len()).max().unwrap_or(0);
        let (all, block, square) = (t * stride, most * stride, most * keys_stride);
        let sizes = [all, width * keys_stride, block, block, square, square, block, all, all];
        with_scratch(sizes, |[k_room, v_room, q_room, dc_room, ds, dropped, dq_sum, dk_sum, dv_sum]| {
            for &kv_head in run {
                let shared = heads.columns(kv_head);
                let [k, v] = [saved.k, saved.v].map(|x| sequence.of(x, kv_cols, shared.clone()));
                let k = Right::new(k, &mut *k_room, precision);
                let v = Right::new(v.t(), &mut *v_room, precision);
                for (in_group, head) in heads.sharing(kv_head).enumerate() {
                    let columns = heads.columns(head);
                    let [q, dc] = [saved.q, dcontext].map(|x| sequence.of(x, q_cols, columns.clone()));
                    // Last rows first: they see all keys, so that their product assigns every row of dk and dv.
                    for (i, (rows, keys)) in heads.blocks(t).rev().enumerate() {
                        let (n, add) = (rows.len(), in_group > 0 || i > 0);
                        let [q, dc] = [q, dc].map(|x| x.rows_range(rows.clone()));
                        let first = sequence.first_probability + (head * t + rows.start) * t;
                        let p = &saved.probabilities[first..][..n * t];
                        let ds = &mut ds[..n * keys_stride];
                        v.times(dc, keys, ds, false);
                        let drops = heads.dropout.map(|dropout| (Drops { dropout, first, t }, &mut *dropped));
                        RowsBackward { p, t, keys, scale, d: &mut *ds, stride: keys_stride, drops }.run();
                        let weights = match heads.dropout {
                            None => Mat::strided(p, n, keys, t),
                            Some(_) => Mat::strided(dropped, n, keys, keys_stride),
                        };
                        let ds = Mat::strided(ds, n, keys, keys_stride);
                        let dc = Right::new(dc, &mut *dc_room, precision);
                        dc.times(weights.t(), width, &mut dv_sum[..keys * stride], add);
                        let dq_sum = &mut dq_sum[..n * stride];
                        k.times(ds, width, dq_sum, false);
                        let q = Right::new(q, &mut *q_room, precision);
                        q.times(ds.t(), width, &mut dk_sum[..keys * stride], add);
                        let token = sequence.first_token + rows.start;
                        // SAFETY: this task alone has these rows' columns of this head.
                        unsafe { dq.write(token, columns.clone(), dq_sum, stride) };
                    }
                }
                // SAFETY: this task alone has this sequence's columns of this head of keys and values.
                unsafe {
                    dk.write(sequence.first_token, shared.clone(), dk_sum, stride);
                    dv.write(sequence.first_token, shared.clone(), dv_sum, stride);
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
            with_scratch([padded(tokens)], |[scores]| {
                for head in 0..heads.heads {
                    let (columns, shared) = (heads.columns(head), heads.columns(head / heads.group()));
                    let rows = |token: usize| token * kv_cols + shared.start..token * kv_cols + shared.end;
                    vectorised!(|| {
                        let q = &q[columns.clone()];
                        scores[..tokens].iter_mut().enumerate().for_each(|(j, s)| *s = dot(q, &k[rows(j)]));
                    });
                    softmax_rows(scores, padded(tokens), tokens, scale, |_| tokens, None);
                    vectorised!(|| {
                        let context = &mut context[columns];
                        for (j, p) in scores[..tokens].iter().enumerate() {
                            context.iter_mut().zip(&v[rows(j)]).for_each(|(c, v)| *c += p * v);
                        }
                    });
                }
            });
        }
    });
}
