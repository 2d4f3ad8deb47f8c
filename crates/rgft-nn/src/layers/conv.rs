//! A convolution of channels-last maps, without a bias: what follows is a norm, which has one.
//!
//! A hidden state `[N·H·W, C]` is the maps of N examples; `W` is `[out, kernel, kernel, in/groups]`. With `δ = ∂ℓ/∂y`,
//! rows `R` of `W` are columns of y: `dW_R = Σ_pixels δ_Rᵀ·patch`, one product over the gathered columns of `δ`. dx is
//! needed whole or not at all.
//!
//! Counted as the product of patches and weights that it is, `[N·H'·W', kernel²·in/groups]·[…, out/groups]` per group,
//! however the kernel goes about it; dx the same with its sums over what δ holds.

use rgft_core::{Extent, Slices};
use rgft_kernels::cpu::conv::ConvShape;

use super::{Context, Sinks};
use crate::adapter::Adapter;
use crate::needs::{Needs, runs};
use crate::probe::{Activation, Passed};
use crate::product::{Pass, Product};
use crate::tensor::Tensor;

/// A convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Its site.
    pub site: usize,
    /// Parameter index of `W`.
    pub weight: usize,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Rows, and columns, of a filter.
    pub kernel: usize,
    /// Pixels from one place of the filter to the next.
    pub stride: usize,
    /// Zeros around a map.
    pub padding: usize,
    /// Groups of channels that do not meet.
    pub groups: usize,
}

/// Examples, rows and columns of maps.
///
/// # Panics
/// If sequences enter: a model is built so that they do not.
pub(crate) fn maps(extent: &Extent) -> [usize; 3] {
    match *extent {
        Extent::Maps { examples, height, width } => [examples, height, width],
        Extent::Sequences(_) => panic!("this layer reads maps"),
    }
}

impl Conv {
    /// What is convolved when `extent` enters.
    pub fn shape(&self, extent: &Extent) -> ConvShape {
        let [examples, height, width] = maps(extent);
        ConvShape {
            examples,
            height,
            width,
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            groups: self.groups,
        }
    }

    /// The extent of what leaves it.
    pub fn extent(&self, entering: &Extent) -> Extent {
        let shape = self.shape(entering);
        let [height, width] = shape.places();
        Extent::Maps { examples: shape.examples, height, width }
    }

