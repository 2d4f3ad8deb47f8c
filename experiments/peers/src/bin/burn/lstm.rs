//! An LSTM as burn offers it, and a head on its last state.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Lstm, LstmConfig};
use burn::tensor::{Device, Tensor};

const UNITS: usize = 256;

#[derive(Module, Debug)]
pub(crate) struct Forecaster {
    lstm: Lstm,
    head: Linear,
}

impl Forecaster {
    pub(crate) fn new(outputs: usize, device: &Device) -> Self {
        Self {
            lstm: LstmConfig::new(32, UNITS, true).init(device),
            head: LinearConfig::new(UNITS, outputs).init(device),
        }
    }

    /// From `[series, steps, values]` to `[series, classes]`.
    pub(crate) fn logits(&self, batch: Tensor<3>) -> Tensor<2> {
        self.head.forward(self.lstm.forward(batch, None).1.hidden)
    }
}
