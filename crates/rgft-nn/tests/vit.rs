//! The Vision Transformer and the patch transformer against PyTorch; their components, costs and refusals.

#![allow(clippy::unwrap_used, missing_docs)]

mod pytorch;

use std::path::{Path, PathBuf};

use pytorch::{Optimizer, close, flat};
use rgft_core::{Extent, Images, Inputs, Series, Slices};
use rgft_kernels::{Kernels, Precision};
use rgft_nn::models::{self, Grain, HeadRequest, Model, Pooling};
use rgft_nn::{Blind, Engine, Flops, Gradients, Tape, Tensor};
use serde_json::{Value, json};

const FAMILY: [&str; 3] = ["cls", "mean", "patch-transformer"];

struct Golden {
    model: Model,
    inputs: Inputs,
    expected: Value,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rgft/tests/goldens/vit").join(name)
}

fn golden(name: &str) -> Golden {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder(name).join("golden.json")).unwrap()).unwrap();
    let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
    let values: Vec<f32> = flat(&expected["inputs"]).iter().map(|&x| x as f32).collect();
    let inputs = match shape[..] {
        [_, height, width, channels] => Inputs::Images(Images { pixels: values, height, width, channels }),
        _ => Inputs::Series(Series { values, steps: shape[1] }),
    };
    Golden { model: models::load(&folder(name), &HeadRequest::default()).unwrap(), inputs, expected }
}

/// Turns outputs into the residual; returns the loss.
fn loss(kernels: &dyn Kernels, golden: &Golden, outputs: &mut Tensor) -> f64 {
    let targets = flat(&golden.expected["targets"]);
    if let Inputs::Images(_) = golden.inputs {
        let classes: Vec<u32> = targets.iter().map(|&y| y as u32).collect();
        return kernels.cross_entropy(outputs.data_mut(), &classes, 1.0);
    }
    let values: Vec<f32> = targets.iter().map(|&y| y as f32).collect();
    kernels.squared_error(outputs.data_mut(), &values, 1.0)
}

fn outputs(model: &Model, inputs: &Inputs) -> Vec<f32> {
    let needs = model.needs(&vec![Slices::None; model.parameters().len()], model.levels(), false);
    model.forward(&Engine::new(Precision::F32), inputs, &needs, &mut Tape::default()).data().to_vec()
}

/// Loss and gradients of everything.
fn step(golden: &Golden, engine: &Engine, gradients: &mut Gradients) -> f64 {
    let Golden { model, inputs, .. } = golden;
    let needs = model.needs(&model.parameters().everything(), 0, false);
    gradients.clear();
    let residual = |y: &mut Tensor| loss(&*engine.kernels, golden, y);
    model.forward_backward(engine, inputs, &needs, gradients, &mut Blind, residual)
}

fn gradients_of(model: &Model, engine: &Engine) -> Gradients {
    Gradients::new(engine, model.parameters(), &model.parameters().everything(), &model.tables())
}

