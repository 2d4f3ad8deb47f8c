//! `exact`: `Ê_R = ‖dW_R‖²`, from dW itself; columns `‖dW_{·,C}‖²`.
//!
//! `a` `[T, in]`, `δ` `[T, out]`, `dW = δᵀ·a` `[out, in]`, R rows and C columns of it. A bias's gradient is `Σ_t δ_t`, a
//! norm's `Σ_t δ_t·ẑ_t`, an embedding's row the sum of the `δ` of the tokens that looked it up.
//!
//! Cost: that of dW, `2·T·out·in` FLOPs per site and batch; free only where dW is computed anyway.
//!
//! Source: the squared gradient norm by block, as in Auto-RGN (Lee et al., *Surgical fine-tuning improves adaptation to
//! distribution shifts*, 2023), which divides it by the weights.

use rgft_core::Axis;

use super::look::held;
use super::ownership::Owned;
use super::squared;

/// Squares of the slice's scalars in the gradient of rows `first..` of a parameter `[_, cols]`.
pub(super) fn of_slice(slice: &Owned, cols: usize, gradient: &[f32], first: usize) -> f64 {
    match slice.axis {
        Axis::Rows => {
            let rows = held(&slice.range, first, gradient.len() / cols);
            squared(&gradient[rows.start * cols..rows.end * cols])
        }
        Axis::Cols => gradient.chunks_exact(cols).map(|row| squared(&row[slice.range.clone()])).sum(),
    }
}
