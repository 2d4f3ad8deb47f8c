//! `gram`: rows `Ê_R = Σ_t ‖δ_{t,R}‖²·‖a_t‖²`, columns `Ê_C = Σ_t ‖δ_t‖²·‖a_{t,C}‖²`.
//!
//! `a` `[T, in]`, `δ` `[T, out]`. As `‖dW_R‖² = Σ_{t,u} (δ_{t,R}·δ_{u,R})·(a_t·a_u)`, this is the diagonal of the Gram form:
//! the energy that would remain if rows' gradients were orthogonal. For a convolution `a_t` is the patch of pixel t.
//! Biases, norms and embeddings: exact.
//!
//! Cost: `O(T·(in + out))` per site and batch; no product.
//!
//! Source: the norm trick of Goodfellow, *Efficient per-example gradient computations* (2015), per row.

use rgft_core::Axis;
use rgft_nn::{Engine, Tensor};

use super::look::Look;

impl Look<'_> {
    pub(super) fn gram(&mut self, engine: &Engine, weight: usize, a: &Tensor, delta: &Tensor) {
        for axis in [Axis::Rows, Axis::Cols] {
            let ranges = self.ownership.ranges(weight, axis);
            // What is cut into groups, and what enters whole.
            let (cut, whole) = if axis == Axis::Rows { (delta, a) } else { (a, delta) };
            let mut parts = vec![0.0; cut.rows() * ranges.len()];
            let mut norms = vec![0.0; whole.rows()];
            engine.kernels.squared_group_norms(cut.data(), cut.cols(), &ranges, &mut parts);
            let all = 0..whole.cols();
            engine.kernels.squared_group_norms(whole.data(), whole.cols(), &[all], &mut norms);
            let n = ranges.len();
            self.add(weight, axis, |i, _| {
                norms.iter().enumerate().map(|(t, norm)| f64::from(*norm) * f64::from(parts[t * n + i])).sum()
            });
        }
    }
}
