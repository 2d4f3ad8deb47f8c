//! LSTM (Hochreiter & Schmidhuber 1997, with Gers' forget gate), gates in PyTorch's order `i, f, g, o`.
//!
//! `i, f, o = σ(a)`, `g = tanh(a)`, `c = f·c' + i·g`, `h = o·tanh c`, where `a` `[rows, 4·hidden]` is what the products and
//! biases add up to, and `h'`, `c'` the states of the step before.
//!
//! * `cell.rs`: one step, products not counted.
//! * `walk.rs`: one direction of a layer through all its steps, products included.
//! * `terms.rs`: the products of a step.

mod cell;
mod terms;
mod walk;

pub use cell::lstm_cell;
pub use walk::{LstmSaved, LstmWalk, lstm_backward, lstm_forward};
