//! An LSTM as candle offers it, and a head on its last state.

use candle_core::{Error, Module, Result, Tensor};
use candle_nn::{LSTM, LSTMConfig, Linear, RNN, VarBuilder, linear, lstm};

use crate::Model;

const UNITS: usize = 256;

pub(crate) struct Forecaster {
    lstm: LSTM,
    head: Linear,
}

impl Forecaster {
    pub(crate) fn new(outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            lstm: lstm(32, UNITS, LSTMConfig::default(), vb.pp("lstm"))?,
            head: linear(UNITS, outputs, vb.pp("head"))?,
        })
    }
}

impl Model for Forecaster {
    fn logits(&self, batch: &Tensor, _train: bool) -> Result<Tensor> {
        let states = self.lstm.seq(batch)?;
        self.head.forward(states.last().ok_or_else(|| Error::Msg("no steps".into()))?.h())
    }
}
