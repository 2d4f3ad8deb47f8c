//! The signal `covariance`, and the observer that it rests on, on a small net of every registered model.

use std::cell::RefCell;
use std::rc::Rc;

use rgft_core::{Axis, Signal, Slices};
use rgft_kernels::Precision;
use rgft_kernels::reference::images::for_each_product;
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Activation, Engine, Gradients, Observer, Passed, Probe, Tape, Tensor};

use super::nets::{Net, nets, one_by_one, put};

/// What enters each site, from the backward pass of one example: `(site, outputs, inputs)`, means over rows.
struct MeansOf<'a>(&'a Net, Vec<(usize, Vec<f64>, Vec<f64>)>);

impl Probe for MeansOf<'_> {
    fn see(&mut self, _: &Engine, site: usize, input: Activation, _: &Tensor) {
        let parameters = self.0.model.parameters();
        let data = |parameter: usize| &parameters[parameter].data;
        let mean = |x: &[f32], cols: usize| -> Vec<f64> {
            let n = (x.len() / cols) as f64;
            (0..cols)
                .map(|c| x.iter().skip(c).step_by(cols).map(|x| f64::from(*x)).sum::<f64>() / n)
                .collect()
        };
        let (outputs, inputs) = match (self.0.model.sites()[site].kind, input) {
            (SiteKind::Linear { weight, bias }, Activation::Dense(x)) => {
                let x = mean(x.data(), x.cols());
                let row = |(o, w): (usize, &[f32])| -> f64 {
                    let product: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
                    product + bias.map_or(0.0, |bias| f64::from(data(bias)[o]))
                };
                (data(weight).chunks_exact(x.len()).enumerate().map(row).collect(), x.clone())
            }
            (SiteKind::Norm { weight, bias }, Activation::Dense(z)) => {
                let z = mean(z.data(), z.cols());
                let y = |(i, z): (usize, &f64)| {
                    f64::from(data(weight)[i]) * z + bias.map_or(0.0, |bias| f64::from(data(bias)[i]))
                };
                (z.iter().enumerate().map(y).collect(), Vec::new())
            }
            (SiteKind::Embedding { weight }, Activation::Rows(ids)) => {
                let cols = parameters[weight].cols();
                let rows = ids.iter().flat_map(|&id| &data(weight)[id as usize * cols..][..cols]).copied();
                (mean(&rows.collect::<Vec<f32>>(), cols), Vec::new())
            }
            (SiteKind::Conv { weight, .. }, Activation::Maps { x, shape }) => {
                let mut z = vec![0.0; shape.output];
                for_each_product(shape, |o, i, w| {
                    z[o % shape.output] += f64::from(x[i]) * f64::from(data(weight)[w]) / shape.rows() as f64;
                });
                (z, Vec::new())
            }
            (kind, _) => panic!("{kind:?}"),
        };
        self.1.push((site, outputs, inputs));
    }
}

#[test]
fn covariance_is_the_alignment_of_outputs_with_the_output_residual() {
    for net in nets() {
        let engine = Engine::new(Precision::F32);
        let nothing = vec![Slices::None; net.model.parameters().len()];
        let needs = net.model.needs(&nothing, 0, true);
        // By example: A of each component, and R.
        let (mut outputs, mut residuals) = (vec![Vec::new(); net.components.len()], Vec::new());
        for (one, residual) in one_by_one(&net.inputs).iter().zip(&net.residual) {
            let mut means = MeansOf(&net, Vec::new());
            let mut columns = 0;
            let loss = |outputs: &mut Tensor| {
                columns = outputs.cols();
                put(outputs, residual)
            };
            net.model.forward_backward(&engine, one, &needs, &mut Gradients::default(), &mut means, loss);
            let rows = residual.len() / columns;
            let of_column =
                |c: usize| residual.iter().skip(c).step_by(columns).map(|r| f64::from(*r)).sum::<f64>();
            residuals.push((0..columns).map(|c| of_column(c) / rows as f64).collect::<Vec<f64>>());
            means.1.sort_by_key(|(site, ..)| *site);
            for (component, outputs) in net.components.iter().zip(&mut outputs) {
                let has_columns = component.slices.iter().any(|slice| slice.axis == Axis::Cols);
                let mut own = Vec::new();
                for (site, y, x) in &means.1 {
                    let kind = net.model.sites()[*site].kind;
                    let slices = component.slices.iter().filter(|slice| slice.parameter == kind.weight());
                    for slice in slices {
                        match (slice.axis, kind) {
                            (Axis::Cols, _) => own.extend_from_slice(&x[slice.range.clone()]),
                            (Axis::Rows, SiteKind::Embedding { .. }) => own.extend_from_slice(y),
                            // A batch norm is part of its convolution's group.
                            (Axis::Rows, SiteKind::Norm { .. }) if is_batch_norm(&net.model, *site) => {}
                            (Axis::Rows, _) if !has_columns => own.extend_from_slice(&y[slice.range.clone()]),
                            _ => {}
                        }
                    }
                }
                outputs.push(own);
            }
        }
        let norm = |x: &[Vec<f64>]| x.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
        let expected: Vec<f64> = outputs
            .iter()
            .map(|a| {
                let entry =
                    |i: usize, k: usize| a.iter().zip(&residuals).map(|(a, r)| a[i] * r[k]).sum::<f64>();
                let products: Vec<Vec<f64>> =
                    (0..a[0].len()).map(|i| (0..residuals[0].len()).map(|k| entry(i, k)).collect()).collect();
                norm(&products) / (norm(a) * norm(&residuals))
            })
            .collect();
        let found = net.energies(Signal::Covariance, 0, None);
        assert!(found.iter().all(|energy| *energy > 0.0 && *energy <= 1.0 + 1e-6), "{}: {found:?}", net.name);
        net.close(&found, &expected, 1e-3);
    }
}

fn is_batch_norm(model: &Model, site: usize) -> bool {
    let gamma = model.sites()[site].kind.weight();
    model.parameters().iter().any(|parameter| {
        parameter.name.ends_with("running_mean")
            && parameter.name.trim_end_matches("running_mean")
                == model.parameters()[gamma].name.trim_end_matches("weight")
    })
}

/// Counts what passes.
#[derive(Default)]
struct Count(Vec<usize>);

impl Observer for Count {
    fn pass(&mut self, _: &Engine, site: usize, _: Passed) {
        self.0.push(site);
    }
}

#[test]
fn an_observer_sees_each_site_once_and_changes_no_number() {
    for net in nets() {
        let engine = Engine::new(Precision::F32);
        let forward = || {
            let outputs =
                net.model.forward(&engine, &net.inputs, &net.model.no_needs(), &mut Tape::default());
            outputs.data().iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        };
        let unseen = forward();
        let count = Rc::new(RefCell::new(Count::default()));
        engine.observe(Some(count.clone()));
        assert_eq!(forward(), unseen, "{}", net.name);
        engine.observe(None);
        forward();
        let mut sites = std::mem::take(&mut count.borrow_mut().0);
        sites.sort_unstable();
        let expected: Vec<usize> =
            (0..net.model.sites().len()).filter(|&site| !is_batch_norm(&net.model, site)).collect();
        assert_eq!(sites, expected, "{}", net.name);
    }
}
