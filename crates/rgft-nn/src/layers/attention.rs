//! A self-attention block: `y = LN(x + dropout(attend(x·Wqᵀ + bq, x·Wkᵀ + bk, x·Wvᵀ + bv)·Woᵀ + bo))`.
//!
//! Backward goes through the heads that are needed alone: all of them where `δ` must leave the block, else those
//! whose columns of the context are needed (`Needs::dx` of the output projection).

use rgft_core::{ComponentKind, Extent, Slices};

use super::linear::Linear;
use super::norm::Norm;
use super::softmax_attention::SoftmaxAttention;
use super::{Block, Context, Part, Sinks, all_if, columns, columns_of_rows, lengths, rows, whole};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
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

    fn core(&self) -> SoftmaxAttention {
        SoftmaxAttention {
            site: self.output.site,
            heads: self.heads,
            kv_heads: self.heads,
            width: self.width(),
            causal: false,
            dropout: self.dropout,
        }
    }

    fn saves_input(&self, cx: Context) -> bool {
        self.inputs().iter().any(|linear| cx.needs[linear.site].reads_some_input())
    }
}

impl Block for Attention {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let packed = cx.engine.pack_shared(x.mat());
        let projected = self.inputs().map(|linear| linear.forward_shared(cx, &x, Some(&packed)));
        drop(packed);
        let context = self.core().forward(cx, projected, tape);
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
        let deltas = self.core().backward(cx, &dcontext, tape);
        for (linear, delta) in self.inputs().into_iter().zip(&deltas) {
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
        self.core().products(&needs[self.output.site], lengths, out);
    }

    fn set_needs(&self, needs: &mut [Needs], update: &[Slices], below: bool, observe: bool) {
        for linear in self.inputs() {
            let own = &mut needs[linear.site];
            own.dx = all_if(below);
            own.observe = observe;
        }
        // Rows of Wq, Wk, Wv are columns of the context.
        let own = self.inputs().into_iter().flat_map(|l| [&needs[l.site].dw, &needs[l.site].db]);
        let asked = columns_of_rows(own);
        let inner = if below || observe { Slices::All } else { asked };
        let output = &mut needs[self.output.site];
        output.dx = self.core().whole_groups(inner);
        output.observe = observe;
        set_norm_needs(&self.norm, &self.output, needs, update, below, observe);
    }

    fn adaptable(&self) -> Vec<usize> {
        self.inputs().into_iter().chain([&self.output]).map(|map| map.site).collect()
    }

    fn is_residual(&self) -> bool {
        true
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
