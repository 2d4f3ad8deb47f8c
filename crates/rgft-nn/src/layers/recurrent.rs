//! A recurrent layer over packed sequences, in one direction or in both, with PyTorch's names and gate order.
//!
//! * LSTM: `i, f, g, o` of `x·W_ihᵀ + b_ih + h'·W_hhᵀ + b_hh`; `c = f·c' + i·g`, `h = o·tanh c`.
//! * GRU: `r, z` of the same sum, `n = tanh(x·W_inᵀ + b_in + r·(h'·W_hnᵀ + b_hn))`, `h = (1 − z)·n + z·h'`.
//!
//! `h'`, `c'` are the states of the step before, zero where a sequence begins. A layer is two sites per direction: `W_ih`
//! over `x`, and `W_hh` over all `h'` together. The input's share is one product for all rows, as are the gradients of
//! both weights, for the active gate rows alone; the products with `W_hh` must be made step by step. Carrying `δ` back
//! through time belongs to the gradient of every gate: it runs in full as soon as anything of a direction is active,
//! and not at all otherwise.

mod gru;
mod lstm;
mod pace;
mod state;
mod steps;

use std::ops::Range;

use rgft_core::{ComponentKind, Extent, Slices};

use self::pace::{Pace, shape};
use self::steps::{Steps, step_products};
use super::linear::Linear;
use super::{Block, Context, Part, Sinks, all_if, groups, rows};
use crate::decoding::Cache;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::{Pass, Product};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Groups of hidden units that each gate is divided into, unless the grain says how large they are.
const GROUPS: usize = 4;

/// What one step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory.
    Lstm,
    /// Gated recurrent unit.
    Gru,
}

impl Cell {
    /// Its gates, in the order of the rows of `W_ih` and `W_hh`.
    pub fn gates(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["i", "f", "g", "o"],
            Self::Gru => &["r", "z", "n"],
        }
    }
}

/// One direction of a layer.
#[derive(Clone, Debug)]
pub struct Direction {
    /// `W_ih` `[gates·hidden, input]`, `b_ih`.
    pub input: Linear,
    /// `W_hh` `[gates·hidden, hidden]`, `b_hh`.
    pub recurrent: Linear,
    /// Whether it walks from the end of each sequence to its beginning.
    pub reverse: bool,
}

impl Direction {
    fn linears(&self) -> [&Linear; 2] {
        [&self.input, &self.recurrent]
    }

    fn hidden(&self) -> usize {
        self.recurrent.input
    }

    /// Whether `δ` is carried back through time.
    fn carries(&self, needs: &[Needs]) -> bool {
        !needs[self.recurrent.site].dx.is_none()
    }
}

/// A recurrent layer.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// What a step computes.
    pub cell: Cell,
    /// One direction, or both. They stand side by side in the output.
    pub directions: Vec<Direction>,
    /// Probability of dropping an element of the output.
    pub dropout: f32,
    /// Whether nothing below has parameters: then `δ` never leaves it.
    pub lowest: bool,
}

impl Recurrent {
    fn hidden(&self) -> usize {
        self.directions[0].hidden()
    }

    /// Channels of the output.
    pub(crate) fn width(&self) -> usize {
        self.directions.len() * self.hidden()
    }

    /// Whether backward reads x.
    fn reads_input(&self, needs: &[Needs]) -> bool {
        self.directions.iter().any(|direction| needs[direction.input.site].reads_some_input())
    }

    fn paces<'a>(&'a self, cx: Context<'a>, steps: &'a Steps) -> impl DoubleEndedIterator<Item = Pace<'a>> {
        let (hidden, width) = (self.hidden(), self.width());
        let pace = move |(i, direction)| Pace { cx, direction, steps, columns: (i * hidden, width) };
        self.directions.iter().enumerate().map(pace)
    }

    /// `x *= dropout`, where there is one: forward and backward alike.
    fn drop(&self, cx: Context, x: &mut Tensor) {
        if let Some(dropout) = cx.engine.dropout(self.directions[0].input.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
    }
}

