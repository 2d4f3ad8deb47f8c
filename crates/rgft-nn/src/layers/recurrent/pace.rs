//! One direction's way through one batch: where its rows come from and go to, and the count of its products.

use std::ops::Range;

use rgft_kernels::cpu::lstm::LstmWalk;
use rgft_kernels::cpu::time_major::Step;

use super::Direction;
use super::steps::{Steps, step_products};
use crate::layers::Context;
use crate::layers::linear::Linear;
use crate::product::Pass;
use crate::tensor::Tensor;

/// What a direction's forward and backward work on.
#[derive(Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) cx: Context<'a>,
    pub(super) direction: &'a Direction,
    pub(super) steps: &'a Steps,
    /// The direction's columns of the layer's output, and how many that has.
    pub(super) columns: (usize, usize),
}

impl Pace<'_> {
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.0..self.columns.0 + self.direction.hidden()
    }

    /// The way that an LSTM takes.
    pub(super) fn walk<'s>(&'s self, steps: &'s [Step]) -> LstmWalk<'s> {
        LstmWalk {
            steps,
            packed: self.steps.packed(),
            hidden: self.direction.hidden(),
            first_column: self.columns.0,
            columns: self.columns.1,
            precision: self.cx.engine.precision,
        }
    }

    /// Writes the states after each row to the direction's columns of `y`, in packed order: `states` those before
    /// each row in time-major order, `last` those at the ends.
    pub(super) fn write_output(&self, states: &Tensor, last: &Tensor, y: &mut Tensor) {
        let after = self.steps.after(self.direction.reverse);
        let sources = [states.data(), last.data()];
        let columns = self.columns();
        self.cx.engine.kernels.gather_rows_into_columns(
            sources,
            &after,
            y.data_mut(),
            self.columns.1,
            columns,
        );
    }

    /// The direction's columns of `dy` in time-major order.
    pub(super) fn gather_dy(&self, dy: &Tensor) -> Tensor {
        let columns = self.columns();
        let mut own = self.cx.engine.tensor(dy.rows(), columns.len());
        let rows = self.steps.packed();
        self.cx.engine.kernels.gather_rows(dy.data(), dy.cols(), columns, rows, own.data_mut());
        own
    }

    /// Counts the products with `W_hh` of all steps.
    pub(super) fn count(&self, pass: Pass) {
        let recurrent = &self.direction.recurrent;
        step_products(recurrent.site, pass, self.cx.lengths(), shape(recurrent, pass), |product| {
            self.cx.engine.count(product);
        });
    }
}

/// `(k, n)` of a step's product with `W_hh`.
pub(super) fn shape(recurrent: &Linear, pass: Pass) -> (usize, usize) {
    match pass {
        Pass::Forward => (recurrent.input, recurrent.output),
        _ => (recurrent.output, recurrent.input),
    }
}
