//! The head that reads a recurrent layer's final states: `z = dropout(s)·Wᵀ + b`.
//!
//! `s` is the last row of each sequence; of two directions, the second half of the columns is the first row's, where the
//! direction that walks backward ends. Forecasts of windows that were read in their own units (σ, μ) come back in the
//! series' units: `y = σ·z + μ`, so `δ_z = σ·δ_y`.

use std::ops::Range;

use rgft_core::{Extent, Slices};

use super::head::{head_part, row_per_example, set_head_needs};
use super::linear::Linear;
use super::series_stem::InstanceNorm;
use super::{Block, Context, Part, Sinks};
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Final states and a linear map.
#[derive(Clone, Debug)]
pub struct FinalStateHead {
    /// `W` `[outputs, directions · hidden]`, `b`.
    pub output: Linear,
    /// Directions of the layer below: 1 or 2.
    pub directions: usize,
    /// Probability of dropping an element of `s`.
    pub dropout: f32,
    /// How windows were normalised by the stem.
    pub instance_norm: Option<InstanceNorm>,
}

impl FinalStateHead {
    /// Of each sequence that has rows: its number, and the rows and columns of each direction's final state.
    fn finals<'a>(
        &self,
        lengths: &'a [usize],
    ) -> impl Iterator<Item = (usize, usize, Range<usize>)> + use<'a> {
        let (directions, hidden) = (self.directions, self.output.input / self.directions);
        let ends = lengths.iter().scan(0, |end, &length| {
            *end += length;
            Some((*end - length, *end))
        });
        ends.enumerate().filter(|(_, (first, end))| first < end).flat_map(move |(i, (first, end))| {
            let ends = [(end - 1, 0..hidden), (first, hidden..2 * hidden)];
            ends.into_iter().take(directions).map(move |(row, columns)| (i, row, columns))
        })
    }
}

impl Block for FinalStateHead {
    /// `x` `[rows, directions · hidden]` → `[sequences, outputs]`.
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        let cols = x.cols();
        let mut states = cx.engine.zeros(cx.lengths().len(), cols);
        for (i, row, columns) in self.finals(cx.lengths()) {
            let state = &mut states.data_mut()[i * cols..][columns.clone()];
            state.copy_from_slice(&x.data()[row * cols..][columns]);
        }
        if let Some(dropout) = cx.engine.dropout(self.output.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, states.data_mut());
        }
        let mut y = self.output.forward(cx, &states);
        self.output.save_input(cx, states, tape);
        if let Some(norm) = self.instance_norm {
            norm.reverse(cx, &mut y, false);
        }
        y
    }

    fn backward(&self, cx: Context, mut d: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        if let Some(norm) = self.instance_norm {
            norm.reverse(cx, &mut d, true);
        }
        let states = self.output.saved_input(cx, tape);
        self.output.backward_parameters(cx, states.as_ref(), &d, sinks);
        let mut dstates = self.output.backward_input(cx, &d)?;
        if let Some(dropout) = cx.engine.dropout(self.output.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, dstates.data_mut());
        }
        let cols = dstates.cols();
        let mut dx = cx.engine.zeros(cx.extent.rows(), cols);
        for (i, row, columns) in self.finals(cx.lengths()) {
            let state = &dstates.data()[i * cols..][columns.clone()];
            dx.data_mut()[row * cols..][columns].copy_from_slice(state);
        }
        Some(dx)
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.output.products(&needs[self.output.site], extent.examples(), out);
    }

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], below: bool, observe: bool) {
        set_head_needs(&self.output, needs, below, observe);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        head_part(&self.output, parameters)
    }

    fn extent(&self, entering: &Extent) -> Extent {
        row_per_example(entering)
    }
}
