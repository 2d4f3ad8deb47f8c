//! Costs by hand, components, and plans on whole networks.

use proptest::prelude::*;
use rgft_core::{Granularity, Slices};
use rgft_nn::models::{Grain, Model, update_of};
use rgft_nn::{Blind, Flops, Gradients, Tape};
use serde_json::{Value, json};

use super::common::{engine, images, random_model};

fn configs() -> Vec<Value> {
    vec![
        json!({"model_type": "resnet-cifar", "depth": 8, "widths": [8, 8, 12], "num_labels": 4}),
        json!({"model_type": "resnet-cifar", "depth": 14, "widths": [4, 6, 8], "num_labels": 4,
            "shortcut": "option-b-projection"}),
        json!({"model_type": "resnet", "block": "basic", "depths": [1, 1, 1, 1], "widths": [4, 8, 8, 8],
            "num_labels": 4}),
        json!({"model_type": "resnet", "block": "bottleneck", "layers": [1, 2], "widths": [4, 8], "num_labels": 4,
            "num_channels": 1}),
        json!({"model_type": "mobilenet_v2", "width_mult": 0.5, "num_labels": 4, "last_channel": 24,
            "inverted_residual_setting": [[1, 16, 1, 1], [6, 16, 2, 2], [2, 24, 1, 1]]}),
    ]
}

fn colours(config: &Value) -> usize {
    config["num_channels"].as_u64().unwrap_or(3) as usize
}

/// `resnet-cifar` of depth 8 and widths 8, 8, 12 on one 8×8 picture, multiply-adds by hand:
/// stem 64·27·8; stage 1 two of 64·72·8; stage 2 16·72·8 twice; stage 3 4·72·12 and 4·108·12; head 12·4.
#[test]
fn flops_of_a_small_network_by_hand() {
    let model = random_model(configs().remove(0));
    let stem = 64 * 27 * 8;
    let stages = 2 * 64 * 72 * 8 + 2 * 16 * 72 * 8 + 4 * 72 * 12 + 4 * 108 * 12;
    let head = 12 * 4;
    let extent = images(1, 3, [8, 8], 3).extent();
    let flops = |update: &[Slices], cut: usize| -> Flops {
        model.products(&extent, &model.needs(update, cut, false)).iter().collect()
    };
    let forward = 2 * 3 * (stem + stages + head);
    let full = flops(&model.parameters().everything(), 0);
    let expected = Flops { forward, dx: 2 * 3 * (stages + head), dw: forward, tracking: 0 };
    assert_eq!(full, expected);

    let components = model.components(Grain::default());
    let alone = |name: &str| {
        let chosen = components.iter().position(|c| c.name == name).unwrap();
        flops(&update_of(model.parameters(), &components, &[chosen]), components[chosen].depth)
    };
    // A group of 4 of conv2's 12 channels: δ passes the head only, dW is a third of the convolution's.
    let expected = Flops { forward, dx: 2 * 3 * head, dw: 2 * 3 * 4 * 108 * 4, tracking: 0 };
    assert_eq!(alone("layer3.0.conv2.channels.1"), expected);
    // A group of conv1 below it: δ passes conv2 too.
    let dx = 2 * 3 * (head + 4 * 108 * 12);
    assert_eq!(
        alone("layer3.0.conv1.channels.0"),
        Flops { forward, dx, dw: 2 * 3 * 4 * 72 * 4, tracking: 0 }
    );
}

#[test]
fn components_cover_every_parameter_once() {
    for config in configs() {
        let model = random_model(config);
        for granularity in Granularity::ALL {
            for neuron_group in [0, 5] {
                let components = model.components(Grain { granularity, neuron_group });
                let scalars: usize = components.iter().map(|c| c.parameters).sum();
                assert_eq!(scalars, model.parameters().scalars());
                let all: Vec<_> = (0..components.len()).collect();
                assert_eq!(update_of(model.parameters(), &components, &all), model.parameters().everything());
                let mut names: Vec<_> = components.iter().map(|c| &c.name).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), components.len(), "names are unique");
            }
        }
    }
}

fn gradients(model: &Model, update: &[Slices], cut: usize) -> Vec<Vec<f32>> {
    let (engine, inputs) = (engine(false), images(5, 3, [9, 8], colours(model.config())));
    let needs = model.needs(update, cut, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    engine.record();
    model.forward_backward(&engine, &inputs, &needs, &mut gradients, &mut Blind, |logits| {
        engine.kernels.cross_entropy(logits.data_mut(), &[0, 3, 1], 1.0)
    });
    let (mut executed, mut planned) = (engine.recorded(), model.products(&inputs.extent(), &needs));
    executed.sort_unstable();
    planned.sort_unstable();
    assert_eq!(executed, planned);
    let parameters = model.parameters().iter().enumerate();
    parameters
        .map(|(i, p)| {
            assert_eq!(gradients.has(i), !update[i].is_none());
            gradients.dense(i, p.rows(), p.cols())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// With running statistics everywhere a plan changes nothing of what it computes.
    #[test]
    fn any_plan_computes_its_slices_of_the_full_gradient_and_nothing_else(
        which in 0..5usize, chosen in proptest::collection::vec(any::<bool>(), 80), grain in 0..Granularity::ALL.len(),
    ) {
        let model = random_model(configs().remove(which));
        let granularity = Granularity::ALL[grain];
        let components = model.components(Grain { granularity, neuron_group: 0 });
        let active: Vec<_> = (0..components.len()).filter(|&i| chosen[i % chosen.len()]).collect();
        let cut = active.iter().map(|&i| components[i].depth).min().unwrap_or(model.levels() - 1);
        let update = update_of(model.parameters(), &components, &active);
        let full = gradients(&model, &model.parameters().everything(), 0);
        let found = gradients(&model, &update, cut);
        for (i, parameter) in model.parameters().iter().enumerate() {
            for (at, (f, g)) in found[i].iter().zip(&full[i]).enumerate() {
                let wanted = match &update[i] {
                    Slices::Rows(ranges) => ranges.contains(at / parameter.cols()),
                    part => !part.is_none(),
                };
                let expected = if wanted { *g } else { 0.0 };
                prop_assert!((f - expected).abs() <= 1e-5 * g.abs().max(1e-2), "{} at {at}: {f}, {expected}", parameter.name);
            }
        }
    }
}

#[test]
fn a_frozen_model_saves_nothing_and_runs_forward_only() {
    for config in configs() {
        let model = random_model(config);
        let (engine, inputs) = (engine(true), images(1, 2, [8, 11], colours(model.config())));
        let needs = model.needs(&vec![Slices::None; model.parameters().len()], model.levels() - 1, false);
        let mut tape = Tape::default();
        model.forward(&engine, &inputs, &needs, &mut tape);
        assert!(tape.is_empty());
        let flops = engine.take_flops();
        assert_eq!(flops.total(), flops.forward);
    }
}

#[test]
fn pictures_that_do_not_fit_are_refused() {
    let model = random_model(configs().remove(0));
    for (inputs, word) in [
        (images(1, 1, [8, 8], 1), "number of colours 1"),
        (images(1, 1, [7, 9], 3), "8 by 8"),
        (rgft_core::Inputs::Tokens(rgft_core::Tokens::default()), "images"),
    ] {
        let error = model.check(&inputs).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    model.check(&images(1, 1, [8, 8], 3)).unwrap();
}
