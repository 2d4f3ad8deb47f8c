//! Whole networks against PyTorch: tiny random ones in full, and ResNet-20's real weights.

use std::path::Path;

use rgft_core::{Images, Inputs};
use rgft_nn::models::{self, HeadRequest, Model};
use rgft_nn::{Blind, Engine, Gradients, Tape};
use safetensors::SafeTensors;

use super::common::{engine, goldens, images};
use super::pytorch::Optimizer;

const NAMES: [&str; 4] = ["resnet-cifar-pad", "resnet-cifar-projection", "resnet-bottleneck", "mobilenet_v2"];

struct Golden(Vec<u8>);

impl Golden {
    fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let scalars = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (view.shape().to_vec(), scalars.collect())
    }

    fn inputs(&self) -> Inputs {
        let (shape, pixels) = self.get("pixels");
        Inputs::Images(Images { pixels, height: shape[1], width: shape[2], channels: shape[3] })
    }
}

fn load(name: &str) -> (Model, Golden) {
    let folder = goldens().join(name);
    let model = models::load(&folder, &HeadRequest::default()).unwrap();
    (model, Golden(std::fs::read(folder.join("golden.safetensors")).unwrap()))
}

/// `[out, in, rows, columns]` → `[out, rows, columns, in]`.
fn channels_last(shape: &[usize], data: &[f32]) -> Vec<f32> {
    let &[out, input, rows, columns] = shape else { return data.to_vec() };
    let at = |o: usize, p: usize, i: usize| data[(o * input + i) * rows * columns + p];
    let pixels = (0..out).flat_map(|o| (0..rows * columns).map(move |p| (o, p)));
    pixels.flat_map(|(o, p)| (0..input).map(move |i| at(o, p, i))).collect()
}

/// To `tolerance` of the largest.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what} at {i}: {f}, PyTorch {e}");
    }
}

fn step(model: &Model, engine: &Engine, inputs: &Inputs, targets: &[u32], gradients: &mut Gradients) -> f64 {
    let needs = model.needs(&model.parameters().everything(), 0, false);
    model.forward_backward(engine, inputs, &needs, gradients, &mut Blind, |logits| {
        engine.kernels.cross_entropy(logits.data_mut(), targets, 1.0)
    })
}

#[test]
fn logits_gradients_statistics_and_ten_steps() {
    for name in NAMES {
        let (mut model, golden) = load(name);
        let (inputs, evaluating, training) = (golden.inputs(), engine(false), engine(true));
        let needs = model.needs(&model.parameters().everything(), 0, false);
        let logits = model.forward(&evaluating, &inputs, &needs, &mut Tape::default());
        close(&format!("{name}: logits"), logits.data(), &golden.get("logits").1, 1e-4);

        let targets: Vec<u32> = golden.get("targets").1.iter().map(|&t| t as u32).collect();
        let losses = golden.get("losses").1;
        let everything = model.parameters().everything();
        let mut gradients = Gradients::new(&training, model.parameters(), &everything, &model.tables());
        let mut optimizer = Optimizer::default();
        for (t, expected) in losses.iter().enumerate() {
            gradients.clear();
            let loss = step(&model, &training, &inputs, &targets, &mut gradients) as f32;
            assert!((loss - expected).abs() <= 1e-3 * expected.abs(), "{name}: loss {t}: {loss}, {expected}");
            if t == 0 {
                for (i, parameter) in model.parameters().iter().enumerate().filter(|(_, p)| !p.buffer) {
                    let (shape, expected) = golden.get(&format!("gradient.{}", parameter.name));
                    let found = gradients.dense(i, parameter.rows(), parameter.cols());
                    let what = format!("{name}: gradient of {}", parameter.name);
                    close(&what, &found, &channels_last(&shape, &expected), 1e-3);
                }
            }
            optimizer.step(&mut model, &gradients, 3e-3);
            model.parameters_mut().move_statistics(&training.take_statistics());
            if t == 0 {
                for parameter in model.parameters().iter().filter(|parameter| parameter.buffer) {
                    let expected = golden.get(&format!("after.{}", parameter.name)).1;
                    close(
                        &format!("{name}: {} after a step", parameter.name),
                        &parameter.data,
                        &expected,
                        1e-5,
                    );
                }
            }
        }
    }
}

#[test]
fn saved_files_are_those_that_were_read() {
    for name in NAMES {
        let (model, _) = load(name);
        let folder = tempfile::tempdir().unwrap();
        model.checkpoint().write(&folder.path().join("model.safetensors")).unwrap();
        let read = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        let (before, after) = (read(&goldens().join(name)), read(folder.path()));
        let (before, after) =
            (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
        assert_eq!(before.len(), after.len(), "{name}");
        for (tensor, view) in before.tensors() {
            let same = after.tensor(&tensor).unwrap();
            assert!(same.shape() == view.shape() && same.data() == view.data(), "{name}: {tensor}");
        }
    }
}

#[test]
fn another_number_of_classes_makes_the_head_fresh() {
    let request = HeadRequest { outputs: Some(3), ..HeadRequest::default() };
    let model = models::load(&goldens().join("resnet-cifar-pad"), &request).unwrap();
    assert!(model.parameters().iter().all(|p| p.fresh == p.name.starts_with("linear")));
    assert_eq!(model.config()["num_labels"], 3);
    let logits = model.forward(
        &engine(false),
        &images(1, 2, [8, 8], 3),
        &model.needs(&model.parameters().everything(), 0, false),
        &mut Tape::default(),
    );
    assert_eq!((logits.rows(), logits.cols()), (2, 3));
}

/// Logits of PyTorch 2.11 for two pictures made by a formula, of each of the pre-trained CIFAR networks.
#[test]
#[allow(clippy::print_stderr)]
fn pre_trained_networks_give_the_logits_of_pytorch() {
    for (name, expected) in [
        ("resnet20-cifar10", include_str!("../../../rgft/tests/goldens/cnn/resnet20-cifar10.json")),
        ("resnet32-cifar10", include_str!("../../../rgft/tests/goldens/cnn/resnet32-cifar10.json")),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/models").join(name);
        if !folder.is_dir() {
            eprintln!("skipped: {name} is not at {}", folder.display());
            continue;
        }
        let expected: Vec<f32> = serde_json::from_str(expected).unwrap();
        let model = models::load(&folder, &HeadRequest::default()).unwrap();
        let pixels = (0..2 * 32 * 32 * 3).map(|i| (0.37 * (i % 97) as f64 + 0.011 * i as f64).sin() as f32);
        let inputs = Inputs::Images(Images { pixels: pixels.collect(), height: 32, width: 32, channels: 3 });
        let needs =
            model.needs(&vec![rgft_core::Slices::None; model.parameters().len()], model.levels() - 1, false);
        let logits = model.forward(&engine(false), &inputs, &needs, &mut Tape::default());
        close(name, logits.data(), &expected, 1e-4);
    }
}
