//! A self-attention block: `y = LN(x + dropout(attend(x·Wqᵀ + bq, x·Wkᵀ + bk, x·Wvᵀ + bv)·Woᵀ + bo))`.
//!
//! Backward goes through the heads that are needed alone: all of them where `δ` must leave the block, else those
//! whose columns of the context are needed (`Needs::dx` of the output projection).

use rgft_core::{ComponentKind, Extent, Slices};
use rgft_kernels::cpu::attention::{AttentionSaved, Heads};

use super::linear::Linear;
use super::norm::Norm;
use super::{Block, Context, Part, Sinks, all_if, columns, lengths, rows, whole};
use crate::models::Grain;
use crate::needs::{Needs, runs};
use crate::parameters::Parameters;
use crate::product::{Pass, Product};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Self-attention with its residual and norm.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Wq, bq.
    pub query: Linear,
    /// Wk, bk.
    pub key: Linear,
    /// Wv, bv.
    pub value: Linear,
    /// Wo, bo.
    pub output: Linear,
    /// The norm after the residual.
    pub norm: Norm,
    /// Number of heads.
    pub heads: usize,
    /// Probability of dropping a probability.
    pub dropout: f32,
}

impl Attention {
    fn inputs(&self) -> [&Linear; 3] {
        [&self.query, &self.key, &self.value]
    }

    fn width(&self) -> usize {
        self.query.output / self.heads
    }

    fn shape<'a>(&self, cx: Context<'a>) -> Heads<'a> {
        Heads {
            lengths: cx.lengths(),
            heads: self.heads,
            width: self.width(),
            dropout: cx.engine.dropout(self.output.site, self.dropout),
            precision: cx.engine.precision,
        }
    }

    fn saves_input(&self, cx: Context) -> bool {
        self.inputs().iter().any(|linear| cx.needs[linear.site].reads_some_input())
    }

    /// The heads that backward goes through.
    fn active_heads(&self, needs: &[Needs]) -> Vec<usize> {
        let columns = runs(&needs[self.output.site].dx, self.output.input);
        let width = self.width();
        (0..self.heads)
            .filter(|h| columns.iter().any(|c| c.start < (h + 1) * width && h * width < c.end))
            .collect()
    }
}

impl Block for Attention {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let [q, k, v] = self.inputs().map(|linear| linear.forward(cx, &x));
        let shape = self.shape(cx);
        let mut context = cx.engine.tensor(x.rows(), self.query.output);
        let saves = !cx.needs[self.output.site].dx.is_none();
        let mut probabilities = saves.then(|| cx.engine.tensor(1, shape.probabilities()));
        let kept = probabilities.as_mut().map(Tensor::data_mut);
        cx.engine.kernels.attention(shape, q.data(), k.data(), v.data(), context.data_mut(), kept);
        attention_products(self.output.site, cx.lengths(), self.heads, self.width(), |p| cx.engine.count(p));
        if let Some(probabilities) = probabilities {
            [q, k, v, probabilities].into_iter().for_each(|tensor| tape.push(tensor));
        }
        let projection = self.output.forward_without_bias(cx, &context);
        self.output.save_input(cx, context, tape);
        let bias = self.output.bias(cx);
        let y = self.norm.forward(cx, &projection, Some(bias), Some(&x), tape);
        if self.saves_input(cx) {
            tape.push(x);
        }
        y
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let x = self.saves_input(cx).then(|| tape.pop());
        let mut dx = self.norm.backward(cx, dy, tape, sinks)?;
        let dropped = self.norm.branch_delta(cx, &dx);
        let branch = dropped.as_ref().unwrap_or(&dx);
        let context = self.output.saved_input(cx, tape);
        self.output.backward_parameters(cx, context.as_ref(), branch, sinks);
        let dcontext = self.output.backward_input(cx, branch)?;
        let [probabilities, v, k, q] = [(); 4].map(|()| tape.pop());

