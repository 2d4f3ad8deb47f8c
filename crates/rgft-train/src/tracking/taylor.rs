//! `taylor`: `Ê = |⟨θ, ∇_θ ℓ⟩|` over all slices of a component: by how much the loss would change, to first order, if the
//! component were set to zero.
//!
//! With `h_R = a·W_Rᵀ + b_R` the output of rows R, `⟨W_R, dW_R⟩ + ⟨b_R, db_R⟩ = Σ_t δ_{t,R}·h_{t,R}`; `a` `[T, in]`, `δ`
//! `[T, out]`, `dW = δᵀ·a` `[out, in]`. The sum over slices, tokens and examples comes before the modulus; the mean over
//! batches after it.
//!
//! Cost: that of dW, `2·T·out·in` FLOPs per site and batch, and `2·out·in` for the products with the weights. The
//! outputs `h` are not there in backward: forward does not save them, and columns' shares of an output are never
//! computed at all. A sketch `⟨Σ_r z_r W_r, Σ_r z_r dW_r⟩` would be as cheap as `sketch`, and unbiased before the modulus;
//! its spread, `‖W_R‖·‖dW_R‖`, exceeds the number itself by the inverse of their cosine, so it would show only noise.
//!
//! Source: Molchanov et al., *Importance estimation for neural network pruning* (2019), eq. 8, whose square root this is
//! for a group; *Pruning convolutional neural networks for resource efficient inference* (2017) for outputs.

use rgft_core::Axis;

use super::dot;
use super::look::held;
use super::ownership::Owned;

/// `⟨θ, dθ⟩` of the slice, for the gradient of rows `first..` of a parameter `[_, cols]`.
pub(super) fn of_slice(slice: &Owned, cols: usize, weight: &[f32], gradient: &[f32], first: usize) -> f64 {
    let weight = &weight[first * cols..][..gradient.len()];
    match slice.axis {
        Axis::Rows => {
            let rows = held(&slice.range, first, gradient.len() / cols);
            let scalars = rows.start * cols..rows.end * cols;
            dot(&weight[scalars.clone()], &gradient[scalars])
        }
        Axis::Cols => {
            let rows = weight.chunks_exact(cols).zip(gradient.chunks_exact(cols));
            rows.map(|(w, d)| dot(&w[slice.range.clone()], &d[slice.range.clone()])).sum()
        }
    }
}
