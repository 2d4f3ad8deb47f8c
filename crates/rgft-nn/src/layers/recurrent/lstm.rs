//! One direction of an LSTM layer through time. See [`super`] for the formula.
//!
//! Saved: the gates' values, where `δ` will be written over them; `c'`; and `h'` where `W_hh` reads it.

use rgft_kernels::cpu::lstm::LstmSaved;

use super::pace::Pace;
use super::sum_of_biases;
use crate::layers::Sinks;
use crate::probe::Passed;
use crate::product::Pass;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// `x` `[rows, input]` in time-major order → the direction's columns of `y`.
pub(super) fn forward(pace: Pace, x: &Tensor, y: &mut Tensor, tape: &mut Tape) {
    let Pace { cx, direction, steps, .. } = pace;
    let (hidden, engine) = (direction.hidden(), cx.engine);
    let (input, recurrent) = (&direction.input, &direction.recurrent);
    let bias = sum_of_biases(cx, &[input, recurrent]);
    let reduced = input.counted_reduction(cx, x);
    let inputs = input.terms(cx, x, reduced.as_ref());
    let merged = recurrent.with_adapter(cx, Pass::Forward);
    let weight = recurrent.matrix(cx, merged.as_ref()).t();
    // Who looks on sees h' too.
    let carries = direction.carries(cx.needs);
    let mut saved = (carries || engine.is_observed())
        .then(|| [4 * hidden, hidden, hidden].map(|width| engine.tensor(x.rows(), width)));
    let kept = saved.as_mut().map(|saved| {
        let [gates, c, h] = saved.each_mut().map(Tensor::data_mut);
        LstmSaved { gates, c, h }
    });
    let walk = steps.walk(direction.reverse);
    engine.kernels.lstm_forward(pace.walk(&walk), &inputs, weight, bias.data(), y.data_mut(), kept);
    pace.count(Pass::Forward);
    engine.pass(input.site, Passed::Input(x));
    let Some([gates, c, h]) = saved else { return };
    engine.pass(recurrent.site, Passed::Input(&h));
    if carries {
        tape.push(gates);
        tape.push(c);
        recurrent.save_input(cx, h, tape);
    }
}

/// Carries the direction's columns of `dy` back through time and accumulates the gradients of `W_hh`; returns `δ`
/// `[rows, 4·hidden]` in time-major order, which is that of both sites.
pub(super) fn backward(pace: Pace, dy: &Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Tensor {
    let Pace { cx, direction, steps, .. } = pace;
    let recurrent = &direction.recurrent;
    let h = recurrent.saved_input(cx, tape);
    let c = tape.pop();
    let mut delta = tape.pop();
    let merged = recurrent.with_adapter(cx, Pass::Dx);
    let weight = recurrent.matrix(cx, merged.as_ref());
    let walk = steps.walk(direction.reverse);
    cx.engine.kernels.lstm_backward(pace.walk(&walk), weight, c.data(), dy.data(), delta.data_mut());
    pace.count(Pass::Dx);
    recurrent.backward_parameters(cx, h.as_ref(), &delta, sinks);
    delta
}
