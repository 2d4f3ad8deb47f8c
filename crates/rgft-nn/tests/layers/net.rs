//! Random layers and plans for them.

use std::ops::Range;

use rgft_core::Slices;
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::layers::embedding::Table;
use rgft_nn::layers::linear::Linear;
use rgft_nn::layers::norm::Norm;
use rgft_nn::layers::rms_norm::RmsNorm;
use rgft_nn::models::SiteKind;
use rgft_nn::{Needs, Parameter, Parameters};

/// Tokens of each sequence in every packed batch.
pub const LENGTHS: [usize; 3] = [3, 1, 5];
/// Tokens of all sequences.
pub const TOKENS: usize = 9;
/// Where dropout is on at all.
pub const DROPOUT: f32 = 0.3;

/// `n` numbers in `[-1, 1]`, the same for the same seed.
pub fn numbers(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| hash(seed as u32, i as u32) as f32 / 2f32.powi(31) - 1.0).collect()
}

pub fn rows<const N: usize>(runs: [Range<usize>; N]) -> Slices {
    Slices::Rows(runs.into_iter().collect())
}

pub fn cols<const N: usize>(runs: [Range<usize>; N]) -> Slices {
    Slices::Cols(runs.into_iter().collect())
}

/// The bias of a linear map that has one.
pub fn bias(linear: &Linear) -> usize {
    linear.bias.unwrap()
}

/// Whether the scalar at `(row, col)` is in `slices`.
pub fn selects(slices: &Slices, row: usize, col: usize) -> bool {
    match slices {
        Slices::None => false,
        Slices::All => true,
        Slices::Rows(ranges) => ranges.contains(row),
        Slices::Cols(ranges) => ranges.contains(col),
    }
}

/// What is asked of a layer: which slices of its parameters, and which part of dx.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One entry per parameter.
    pub update: Vec<Slices>,
    pub below: Slices,
}

/// The slices of parameters that are updated together.
pub type Part = Vec<(usize, Slices)>;

/// The parameters and sites of the layer under test.
#[derive(Default)]
pub struct Net {
    pub parameters: Parameters,
    pub sites: Vec<SiteKind>,
    /// Gradients of embedding tables as whole matrices instead of looked-up rows.
    pub dense_tables: bool,
}

impl Net {
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> usize {
        let data = numbers(100 + self.parameters.len(), shape.iter().product());
        let name = format!("{}:{name}", self.parameters.len());
        self.parameters.push(Parameter { name, shape: shape.to_vec(), data, ..Parameter::default() })
    }

    fn site(&mut self, kind: SiteKind) -> usize {
        self.sites.push(kind);
        self.sites.len() - 1
    }

    pub fn linear(&mut self, input: usize, output: usize) -> Linear {
        let (weight, bias) =
            (self.parameter("weight", &[output, input]), Some(self.parameter("bias", &[output])));
        Linear { site: self.site(SiteKind::Linear { weight, bias }), weight, bias, input, output }
    }

    pub fn linear_without_bias(&mut self, input: usize, output: usize) -> Linear {
        let (weight, bias) = (self.parameter("weight", &[output, input]), None);
        Linear { site: self.site(SiteKind::Linear { weight, bias }), weight, bias, input, output }
    }

    /// With an ε so large that it cannot be forgotten.
    pub fn rms_norm(&mut self, width: usize) -> RmsNorm {
        let weight = self.parameter("gamma", &[width]);
        RmsNorm { site: self.site(SiteKind::Norm { weight, bias: None }), weight, width, epsilon: 0.05 }
    }

    /// With an ε so large that it cannot be forgotten.
    pub fn norm(&mut self, width: usize, dropout: f32) -> Norm {
        let (weight, bias) = (self.parameter("gamma", &[width]), self.parameter("beta", &[width]));
        let site = self.site(SiteKind::Norm { weight, bias: Some(bias) });
        Norm { site, weight, bias, width, epsilon: 0.05, dropout }
    }

    pub fn table(&mut self, rows: usize, width: usize) -> Table {
        let weight = self.parameter("table", &[rows, width]);
        Table { site: self.site(SiteKind::Embedding { weight }), weight }
    }

    /// Which parameters' gradients hold looked-up rows only.
    pub fn tables(&self) -> Vec<bool> {
        let is_table = |weight| self.sites.contains(&SiteKind::Embedding { weight });
        (0..self.parameters.len()).map(|i| is_table(i) && !self.dense_tables).collect()
    }

    /// Each site's dw and db as `update` says.
    pub fn needs(&self, update: &[Slices]) -> Vec<Needs> {
        let needs = self.sites.iter().map(|site| Needs {
            dw: update[site.weight()].clone(),
            db: site.bias().map_or(Slices::None, |bias| update[bias].clone()),
            ..Needs::default()
        });
        needs.collect()
    }

    /// The update of these parts alone.
    pub fn update<'a>(&self, parts: impl IntoIterator<Item = &'a Part>) -> Vec<Slices> {
        let mut update = vec![Slices::None; self.parameters.len()];
        for (i, slices) in parts.into_iter().flatten() {
            let (rows, cols) = (self.parameters[*i].rows(), self.parameters[*i].cols());
            update[*i] = std::mem::take(&mut update[*i]).union(slices, rows, cols).unwrap();
        }
        update
    }

    /// The updates of every subset of `parts`, with nothing and everything among them.
    pub fn subsets(&self, parts: &[Part]) -> Vec<Vec<Slices>> {
        let chosen = |set: usize| parts.iter().enumerate().filter(move |(i, _)| set >> i & 1 == 1);
        (0..1 << parts.len()).map(|set| self.update(chosen(set).map(|(_, part)| part))).collect()
    }

    /// What a block is asked for: every subset of its components, each parameter alone, and `odd` updates; with and
    /// without something below.
    pub fn block_plans(&self, components: &[Part], odd: &[Part]) -> Vec<Plan> {
        let alone = (0..self.parameters.len()).map(|i| vec![(i, Slices::All)]);
        let others = alone.chain(odd.iter().cloned()).map(|part| self.update([&part]));
        let updates: Vec<_> = self.subsets(components).into_iter().chain(others).collect();
        let with =
            |below: Slices| updates.iter().map(move |u| Plan { update: u.clone(), below: below.clone() });
        with(Slices::None).chain(with(Slices::All)).collect()
    }
}
