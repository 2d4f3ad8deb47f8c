//! Low-rank adapters: beside a linear map's frozen `W` `[out, in]` stands `s·B·A`, with `A` `[rank, in]` and `B`
//! `[out, rank]`.
//!
//! ```text
//! y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ
//! u = s·x·Aᵀ       v = s·δ·B       dB = δᵀ·u       dA = vᵀ·x       dx = δ·W + v·A
//! ```
//!
//! No weight gradient of W is computed, and nothing saved for it but the input that dA reads: in backward u is computed anew,
//! and v once for dA and once for dx. `A` starts at random and `B` at zero, so that a run begins with the model as it is. When
//! it is over, [`Model::merge_adapters`] adds `s·B·A` to W.
//!
//! Source: Hu et al., *LoRA: low-rank adaptation of large language models* (2022).

use crate::layers::linear::Linear;
use crate::models::Model;
use crate::parameters::{Parameter, Parameters};
use crate::weights::normal;

/// A linear map's adapter.
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
}

impl Model {
    /// Puts an adapter of `rank` beside each linear map that takes one; returns how many those are.
    pub fn add_adapters(&mut self, rank: usize, scale: f32, seed: u64) -> usize {
        let maps: Vec<Linear> =
            self.blocks.iter().flat_map(|level| level.block.adaptable()).cloned().collect();
        for (stream, map) in maps.iter().enumerate() {
            let path = self.sites[map.site].name.clone();
            // The variance of PEFT's A, which is uniform up to 1/√in.
            let deviation = 1.0 / (3.0 * map.input as f32).sqrt();
            let start = normal(seed ^ 0x6c6f_7261, stream as u64, rank * map.input, deviation);
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
            let a = add("lora_A", [rank, map.input], start);
            let b = add("lora_B", [map.output, rank], vec![0.0; map.output * rank]);
            self.adapters.insert(map.weight, Adapter { a, b, rank, scale });
        }
        maps.len()
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
