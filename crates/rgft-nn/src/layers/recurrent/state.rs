//! Rows that follow others: what a layer remembers in between is its state, so that text is generated token by token.

use super::{Cell, Direction, Recurrent, with_biases};
use crate::decoding::Cache;
use crate::layers::Context;
use crate::product::Pass;
use crate::tensor::Tensor;

impl Recurrent {
    /// Zero states `[h, c]`, as before the first row; `None` for a layer that reads in both directions, whose first
    /// output depends on the last row.
    pub(super) fn zero_states(&self) -> Option<Cache> {
        let states = if self.cell == Cell::Lstm { 2 } else { 1 };
        let state = vec![vec![0.0; self.hidden()]; states];
        (self.directions.len() == 1).then_some(Cache { state, tokens: 0 })
    }

    /// `x` `[new rows, input]` of one sequence → `h` `[new rows, hidden]`, going on from the states in `cache`.
    pub(super) fn go_on(&self, cx: Context, x: &Tensor, cache: &mut Cache) -> Tensor {
        let Direction { input, recurrent, .. } = &self.directions[0];
        let (kernels, hidden, width) = (&cx.engine.kernels, self.hidden(), recurrent.output);
        let merged = recurrent.with_adapter(cx, Pass::Forward);
        let weight = recurrent.matrix(cx, merged.as_ref());
        let add_recurrent = |h: &[f32], out: &mut Tensor| {
            let h = rgft_kernels::Mat::new(h, 1, hidden);
            cx.engine.product(recurrent.site, Pass::Forward, h, weight.t(), out.mat_mut(), true);
        };
        let biased = if self.cell == Cell::Lstm { vec![input, recurrent] } else { vec![input] };
        let mut gates = with_biases(cx, x.rows(), &biased);
        input.add_forward(cx, x, &mut gates);
        let bias = with_biases(cx, 1, &[recurrent]);
        let (mut own, mut u) = (cx.engine.tensor(1, width), cx.engine.tensor(1, width));
        let (mut c, mut y) = (cx.engine.tensor(1, hidden), cx.engine.tensor(x.rows(), hidden));
        let rows = gates.data().chunks_exact(width).zip(y.data_mut().chunks_exact_mut(hidden));
        for (gates, h) in rows {
            own.data_mut().copy_from_slice(gates);
            match &mut cache.state[..] {
                [before, c_before] => {
                    add_recurrent(before, &mut own);
                    kernels.lstm_cell(own.data_mut(), c_before, c.data_mut(), h, hidden);
                    c_before.copy_from_slice(c.data());
                    before.copy_from_slice(h);
                }
                states => {
                    let before = &mut states[0];
                    u.data_mut().copy_from_slice(bias.data());
                    add_recurrent(before, &mut u);
                    kernels.gru_cell(own.data_mut(), u.data(), before, c.data_mut(), h, hidden);
                    before.copy_from_slice(h);
                }
            }
        }
        cache.tokens += x.rows();
        y
    }
}
