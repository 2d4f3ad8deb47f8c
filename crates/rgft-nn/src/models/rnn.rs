//! Recurrent networks: LSTM and GRU, under PyTorch's parameter names (`lstm.weight_ih_l0`, `gru.bias_hh_l1_reverse`).
//!
//! * `lstm-lm`, `gru-lm`: `embedding → layers → head`, a row of logits per token;
//! * `lstm-classifier`, `gru-classifier`: `embedding → layers → classifier` on the mean of the tokens or the final states;
//! * `lstm-forecaster`, `gru-forecaster`: `windows of a series → layers → head` on the final state, a row per window.
//!
//! Cut levels: 0 the embedding (or the cutting of windows, which has no parameters), `1 + l` layer `l`, the last the head.

mod build;
mod config;

pub(crate) use build::load;
