//! Low-rank adapters: beside the frozen `W` `[out, in]` of a linear map or a convolution stands `s·B·A`, with `A`
//! `[rank, in]` and `B` `[out, rank]`. In a convolution `in` is a patch: A convolves, and B mixes its channels.
//!
//! ```text
//! y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ
//! u = s·x·Aᵀ       v = s·δ·B       dB = δᵀ·u       dA = vᵀ·x       dx = δ·W + v·A
//! ```
//!
//! No weight gradient of W is computed, and nothing saved for it but the input that dA reads: in backward u is computed anew,
//! and v once for dA and once for dx. Where a recurrent layer applies W step by step, `W + s·B·A` is made once per pass
//! instead. `A` starts at random and `B` at zero, so that a run begins with the model as it is. When it is over,
//! [`Model::merge_adapters`] adds `s·B·A` to W.
//!
//! Source: Hu et al., *LoRA: low-rank adaptation of large language models* (2022).

use rgft_kernels::Mat;

use crate::layers::{Context, Sinks};
use crate::models::Model;
use crate::parameters::{Parameter, Parameters};
use crate::product::{Pass, Product};
use crate::tensor::Tensor;
use crate::weights::normal;

/// The adapter of one weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// Parameter index of `A`.
    pub a: usize,
    /// Parameter index of `B`.
    pub b: usize,
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// `s`.
    pub scale: f32,
}

impl Adapter {
    /// `W + s·B·A`.
    fn merged(&self, weight: &Parameter, parameters: &Parameters) -> Vec<f32> {
        let (a, b, cols) = (parameters.data(self.a), parameters.data(self.b), weight.cols());
        let mut merged = weight.data.clone();
        for (row, b) in merged.chunks_exact_mut(cols).zip(b.chunks_exact(self.rank)) {
            for (b, a) in b.iter().zip(a.chunks_exact(cols)) {
                row.iter_mut().zip(a).for_each(|(w, a)| *w += self.scale * b * a);
            }
        }
        merged
    }

    /// `s·x`, in place.
    pub(crate) fn scale(&self, mut x: Tensor) -> Tensor {
        x.data_mut().iter_mut().for_each(|x| *x *= self.scale);
        x
    }

    /// `y += u·Bᵀ` at `site`.
    pub(crate) fn add_expanded(&self, cx: Context, site: usize, u: &Tensor, y: &mut Tensor) {
        let b = Mat::new(cx.parameters.data(self.b), y.cols(), self.rank);
        cx.engine.product(site, Pass::Forward, u.mat(), b.t(), y.mat_mut(), true);
    }

    /// `v = s·δ·B` `[rows, rank]` at `site`.
    pub(crate) fn reduced_delta(&self, cx: Context, site: usize, delta: &Tensor, pass: Pass) -> Tensor {
        let mut v = cx.engine.tensor(delta.rows(), self.rank);
        let b = Mat::new(cx.parameters.data(self.b), delta.cols(), self.rank);
        cx.engine.product(site, pass, delta.mat(), b, v.mat_mut(), false);
        self.scale(v)
    }

    /// `dB (+)= δᵀ·u` at `site`.
    pub(crate) fn add_db(&self, cx: Context, site: usize, delta: &Tensor, u: &Tensor, sinks: &mut Sinks) {
        let (db, written) = sinks.gradients.accumulate(self.b);
        cx.engine.product(site, Pass::Dw, delta.mat().t(), u.mat(), db.mat_mut(), written);
    }

    /// `W + s·B·A` `[out, in]`, `W` with `input` columns, at `site`.
    pub(crate) fn beside(
        &self,
        cx: Context,
        site: usize,
        weight: &[f32],
        input: usize,
        pass: Pass,
    ) -> Tensor {
        let mut a = cx.engine.tensor(self.rank, input);
        a.data_mut().copy_from_slice(cx.parameters.data(self.a));
        let a = self.scale(a);
        let mut sum = cx.engine.tensor(weight.len() / input, input);
        sum.data_mut().copy_from_slice(weight);
        let b = Mat::new(cx.parameters.data(self.b), sum.rows(), self.rank);
        cx.engine.product(site, pass, b, a.mat(), sum.mat_mut(), true);
        sum
    }

    /// The product of [`Adapter::beside`].
    pub(crate) fn product_beside(&self, site: usize, output: usize, input: usize, pass: Pass) -> Product {
        Product { site, pass, batch: 1, m: output, k: self.rank, n: input }
    }
}

impl Model {
    /// Sites whose weight takes an adapter, with the level that they belong to.
    pub(crate) fn adaptable(&self) -> impl Iterator<Item = (usize, usize)> {
        let blocks = self.blocks.iter().map(|level| level.block.adaptable());
        let levels = std::iter::once(self.stem.block.adaptable()).chain(blocks).enumerate();
        levels.flat_map(|(level, sites)| sites.into_iter().map(move |site| (level, site)))
    }

    /// Puts an adapter of `rank` beside each weight that takes one; returns how many those are.
    pub fn add_adapters(&mut self, rank: usize, scale: f32, seed: u64) -> usize {
        let sites: Vec<usize> = self.adaptable().map(|(_, site)| site).collect();
        for (stream, &site) in sites.iter().enumerate() {
            let (path, weight) = (self.sites[site].name.clone(), self.sites[site].kind.weight());
            let (output, input) = (self.parameters[weight].rows(), self.parameters[weight].cols());
            // The variance of PEFT's A, which is uniform up to 1/√in.
            let deviation = 1.0 / (3.0 * input as f32).sqrt();
            let start = normal(seed ^ 0x6c6f_7261, stream as u64, rank * input, deviation);
            let mut add = |end: &str, shape: [usize; 2], data| {
                let name = format!("{path}.{end}.weight");
                self.parameters.push(Parameter {
                    name,
                    shape: shape.to_vec(),
                    data,
                    adapter: true,
                    ..Parameter::default()
                })
            };
            let a = add("lora_A", [rank, input], start);
            let b = add("lora_B", [output, rank], vec![0.0; output * rank]);
            self.adapters.insert(weight, Adapter { a, b, rank, scale });
        }
        sites.len()
    }

    /// Adds what the adapters have learnt to the weights that they stand beside, and takes them away.
    pub fn merge_adapters(&mut self) {
        for (weight, adapter) in std::mem::take(&mut self.adapters) {
            self.parameters[weight].data = adapter.merged(&self.parameters[weight], &self.parameters);
        }
        self.parameters.drop_adapters();
    }

    /// Parameter `weight` with its adapter in it; `None` where it has none.
    pub(crate) fn merged(&self, weight: usize) -> Option<Parameter> {
        let adapter = self.adapters.get(&weight)?;
        let parameter = &self.parameters[weight];
        Some(Parameter { data: adapter.merged(parameter, &self.parameters), ..parameter.clone() })
    }
}
