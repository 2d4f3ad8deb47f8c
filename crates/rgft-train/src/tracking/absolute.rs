//! `absolute`: `Ê_R = Σ |dW_R|`, from dW itself; columns `Σ |dW_{·,C}|`.
//!
//! `a` `[T, in]`, `δ` `[T, out]`, `dW = δᵀ·a` `[out, in]`. By as much, times the learning rate, a step by signs lowers the
//! loss to first order, as AdamW's first step is one.
//!
//! Cost: that of dW, `2·T·out·in` FLOPs per site and batch.
//!
//! Source: the importance of a tensor in GreenTrainer (Huang et al., *Towards green AI in fine-tuning large language models
//! via adaptive backpropagation*, 2024): the sum over its scalars of gradient times step.

use rgft_core::Axis;

use super::look::held;
use super::ownership::Owned;

/// Moduli of the slice's scalars in the gradient of rows `first..` of a parameter `[_, cols]`, summed.
pub(super) fn of_slice(slice: &Owned, cols: usize, gradient: &[f32], first: usize) -> f64 {
    match slice.axis {
        Axis::Rows => {
            let rows = held(&slice.range, first, gradient.len() / cols);
            moduli(&gradient[rows.start * cols..rows.end * cols])
        }
        Axis::Cols => gradient.chunks_exact(cols).map(|row| moduli(&row[slice.range.clone()])).sum(),
    }
}

fn moduli(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(x.abs())).sum()
}
