//! A layer in f64, every scalar of which can be moved: parameters, input, and each site's output.

use std::cell::RefCell;

use rgft_kernels::reference;
use rgft_nn::Engine;
use rgft_nn::layers::linear::Linear;
use rgft_nn::layers::norm::Norm;

use super::check::Layer;
use super::net::{Net, numbers};

/// What passes a site: its input and, as long as it is not moved, its output.
#[derive(Clone, Default)]
struct Passage {
    input: Vec<f64>,
    output: Vec<f64>,
}

/// One evaluation of the layer.
pub struct Truth<'a> {
    engine: &'a Engine,
    parameters: Vec<Vec<f64>>,
    /// What is added to each site's output; nothing where empty.
    shifts: Vec<Vec<f64>>,
    passages: RefCell<Vec<Passage>>,
}

impl Truth<'_> {
    pub fn parameter(&self, index: usize) -> &[f64] {
        &self.parameters[index]
    }

    /// Dropout's factor on element `i` at `place`: the engine's own masks.
    pub fn keep(&self, place: usize, probability: f32) -> impl Fn(usize) -> f64 + use<> {
        let dropout = self.engine.dropout(place, probability);
        move |i| dropout.map_or(1.0, |dropout| dropout.factor(i).into())
    }

    pub fn drop(&self, place: usize, probability: f32, x: &[f64]) -> Vec<f64> {
        let keep = self.keep(place, probability);
        x.iter().enumerate().map(|(i, x)| x * keep(i)).collect()
    }

    /// What is to be added to element `i` of a site's output: for layers that read it before the output is complete.
    pub fn shift(&self, site: usize, i: usize) -> f64 {
        self.shifts[site].get(i).copied().unwrap_or(0.0)
    }

    /// Every site's output goes through here.
    pub fn site(&self, site: usize, input: Vec<f64>, mut output: Vec<f64>) -> Vec<f64> {
        self.passages.borrow_mut()[site] = Passage { input, output: output.clone() };
        output.iter_mut().zip(&self.shifts[site]).for_each(|(y, shift)| *y += shift);
        output
    }

    pub fn linear(&self, linear: &Linear, x: &[f64]) -> Vec<f64> {
        let bias = linear.bias.map_or(vec![0.0; linear.output], |bias| self.parameter(bias).to_vec());
        let y = reference::linear(x, self.parameter(linear.weight), &bias);
        self.site(linear.site, x.to_vec(), y)
    }

    /// `LN(residual + dropout(branch))`; the site's input is the normalised one.
    pub fn norm(&self, norm: &Norm, branch: &[f64], residual: Option<&[f64]>) -> Vec<f64> {
        let mut z = self.drop(norm.site, norm.dropout, branch);
        z.iter_mut().zip(residual.into_iter().flatten()).for_each(|(z, r)| *z += r);
        let scaled =
            |weight: &[f64], bias: &[f64]| reference::layer_norm(&z, weight, bias, norm.epsilon.into());
        let normalised = scaled(&vec![1.0; norm.width], &vec![0.0; norm.width]);
        self.site(norm.site, normalised, scaled(self.parameter(norm.weight), self.parameter(norm.bias)))
    }
}

/// What the layer must compute.
pub struct Expected {
    /// The loss's coefficients: dy.
    pub c: Vec<f32>,
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    /// By parameter.
    pub gradients: Vec<Vec<f64>>,
    /// By site: its input and `δ`.
    pub sites: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Expected {
    pub fn of(net: &Net, layer: &dyn Layer, engine: &Engine, x: &[f32]) -> Self {
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| v.into()).collect() };
        let x = wide(x);
        let parameters: Vec<_> = net.parameters.iter().map(|parameter| wide(&parameter.data)).collect();
        let still = vec![Vec::new(); net.sites.len()];
        let evaluate = |x: &[f64], parameters: &[Vec<f64>], shifts: &[Vec<f64>]| {
            let passages = RefCell::new(vec![Passage::default(); net.sites.len()]);
            let truth = Truth { engine, parameters: parameters.to_vec(), shifts: shifts.to_vec(), passages };
            (layer.truth(&truth, x), truth.passages.into_inner())
        };
        let (y, passages) = evaluate(&x, &parameters, &still);
        let c = numbers(1, y.len());
        let loss = |x: &[f64], parameters: &[Vec<f64>], shifts: &[Vec<f64>]| -> f64 {
            evaluate(x, parameters, shifts).0.iter().zip(&c).map(|(y, &c)| y * f64::from(c)).sum()
        };
        let gradients = (0..parameters.len())
            .map(|p| gradient(&parameters[p], |moved| loss(&x, &replaced(&parameters, p, moved), &still)));
        let sites = passages.into_iter().enumerate().map(|(s, Passage { input, output })| {
            let unmoved = vec![0.0; output.len()];
            (input, gradient(&unmoved, |moved| loss(&x, &parameters, &replaced(&still, s, moved))))
        });
        Self {
            dx: gradient(&x, |moved| loss(moved, &parameters, &still)),
            gradients: gradients.collect(),
            sites: sites.collect(),
            y,
            c: c.clone(),
        }
    }
}

fn replaced(all: &[Vec<f64>], index: usize, one: &[f64]) -> Vec<Vec<f64>> {
    let mut all = all.to_vec();
    all[index] = one.to_vec();
    all
}

fn gradient(at: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    (0..at.len()).map(|i| reference::difference(at, i, &f)).collect()
}
