//! The core of every attention block: `context = dropout(softmax(Q·Kᵀ/√d))·V` per head (see
//! `rgft_kernels::cpu::attention`), and the products it runs.
//!
//! Backward goes through the heads that are needed alone: those whose columns of the context the output projection's
//! `Needs::dx` names. Heads come as groups that share a head of keys and values.

use rgft_core::Slices;
use rgft_kernels::cpu::attention::{AttentionSaved, Heads, blocks};

use super::Context;
use crate::needs::{Needs, runs};
use crate::product::{Pass, Product};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Attention between projections.
#[derive(Clone, Debug)]
pub(crate) struct SoftmaxAttention {
    /// The output projection's site: what products are counted for, and where dropout acts.
    pub(crate) site: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Width of one head.
    pub(crate) width: usize,
    /// Whether a token sees those before it and itself alone.
    pub(crate) causal: bool,
    /// Probability of dropping a probability.
    pub(crate) dropout: f32,
}

impl SoftmaxAttention {
    /// The shape of a packed batch.
    pub(crate) fn shape<'a>(&self, cx: Context, lengths: &'a [usize]) -> Heads<'a> {
        Heads {
            lengths,
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width,
            causal: self.causal,
            dropout: cx.engine.dropout(self.site, self.dropout),
            precision: cx.engine.precision,
        }
    }

    /// Columns of the context that belong to one head of keys and values.
    pub(crate) fn group_width(&self) -> usize {
        self.heads / self.kv_heads * self.width
    }

    /// `q` `[tokens, heads · width]`, `k`, `v` `[tokens, kv_heads · width]` → the context `[tokens, heads · width]`; puts
    /// on the tape what [`SoftmaxAttention::backward`] reads, where the output projection owes a dx.
    pub(crate) fn forward(&self, cx: Context, [q, k, v]: [Tensor; 3], tape: &mut Tape) -> Tensor {
        let shape = self.shape(cx, cx.lengths());
        let mut context = cx.engine.tensor(q.rows(), q.cols());
        let saves = !cx.needs[self.site].dx.is_none();
        let mut probabilities = saves.then(|| cx.engine.tensor(1, shape.probabilities()));
        let kept = probabilities.as_mut().map(Tensor::data_mut);
        cx.engine.kernels.attention(shape, q.data(), k.data(), v.data(), context.data_mut(), kept);
        self.forward_products(cx.lengths(), |product| cx.engine.count(product));
        if let Some(probabilities) = probabilities {
            [q, k, v, probabilities].into_iter().for_each(|tensor| tape.push(tensor));
        }
        context
    }

    /// `[dq, dk, dv]`, whose columns of heads that are not needed are arbitrary.
    pub(crate) fn backward(&self, cx: Context, dcontext: &Tensor, tape: &mut Tape) -> [Tensor; 3] {
        let [probabilities, v, k, q] = [(); 4].map(|()| tape.pop());
        let active = self.active(&cx.needs[self.site]);
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| cx.engine.tensor(x.rows(), x.cols()));
        let saved =
            AttentionSaved { q: q.data(), k: k.data(), v: v.data(), probabilities: probabilities.data() };
        let (shape, d) = (self.shape(cx, cx.lengths()), dcontext.data());
        let out = (dq.data_mut(), dk.data_mut(), dv.data_mut());
        cx.engine.kernels.attention_backward(shape, &active, saved, d, out.0, out.1, out.2);
        self.backward_products(cx.lengths(), active.len(), |product| cx.engine.count(product));
        [dq, dk, dv]
    }

    /// The heads of keys and values that backward goes through, with the query heads that share them.
    fn active(&self, needs: &Needs) -> Vec<usize> {
        let width = self.group_width();
        let columns = runs(&needs.dx, self.kv_heads * width);
        let is_needed = |h: &usize| columns.iter().any(|c| c.start < (h + 1) * width && h * width < c.end);
        (0..self.kv_heads).filter(is_needed).collect()
    }

    /// The columns of the context that backward needs when it needs `columns` of it: a group is gone through whole.
    pub(crate) fn whole_groups(&self, columns: Slices) -> Slices {
        let width = self.group_width();
        let columns = match columns {
            Slices::Cols(ranges) => Slices::Cols(
                ranges.iter().map(|r| r.start / width * width..r.end.div_ceil(width) * width).collect(),
            ),
            other => other,
        };
        // Any number of rows will do: columns are meant.
        columns.normalised(1, self.kv_heads * width)
    }

    /// The products of forward and backward.
    pub(crate) fn products(&self, needs: &Needs, lengths: &[usize], out: &mut Vec<Product>) {
        self.forward_products(lengths, |product| out.push(product));
        self.backward_products(lengths, self.active(needs).len(), |product| out.push(product));
    }

    fn forward_products(&self, lengths: &[usize], mut out: impl FnMut(Product)) {
        let (site, width, batch) = (self.site, self.width, self.heads);
        for (rows, keys) in lengths.iter().flat_map(|&t| blocks(t, self.causal)) {
            for (m, k, n) in [(rows.len(), width, keys), (rows.len(), keys, width)] {
                out(Product { site, pass: Pass::Forward, batch, m, k, n });
            }
        }
    }

    fn backward_products(&self, lengths: &[usize], active: usize, mut out: impl FnMut(Product)) {
        let (site, width, batch) = (self.site, self.width, active * (self.heads / self.kv_heads));
        for (rows, keys) in lengths.iter().filter(|_| active > 0).flat_map(|&t| blocks(t, self.causal)) {
            let t = rows.len();
            for (m, k, n) in [(keys, t, width), (t, width, keys), (t, keys, width), (keys, t, width)] {
                out(Product { site, pass: Pass::Dx, batch, m, k, n });
            }
        }
    }
}
