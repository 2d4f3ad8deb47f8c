//! `sketch`: with signs `z ∈ {±1}^out`, drawn once per site and batch, rows `Ê_R = ‖Σ_t (Σ_{r∈R} z_r δ_{t,r})·a_t‖²` and
//! columns `Ê_C = ‖Σ_t (Σ_r z_r δ_{t,r})·a_{t,C}‖²`.
//!
//! `a` `[T, in]`, `δ` `[T, out]`. `Σ_t (Σ_{r∈R} z_r δ_{t,r})·a_t = Σ_{r∈R} z_r·dW_r`, and `E[z zᵀ] = I`: the mean over z is
//! `‖dW_R‖²`, without dW. Biases, norms and embeddings: exact.
//!
//! Cost: `2·T·groups·in` FLOPs per site and batch, where `groups` are the row slices and, if there are column slices, one
//! more; and `O(T·out)` for the signed sums.
//!
//! Source: Hutchinson's estimator (1990) of `tr dW_R·dW_Rᵀ`.

use std::ops::Range;

use rgft_core::Axis;
use rgft_nn::{Engine, Pass, Tensor};

use super::look::Look;
use super::squared;

impl Look<'_> {
    pub(super) fn sketch(&mut self, engine: &Engine, site: usize, weight: usize, a: &Tensor, delta: &Tensor) {
        let whole = 0..delta.rows();
        self.sketch_parts(engine, site, weight, a, delta, std::slice::from_ref(&whole));
    }

    /// A sketch of each of some parts of the rows, with the same signs.
    pub(super) fn sketch_parts(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        a: &Tensor,
        delta: &Tensor,
        parts: &[Range<usize>],
    ) {
        let signs = self.signs(site, delta.cols());
        let mut groups = self.ownership.ranges(weight, Axis::Rows);
        let rows = groups.len();
        // The sketch of all rows is what column slices read.
        if self.ownership.along(weight, Axis::Cols).next().is_some() {
            groups.push(0..delta.cols());
        }
        let mut sums = engine.tensor(delta.rows(), groups.len());
        engine.kernels.signed_group_sums(delta.data(), &signs, &groups, sums.data_mut());
        let cols = a.cols();
        let mut sketch = engine.tensor(groups.len(), cols);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let (sums, a) = (sums.mat().rows_range(part.clone()), a.mat().rows_range(part.clone()));
            engine.product(site, Pass::Tracking, sums.t(), a, sketch.mat_mut(), false);
            let row = |i: usize| &sketch.data()[i * cols..][..cols];
            self.add(weight, Axis::Rows, |i, _| squared(row(i)));
            self.add(weight, Axis::Cols, |_, slice| squared(&row(rows)[slice.range.clone()]));
        }
    }
}