        let active = self.active_heads(cx.needs);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| cx.engine.tensor(q.rows(), q.cols()));
        let saved =
            AttentionSaved { q: q.data(), k: k.data(), v: v.data(), probabilities: probabilities.data() };
        let (shape, d) = (self.shape(cx), dcontext.data());
        let out = (dq.data_mut(), dk.data_mut(), dv.data_mut());
        cx.engine.kernels.attention_backward(shape, &active, saved, d, out.0, out.1, out.2);
        attention_backward_products(self.output.site, cx.lengths(), active.len(), self.width(), |p| {
            cx.engine.count(p);
        });

        for (linear, delta) in self.inputs().into_iter().zip([&dq, &dk, &dv]) {
            linear.backward_parameters(cx, x.as_ref(), delta, sinks);
            linear.add_backward_input(cx, delta, &mut dx);
        }
        (!cx.needs[self.query.site].dx.is_none()).then_some(dx)
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        let (tokens, lengths) = (extent.rows(), lengths(extent));
        for linear in self.inputs() {
            linear.products(&needs[linear.site], tokens, out);
        }
        self.output.products(&needs[self.output.site], tokens, out);
        let (site, width) = (self.output.site, self.width());
        attention_products(site, lengths, self.heads, width, |p| out.push(p));
        attention_backward_products(site, lengths, self.active_heads(needs).len(), width, |p| out.push(p));
    }

    fn set_needs(&self, needs: &mut [Needs], update: &[Slices], below: bool, observe: bool) {
        let mut inner = Slices::None;
        for linear in self.inputs() {
            let own = &mut needs[linear.site];
            own.dx = all_if(below);
            own.observe = observe;
            for part in [&own.dw, &own.db] {
                // Rows of Wq, Wk, Wv are columns of the context.
                let columns = match part {
                    Slices::Rows(ranges) => Slices::Cols(ranges.clone()),
                    other if other.is_none() => Slices::None,
                    _ => Slices::All,
                };
                inner = match (inner, columns) {
                    (Slices::Cols(a), Slices::Cols(b)) => Slices::Cols(a.union(&b)),
                    (Slices::None, part) | (part, Slices::None) => part,
                    _ => Slices::All,
                };
            }
        }
        if below || observe {
            inner = Slices::All;
        }
        let width = self.width();
        // A head is gone through whole.
        if let Slices::Cols(ranges) = &inner {
            let whole = ranges.iter().map(|r| r.start / width * width..r.end.div_ceil(width) * width);
            inner = Slices::Cols(whole.collect());
        }
        let output = &mut needs[self.output.site];
        output.dx = inner.normalised(self.output.output, self.output.input);
        output.observe = observe;
        set_norm_needs(&self.norm, &self.output, needs, update, below, observe);
    }

    /// A head is its rows of Wq, Wk, Wv with their biases and its columns of Wo.
    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let width = self.width();
        let head = |h: usize| {
            let range = h * width..(h + 1) * width;
            let inputs = self.inputs().into_iter().flat_map(Linear::parameters);
            let mut slices: Vec<_> = inputs.map(|parameter| rows(parameter, range.clone())).collect();
            slices.push(columns(self.output.weight, range));
            Part::new(format!("head.{h}"), ComponentKind::AttentionHead, slices)
        };
        let mut parts: Vec<_> = (0..self.heads).map(head).collect();
        parts.push(norm_part(parameters, &self.norm, &self.output));
        parts
    }
}

/// A norm, with the bias that is added to the same hidden state.
pub(crate) fn norm_part(parameters: &Parameters, norm: &Norm, branch: &Linear) -> Part {
    let all = [norm.weight, norm.bias].into_iter().chain(branch.bias);
    Part::new("norm", ComponentKind::Norm, all.map(|parameter| whole(parameters, parameter)).collect())
}

/// The norm behind `branch` needs dz if the branch or anything below does.
pub(crate) fn set_norm_needs(
    norm: &Norm,
    branch: &Linear,
    needs: &mut [Needs],
    update: &[Slices],
    below: bool,
    observe: bool,
) {
    let branch_needed = !needs[branch.site].is_empty();
    let own = &mut needs[norm.site];
    own.dw = update[norm.weight].clone();
    own.db = update[norm.bias].clone();
    own.dx = all_if(below || observe || branch_needed);
    own.observe = observe;
}

fn attention_products(
    site: usize,
    lengths: &[usize],
    heads: usize,
    width: usize,
    mut out: impl FnMut(Product),
) {
    for &t in lengths {
        for (m, k, n) in [(t, width, t), (t, t, width)] {
            out(Product { site, pass: Pass::Forward, batch: heads, m, k, n });
        }
    }
}

fn attention_backward_products(
    site: usize,
    lengths: &[usize],
    heads: usize,
    width: usize,
    mut out: impl FnMut(Product),
) {
    for &t in lengths.iter().filter(|_| heads > 0) {
        for (m, k, n) in [(t, t, width), (t, width, t), (t, t, width), (t, t, width)] {
            out(Product { site, pass: Pass::Dx, batch: heads, m, k, n });
        }
    }
}
