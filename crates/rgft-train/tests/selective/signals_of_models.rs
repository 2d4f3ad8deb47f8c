//! Every signal against its definition on a small net of every registered model: dense, convolutional, recurrent,
//! embeddings and norms.

use rgft_core::{Axis, Signal, Slices};
use rgft_kernels::Precision;
use rgft_kernels::reference::images::for_each_product;
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Activation, Engine, Gradients, Probe, Tensor};
use rgft_train::Tracker;

use super::nets::{Net, net, nets, one_by_one, put};

fn masked(values: Vec<f64>, mask: &[bool]) -> Vec<f64> {
    values.into_iter().zip(mask).map(|(value, keep)| if *keep { value } else { 0.0 }).collect()
}

#[test]
fn exact_is_the_squared_norm_of_the_gradient() {
    for net in nets() {
        let (untied, expected) = (net.untied(), net.sums(&net.all_gradients(), |_, d| d * d));
        let found = net.energies(Signal::Exact, 0, None);
        net.close(&masked(found, &untied), &masked(expected, &untied), 1e-3);
    }
}

/// `Σ_t ‖δ_{t,R}‖²·‖a_t‖²` of each component, by its definition, over linear maps and convolutions; and their weights.
struct DiagonalOf<'a>(&'a Net, Vec<f64>, Vec<usize>);

impl Probe for DiagonalOf<'_> {
    fn see(&mut self, _: &Engine, site: usize, input: Activation, delta: &Tensor) {
        let out = delta.cols();
        // Squares of each row of the input.
        let (inputs, columns) = match input {
            Activation::Dense(a) if is_linear(&self.0.model, site) => (a.data().to_vec(), a.cols()),
            Activation::Maps { x, shape } if shape.groups == 1 => {
                let mut patches = vec![0.0; shape.rows() * shape.patch()];
                for_each_product(shape, |o, i, w| {
                    patches[o / shape.output * shape.patch() + w % shape.patch()] = x[i];
                });
                (patches, shape.patch())
            }
            _ => return,
        };
        let squared = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let weight = self.0.model.sites()[site].kind.weight();
        self.2.push(weight);
        for (component, energy) in self.0.components.iter().zip(&mut self.1) {
            for slice in component.slices.iter().filter(|slice| slice.parameter == weight) {
                let of_row = |(a, delta): (&[f32], &[f32])| match slice.axis {
                    Axis::Rows => squared(&delta[slice.range.clone()]) * squared(a),
                    Axis::Cols => squared(delta) * squared(&a[slice.range.clone()]),
                };
                *energy +=
                    inputs.chunks_exact(columns).zip(delta.data().chunks_exact(out)).map(of_row).sum::<f64>();
            }
        }
    }
}

fn is_linear(model: &Model, site: usize) -> bool {
    matches!(model.sites()[site].kind, SiteKind::Linear { .. })
}

#[test]
fn gram_is_the_diagonal_of_the_gram_form() {
    for net in nets() {
        let nothing = vec![Slices::None; net.model.parameters().len()];
        let needs = net.model.needs(&nothing, 0, true);
        let mut diagonal = DiagonalOf(&net, vec![0.0; net.components.len()], Vec::new());
        let (residual, engine) = (net.residual.concat(), Engine::new(Precision::F32));
        let loss = |outputs: &mut Tensor| put(outputs, &residual);
        net.model.forward_backward(
            &engine,
            &net.inputs,
            &needs,
            &mut Gradients::default(),
            &mut diagonal,
            loss,
        );
        // What is no weight of a linear map or of a convolution without groups is exact.
        let mut gradients = net.all_gradients();
        for weight in &diagonal.2 {
            gradients[*weight].fill(0.0);
        }
        let rest = net.sums(&gradients, |_, d| d * d);
        let expected: Vec<f64> =
            diagonal.1.iter().zip(rest).map(|(diagonal, rest)| diagonal + rest).collect();
        let untied = net.untied();
        let found = net.energies(Signal::Gram, 0, None);
        net.close(&masked(found, &untied), &masked(expected, &untied), 1e-3);
    }
}

#[test]
fn taylor_is_the_change_of_the_loss_without_the_component() {
    for net in nets() {
        let signed = net.sums(&net.all_gradients(), |w, d| w * d);
        let expected: Vec<f64> = signed.iter().map(|sum| sum.abs()).collect();
        assert!(signed.iter().any(|sum| *sum < 0.0), "{}: the modulus is taken", net.name);
        net.close(&net.energies(Signal::Taylor, 0, None), &expected, 1e-2);
    }
}

#[test]
fn absolute_is_the_sum_of_the_moduli_of_the_gradient() {
    for net in nets() {
        let (untied, expected) = (net.untied(), net.sums(&net.all_gradients(), |_, d| d.abs()));
        let found = net.energies(Signal::Absolute, 0, None);
        net.close(&masked(found, &untied), &masked(expected, &untied), 1e-3);
    }
}

