//! Post-norm with all that may stand before it: bias, dropout, residual.

use rgft_core::Slices;
use rgft_nn::layers::norm::Norm;
use rgft_nn::layers::{Context, Sinks};
use rgft_nn::{Needs, Tape, Tensor};

use super::check::{Layer, Subject};
use super::net::{DROPOUT, Net, Plan, TOKENS};
use super::truth::Truth;

const WIDTH: usize = 7;

/// `LN(residual + dropout(projection + bias))`. The input is the projection and, below it, the residual.
struct Case {
    norm: Norm,
    /// Parameter index; the bias's gradient belongs to the branch, not to the norm.
    bias: Option<usize>,
    residual: bool,
}

impl Case {
    fn rows(&self) -> usize {
        if self.residual { 2 * TOKENS } else { TOKENS }
    }
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let (projection, residual) = x.split_at(TOKENS * WIDTH);
        let bias = |i: usize| self.bias.map_or(0.0, |bias| truth.parameter(bias)[i % WIDTH]);
        let branch: Vec<_> = projection.iter().enumerate().map(|(i, x)| x + bias(i)).collect();
        truth.norm(&self.norm, &branch, self.residual.then_some(residual))
    }

    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let halves: Vec<_> = x.data().chunks(TOKENS * WIDTH).map(|half| tensor(cx, &[half])).collect();
        let bias = self.bias.map(|bias| cx.parameters.data(bias));
        self.norm.forward(cx, &halves[0], bias, halves.get(1), tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let dz = self.norm.backward(cx, dy, tape, sinks)?;
        let dropped = self.norm.branch_delta(cx, &dz);
        let branch = dropped.as_ref().unwrap_or(&dz).data();
        Some(if self.residual { tensor(cx, &[branch, dz.data()]) } else { tensor(cx, &[branch]) })
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        needs[0].dx = plan.below.clone();
        needs[0].observe = observe;
    }
}

/// The parts one below the other.
fn tensor(cx: Context, parts: &[&[f32]]) -> Tensor {
    let mut tensor = cx.engine.tensor(parts.len() * TOKENS, WIDTH);
    tensor.data_mut().copy_from_slice(&parts.concat());
    tensor
}

#[test]
fn every_combination_of_needs() {
    for (with_bias, residual, dropout) in [
        (false, false, 0.0),
        (true, false, DROPOUT),
        (false, true, DROPOUT),
        (true, true, 0.0),
        (true, true, DROPOUT),
    ] {
        let mut net = Net::default();
        let norm = net.norm(WIDTH, dropout);
        let parts = [vec![(norm.weight, Slices::All)], vec![(norm.bias, Slices::All)]];
        let bias = with_bias.then(|| net.parameter("branch bias", &[WIDTH]));
        let case = Case { norm, bias, residual };
        let updates = net.subsets(&parts);
        let with =
            |below: Slices| updates.iter().map(move |u| Plan { update: u.clone(), below: below.clone() });
        let plans: Vec<_> = with(Slices::None).chain(with(Slices::All)).collect();
        let subject = Subject { net: &net, layer: &case, input: (case.rows(), WIDTH) };
        subject.check(&format!("norm, bias {with_bias}, residual {residual}, dropout {dropout}"), &plans);
    }
}
