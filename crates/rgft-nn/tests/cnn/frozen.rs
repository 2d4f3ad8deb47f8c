//! What is frozen is a function of each example alone, even in training steps: a prefix of it can be cached.

use rgft_core::Inputs;
use rgft_nn::models::{Grain, update_of};
use rgft_nn::{Mode, Tape};
use serde_json::json;

use super::common::{engine, images, random_model};

fn example(inputs: &Inputs, i: usize) -> Inputs {
    let Inputs::Images(images) = inputs else { panic!("images") };
    let size = images.height * images.width * images.channels;
    let mut one = images.clone();
    one.pixels = images.pixels[i * size..(i + 1) * size].to_vec();
    Inputs::Images(one)
}

#[test]
fn a_frozen_network_in_a_training_step_does_not_see_the_rest_of_the_batch() {
    let model = random_model(json!({"model_type": "resnet-cifar", "depth": 8, "num_labels": 4}));
    let (engine, batch) = (engine(true), images(1, 5, [10, 9], 3));
    let head = model.components(Grain::default()).len() - 1;
    let update = update_of(model.parameters(), &model.components(Grain::default()), &[head]);
    let needs = model.needs(&update, model.levels() - 1, false);
    let logits = model.forward(&engine, &batch, &needs, &mut Tape::default());
    for i in 0..5 {
        let alone = model.forward(&engine, &example(&batch, i), &needs, &mut Tape::default());
        let own = &logits.data()[i * 4..][..4];
        for (a, b) in alone.data().iter().zip(own) {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "example {i}: {a} alone, {b} in its batch");
        }
    }
    // The same step with everything updated does depend on the batch, so the comparison can fail.
    let needs = model.needs(&model.parameters().everything(), 0, false);
    let logits = model.forward(&engine, &batch, &needs, &mut Tape::default());
    let alone = model.forward(&engine, &example(&batch, 0), &needs, &mut Tape::default());
    assert!(alone.data().iter().zip(logits.data()).any(|(a, b)| (a - b).abs() > 1e-2));
}

#[test]
fn running_statistics_move_above_the_cut_alone() {
    let mut model = random_model(json!({"model_type": "resnet-cifar", "depth": 8, "num_labels": 4}));
    let (engine, batch) = (engine(true), images(1, 5, [8, 8], 3));
    let components = model.components(Grain::default());
    let chosen = components.iter().position(|c| c.name == "layer2.0.conv1.channels.1").unwrap();
    let update = update_of(model.parameters(), &components, &[chosen]);
    let needs = model.needs(&update, components[chosen].depth, false);
    model.forward(&engine, &batch, &needs, &mut Tape::default());
    let observed = engine.take_statistics();
    assert!(engine.take_statistics().is_empty());
    let before = model.parameters().clone();
    model.parameters_mut().move_statistics(&observed);
    for (old, new) in before.iter().zip(model.parameters().iter()) {
        let moved = (0..old.data.len()).filter(|&i| old.data[i] != new.data[i]).count();
        // The projection beside the branch carries nothing back: nothing below it is updated.
        let above =
            ["layer2.0.bn1", "layer2.0.bn2", "layer3.0"].iter().any(|path| old.name.starts_with(path));
        let expected = if above && old.buffer { old.data.len() } else { 0 };
        assert_eq!(moved, expected, "{}", old.name);
    }
}

#[test]
fn calibration_replaces_every_running_statistic_by_the_mean_over_batches() {
    let mut model = random_model(json!({"model_type": "resnet-cifar", "depth": 8, "num_labels": 4}));
    let engine = engine(false);
    engine.set_mode(Mode::Calibrate);
    let batches = [images(1, 5, [8, 8], 3), images(2, 5, [8, 8], 3)];
    let mut tape = Tape::default();
    let needs = model.no_needs();
    batches.iter().for_each(|batch| drop(model.forward(&engine, batch, &needs, &mut tape)));
    assert!(tape.is_empty());
    let observed = engine.take_statistics();
    model.parameters_mut().set_statistics(&observed);
    for (i, parameter) in model.parameters().iter().enumerate().filter(|(_, parameter)| parameter.buffer) {
        let own: Vec<_> = observed.iter().filter(|statistic| statistic.parameter == i).collect();
        assert_eq!(own.len(), 2, "{}", parameter.name);
        for (c, value) in parameter.data.iter().enumerate() {
            let mean = (own[0].values[c] + own[1].values[c]) / 2.0;
            assert!(
                (value - mean).abs() <= 1e-6 * mean.abs().max(1.0),
                "{}: {value}, {mean}",
                parameter.name
            );
        }
    }
}