    fn needs<'a>(&self, cx: Context<'a>) -> &'a Needs {
        &cx.needs[self.site]
    }

    /// Whether backward will read the input.
    pub fn reads_input(&self, needs: &[Needs]) -> bool {
        needs[self.site].reads_some_input()
    }

    /// Its site, where its channels all meet: then an adapter may stand beside the weight.
    pub fn adaptable(&self) -> Option<usize> {
        (self.groups == 1).then_some(self.site)
    }

    /// The convolution with an adapter's `A`.
    fn reducing(&self, adapter: Adapter) -> Self {
        Self { weight: adapter.a, output: adapter.rank, ..self.clone() }
    }

    /// `x` `[N·H·W, in]` → `[N·H'·W', out]`.
    pub fn forward(&self, cx: Context, x: &[f32]) -> Tensor {
        let mut y = self.convolve(cx, x, Pass::Forward);
        if let Some(adapter) = self.needs(cx).adapter {
            let u = adapter.scale(self.reducing(adapter).convolve(cx, x, Pass::Forward));
            adapter.add_expanded(cx, self.site, &u, &mut y);
        }
        cx.engine.pass(self.site, Passed::Output(&y));
        y
    }

    fn convolve(&self, cx: Context, x: &[f32], pass: Pass) -> Tensor {
        let shape = self.shape(cx.extent);
        let mut y = cx.engine.tensor(shape.rows(), self.output);
        cx.engine.count(Product { pass, ..self.product(shape, Pass::Forward, self.output) });
        let weight = cx.parameters.data(self.weight);
        cx.engine.kernels.conv_forward(shape, x, weight, y.data_mut(), cx.engine.precision);
        y
    }

    /// Shows `δ` to the probe and accumulates dW; `x` is the input, where backward reads it.
    pub fn backward_parameters(&self, cx: Context, x: Option<&[f32]>, delta: &Tensor, sinks: &mut Sinks) {
        let (needs, shape) = (self.needs(cx), self.shape(cx.extent));
        let Some(x) = x else { return };
        if needs.observe {
            sinks.probe.see(cx.engine, self.site, Activation::Maps { x, shape }, delta);
        }
        match needs.adapter {
            _ if needs.dw.is_none() => {}
            Some(adapter) => {
                let reducing = self.reducing(adapter);
                let u = adapter.scale(reducing.convolve(cx, x, Pass::Dw));
                adapter.add_db(cx, self.site, delta, &u, sinks);
                let v = adapter.reduced_delta(cx, self.site, delta, Pass::Dw);
                reducing.add_dw(cx, x, &v, &Slices::All, sinks);
            }
            None => self.add_dw(cx, x, delta, &needs.dw, sinks),
        }
    }

    /// `dW_R (+)= Σ_pixels δ_Rᵀ·patch` into the gradient buffer.
    fn add_dw(&self, cx: Context, x: &[f32], delta: &Tensor, rows: &Slices, sinks: &mut Sinks) {
        let (shape, rows) = (self.shape(cx.extent), runs(rows, self.output));
        let (dw, written) = sinks.gradients.accumulate(self.weight);
        let wanted = rows.iter().map(ExactSizeIterator::len).sum();
        cx.engine.count(self.product(shape, Pass::Dw, wanted));
        let (delta, dw) = (delta.data(), dw.data_mut());
        cx.engine.kernels.conv_backward_weight(shape, x, delta, &rows, dw, written, cx.engine.precision);
    }

    /// dx `[N·H·W, in]`, added `onto` what is there; `None` where it is not needed.
    pub fn backward_input(&self, cx: Context, delta: &Tensor, onto: Option<Tensor>) -> Option<Tensor> {
        if self.needs(cx).dx.is_none() {
            return None;
        }
        let add = onto.is_some();
        let mut dx = onto.unwrap_or_else(|| cx.engine.tensor(cx.extent.rows(), self.input));
        self.write_dx(cx, delta, &mut dx, add);
        if let Some(adapter) = self.needs(cx).adapter {
            let v = adapter.reduced_delta(cx, self.site, delta, Pass::Dx);
            self.reducing(adapter).write_dx(cx, &v, &mut dx, true);
        }
        Some(dx)
    }

    fn write_dx(&self, cx: Context, delta: &Tensor, dx: &mut Tensor, add: bool) {
        let shape = self.shape(cx.extent);
        cx.engine.count(self.product(shape, Pass::Dx, self.output));
        let (weight, out) = (cx.parameters.data(self.weight), dx.data_mut());
        cx.engine.kernels.conv_backward_input(shape, weight, delta.data(), out, add, cx.engine.precision);
    }

    fn product(&self, shape: ConvShape, pass: Pass, outputs: usize) -> Product {
        let (pixels, patch) = (shape.rows(), shape.patch());
        let of_a_group = self.output / self.groups;
        let (batch, m, k, n) = match pass {
            Pass::Forward => (self.groups, pixels, patch, of_a_group),
            Pass::Dx => (self.groups, pixels, of_a_group, patch),
            _ => (1, outputs, pixels, patch),
        };
        Product { site: self.site, pass, batch, m, k, n }
    }

    /// The products of forward and backward when `extent` enters.
    pub fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        let (needs, shape) = (&needs[self.site], self.shape(extent));
        out.push(self.product(shape, Pass::Forward, self.output));
        if !needs.dx.is_none() {
            out.push(self.product(shape, Pass::Dx, self.output));
        }
        if let Some(adapter) = needs.adapter {
            return self.adapter_products(adapter, needs, shape, out);
        }
        match &needs.dw {
            Slices::Rows(ranges) if !ranges.is_empty() => {
                out.push(self.product(shape, Pass::Dw, ranges.len()));
            }
            Slices::All => out.push(self.product(shape, Pass::Dw, self.output)),
            _ => {}
        }
    }

    fn adapter_products(&self, adapter: Adapter, needs: &Needs, shape: ConvShape, out: &mut Vec<Product>) {
        let (reducing, rank, rows) = (self.reducing(adapter), adapter.rank, shape.rows());
        let product = |pass, m, k, n| Product { site: self.site, pass, batch: 1, m, k, n };
        let u = reducing.product(shape, Pass::Forward, rank);
        out.extend([u, product(Pass::Forward, rows, rank, self.output)]);
        if !needs.dx.is_none() {
            out.extend([product(Pass::Dx, rows, self.output, rank), reducing.product(shape, Pass::Dx, rank)]);
        }
        if !needs.dw.is_none() {
            let (db, v) = ((self.output, rows, rank), (rows, self.output, rank));
            out.extend([db, v].map(|(m, k, n)| product(Pass::Dw, m, k, n)));
            out.extend([Product { pass: Pass::Dw, ..u }, reducing.product(shape, Pass::Dw, rank)]);
        }
    }
}
