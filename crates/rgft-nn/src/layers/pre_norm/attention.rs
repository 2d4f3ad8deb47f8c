//! `y = x + dropout(attend(r(h·Wqᵀ + bq), r(h·Wkᵀ + bk), h·Wvᵀ + bv)·Woᵀ + bo)` with `h = n(x)`.
//!
//! `r` is an RMS norm of each head where there is one (Qwen3), then the rotation by position where there is one. Heads
//! of keys and values may be fewer than those of queries, which then share them; every bias is optional.
//!
//! A component is the query heads that share a head of keys and values: their rows of Wq, its rows of Wk and Wv, their
//! columns of Wo.

use std::sync::Arc;

use rgft_core::{ComponentKind, Extent, Slices};

use super::{PreNorm, Rotary, branch_delta, joined, norm_part};
use crate::decoding::Cache;
use crate::layers::linear::Linear;
use crate::layers::rms_norm::RmsNorm;
use crate::layers::softmax_attention::SoftmaxAttention;
use crate::layers::{
    Block, Context, Part, Sinks, all_if, columns, columns_of_rows, lengths, rows, union_of_columns,
};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Attention of a pre-norm block.
#[derive(Clone, Debug)]
pub struct PreNormAttention {
    /// The norm before it.
    pub norm: PreNorm,
    /// Wq `[heads · width, hidden]`, bq.
    pub query: Linear,
    /// Wk `[kv_heads · width, hidden]`, bk.
    pub key: Linear,
    /// Wv `[kv_heads · width, hidden]`, bv.
    pub value: Linear,
    /// Wo `[hidden, heads · width]`, bo.
    pub output: Linear,
    /// Norms of each head of the queries and of the keys.
    pub head_norms: Option<[RmsNorm; 2]>,
    /// Rotation of queries and keys by position.
    pub rotary: Option<Arc<Rotary>>,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values, which divide the query heads.
    pub kv_heads: usize,
    /// Whether a token sees those before it and itself alone.
    pub causal: bool,
    /// Probability of dropping an attention probability.
    pub attention_dropout: f32,
    /// Probability of dropping an element of the branch.
    pub dropout: f32,
}

impl PreNormAttention {
    fn inputs(&self) -> [&Linear; 3] {
        [&self.query, &self.key, &self.value]
    }

    fn head_norm(&self, place: usize) -> Option<&RmsNorm> {
        self.head_norms.as_ref().and_then(|norms| norms.get(place))
    }

    fn width(&self) -> usize {
        self.query.output / self.heads
    }

    fn core(&self) -> SoftmaxAttention {
        SoftmaxAttention {
            site: self.output.site,
            heads: self.heads,
            kv_heads: self.kv_heads,
            width: self.width(),
            causal: self.causal,
            dropout: self.attention_dropout,
        }
    }

    fn saves_input(&self, cx: Context) -> bool {
        self.inputs().iter().any(|linear| cx.needs[linear.site].reads_some_input())
    }

    /// Queries, keys and values of `h` `[tokens, hidden]`.
    fn project(&self, cx: Context, h: &Tensor, positions: &[u32], tape: &mut Tape) -> [Tensor; 3] {
        let (mut place, width) = (0, self.width());
        self.inputs().map(|linear| {
            let mut projected = linear.forward(cx, h);
            if let Some(norm) = self.head_norm(place) {
                let (rows, cols) = (projected.rows(), projected.cols());
                let by_head = projected.reshaped(rows * cols / width, width);
                projected = norm.forward(cx, &by_head, tape).reshaped(rows, cols);
            }
            if let (Some(rotary), 0 | 1) = (&self.rotary, place) {
                rotary.turn(cx, &mut projected, width, positions, false);
            }
            place += 1;
            projected
        })
    }

