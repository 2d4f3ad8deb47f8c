//! Gradients of active slices only: what is frozen has no buffer.
//!
//! A gradient of some rows is a dense `[active rows, cols]`, of some columns a dense `[rows, active columns]`, in
//! the order of the ranges. A gradient of an embedding table holds the rows that were looked up.

use std::ops::Range;

use rgft_core::{Axis, Slices};

use crate::engine::Engine;
use crate::needs::runs;
use crate::parameters::Parameters;
use crate::tensor::Tensor;

/// The gradient of one parameter.
#[derive(Debug)]
pub struct Gradient {
    slices: Slices,
    data: Tensor,
    /// Whether something was written since the step began: the first write assigns, later ones accumulate.
    written: bool,
}

/// The gradient of an embedding table `[rows, cols]`: only rows that were looked up.
#[derive(Debug)]
pub struct RowGradient {
    cols: usize,
    /// `slot[row]` is the row's place in `data`, or `u32::MAX`.
    slot: Vec<u32>,
    rows: Vec<u32>,
    data: Vec<f32>,
}

#[derive(Debug)]
enum Slot {
    Dense(Gradient),
    Rows(RowGradient),
}

/// A slice's gradient, as the optimizer walks it.
#[derive(Clone, Copy, Debug)]
pub enum GradientBlock<'a> {
    /// From the slice's first scalar on; rows `stride` apart.
    Dense {
        /// Scalars, from the first of the slice.
        data: &'a [f32],
        /// Scalars between two rows' starts.
        stride: usize,
    },
    /// Rows of a table: the others' gradients are zero.
    Rows(&'a RowGradient),
}

impl RowGradient {
    /// The gradient of `row` `[cols]`, if it was looked up.
    pub fn row(&self, row: usize) -> Option<&[f32]> {
        let slot = self.slot[row];
        (slot != u32::MAX).then(|| &self.data[slot as usize * self.cols..][..self.cols])
    }

    /// The rows that were looked up, in order of first appearance.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }
}

/// One slot per parameter; empty for what is frozen.
#[derive(Debug, Default)]
pub struct Gradients {
    slots: Vec<Option<Slot>>,
}

impl Gradients {
    /// Buffers for the slices in `update`, one entry per parameter; `tables[i]` marks embedding tables, whose
    /// gradients hold looked-up rows only.
    pub fn new(engine: &Engine, parameters: &Parameters, update: &[Slices], tables: &[bool]) -> Self {
        let slots = parameters.iter().zip(update).zip(tables).map(|((parameter, slices), table)| {
            let (rows, cols) = (parameter.rows(), parameter.cols());
            match slices {
                _ if slices.is_none() => None,
                Slices::All if *table => Some(Slot::Rows(RowGradient {
                    cols,
                    slot: vec![u32::MAX; rows],
                    rows: Vec::new(),
                    data: Vec::new(),
                })),
                _ => {
                    let (rows, cols) = match slices {
                        Slices::Rows(ranges) => (ranges.len(), cols),
                        Slices::Cols(ranges) => (rows, ranges.len()),
                        _ => (rows, cols),
                    };
                    let data = engine.tensor(rows, cols);
                    Some(Slot::Dense(Gradient { slices: slices.clone(), data, written: false }))
                }
            }
        });
        Self { slots: slots.collect() }
    }

