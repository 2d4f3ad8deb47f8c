#![allow(clippy::unwrap_used)]

use std::path::Path;

use rgft_core::{Component, ComponentKind, Images, Inputs, Signal, Slices};
use rgft_kernels::Precision;
use rgft_kernels::reference::images::for_each_product;
use rgft_nn::models::{self, Grain, HeadRequest, Model, SiteKind};
use rgft_nn::{Activation, Blind, Engine, Gradients, Probe, Tensor};
use serde_json::json;

use super::super::Tracker;

/// Basic blocks, and depthwise ones.
fn networks() -> [Model; 2] {
    let request = HeadRequest { random: true, dropout: Some(0.0), ..HeadRequest::default() };
    let resnet = json!({"model_type": "resnet-cifar", "depth": 8, "widths": [8, 8, 8], "num_labels": 3});
    let mobilenet = json!({"model_type": "mobilenet_v2", "stem_channels": 8, "last_channel": 16, "num_labels": 3,
        "inverted_residual_setting": [[1, 8, 1, 1], [2, 8, 1, 2]]});
    [resnet, mobilenet].map(|config| models::build(Path::new("."), config, &request).unwrap())
}

fn carry_back(model: &Model, update: &[Slices], probe: Option<&mut dyn Probe>) -> Gradients {
    let engine = Engine::new(Precision::F32);
    let pixels = (0..3 * 9 * 8 * 3).map(|i| (f64::from(i) * 0.7).sin() as f32).collect();
    let inputs = Inputs::Images(Images { pixels, height: 9, width: 8, channels: 3 });
    let needs = model.needs(update, 0, probe.is_some());
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    let loss = |logits: &mut Tensor| engine.kernels.cross_entropy(logits.data_mut(), &[0, 2, 1], 1.0);
    let mut blind = Blind;
    model.forward_backward(&engine, &inputs, &needs, &mut gradients, probe.unwrap_or(&mut blind), loss);
    gradients
}

fn energies(model: &Model, components: &[Component], signal: Signal, seed: u64) -> Vec<f64> {
    let mut tracker = Tracker::new(model, components, signal, seed);
    tracker.begin_batch();
    let nothing = vec![Slices::None; model.parameters().len()];
    carry_back(model, &nothing, Some(&mut tracker));
    tracker.take()
}

/// `‖dθ_i‖²` from full gradients.
fn truth(model: &Model, components: &[Component]) -> Vec<f64> {
    let gradients = carry_back(model, &model.parameters().everything(), None);
    let energy = |component: &Component| {
        let slices = component.slices.iter().map(|slice| {
            let parameter = &model.parameters()[slice.parameter];
            let cols = parameter.cols();
            let dense = gradients.dense(slice.parameter, parameter.rows(), cols);
            let scalars = dense[slice.range.start * cols..slice.range.end * cols].iter();
            scalars.map(|g| f64::from(*g).powi(2)).sum::<f64>()
        });
        slices.sum()
    };
    components.iter().map(energy).collect()
}

#[test]
fn exact_is_the_squared_norm_of_the_gradient() {
    for model in networks() {
        let components = model.components(Grain::default());
        let expected = truth(&model, &components);
        let found = energies(&model, &components, Signal::Exact, 0);
        for ((component, found), expected) in components.iter().zip(found).zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-4 * expected.max(1e-9),
                "{}: {found}, {expected}",
                component.name
            );
        }
    }
}

#[test]
fn the_mean_of_sketches_is_the_squared_norm() {
    let [model, _] = networks();
    let components = model.components(Grain::default());
    let expected = truth(&model, &components);
    let draws = 300;
    let mut mean = vec![0.0; components.len()];
    for seed in 0..draws {
        let found = energies(&model, &components, Signal::Sketch, seed);
        mean.iter_mut().zip(found).for_each(|(mean, found)| *mean += found / draws as f64);
    }
    for ((component, found), expected) in components.iter().zip(mean).zip(expected) {
        let off = (found / expected - 1.0).abs();
        assert!(off <= 0.2, "{}: {found} against {expected}", component.name);
    }
}

/// Writes down `Σ_t ‖δ_{t,R}‖²‖patch_t‖²` by its definition, for groups of four channels.
struct Definition(Vec<(usize, Vec<f64>)>);

impl Probe for Definition {
    fn see(&mut self, _: &Engine, site: usize, input: Activation, delta: &Tensor) {
        let Activation::Maps { x, shape } = input else { return };
        let mut norms = vec![0.0; shape.rows()];
        // Each pixel of a patch is multiplied once per output channel.
        for_each_product(shape, |o, i, _| {
            norms[o / shape.output] += f64::from(x[i]).powi(2) / shape.output as f64;
        });
        let mut groups = vec![0.0; shape.output / 4];
        for (i, d) in delta.data().iter().enumerate() {
            groups[i % shape.output / 4] += f64::from(*d).powi(2) * norms[i / shape.output];
        }
        self.0.push((site, groups));
    }
}

#[test]
fn gram_is_the_diagonal_of_the_gram_form() {
    let [model, _] = networks();
    // Weights alone, so that a component's energy is its convolution's.
    let weights_of = |(weight, group): (usize, usize)| Component {
        name: format!("{weight}.{group}"),
        kind: ComponentKind::Channels,
        layer: None,
        depth: 0,
        slices: vec![rgft_nn::layers::rows(weight, 4 * group..4 * group + 4)],
        parameters: 1,
        fresh: false,
    };
    let mut definition = Definition(Vec::new());
    let nothing = vec![Slices::None; model.parameters().len()];
    carry_back(&model, &nothing, Some(&mut definition));
    definition.0.sort_by_key(|(site, _)| *site);
    assert_eq!(definition.0.len(), 7);
    let (mut components, mut expected) = (Vec::new(), Vec::new());
    for (site, groups) in definition.0 {
        let SiteKind::Conv { weight, .. } = model.sites()[site].kind else { panic!("a convolution") };
        components.extend((0..groups.len()).map(|group| weights_of((weight, group))));
        expected.extend(groups);
    }
    let found = energies(&model, &components, Signal::Gram, 0);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} against {expected}");
    }
}