#[test]
fn sketches_are_unbiased() {
    for net in nets() {
        let expected = net.sums(&net.all_gradients(), |_, d| d * d);
        if net.untied().iter().all(|untied| *untied) {
            net.unbiased(Signal::Sketch, &expected);
        }
    }
}

#[test]
fn fisher_is_the_sum_of_the_squared_gradients_of_examples() {
    for net in nets().into_iter().filter(|net| net.untied().iter().all(|untied| *untied)) {
        let mut expected = vec![0.0; net.components.len()];
        for (one, residual) in one_by_one(&net.inputs).iter().zip(&net.residual) {
            let of_example = net.sums(&net.gradients(one, residual), |_, d| d * d);
            expected.iter_mut().zip(of_example).for_each(|(sum, energy)| *sum += energy);
        }
        net.unbiased(Signal::Fisher, &expected);
    }
}

#[test]
fn coherent_is_the_energy_of_batches_that_agree_and_less_where_they_contradict() {
    for net in nets() {
        let untied = net.untied();
        let exact = masked(net.energies(Signal::Exact, 0, None), &untied);
        let residual = net.residual.concat();
        let after = |signs: &[f32]| {
            let engine = Engine::new(Precision::F32);
            let mut tracker = Tracker::new(&net.model, &net.components, Signal::Coherent, 0.9, 0);
            for sign in signs {
                let residual: Vec<f32> = residual.iter().map(|r| sign * r).collect();
                tracker.look(&engine, &net.model, &net.inputs, |outputs| put(outputs, &residual));
            }
            masked(tracker.take(), &untied)
        };
        // Sums are kept in bf16, and a component here may be a few scalars.
        net.close(&after(&[1.0]), &exact, 2e-2);
        net.close(&after(&[1.0, 1.0, 1.0]), &exact, 2e-2);
        // Everything contradicts, so it may all be chance: then nothing is told apart, and the energy alone decides.
        let (contradicting, exact) = (after(&[1.0, -1.0]).iter().sum::<f64>(), exact.iter().sum::<f64>());
        assert!(contradicting < 0.95 * exact, "{contradicting} of {exact}");
    }
}

#[test]
fn relative_divides_by_the_weights() {
    for net in nets() {
        let sketch = net.energies(Signal::Sketch, 5, None);
        let norms = net.sums(&net.all_gradients(), |w, _| w * w);
        let expected: Vec<f64> = sketch.iter().zip(norms).map(|(energy, norm)| energy / norm).collect();
        net.close(&net.energies(Signal::Relative, 5, None), &expected, 1e-6);
    }
}

#[test]
fn depth_is_the_sketch_where_nothing_stands_in() {
    for net in nets() {
        let sketch = net.energies(Signal::Sketch, 5, None);
        assert_eq!(net.energies(Signal::Depth, 5, Some(0)), sketch, "{}", net.name);
        let head = net.model.levels() - 1;
        let standing_in = net.energies(Signal::Depth, 5, Some(head));
        let above = |depth: usize| depth + 1 >= head;
        for ((component, depth), sketch) in net.components.iter().zip(&standing_in).zip(&sketch) {
            if above(component.depth) {
                assert_eq!(depth, sketch, "{}, {}", net.name, component.name);
            }
        }
        // Plain recurrent layers have no identity to stand in for.
        assert_eq!(
            standing_in == sketch,
            net.name.contains("lstm") || net.name.contains("gru"),
            "{}",
            net.name
        );
    }
}

#[test]
fn below_the_cut_depth_sees_the_delta_of_the_cut() {
    let mut net = net("gpt2");
    // Branches that do not depend on their input: then the identity is all that carries δ.
    for parameter in net.model.parameters_mut().iter_mut() {
        if parameter.cols() > 1 && ["c_attn", "c_fc"].iter().any(|name| parameter.name.contains(name)) {
            parameter.data.fill(0.0);
        }
    }
    let head = net.model.levels() - 1;
    let sketch = net.energies(Signal::Sketch, 5, None);
    net.close(&net.energies(Signal::Depth, 5, Some(head)), &sketch, 1e-5);
}

#[test]
fn what_a_look_costs_is_known_before() {
    for net in nets() {
        for signal in Signal::ALL {
            let engine = Engine::new(Precision::F32);
            let mut tracker = Tracker::new(&net.model, &net.components, signal, 0.9, 0);
            let expected = tracker.forecast(&net.model, &net.inputs.extent()) as f64;
            let residual = net.residual.concat();
            let flops = tracker.look(&engine, &net.model, &net.inputs, |outputs| put(outputs, &residual));
            let (found, tracking) = (flops.total() as f64, flops.tracking as f64);
            assert!(found - tracking <= expected, "{}, {signal}: {flops:?}, {expected}", net.name);
            if signal != Signal::Covariance {
                assert!(
                    (found / expected - 1.0).abs() < 0.1,
                    "{}, {signal}: {flops:?}, {expected}",
                    net.name
                );
            }
        }
    }
}
