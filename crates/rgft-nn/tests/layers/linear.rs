//! `x·Wᵀ + b`, alone and joined to a residual, under every combination of needs.

use rgft_core::{Extent, Slices};
use rgft_nn::layers::linear::Linear;
use rgft_nn::layers::{Context, Sinks};
use rgft_nn::{Needs, Product, Tape, Tensor};

use super::check::{Layer, Subject};
use super::net::{Net, Plan, TOKENS, cols, rows};
use super::truth::Truth;

/// `x·Wᵀ + b`, or `x + x·Wᵀ + b` by the calls that blocks use: bias added by the caller, dx added to what is there.
struct Case {
    linear: Linear,
    joined: bool,
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let y = truth.linear(&self.linear, x);
        if self.joined { y.iter().zip(x).map(|(y, x)| y + x).collect() } else { y }
    }

    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let y = if self.joined {
            let mut y = self.linear.forward_without_bias(cx, &x);
            let bias = self.linear.bias(cx).iter().cycle();
            y.data_mut().iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            y.data_mut().iter_mut().zip(x.data()).for_each(|(y, x)| *y += x);
            y
        } else {
            self.linear.forward(cx, &x)
        };
        self.linear.save_input(cx, x, tape);
        y
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let input = self.linear.saved_input(cx, tape);
        self.linear.backward_parameters(cx, input.as_ref(), &dy, sinks);
        if !self.joined {
            return self.linear.backward_input(cx, &dy);
        }
        let mut dx = cx.engine.tensor(dy.rows(), dy.cols());
        dx.data_mut().copy_from_slice(dy.data());
        self.linear.add_backward_input(cx, &dy, &mut dx);
        (!cx.needs[self.linear.site].dx.is_none()).then_some(dx)
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        needs[0].dx = plan.below.clone();
        needs[0].observe = observe;
    }

    fn products(&self, needs: &[Needs], _: &Extent, out: &mut Vec<Product>) {
        self.linear.products(&needs[0], TOKENS, out);
    }
}

#[test]
fn every_combination_of_needs() {
    for (input, output, joined) in [(8, 7, false), (7, 7, true)] {
        let mut net = Net::default();
        let case = Case { linear: net.linear(input, output), joined };
        let weights = [
            Slices::None,
            Slices::All,
            rows([2..5]),
            rows([0..1, 2..4, 6..7]),
            cols([3..6]),
            cols([0..2, 4..5, 6..7]),
        ];
        let biases = [Slices::None, Slices::All, rows([1..4]), rows([0..2, 5..7])];
        let inputs = [Slices::None, Slices::All, cols([2..6]), cols([0..1, 3..5, 6..7])];
        let mut plans = Vec::new();
        for weight in &weights {
            for bias in &biases {
                let update = vec![weight.clone(), bias.clone()];
                plans
                    .extend(inputs.iter().map(|below| Plan { update: update.clone(), below: below.clone() }));
            }
        }
        let subject = Subject { net: &net, layer: &case, input: (TOKENS, input) };
        subject.check(&format!("linear, joined {joined}"), &plans);
    }
}

#[test]
fn forward_saves_the_input_columns_that_dw_reads() {
    let mut net = Net::default();
    let case = Case { linear: net.linear(8, 6), joined: false };
    let subject = Subject { net: &net, layer: &case, input: (TOKENS, 8) };
    let saved = |weight: Slices, bias: Slices, below: Slices, observe| {
        subject.saved(&Plan { update: vec![weight, bias], below }, observe)
    };
    assert_eq!(saved(Slices::None, Slices::All, Slices::All, false), 0);
    assert_eq!(saved(Slices::All, Slices::None, Slices::None, false), TOKENS * 8);
    assert_eq!(saved(rows([1..2]), Slices::None, Slices::None, false), TOKENS * 8);
    assert_eq!(saved(cols([0..2, 5..6]), Slices::None, Slices::None, false), TOKENS * 3);
    assert_eq!(saved(cols([0..2, 5..6]), Slices::None, Slices::None, true), TOKENS * 8);
}
