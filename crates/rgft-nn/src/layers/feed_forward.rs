//! A feed-forward block: `y = LN(x + dropout(f(x·Wuᵀ + bu)·Wdᵀ + bd))`, `f` an activation.
//!
//! A group of neurons is rows of `Wu`, `bu` and columns of `Wd`. Where `δ` need not leave the block, backward goes
//! through the active neurons alone.

use rgft_core::{ComponentKind, Extent, Slices};
use rgft_kernels::cpu::activation::Activation;

use super::attention::{norm_part, set_norm_needs};
use super::linear::Linear;
use super::norm::Norm;
use super::{Block, Context, Part, Sinks, all_if, columns, columns_of_rows, groups, rows};
use crate::models::Grain;
use crate::needs::{Needs, runs};
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Two linear maps with an activation between them, residual and norm.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// `Wu`, `bu`.
    pub up: Linear,
    /// `f`.
    pub activation: Activation,
    /// `Wd`, `bd`.
    pub down: Linear,
    /// The norm after the residual.
    pub norm: Norm,
    /// Groups of neurons, where the grain does not say how large one is.
    pub groups: usize,
}

impl Block for FeedForward {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let mut inner = self.up.forward_without_bias(cx, &x);
        let bias = self.up.bias(cx);
        let activated = if cx.needs[self.down.site].dx.is_none() {
            cx.engine.kernels.bias_activation_in_place(self.activation, inner.data_mut(), bias);
            inner
        } else {
            let mut activated = cx.engine.tensor(inner.rows(), inner.cols());
            let out = activated.data_mut();
            cx.engine.kernels.bias_activation(self.activation, inner.data_mut(), bias, out);
            // The kernel leaves the slopes where its input was.
            tape.push(inner);
            activated
        };
        let projection = self.down.forward_without_bias(cx, &activated);
        self.down.save_input(cx, activated, tape);
        let bias = self.down.bias(cx);
        let y = self.norm.forward(cx, &projection, Some(bias), Some(&x), tape);
        if cx.needs[self.up.site].reads_some_input() {
            tape.push(x);
        }
        y
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let x = cx.needs[self.up.site].reads_some_input().then(|| tape.pop());
        let mut dx = self.norm.backward(cx, dy, tape, sinks)?;
        let dropped = self.norm.branch_delta(cx, &dx);
        let branch = dropped.as_ref().unwrap_or(&dx);
        let activated = self.down.saved_input(cx, tape);
        self.down.backward_parameters(cx, activated.as_ref(), branch, sinks);
        let mut d = self.down.backward_input(cx, branch)?;
        let slope = tape.pop();
        let columns = runs(&cx.needs[self.down.site].dx, self.down.input);
        cx.engine.kernels.activation_backward(slope.data(), d.data_mut(), self.down.input, &columns);
        self.up.backward_parameters(cx, x.as_ref(), &d, sinks);
        self.up.add_backward_input(cx, &d, &mut dx);
        (!cx.needs[self.up.site].dx.is_none()).then_some(dx)
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        let tokens = extent.rows();
        self.up.products(&needs[self.up.site], tokens, out);
        self.down.products(&needs[self.down.site], tokens, out);
    }

    fn set_needs(&self, needs: &mut [Needs], update: &[Slices], below: bool, observe: bool) {
        let up = &mut needs[self.up.site];
        up.dx = all_if(below);
        up.observe = observe;
        let inner = if below || observe { Slices::All } else { columns_of_rows([&up.dw, &up.db]) };
        let down = &mut needs[self.down.site];
        down.dx = inner.normalised(self.down.output, self.down.input);
        down.observe = observe;
        set_norm_needs(&self.norm, &self.down, needs, update, below, observe);
    }

    fn adaptable(&self) -> Vec<usize> {
        vec![self.up.site, self.down.site]
    }

    fn is_residual(&self) -> bool {
        true
    }

    fn parts(&self, parameters: &Parameters, grain: Grain) -> Vec<Part> {
        let size = grain.group_size(self.up.output, self.groups);
        let group = |(g, range): (usize, std::ops::Range<usize>)| {
            let mut slices: Vec<_> = self.up.parameters().map(|p| rows(p, range.clone())).collect();
            slices.push(columns(self.down.weight, range));
            Part::new(format!("neurons.{g}"), ComponentKind::Neurons, slices)
        };
        let mut parts: Vec<_> = groups(self.up.output, size).enumerate().map(group).collect();
        parts.push(norm_part(parameters, &self.norm, &self.down));
        parts
    }
}
