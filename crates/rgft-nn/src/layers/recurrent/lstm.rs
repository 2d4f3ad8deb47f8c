//! One direction of an LSTM layer through time. See [`super`] for the formula.
//!
//! Saved: the gates' values, where `δ` will be written over them; `c'`; and `h'` where `W_hh` reads it.

use rgft_kernels::{Mat, MatMut};

use super::pace::Pace;
use super::{now_and_next, with_biases};
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
    let mut gates = with_biases(cx, x.rows(), &[input, recurrent]);
    input.add_forward(cx, x, &mut gates);
    let mut h = engine.tensor(x.rows(), hidden);
    let mut c = engine.tensor(x.rows(), hidden);
    let mut last_h = engine.tensor(steps.width(), hidden);
    let mut last_c = engine.tensor(steps.width(), hidden);
    let merged = recurrent.with_adapter(cx, Pass::Forward);
    let weight = recurrent.matrix(cx, merged.as_ref()).t();
    let packed = engine.kernels.pack(weight, engine.precision);

    let walk = steps.walk(direction.reverse);
    for (i, step) in walk.iter().enumerate() {
        let begin = step.scalars(step.carried..step.rows, hidden);
        h.data_mut()[begin.clone()].fill(0.0);
        c.data_mut()[begin].fill(0.0);
        if step.carried > 0 {
            let before = Mat::new(&h.data()[step.scalars(0..step.carried, hidden)], step.carried, hidden);
            let a = &mut gates.data_mut()[step.scalars(0..step.carried, 4 * hidden)];
            let a = MatMut::new(a, step.carried, 4 * hidden);
            engine.kernels.gemm_packed(before, weight, &packed, a, true, engine.precision);
        }
        // The states of those that go on become the next step's.
        let go_on = walk.get(i + 1).map_or(0, |next| next.carried);
        if let Some(next) = walk.get(i + 1) {
            let target = next.scalars(0..go_on, hidden);
            let a = &mut gates.data_mut()[step.scalars(0..go_on, 4 * hidden)];
            let (before, c) = now_and_next(c.data_mut(), step.scalars(0..go_on, hidden), target.clone());
            engine.kernels.lstm_cell(a, before, c, &mut h.data_mut()[target], hidden);
        }
        let (ends, own) = (go_on * hidden..step.rows * hidden, go_on..step.rows);
        let a = &mut gates.data_mut()[step.scalars(own.clone(), 4 * hidden)];
        let before = &c.data()[step.scalars(own, hidden)];
        let (c, h) = (&mut last_c.data_mut()[ends.clone()], &mut last_h.data_mut()[ends]);
        engine.kernels.lstm_cell(a, before, c, h, hidden);
    }
    pace.count(Pass::Forward);
    engine.pass(recurrent.site, Passed::Input(&h));
    pace.write_output(&h, &last_h, y);
    if direction.carries(cx.needs) {
        tape.push(gates);
        tape.push(c);
        recurrent.save_input(cx, h, tape);
    }
}

/// Carries the direction's columns of `dy` back through time and accumulates the gradients of `W_hh`; returns `δ`
/// `[rows, 4·hidden]` in time-major order, which is that of both sites.
pub(super) fn backward(pace: Pace, dy: &Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Tensor {
    let Pace { cx, direction, steps, .. } = pace;
    let (hidden, engine) = (direction.hidden(), cx.engine);
    let recurrent = &direction.recurrent;
    let h = recurrent.saved_input(cx, tape);
    let c = tape.pop();
    let mut delta = tape.pop();
    let dy = pace.gather_dy(dy);
    let mut dh = engine.zeros(steps.width(), hidden);
    let mut dc = engine.zeros(steps.width(), hidden);
    let merged = recurrent.with_adapter(cx, Pass::Dx);
    let weight = recurrent.matrix(cx, merged.as_ref());
    let packed = engine.kernels.pack(weight, engine.precision);

    for step in steps.walk(direction.reverse).iter().rev() {
        let (rows, own) = (step.scalars(0..step.rows, hidden), step.rows * hidden);
        let gates = &mut delta.data_mut()[step.scalars(0..step.rows, 4 * hidden)];
        let (from_above, from_next) = (&dy.data()[rows.clone()], &dh.data()[..own]);
        let dc = &mut dc.data_mut()[..own];
        engine.kernels.lstm_cell_backward(gates, &c.data()[rows], from_above, from_next, dc, hidden);
        if step.carried > 0 {
            let own =
                Mat::new(&delta.data()[step.scalars(0..step.carried, 4 * hidden)], step.carried, 4 * hidden);
            let target = MatMut::new(&mut dh.data_mut()[..step.carried * hidden], step.carried, hidden);
            engine.kernels.gemm_packed(own, weight, &packed, target, false, engine.precision);
        }
    }
    pace.count(Pass::Dx);
    recurrent.backward_parameters(cx, h.as_ref(), &delta, sinks);
    delta
}
