//! `y = x + dropout(a·Wdᵀ + bd)` with `h = n(x)` and `a = f(h·Wuᵀ + bu)`, or gated (SwiGLU)
//! `a = silu(h·Wgᵀ + bg)·(h·Wuᵀ + bu)`; every bias is optional.
//!
//! A group of neurons is rows of Wu and Wg and columns of Wd.

use rgft_core::{ComponentKind, Extent, Slices};
use rgft_kernels::cpu::activation::Activation;

use super::{PreNorm, branch_delta, joined, norm_part};
use crate::decoding::Cache;
use crate::layers::linear::Linear;
use crate::layers::{Block, Context, Part, Sinks, all_if, columns, columns_of_rows, groups, rows};
use crate::models::Grain;
use crate::needs::{Needs, runs};
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// How neurons turn what enters them into one number each.
#[derive(Clone, Debug)]
pub enum Neurons {
    /// `f(u)`.
    Plain(Activation),
    /// `silu(g)·u`, with Wg `[neurons, hidden]`, bg.
    Gated(Linear),
}

/// Feed-forward of a pre-norm block.
#[derive(Clone, Debug)]
pub struct PreNormFeedForward {
    /// The norm before it.
    pub norm: PreNorm,
    /// Wu `[neurons, hidden]`, bu.
    pub up: Linear,
    /// What neurons compute.
    pub neurons: Neurons,
    /// Wd `[hidden, neurons]`, bd.
    pub down: Linear,
    /// Probability of dropping an element of the branch.
    pub dropout: f32,
    /// Groups of neurons, where the grain does not say how large one is.
    pub groups: usize,
}

impl PreNormFeedForward {
    /// Wu, and Wg if there is one.
    fn inputs(&self) -> impl Iterator<Item = &Linear> {
        let gate = match &self.neurons {
            Neurons::Gated(gate) => Some(gate),
            Neurons::Plain(_) => None,
        };
        std::iter::once(&self.up).chain(gate)
    }

    fn saves_input(&self, cx: Context) -> bool {
        self.inputs().any(|linear| cx.needs[linear.site].reads_some_input())
    }

    /// `a` `[tokens, neurons]`; puts the slopes on the tape, where backward comes this far.
    fn activate(&self, cx: Context, h: &Tensor, tape: &mut Tape) -> Tensor {
        let saves = !cx.needs[self.down.site].dx.is_none();
        let mut activated = cx.engine.tensor(h.rows(), self.up.output);
        match &self.neurons {
            Neurons::Gated(gate) => {
                let (mut g, mut u) = (gate.forward(cx, h), self.up.forward(cx, h));
                if !saves {
                    cx.engine.kernels.swiglu_in_place(g.data_mut(), u.data());
                    return g;
                }
                // The kernel leaves the slopes where its inputs were.
                cx.engine.kernels.swiglu(g.data_mut(), u.data_mut(), activated.data_mut());
                tape.push(g);
                tape.push(u);
            }
            Neurons::Plain(activation) => {
                let mut u = self.up.forward_without_bias(cx, h);
                let zeros = self.up.bias.is_none().then(|| cx.engine.zeros(1, self.up.output));
                let bias = zeros.as_ref().map_or(self.up.bias(cx), Tensor::data);
                if !saves {
                    cx.engine.kernels.bias_activation_in_place(*activation, u.data_mut(), bias);
                    return u;
                }
                cx.engine.kernels.bias_activation(*activation, u.data_mut(), bias, activated.data_mut());
                tape.push(u);
            }
        }
        activated
    }
}

impl Block for PreNormFeedForward {
    /// `x`, `y` `[tokens, hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let h = self.norm.forward(cx, &x, tape);
        let activated = self.activate(cx, &h, tape);
        let branch = self.down.forward_without_bias(cx, &activated);
        self.down.save_input(cx, activated, tape);
        if self.saves_input(cx) {
            tape.push(h);
        }
        joined(cx, x, &branch, self.down.bias(cx), self.norm.site(), self.dropout)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let h = self.saves_input(cx).then(|| tape.pop());
        let dropped = branch_delta(cx, self.norm.site(), self.dropout, &dy);
        let branch = dropped.as_ref().unwrap_or(&dy);
        let activated = self.down.saved_input(cx, tape);
        self.down.backward_parameters(cx, activated.as_ref(), branch, sinks);
        let mut d = self.down.backward_input(cx, branch)?;
        let columns = runs(&cx.needs[self.down.site].dx, self.down.input);
        let mut slope = tape.pop();
        let mut dh = None;
        match &self.neurons {
            Neurons::Plain(_) => {
                let cols = self.down.input;
                cx.engine.kernels.activation_backward(slope.data(), d.data_mut(), cols, &columns);
            }
            Neurons::Gated(gate) => {
                let (mut dg, du) = (tape.pop(), slope.data_mut());
                cx.engine.kernels.swiglu_backward(d.data(), dg.data_mut(), du, self.down.input, &columns);
                gate.backward_parameters(cx, h.as_ref(), &dg, sinks);
                dh = gate.backward_input(cx, &dg);
                d = slope;
            }
        }
        self.up.backward_parameters(cx, h.as_ref(), &d, sinks);
        match &mut dh {
            None => dh = self.up.backward_input(cx, &d),
            Some(dh) => self.up.add_backward_input(cx, &d, dh),
        }
        let dx = self.norm.backward(cx, dh?, tape, sinks)?;
        Some(joined(cx, dy, &dx, &[], self.norm.site(), 0.0))
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        for linear in self.inputs().chain([&self.down]) {
            linear.products(&needs[linear.site], extent.rows(), out);
        }
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        let all = self.norm.set_needs(needs, below, observe);
        for linear in self.inputs() {
            let own = &mut needs[linear.site];
            own.dx = all_if(all);
            own.observe = observe;
        }
        let own = self.inputs().flat_map(|linear| [&needs[linear.site].dw, &needs[linear.site].db]);
        let asked = columns_of_rows(own);
        let inner = if all { Slices::All } else { asked };
        let down = &mut needs[self.down.site];
        down.dx = inner.normalised(self.down.output, self.down.input);
        down.observe = observe;
    }

    fn adaptable(&self) -> Vec<usize> {
        self.inputs().chain([&self.down]).map(|map| map.site).collect()
    }

    fn is_residual(&self) -> bool {
        true
    }

    fn parts(&self, parameters: &Parameters, grain: Grain) -> Vec<Part> {
        let size = grain.group_size(self.up.output, self.groups);
        let group = |(g, range): (usize, std::ops::Range<usize>)| {
            let inputs = self.inputs().flat_map(Linear::parameters);
            let mut slices: Vec<_> = inputs.map(|p| rows(p, range.clone())).collect();
            slices.push(columns(self.down.weight, range));
            Part::new(format!("neurons.{g}"), ComponentKind::Neurons, slices)
        };
        let mut parts: Vec<_> = groups(self.up.output, size).enumerate().map(group).collect();
        parts.push(norm_part(parameters, self.norm.parameters().into_iter().chain(self.down.bias)));
        parts
    }

    /// Remembers nothing: every token goes through alone.
    fn cache(&self) -> Option<Cache> {
        Some(Cache::default())
    }
}
