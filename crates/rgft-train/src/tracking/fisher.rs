//! `fisher`: `Ê = Σ_j ‖dθ⁽ʲ⁾‖²`, the squared gradients of single examples j, summed.
//!
//! `a` `[T, in]`, `δ` `[T, out]`, of which the rows `T_j` belong to example j: `dW⁽ʲ⁾ = Σ_{t∈T_j} δ_tᵀ·a_t`. `δ` is that of the
//! mean loss, so over a batch of n examples `n·Ê` estimates the trace of the empirical Fisher information. Unlike
//! `‖Σ_j dθ⁽ʲ⁾‖²` it does not shrink where examples disagree.
//!
//! Where an example has one row (behind pooling), `‖δ_{j,R}‖²·‖a_j‖²` is exact and cheap (`gram.rs`). Elsewhere each
//! example's dW is sketched (`sketch.rs`), all with the same signs: unbiased, since the mean is taken example by
//! example. Biases, norms and embeddings: exact.
//!
//! Where a batch norm uses the batch's statistics, `δ` of one example also holds what that example does to the others'
//! losses.
//!
//! Cost: that of `sketch`, `2·T·groups·in` FLOPs per site and batch, in one small product per example.
//!
//! Source: Kirkpatrick et al., *Overcoming catastrophic forgetting in neural networks* (2017); Theis et al., *Faster
//! gaze prediction with dense networks and Fisher pruning* (2018).

use rgft_nn::{Engine, Tensor};

use super::look::Look;

impl Look<'_> {
    /// `a`, `delta`: packed, example after example.
    pub(super) fn fisher(&mut self, engine: &Engine, site: usize, weight: usize, a: &Tensor, delta: &Tensor) {
        let parts = self.rows.among(delta.rows());
        if parts.iter().all(|part| part.len() <= 1) {
            self.gram(engine, weight, a, delta);
        } else {
            self.sketch_parts(engine, site, weight, a, delta, &parts);
        }
    }
}
