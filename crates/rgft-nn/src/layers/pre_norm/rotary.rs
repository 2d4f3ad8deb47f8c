//! Rotary position embedding of queries and keys (see `rgft_kernels::cpu::rope`): its tables, which grow as longer
//! sequences come.

use std::sync::{Arc, PoisonError, RwLock};

use rgft_kernels::cpu::rope::Rotation;

use crate::layers::Context;
use crate::tensor::Tensor;

/// Rows that tables have at least.
const LEAST: usize = 64;

/// `m·cos` and `m·sin` of `position · f_i`, `[positions, planes]` each.
#[derive(Debug, Default)]
pub struct Tables {
    /// `m·cos`.
    pub cos: Vec<f32>,
    /// `m·sin`.
    pub sin: Vec<f32>,
}

/// The frequencies of a model; all its layers share one.
#[derive(Debug)]
pub struct Rotary {
    frequencies: Vec<f32>,
    magnitude: f32,
    tables: RwLock<Arc<Tables>>,
}

impl Rotary {
    /// `frequencies` `[planes]` in radians per position; the first `2 · planes` elements of each head turn. Cosine and
    /// sine are multiplied by `magnitude`.
    pub fn new(frequencies: Vec<f32>, magnitude: f32) -> Self {
        Self { frequencies, magnitude, tables: RwLock::default() }
    }

    /// Radians per position of each plane.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// Tables of at least this many positions.
    pub fn tables(&self, positions: usize) -> Arc<Tables> {
        let planes = self.frequencies.len();
        let is_enough = |tables: &Tables| tables.cos.len() >= positions * planes;
        let current = Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner));
        if is_enough(&current) {
            return current;
        }
        let angles = || {
            let positions = 0..positions.next_power_of_two().max(LEAST);
            // Rounded to f32 as published implementations do: at position 10,000 that moves the angle by 1e-3.
            positions.flat_map(|t| self.frequencies.iter().map(move |f| f64::from(t as f32 * f)))
        };
        let magnitude = f64::from(self.magnitude);
        let grown = Arc::new(Tables {
            cos: angles().map(|angle| (angle.cos() * magnitude) as f32).collect(),
            sin: angles().map(|angle| (angle.sin() * magnitude) as f32).collect(),
        });
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&grown);
        grown
    }

    /// Turns the heads of `x` `[tokens, heads · width]` by their tokens' `positions`; where `back`, the other way round.
    pub(super) fn turn(&self, cx: Context, x: &mut Tensor, width: usize, positions: &[u32], back: bool) {
        let tables = self.tables(positions.iter().max().map_or(0, |position| *position as usize + 1));
        let rotation = Rotation { cos: &tables.cos, sin: &tables.sin, planes: self.frequencies.len() };
        let cols = x.cols();
        cx.engine.kernels.rope(rotation, x.data_mut(), cols, width, positions, back);
    }
}