    /// δ at the projection `place` (queries, keys, values) → δ at its linear map's output; `None` where nobody reads it.
    fn unprojected(
        &self,
        cx: Context,
        place: usize,
        mut delta: Tensor,
        positions: &[u32],
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> Option<Tensor> {
        if let (Some(rotary), 0 | 1) = (&self.rotary, place) {
            rotary.turn(cx, &mut delta, self.width(), positions, true);
        }
        let Some(norm) = self.head_norm(place) else { return Some(delta) };
        let (rows, cols) = (delta.rows(), delta.cols());
        let by_head = delta.reshaped(rows * cols / norm.width, norm.width);
        Some(norm.backward(cx, by_head, tape, sinks)?.reshaped(rows, cols))
    }

    /// The position of each token that enters.
    fn positions(&self, cx: Context) -> Vec<u32> {
        let of_sequence = |&n: &usize| 0..n as u32;
        let rotates = self.rotary.is_some();
        cx.lengths().iter().filter(|_| rotates).flat_map(of_sequence).collect()
    }
}

impl Block for PreNormAttention {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let h = self.norm.forward(cx, &x, tape);
        let projected = self.project(cx, &h, &self.positions(cx), tape);
        let context = self.core().forward(cx, projected, tape);
        let branch = self.output.forward_without_bias(cx, &context);
        self.output.save_input(cx, context, tape);
        if self.saves_input(cx) {
            tape.push(h);
        }
        joined(cx, x, &branch, self.output.bias(cx), self.norm.site(), self.dropout)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let h = self.saves_input(cx).then(|| tape.pop());
        let dropped = branch_delta(cx, self.norm.site(), self.dropout, &dy);
        let branch = dropped.as_ref().unwrap_or(&dy);
        let context = self.output.saved_input(cx, tape);
        self.output.backward_parameters(cx, context.as_ref(), branch, sinks);
        let dcontext = self.output.backward_input(cx, branch)?;
        let [dq, dk, dv] = self.core().backward(cx, &dcontext, tape);
        let (positions, mut dh) = (self.positions(cx), None);
        // In the reverse order of forward: what it saved last lies on top of the tape.
        for (place, delta) in [(2, dv), (1, dk), (0, dq)] {
            let delta = self.unprojected(cx, place, delta, &positions, tape, sinks);
            let (linear, Some(delta)) = (self.inputs()[place], delta) else { continue };
            linear.backward_parameters(cx, h.as_ref(), &delta, sinks);
            match &mut dh {
                None => dh = linear.backward_input(cx, &delta),
                Some(dh) => linear.add_backward_input(cx, &delta, dh),
            }
        }
        let dx = self.norm.backward(cx, dh?, tape, sinks)?;
        Some(joined(cx, dy, &dx, &[], self.norm.site(), 0.0))
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        for linear in self.inputs().into_iter().chain([&self.output]) {
            linear.products(&needs[linear.site], extent.rows(), out);
        }
        self.core().products(&needs[self.output.site], lengths(extent), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        let mut all = self.norm.set_needs(needs, below, observe);
        let above_norm = all;
        for (place, linear) in self.inputs().into_iter().enumerate() {
            let own = &mut needs[linear.site];
            own.dx = all_if(above_norm);
            own.observe = observe;
            let is_needed = !own.is_empty();
            if let Some(norm) = self.head_norm(place) {
                let own = &mut needs[norm.site];
                own.dx = all_if(is_needed);
                own.observe = observe;
                // A norm is updated whole, by the δ of all heads.
                all |= observe || !own.dw.is_none();
            }
        }
        let asked = |linear: &Linear| columns_of_rows([&needs[linear.site].dw, &needs[linear.site].db]);
        let queries = asked(&self.query);
        // A row of Wk or Wv serves the columns of all query heads that share it.
        let (width, core) = (self.width(), self.core());
        let shared = [asked(&self.key), asked(&self.value)].map(|asked| match asked {
            Slices::Cols(ranges) => Slices::Cols(
                ranges
                    .iter()
                    .map(|r| r.start / width * core.group_width()..r.end.div_ceil(width) * core.group_width())
                    .collect(),
            ),
            other => other,
        });
        let inner = if all { Slices::All } else { shared.into_iter().fold(queries, union_of_columns) };
        let output = &mut needs[self.output.site];
        output.dx = core.whole_groups(inner);
        output.observe = observe;
    }

    fn adaptable(&self) -> Vec<usize> {
        self.inputs().into_iter().chain([&self.output]).map(|map| map.site).collect()
    }

    fn is_residual(&self) -> bool {
        true
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let (width, group) = (self.width(), self.core().group_width());
        let head = |h: usize| {
            let (wide, own) = (h * group..(h + 1) * group, h * width..(h + 1) * width);
            let mut slices: Vec<_> = self.query.parameters().map(|p| rows(p, wide.clone())).collect();
            let shared = [&self.key, &self.value].into_iter().flat_map(Linear::parameters);
            slices.extend(shared.map(|p| rows(p, own.clone())));
            slices.push(columns(self.output.weight, wide));
            Part::new(format!("head.{h}"), ComponentKind::AttentionHead, slices)
        };
        let mut parts: Vec<_> = (0..self.kv_heads).map(head).collect();
        let of_heads = self.head_norms.iter().flatten().map(|norm| norm.weight);
        parts.push(norm_part(
            parameters,
            self.norm.parameters().into_iter().chain(of_heads).chain(self.output.bias),
        ));
        parts
    }

    /// Keys and values of the tokens so far.
    fn cache(&self) -> Option<Cache> {
        self.causal.then(|| Cache { state: vec![Vec::new(); 2], tokens: 0 })
    }

    fn decode(&self, cx: Context, x: Tensor, cache: &mut Cache) -> Tensor {
        let tape = &mut Tape::default();
        let h = self.norm.forward(cx, &x, tape);
        let positions: Vec<u32> = (cache.tokens..cache.tokens + x.rows()).map(|t| t as u32).collect();
        let [q, k, v] = self.project(cx, &h, &positions, tape);
        let [keys, values] = &mut cache.state[..] else { panic!("a cache of keys and values") };
        keys.extend_from_slice(k.data());
        values.extend_from_slice(v.data());
        let mut context = cx.engine.tensor(q.rows(), q.cols());
        let shape = self.core().shape(cx, &[]);
        cx.engine.kernels.attention_cached(shape, q.data(), keys, values, context.data_mut());
        cache.tokens += x.rows();
        let branch = self.output.forward_without_bias(cx, &context);
        joined(cx, x, &branch, self.output.bias(cx), self.norm.site(), self.dropout)
    }
}
