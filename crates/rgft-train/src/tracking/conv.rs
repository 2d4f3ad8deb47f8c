//! Signals of convolutions: a site's input is the patches of its maps, which nobody writes out.
//!
//! With `patch_t` the patch of pixel t, `dW_R = Σ_t δ_{t,R}ᵀ·patch_t`:
//! * `sketch`: signed group sums in δ's place make dW of one output channel per group, `Σ_t (Σ_{r∈R} z_r δ_{t,r})·patch_t`;
//!   `fisher`: the same for each example's maps.
//! * `gram`: `Σ_t ‖δ_{t,R}‖²‖patch_t‖²`, the patches' norms being sums of the pixels' over the filter's window.
//! * `exact`, `taylor`: dW itself.
//!
//! Where channels are in groups (depthwise too), dW is as cheap as a sketch of it, so it is exact.

use rgft_core::{Axis, Signal};
use rgft_kernels::cpu::conv::ConvShape;
use rgft_nn::{Engine, Pass, Product, Tensor};

use super::look::Look;
use super::{reads_dw, squared};

/// Maps `[examples, height, width, in]`, and how a filter slides over them.
type Maps<'a> = (ConvShape, &'a [f32]);

impl Look<'_> {
    /// `delta` `[pixels, out]`.
    pub(super) fn conv(&mut self, engine: &Engine, site: usize, weight: usize, maps: Maps, delta: &Tensor) {
        let parts = if self.signal == Signal::Fisher { maps.0.examples } else { 1 };
        match self.signal {
            Signal::Gram if maps.0.groups == 1 => self.gram_conv(engine, weight, maps, delta),
            signal if reads_dw(signal) => self.exact_conv(engine, site, weight, maps, delta, parts),
            _ if maps.0.groups > 1 => self.exact_conv(engine, site, weight, maps, delta, parts),
            _ => self.sketch_conv(engine, site, weight, maps, delta, parts),
        }
    }

    /// dW of each of `parts` equal parts of the examples, for `delta`, whose columns are the shape's outputs.
    fn conv_gradients(
        engine: &Engine,
        site: usize,
        (shape, x): Maps,
        delta: &Tensor,
        parts: usize,
        mut each: impl FnMut(&Tensor),
    ) {
        let (n, patch) = (shape.output, shape.patch());
        let shape = ConvShape { examples: shape.examples / parts, ..shape };
        let mut dw = engine.tensor(n, patch);
        let rows = 0..n;
        let rows = std::slice::from_ref(&rows);
        let maps = x.chunks_exact(x.len() / parts).zip(delta.data().chunks_exact(delta.data().len() / parts));
        for (x, delta) in maps {
            engine.count(Product { site, pass: Pass::Tracking, batch: 1, m: n, k: shape.rows(), n: patch });
            engine.kernels.conv_backward_weight(
                shape,
                x,
                delta,
                rows,
                dw.data_mut(),
                false,
                engine.precision,
            );
            each(&dw);
        }
    }

    fn exact_conv(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        maps: Maps,
        delta: &Tensor,
        parts: usize,
    ) {
        Self::conv_gradients(engine, site, maps, delta, parts, |dw| self.gradient(weight, dw.data(), 0));
    }

    fn sketch_conv(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        (shape, x): Maps,
        delta: &Tensor,
        parts: usize,
    ) {
        let groups = self.ownership.ranges(weight, Axis::Rows);
        if groups.is_empty() {
            return;
        }
        let signs = self.signs(site, delta.cols());
        let mut sums = engine.tensor(delta.rows(), groups.len());
        engine.kernels.signed_group_sums(delta.data(), &signs, &groups, sums.data_mut());
        let narrow = ConvShape { output: groups.len(), ..shape };
        Self::conv_gradients(engine, site, (narrow, x), &sums, parts, |sketch| {
            let patch = sketch.cols();
            self.add(weight, Axis::Rows, |i, _| squared(&sketch.data()[i * patch..][..patch]));
        });
    }

    fn gram_conv(&mut self, engine: &Engine, weight: usize, (shape, x): Maps, delta: &Tensor) {
        let groups = self.ownership.ranges(weight, Axis::Rows);
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
        self.add(weight, Axis::Rows, |i, _| {
            let part = |t: usize| f64::from(parts.data()[t * n + i]);
            norms.iter().enumerate().map(|(t, norm)| f64::from(*norm) * part(t)).sum()
        });
    }
}