    /// Forgets the last step's gradients; keeps the buffers.
    pub fn clear(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            match slot {
                Slot::Dense(gradient) => gradient.written = false,
                Slot::Rows(table) => {
                    table.rows.drain(..).for_each(|row| table.slot[row as usize] = u32::MAX);
                    table.data.clear();
                }
            }
        }
    }

    /// Whether parameter `index` has a gradient buffer.
    pub fn has(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(Option::is_some)
    }

    /// Scalars in all buffers.
    pub fn scalars(&self) -> usize {
        let size = |slot: &Slot| match slot {
            Slot::Dense(gradient) => gradient.data.data().len(),
            Slot::Rows(table) => table.data.len(),
        };
        self.slots.iter().flatten().map(size).sum()
    }

    /// The buffer to accumulate into: `(buffer, whether something is in it)`. Call once per contribution, which
    /// must overwrite the whole buffer if nothing is in it.
    ///
    /// # Panics
    /// If the parameter is frozen.
    pub(crate) fn accumulate(&mut self, index: usize) -> (&mut Tensor, bool) {
        match &mut self.slots[index] {
            Some(Slot::Dense(gradient)) => {
                let written = std::mem::replace(&mut gradient.written, true);
                (&mut gradient.data, written)
            }
            _ => panic!("parameter {index} has no gradient buffer"),
        }
    }

    /// As [`Gradients::accumulate`], cleared to zero first where nothing is in it.
    pub(crate) fn accumulate_cleared(&mut self, index: usize) -> &mut Tensor {
        let (tensor, written) = self.accumulate(index);
        if !written {
            tensor.data_mut().fill(0.0);
        }
        tensor
    }

    /// Adds the gradient `d` `[ids.len(), cols]` of a look-up of `ids` in table `index`.
    pub(crate) fn scatter(&mut self, engine: &Engine, index: usize, ids: &[u32], d: &Tensor) {
        let Some(Slot::Rows(table)) = &mut self.slots[index] else {
            let (cols, sums) = (d.cols(), self.accumulate_cleared(index));
            engine.kernels.scatter_add(d.data(), cols, ids, sums.data_mut());
            return;
        };
        let mut slots = Vec::with_capacity(ids.len());
        for &id in ids {
            let slot = &mut table.slot[id as usize];
            if *slot == u32::MAX {
                *slot = table.rows.len() as u32;
                table.rows.push(id);
            }
            slots.push(*slot);
        }
        table.data.resize(table.rows.len() * table.cols, 0.0);
        engine.kernels.scatter_add(d.data(), table.cols, &slots, &mut table.data);
    }

    /// The gradient of one slice of parameter `index`; `None` when nothing was written in this step.
    pub fn block(&self, index: usize, axis: Axis, range: Range<usize>) -> Option<GradientBlock<'_>> {
        match self.slots[index].as_ref()? {
            Slot::Rows(table) => Some(GradientBlock::Rows(table)),
            Slot::Dense(gradient) => {
                if !gradient.written {
                    return None;
                }
                let stride = gradient.data.cols();
                let first = match (&gradient.slices, axis) {
                    (Slices::Rows(ranges) | Slices::Cols(ranges), _) => {
                        // Active indices before the slice are its place in the dense buffer.
                        ranges.iter().map(|run| run.end.min(range.start).saturating_sub(run.start)).sum()
                    }
                    _ => range.start,
                };
                let at = if axis == Axis::Rows { first * stride } else { first };
                Some(GradientBlock::Dense { data: &gradient.data.data()[at..], stride })
            }
        }
    }

    /// `‖g‖²` of one slice of parameter `index` of shape `[rows, _]`, in f64.
    pub fn squared_norm_of(&self, index: usize, axis: Axis, range: Range<usize>, rows: usize) -> f64 {
        let square = |data: &[f32]| data.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        match self.block(index, axis, range.clone()) {
            None => 0.0,
            Some(GradientBlock::Rows(table)) => square(&table.data),
            Some(GradientBlock::Dense { data, stride }) => match axis {
                Axis::Rows => square(&data[..range.len() * stride]),
                Axis::Cols => (0..rows).map(|row| square(&data[row * stride..][..range.len()])).sum(),
            },
        }
    }

    /// `‖g‖²` over everything active, in f64.
    pub fn squared_norm(&self, engine: &Engine) -> f64 {
        let norm = |slot: &Slot| match slot {
            Slot::Dense(gradient) if gradient.written => engine.kernels.squared_norm(gradient.data.data()),
            Slot::Dense(_) => 0.0,
            Slot::Rows(table) => engine.kernels.squared_norm(&table.data),
        };
        self.slots.iter().flatten().map(norm).sum()
    }

    /// The whole gradient of parameter `index` as a dense `[rows, cols]`, zeros where it is frozen: for tests.
    pub fn dense(&self, index: usize, rows: usize, cols: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * cols];
        match &self.slots[index] {
            None => {}
            Some(Slot::Rows(table)) => {
                for &row in &table.rows {
                    let row = row as usize;
                    out[row * cols..][..cols].copy_from_slice(table.row(row).unwrap_or_default());
                }
            }
            Some(Slot::Dense(gradient)) => {
                let by_rows = !matches!(gradient.slices, Slices::Cols(_));
                let active = runs(&gradient.slices, if by_rows { rows } else { cols }).into_iter().flatten();
                let data = gradient.data.data();
                for (place, i) in active.enumerate() {
                    if by_rows {
                        out[i * cols..][..cols].copy_from_slice(&data[place * cols..][..cols]);
                    } else {
                        (0..rows).for_each(|r| out[r * cols + i] = data[r * gradient.data.cols() + place]);
                    }
                }
            }
        }
        out
    }
}
