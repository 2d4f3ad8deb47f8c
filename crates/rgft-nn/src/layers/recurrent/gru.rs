//! One direction of a GRU layer through time. See [`super`] for the formula.
//!
//! Saved: the gates' values, where `W_ih`'s `δ` will be written over them; the hidden state's share of the candidate;
//! and `h'`.

use rgft_kernels::gemm::{Factor, Packing, Start};
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
    let mut gates = with_biases(cx, x.rows(), &[input]);
    input.add_forward(cx, x, &mut gates);
    let carries = direction.carries(cx.needs);
    let mut h = engine.tensor(x.rows(), hidden);
    let mut last = engine.tensor(steps.width(), hidden);
    let mut u = engine.tensor(steps.width(), 3 * hidden);
    // Kept for backward, or written over by each step.
    let mut candidate = engine.tensor(if carries { x.rows() } else { steps.width() }, hidden);
    let bias = with_biases(cx, steps.width(), &[recurrent]);
    let merged = recurrent.with_adapter(cx, Pass::Forward);
    let weight = recurrent.matrix(cx, merged.as_ref()).t();
    let packed = engine.kernels.pack(weight, Packing::Right, engine.precision);
    let weight = Factor::packed(weight, Some(&packed));

    let walk = steps.walk(direction.reverse);
    for (i, step) in walk.iter().enumerate() {
        h.data_mut()[step.scalars(step.carried..step.rows, hidden)].fill(0.0);
        u.data_mut()[..step.rows * 3 * hidden].copy_from_slice(&bias.data()[..step.rows * 3 * hidden]);
        if step.carried > 0 {
            let before = Mat::new(&h.data()[step.scalars(0..step.carried, hidden)], step.carried, hidden);
            let u = MatMut::new(u.data_mut(), step.carried, 3 * hidden);
            engine.kernels.gemm_packed(before.into(), weight, u, Start::Add, engine.precision);
        }
        let kept = if carries { step.scalars(0..step.rows, hidden) } else { 0..step.rows * hidden };
        let candidate = &mut candidate.data_mut()[kept];
        // The states of those that go on become the next step's.
        let go_on = walk.get(i + 1).map_or(0, |next| next.carried);
        let (own, of_end) = candidate.split_at_mut(go_on * hidden);
        let (u_own, u_of_end) = u.data()[..step.rows * 3 * hidden].split_at(go_on * 3 * hidden);
        if let Some(next) = walk.get(i + 1) {
            let a = &mut gates.data_mut()[step.scalars(0..go_on, 3 * hidden)];
            let target = next.scalars(0..go_on, hidden);
            let (before, h) = now_and_next(h.data_mut(), step.scalars(0..go_on, hidden), target);
            engine.kernels.gru_cell(a, u_own, before, own, h, hidden);
        }
        let a = &mut gates.data_mut()[step.scalars(go_on..step.rows, 3 * hidden)];
        let before = &h.data()[step.scalars(go_on..step.rows, hidden)];
        let h = &mut last.data_mut()[go_on * hidden..step.rows * hidden];
        engine.kernels.gru_cell(a, u_of_end, before, of_end, h, hidden);
    }
    pace.count(Pass::Forward);
    engine.pass(recurrent.site, Passed::Input(&h));
    pace.write_output(&h, &last, y);
    if carries {
        tape.push(gates);
        tape.push(candidate);
        tape.push(h);
    }
}

/// Carries the direction's columns of `dy` back through time and accumulates the gradients of `W_hh`; returns `W_ih`'s
/// `δ` `[rows, 3·hidden]` in time-major order.
pub(super) fn backward(pace: Pace, dy: &Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Tensor {
    let Pace { cx, direction, steps, .. } = pace;
    let (hidden, engine) = (direction.hidden(), cx.engine);
    let recurrent = &direction.recurrent;
    let h = tape.pop();
    let candidate = tape.pop();
    let mut delta = tape.pop();
    let dy = pace.gather_dy(dy);
    let mut du = engine.tensor(dy.rows(), 3 * hidden);
    let mut dh = engine.zeros(steps.width(), hidden);
    let merged = recurrent.with_adapter(cx, Pass::Dx);
    let weight = recurrent.matrix(cx, merged.as_ref());
    let packed = engine.kernels.pack(weight, Packing::Right, engine.precision);
    let weight = Factor::packed(weight, Some(&packed));

    for step in steps.walk(direction.reverse).iter().rev() {
        let (rows, wide) = (step.scalars(0..step.rows, hidden), step.scalars(0..step.rows, 3 * hidden));
        let (gates, own) = (&mut delta.data_mut()[wide.clone()], &mut du.data_mut()[wide]);
        let (before, candidate, dy) =
            (&h.data()[rows.clone()], &candidate.data()[rows.clone()], &dy.data()[rows]);
        let from_next = &mut dh.data_mut()[..step.rows * hidden];
        engine.kernels.gru_cell_backward(gates, before, candidate, dy, from_next, own, hidden);
        if step.carried > 0 {
            let own =
                Mat::new(&du.data()[step.scalars(0..step.carried, 3 * hidden)], step.carried, 3 * hidden);
            let target = MatMut::new(&mut dh.data_mut()[..step.carried * hidden], step.carried, hidden);
            engine.kernels.gemm_packed(own.into(), weight, target, Start::Add, engine.precision);
        }
    }
    pace.count(Pass::Dx);
    let reads = cx.needs[recurrent.site].reads_some_input();
    recurrent.backward_parameters(cx, reads.then_some(&h), &du, sinks);
    delta
}