#[test]
fn outputs_loss_and_all_gradients_are_pytorchs() {
    for name in FAMILY {
        let golden = golden(name);
        let (model, expected) = (&golden.model, &golden.expected);
        model.check(&golden.inputs).unwrap();
        close(&outputs(model, &golden.inputs), &flat(&expected["outputs"]), 1e-5, name);
        let engine = Engine::new(Precision::F32);
        let mut gradients = gradients_of(model, &engine);
        let found = step(&golden, &engine, &mut gradients);
        assert!((found - expected["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}: {found}");
        let expected = expected["gradients"].as_object().unwrap();
        assert_eq!(expected.len(), model.parameters().len(), "{name}: every parameter has a golden gradient");
        for (i, parameter) in model.parameters().iter().enumerate() {
            // As it stands in the file: a gradient is laid out like its parameter.
            let mut own = parameter.clone();
            own.data = gradients.dense(i, parameter.rows(), parameter.cols());
            let found = match own.shape[..] {
                [out, height, width, colours] => {
                    let at = |o, c, y, x| own.data[((o * height + y) * width + x) * colours + c];
                    let of =
                        |o| move |c| (0..height).flat_map(move |y| (0..width).map(move |x| (o, c, y, x)));
                    (0..out)
                        .flat_map(|o| (0..colours).flat_map(of(o)))
                        .map(|(o, c, y, x)| at(o, c, y, x))
                        .collect()
                }
                _ => own.data,
            };
            close(&found, &flat(&expected[&parameter.name]), 2e-4, &format!("{name} {}", parameter.name));
        }
    }
}

#[test]
fn ten_steps_of_adamw_are_pytorchs() {
    for name in FAMILY {
        let mut golden = golden(name);
        let engine = Engine::new(Precision::F32);
        let mut gradients = gradients_of(&golden.model, &engine);
        let mut optimizer = Optimizer::default();
        let expected = flat(&golden.expected["losses"]);
        assert_eq!(expected.len(), 10);
        for (t, expected) in (1..).zip(&expected) {
            let found = step(&golden, &engine, &mut gradients);
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{name}, step {t}: {found} against {expected}"
            );
            optimizer.step(&mut golden.model, &gradients, 0.003);
        }
    }
}

#[test]
fn components_are_heads_neurons_norms_and_embeddings() {
    let model = golden("cls").model;
    let components = model.components(Grain::default());
    let names: Vec<&str> = components.iter().map(|component| &component.name[..]).collect();
    assert_eq!(
        names[..3],
        ["embeddings.patches", "embeddings.positions", "encoder.layer.0.attention.head.0"]
    );
    assert_eq!(names[names.len() - 2..], ["norm", "head"]);
    // Three heads and a norm, three groups of neurons and a norm, in two layers.
    assert_eq!(names.len(), 2 + 2 * 8 + 2);
    let of = |name: &str| components.iter().find(|component| component.name == name).unwrap();
    assert_eq!(of("embeddings.patches").parameters, 12 * 12 + 12);
    // Six patches and the class token, and the class token itself.
    assert_eq!(of("embeddings.positions").parameters, 7 * 12 + 12);
    // A third of Wq, Wk, Wv with their biases, and of Wo.
    assert_eq!(of("encoder.layer.1.attention.head.2").parameters, 3 * (4 * 12 + 4) + 12 * 4);
    assert_eq!((of("norm").depth, of("head").depth, model.levels()), (5, 6, 7));
}

#[test]
fn the_count_is_the_hand_count() {
    let Golden { model, inputs, .. } = golden("patch-transformer");
    // Windows of 16 steps: 4 patches of 5 steps.
    let Inputs::Series(series) = &inputs else { panic!("series") };
    let windows = series.values.len() as u64 / 16;
    let (tokens, hidden, inner) = (4 * windows, 12, 20);
    let linear = |rows: u64, input: u64, output: u64| 2 * rows * input * output;
    let attention = 4 * linear(tokens, hidden, hidden) + windows * 3 * 2 * (2 * 4 * 4 * 4);
    let layer = attention + 2 * linear(tokens, hidden, inner);
    let forward = linear(tokens, 5, hidden) + 2 * layer + linear(windows, 4 * hidden, 5);
    let flops = |update: &[Slices], cut| -> Flops {
        model
            .products(&Extent::Sequences(vec![16; windows as usize]), &model.needs(update, cut, false))
            .iter()
            .collect()
    };
    let found = flops(&model.parameters().everything(), 0);
    assert_eq!(found.forward, forward);
    // Nothing goes back into the series; attention's products have two each, and no dW.
    let products = 2 * windows * 3 * 2 * (2 * 4 * 4 * 4);
    assert_eq!(found.dx, forward - linear(tokens, 5, hidden) + products);
    assert_eq!(found.dw, forward - products);

    // The head alone: its dW.
    let mut update = vec![Slices::None; model.parameters().len()];
    update[model.parameters().find("head.weight").unwrap()] = Slices::All;
    let found = flops(&update, model.levels() - 1);
    assert_eq!((found.forward, found.dx, found.dw), (forward, 0, linear(windows, 4 * hidden, 5)));
}

#[test]
fn forecasts_move_with_their_windows() {
    let Golden { model, inputs, .. } = golden("patch-transformer");
    let Inputs::Series(series) = inputs else { panic!("series") };
    let there = outputs(&model, &Inputs::Series(series.clone()));
    let moved = Series { values: series.values.iter().map(|x| 100.0 + 50.0 * x).collect(), ..series.clone() };
    let back: Vec<f32> = outputs(&model, &Inputs::Series(moved)).iter().map(|y| (y - 100.0) / 50.0).collect();
    close(&back, &there.iter().map(|&y| y.into()).collect::<Vec<f64>>(), 1e-3, "moved windows");
    // A window that does not vary is forecast to stay.
    let still = Series { values: vec![7.0; 16], steps: 16 };
    assert!(outputs(&model, &Inputs::Series(still)).iter().all(|y| (y - 7.0).abs() < 0.1));
}

#[test]
fn other_tasks_give_a_fresh_head_and_keep_the_body() {
    for (name, outputs) in [("cls", 7), ("patch-transformer", 9)] {
        let request = HeadRequest { outputs: Some(outputs), ..HeadRequest::default() };
        let model = models::load(&folder(name), &request).unwrap();
        let fresh = model.parameters().iter().filter(|parameter| parameter.fresh);
        let fresh: Vec<usize> = fresh.map(|parameter| parameter.rows()).collect();
        assert_eq!(fresh, [outputs, outputs], "{name}: weight and bias of the head");
        let components = model.components(Grain::default());
        let fresh: Vec<&str> = components.iter().filter(|c| c.fresh).map(|c| &c.name[..]).collect();
        assert_eq!(fresh, ["head"], "{name}");
    }
    // Of the same size, but for something else.
    let known = models::load(&folder("cls"), &HeadRequest::default()).unwrap();
    let other = HeadRequest { new_head: true, ..HeadRequest::default() };
    for (new, old) in
        models::load(&folder("cls"), &other).unwrap().parameters().iter().zip(known.parameters().iter())
    {
        assert_eq!(
            (new.fresh, new.data == old.data),
            (new.name.starts_with("classifier"), !new.fresh),
            "{}",
            new.name
        );
    }
    let request = HeadRequest { outputs: Some(9), ..HeadRequest::default() };
    assert_eq!(models::load(&folder("patch-transformer"), &request).unwrap().config()["horizon"], 9);
    let config = models::load(&folder("cls"), &request).unwrap().config().clone();
    assert_eq!((&config["num_labels"], config.get("id2label")), (&json!(9), None));
    let mean = HeadRequest { pooling: Pooling::Mean, ..HeadRequest::default() };
    assert_eq!(models::load(&folder("cls"), &mean).unwrap().config()["rgft_pooling"], "mean");
}

#[test]
fn inputs_and_settings_that_do_not_fit() {
    let refused = |name: &str, key: &str, value: Value| {
        let mut config = models::read_config(&folder(name)).unwrap();
        config[key] = value;
        models::build(&folder(name), config, &HeadRequest::default()).unwrap_err().to_string()
    };
    assert!(refused("cls", "image_size", json!([4, 7])).contains("image_size is 4 × 7, expected multiples"));
    assert!(refused("cls", "image_size", json!([4])).contains("expected a number or [height, width]"));
    assert!(
        refused("cls", "num_attention_heads", json!(5)).contains("hidden_size is 12, expected a multiple")
    );
    assert!(refused("cls", "rgft_pooling", json!("max")).contains("expected cls or mean"));
    assert!(refused("cls", "qkv_bias", json!(false)).contains("qkv_bias is false"));
    // Another size means other positions.
    assert!(refused("cls", "image_size", json!([4, 8])).contains("position_embeddings"));
    assert!(
        refused("patch-transformer", "patch", json!(17)).contains("patch is 17, expected at most context 16")
    );
    assert!(refused("patch-transformer", "num_heads", json!(5)).contains("multiple of the 5 heads"));
    assert!(refused("patch-transformer", "activation", json!("tan")).contains("activation is \"tan\""));
    assert!(
        refused("patch-transformer", "instance_norm_eps", json!(0)).contains("expected a positive number")
    );

    let (vit, forecaster) = (golden("cls"), golden("patch-transformer"));
    let message = |model: &Model, inputs: &Inputs| model.check(inputs).unwrap_err().to_string();
    let small = Images { pixels: vec![0.0; 48], height: 4, width: 4, channels: 3 };
    assert_eq!(
        message(&vit.model, &Inputs::Images(small)),
        "images are [4, 4, 3], the model reads [4, 6, 3] (height, width, channels)"
    );
    assert!(message(&vit.model, &forecaster.inputs).contains("the model reads images"));
    assert!(message(&forecaster.model, &vit.inputs).contains("the model reads series"));
    let short = Inputs::Series(Series { values: vec![0.0; 30], steps: 15 });
    assert!(message(&forecaster.model, &short).contains("windows of 15 steps, the model reads 16"));
}
