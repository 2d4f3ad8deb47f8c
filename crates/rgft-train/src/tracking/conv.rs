//! Signals of convolutions: a site's input is the patches of its maps, which nobody writes out.
//!
//! With `patch_t` the patch of pixel t, `dW_R = Σ_t δ_{t,R}ᵀ·patch_t`:
//! * `sketch`: signed group sums in δ's place make dW of one output channel per group, `Σ_t (Σ_{r∈R} z_r δ_{t,r})·patch_t`.
//! * `gram`: `Σ_t ‖δ_{t,R}‖²‖patch_t‖²`, the patches' norms being sums of the pixels' over the filter's window.
//! * `exact`: dW itself.
//!
//! Where channels are in groups (depthwise too), dW is as cheap as a sketch of it, so it is always exact.

use rgft_core::{Axis, Signal};
use rgft_kernels::cpu::conv::ConvShape;
use rgft_nn::{Engine, Pass, Product, Tensor};

use super::{Tracker, squared};

impl Tracker {
    /// `x` `[examples, height, width, in]`, `delta` `[pixels, out]`.
    pub(super) fn conv(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        (shape, x): (ConvShape, &[f32]),
        delta: &Tensor,
    ) {
        match self.signal {
            _ if shape.groups > 1 => self.exact_conv(engine, site, weight, (shape, x), delta),
            Signal::Exact => self.exact_conv(engine, site, weight, (shape, x), delta),
            Signal::Gram => self.gram_conv(engine, weight, (shape, x), delta),
            _ => self.sketch_conv(engine, site, weight, (shape, x), delta),
        }
    }

    /// dW for `delta`, whose columns are the shape's outputs.
    fn weight_gradient(
        engine: &Engine,
        site: usize,
        (shape, x): (ConvShape, &[f32]),
        delta: &Tensor,
    ) -> Tensor {
        let (n, patch) = (shape.output, shape.patch());
        let mut dw = engine.tensor(n, patch);
        engine.count(Product { site, pass: Pass::Tracking, batch: 1, m: n, k: shape.rows(), n: patch });
        let (rows, out) = (0..n, dw.data_mut());
        let rows = std::slice::from_ref(&rows);
        engine.kernels.conv_backward_weight(shape, x, delta.data(), rows, out, false, engine.precision);
        dw
    }

    fn exact_conv(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        maps: (ConvShape, &[f32]),
        delta: &Tensor,
    ) {
        let dw = Self::weight_gradient(engine, site, maps, delta);
        let (ranges, patch) = (self.ranges(weight, Axis::Rows), dw.cols());
        let energy = |i: usize| squared(&dw.data()[ranges[i].start * patch..ranges[i].end * patch]);
        self.add(weight, Axis::Rows, energy);
    }

    fn sketch_conv(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        (shape, x): (ConvShape, &[f32]),
        delta: &Tensor,
    ) {
        let groups = self.ranges(weight, Axis::Rows);
        if groups.is_empty() {
            return;
        }
        let signs = self.signs(site, delta.cols());
        let mut sums = engine.tensor(delta.rows(), groups.len());
        engine.kernels.signed_group_sums(delta.data(), &signs, &groups, sums.data_mut());
        let narrow = ConvShape { output: groups.len(), ..shape };
        let sketch = Self::weight_gradient(engine, site, (narrow, x), &sums);
        let patch = sketch.cols();
        self.add(weight, Axis::Rows, |i| squared(&sketch.data()[i * patch..][..patch]));
    }

    fn gram_conv(&mut self, engine: &Engine, weight: usize, (shape, x): (ConvShape, &[f32]), delta: &Tensor) {
        let groups = self.ranges(weight, Axis::Rows);
        let mut parts = engine.tensor(delta.rows(), groups.len());
        engine.kernels.squared_group_norms(delta.data(), delta.cols(), &groups, parts.data_mut());
        let mut pixels = engine.tensor(x.len() / shape.input, 1);
        let all = 0..shape.input;
        engine.kernels.squared_group_norms(x, shape.input, &[all], pixels.data_mut());
        // A filter of ones sums the pixels of each patch.
        let ones = vec![1.0; shape.kernel * shape.kernel];
        let window = ConvShape { input: 1, output: 1, ..shape };
        let mut patches = engine.tensor(shape.rows(), 1);
        let precision = rgft_kernels::Precision::F32;
        engine.kernels.conv_forward(window, pixels.data(), &ones, patches.data_mut(), precision);
        let (norms, n) = (patches.data(), groups.len());
        self.add(weight, Axis::Rows, |i| {
            let part = |t: usize| f64::from(parts.data()[t * n + i]);
            norms.iter().enumerate().map(|(t, norm)| f64::from(*norm) * part(t)).sum()
        });
    }
}

#[cfg(test)]
mod tests;
