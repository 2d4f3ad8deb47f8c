//! What is frozen is a function of each example alone, even in training steps: a prefix of it can be cached.

use rgft_core::{Inputs, Slices};
use rgft_nn::models::{Grain, update_of};
use rgft_nn::{Blind, Gradients, Tape};
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
fn running_statistics_move_for_updated_channels_alone() {
    let mut model = random_model(json!({"model_type": "resnet-cifar", "depth": 8, "num_labels": 4}));
    let (engine, batch) = (engine(true), images(1, 5, [8, 8], 3));
    let components = model.components(Grain::default());
    let chosen = components.iter().position(|c| c.name == "layer2.0.conv1.channels.1").unwrap();
    let update = update_of(model.parameters(), &components, &[chosen]);
    let needs = model.needs(&update, components[chosen].depth, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), &update, &model.tables());
    model.forward_backward(&engine, &batch, &needs, &mut gradients, &mut Blind, |logits| {
        logits.data_mut().iter_mut().enumerate().for_each(|(i, z)| *z = (i % 3) as f32 - 1.0);
        0.0
    });
    let before = model.parameters().clone();
    gradients.move_statistics(model.parameters_mut());
    for (old, new) in before.iter().zip(model.parameters().iter()) {
        let moved: Vec<_> = (0..old.data.len()).filter(|&i| old.data[i] != new.data[i]).collect();
        let own = old.name.starts_with("layer2.0.bn1.running");
        assert_eq!(moved, if own { (8..16).collect() } else { vec![] }, "{}", old.name);
    }
    assert_eq!(update.iter().filter(|part| matches!(part, Slices::Rows(_))).count(), 3);
}