impl Block for Recurrent {
    /// `x` `[rows, input]` → `[rows, directions·hidden]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let steps = Steps::new(cx.lengths());
        let x = if steps.is_in_order() { x } else { permuted(cx, &x, steps.packed()) };
        let mut y = cx.engine.tensor(x.rows(), self.width());
        cx.engine.set_row_order(steps.order());
        for pace in self.paces(cx, &steps) {
            match self.cell {
                Cell::Lstm => lstm::forward(pace, &x, &mut y, tape),
                Cell::Gru => gru::forward(pace, &x, &mut y, tape),
            }
        }
        cx.engine.set_row_order(None);
        if self.reads_input(cx.needs) {
            tape.push(x);
        }
        self.drop(cx, &mut y);
        y
    }

    fn backward(&self, cx: Context, mut dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.drop(cx, &mut dy);
        let steps = Steps::new(cx.lengths());
        let x = self.reads_input(cx.needs).then(|| tape.pop());
        let mut dx: Option<Tensor> = None;
        cx.engine.set_row_order(steps.order());
        for pace in self.paces(cx, &steps).rev().filter(|pace| pace.direction.carries(cx.needs)) {
            let delta = match self.cell {
                Cell::Lstm => lstm::backward(pace, &dy, tape, sinks),
                Cell::Gru => gru::backward(pace, &dy, tape, sinks),
            };
            let input = &pace.direction.input;
            input.backward_parameters(cx, x.as_ref(), &delta, sinks);
            match &mut dx {
                Some(dx) => input.add_backward_input(cx, &delta, dx),
                None => dx = input.backward_input(cx, &delta),
            }
        }
        cx.engine.set_row_order(None);
        let dx = dx?;
        Some(if steps.is_in_order() { dx } else { permuted(cx, &dx, steps.time_major()) })
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        for direction in &self.directions {
            direction.input.products(&needs[direction.input.site], extent.rows(), out);
            let recurrent = &direction.recurrent;
            let own = &needs[recurrent.site];
            let mut passes = vec![Pass::Forward];
            passes.extend(direction.carries(needs).then_some(Pass::Dx));
            for pass in passes {
                let (site, shape) = (recurrent.site, shape(recurrent, pass));
                step_products(site, pass, super::lengths(extent), shape, |product| out.push(product));
                let (output, input) = (recurrent.output, recurrent.input);
                out.extend(own.adapter.map(|adapter| adapter.product_beside(site, output, input, pass)));
            }
            let mut whole = Vec::new();
            recurrent.products(own, extent.rows(), &mut whole);
            out.extend(whole.into_iter().filter(|product| product.pass == Pass::Dw));
        }
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        let below = below && !self.lowest;
        for direction in &self.directions {
            let is_active =
                |linear: &Linear| !needs[linear.site].dw.is_none() || !needs[linear.site].db.is_none();
            let any = below || observe || direction.linears().into_iter().any(is_active);
            needs[direction.input.site].dx = all_if(below);
            needs[direction.recurrent.site].dx = all_if(any);
            direction.linears().iter().for_each(|linear| needs[linear.site].observe = observe);
        }
    }

    fn cache(&self) -> Option<Cache> {
        self.zero_states()
    }

    fn decode(&self, cx: Context, x: Tensor, cache: &mut Cache) -> Tensor {
        self.go_on(cx, &x, cache)
    }

    fn adaptable(&self) -> Vec<usize> {
        self.directions.iter().flat_map(Direction::linears).map(|map| map.site).collect()
    }

    /// Each gate's hidden units in groups.
    fn parts(&self, _: &Parameters, grain: Grain) -> Vec<Part> {
        let hidden = self.hidden();
        let size = grain.group_size(hidden, GROUPS);
        let mut parts = Vec::new();
        for direction in &self.directions {
            let side = if direction.reverse { "reverse." } else { "" };
            let parameters: Vec<usize> =
                direction.linears().into_iter().flat_map(Linear::parameters).collect();
            for (g, gate) in self.cell.gates().iter().enumerate() {
                for (i, units) in groups(hidden, size).enumerate() {
                    let own = g * hidden + units.start..g * hidden + units.end;
                    let slices = parameters.iter().map(|&parameter| rows(parameter, own.clone())).collect();
                    parts.push(Part::new(format!("{side}gate.{gate}.{i}"), ComponentKind::Gate, slices));
                }
            }
        }
        parts
    }
}

/// `[1, out]`, the sum of the linear maps' biases.
fn sum_of_biases(cx: Context, linears: &[&Linear]) -> Tensor {
    let mut bias = cx.engine.zeros(1, linears[0].output);
    for linear in linears {
        bias.data_mut().iter_mut().zip(linear.bias(cx)).for_each(|(sum, b)| *sum += b);
    }
    bias
}

/// `[rows, out]`, each row the sum of the linear maps' biases.
fn with_biases(cx: Context, rows: usize, linears: &[&Linear]) -> Tensor {
    let bias = sum_of_biases(cx, linears);
    let mut out = cx.engine.tensor(rows, bias.cols());
    cx.engine.kernels.fill_rows(out.data_mut(), bias.data());
    out
}

/// The rows `rows` of `x`, in that order.
fn permuted(cx: Context, x: &Tensor, rows: &[u32]) -> Tensor {
    let mut out = cx.engine.tensor(x.rows(), x.cols());
    cx.engine.kernels.gather_rows(x.data(), x.cols(), 0..x.cols(), rows, out.data_mut());
    out
}

/// Of one buffer, `now` to read and `next`, which does not overlap it, to write.
fn now_and_next(data: &mut [f32], now: Range<usize>, next: Range<usize>) -> (&[f32], &mut [f32]) {
    if next.is_empty() {
        (&data[now], &mut [])
    } else if now.end <= next.start {
        let (head, tail) = data.split_at_mut(next.start);
        (&head[now], &mut tail[..next.len()])
    } else {
        let (head, tail) = data.split_at_mut(now.start);
        (&tail[..now.len()], &mut head[next])
    }
}
