//! Recurrent networks against PyTorch, on real weights, and token by token.

#![allow(clippy::unwrap_used, missing_docs)]

mod pytorch;

use std::path::{Path, PathBuf};

use pytorch::{Optimizer, close, flat};
use rgft_core::{Inputs, Series, Slices, Tokens};
use rgft_kernels::cpu::loss::IGNORED;
use rgft_kernels::{Kernels, Precision};
use rgft_nn::models::{self, Grain, HeadRequest, Model, Pooling};
use rgft_nn::{Blind, Engine, Gradients, Tape, Tensor};
use serde_json::{Value, json};

const FAMILY: [&str; 6] =
    ["lstm-lm", "gru-lm", "lstm-classifier", "gru-classifier", "gru-forecaster", "lstm-forecaster"];

struct Golden {
    model: Model,
    inputs: Inputs,
    targets: Value,
    expected: Value,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rgft/tests/goldens/rnn").join(name)
}

fn golden(name: &str) -> Golden {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder(name).join("golden.json")).unwrap()).unwrap();
    let rows = expected["inputs"].as_array().unwrap();
    let lengths: Vec<usize> = rows.iter().map(|row| row.as_array().unwrap().len()).collect();
    let numbers = flat(&expected["inputs"]);
    let inputs = if name.ends_with("forecaster") {
        Inputs::Series(Series { values: numbers.iter().map(|&x| x as f32).collect(), steps: lengths[0] })
    } else {
        let ids: Vec<u32> = numbers.iter().map(|&id| id as u32).collect();
        Inputs::Tokens(Tokens { types: vec![0; ids.len()], ids, lengths })
    };
    let model = models::load(&folder(name), &HeadRequest::default()).unwrap();
    Golden { model, inputs, targets: expected["targets"].clone(), expected }
}

/// Turns outputs into the residual; returns the loss.
fn loss(kernels: &dyn Kernels, targets: &Value, outputs: &mut Tensor) -> f64 {
    let targets = flat(targets);
    if targets.iter().all(|y| y.fract() == 0.0) {
        let class = |&y: &f64| if y < 0.0 { IGNORED } else { y as u32 };
        let classes: Vec<u32> = targets.iter().map(class).collect();
        return kernels.cross_entropy(outputs.data_mut(), &classes, 1.0);
    }
    let values: Vec<f32> = targets.iter().map(|&y| y as f32).collect();
    kernels.squared_error(outputs.data_mut(), &values, 1.0)
}

fn outputs(model: &Model, inputs: &Inputs) -> Vec<f32> {
    let engine = Engine::new(Precision::F32);
    let needs = model.needs(&vec![Slices::None; model.parameters().len()], model.levels(), false);
    model.forward(&engine, inputs, &needs, &mut Tape::default()).data().to_vec()
}

/// Loss and gradients of everything.
fn step(golden: &Golden, engine: &Engine, gradients: &mut Gradients) -> f64 {
    let Golden { model, inputs, targets, .. } = golden;
    let needs = model.needs(&model.parameters().everything(), 0, false);
    gradients.clear();
    model.forward_backward(engine, inputs, &needs, gradients, &mut Blind, |y| {
        loss(&*engine.kernels, targets, y)
    })
}

#[test]
fn outputs_loss_and_all_gradients_are_pytorchs() {
    for name in FAMILY {
        let golden = golden(name);
        let (model, expected) = (&golden.model, &golden.expected);
        close(&outputs(model, &golden.inputs), &flat(&expected["outputs"]), 1e-5, name);
        let engine = Engine::new(Precision::F32);
        let all = model.parameters().everything();
        let mut gradients = Gradients::new(&engine, model.parameters(), &all, &model.tables());
        let found = step(&golden, &engine, &mut gradients);
        assert!((found - expected["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}: {found}");
        let expected = expected["gradients"].as_object().unwrap();
        assert_eq!(expected.len(), model.parameters().len(), "{name}: every parameter has a golden gradient");
        for (i, parameter) in model.parameters().iter().enumerate() {
            let found = gradients.dense(i, parameter.rows(), parameter.cols());
            close(&found, &flat(&expected[&parameter.name]), 2e-4, &format!("{name} {}", parameter.name));
        }
    }
}

#[test]
fn ten_steps_of_adamw_are_pytorchs() {
    for name in FAMILY {
        let mut golden = golden(name);
        let engine = Engine::new(Precision::F32);
        let all = golden.model.parameters().everything();
        let mut gradients = Gradients::new(&engine, golden.model.parameters(), &all, &golden.model.tables());
        let mut optimizer = Optimizer::default();
        let expected = flat(&golden.expected["losses"]);
        for (t, expected) in (1..).zip(&expected) {
            let found = step(&golden, &engine, &mut gradients);
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{name}, step {t}: {found} against {expected}"
            );
            optimizer.step(&mut golden.model, &gradients, 0.01);
        }
    }
}

#[test]
fn the_second_step_allocates_nothing() {
    for name in FAMILY {
        let golden = golden(name);
        let engine = Engine::new(Precision::F32);
        let all = golden.model.parameters().everything();
        let mut gradients = Gradients::new(&engine, golden.model.parameters(), &all, &golden.model.tables());
        step(&golden, &engine, &mut gradients);
        let warm = engine.arena.allocations();
        step(&golden, &engine, &mut gradients);
        assert_eq!(engine.arena.allocations(), warm, "{name}");
    }
}

#[test]
fn components_are_gates_by_groups_of_hidden_units() {
    let model = golden("lstm-classifier").model;
    let components = model.components(Grain::default());
    // Four gates of groups of 2 of 6 units, in two directions and two layers.
    assert_eq!(components.len(), 1 + 2 * 2 * 4 * 3 + 1);
    assert_eq!(components[1].name, "lstm.layer.0.gate.i.0");
    assert_eq!(components[1 + 12 + 4].name, "lstm.layer.0.reverse.gate.f.1");
    // 2 rows of W_ih (5 columns), W_hh (6 columns) and both biases.
    assert_eq!(components[1].parameters, 2 * (5 + 6 + 2));
    assert_eq!((components[1].layer, components[1].depth), (Some(0), 1));
    assert_eq!(components.last().unwrap().name, "classifier");
}

#[test]
fn token_by_token_is_all_at_once() {
    for name in ["lstm-lm", "gru-lm"] {
        let Golden { model, expected, .. } = golden(name);
        let ids: Vec<u32> = serde_json::from_value(expected["inputs"][1].clone()).unwrap();
        let all = flat(&expected["outputs"]);
        let vocabulary = all.len() / 20;
        // The second sequence follows four tokens of the first.
        let row = |t: usize| &all[(4 + t) * vocabulary..][..vocabulary];
        let engine = Engine::new(Precision::F32);
        let mut decoder = model.decoder().unwrap();
        close(&decoder.feed(&engine, &ids[..3]).unwrap(), row(2), 1e-5, name);
        for (t, id) in ids.iter().enumerate().skip(3) {
            close(&decoder.feed(&engine, &[*id]).unwrap(), row(t), 1e-5, name);
        }
    }
    assert!(golden("lstm-classifier").model.decoder().is_none(), "it reads from both ends");
}

#[test]
fn what_a_config_cannot_mean_is_refused() {
    let refused = |name: &str, key: &str, value: Value, request: &HeadRequest| {
        let mut config = models::read_config(&folder(name)).unwrap();
        config[key] = value;
        models::build(&folder(name), config, request).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let asked = HeadRequest::default();
    assert!(refused("lstm-lm", "bidirectional", json!(true), &asked).contains("one direction"));
    assert!(refused("lstm-lm", "gate_order", json!("i,f,o,g"), &asked).contains("i,f,g,o"));
    assert!(refused("lstm-lm", "hidden_size", json!(7), &asked).contains("lstm.weight_ih_l0"));
    assert!(refused("lstm-classifier", "pooling", json!("max"), &asked).contains("mean or last"));
    assert!(refused("gru-forecaster", "patch", json!(5), &asked).contains("does not divide"));
    let cls = HeadRequest { pooling: Pooling::Cls, ..HeadRequest::default() };
    assert!(refused("lstm-classifier", "dropout", json!(0.1), &cls).contains("no class token"));

    let golden = golden("gru-forecaster");
    let short = Inputs::Series(Series { values: vec![0.0; 22], steps: 11 });
    assert!(golden.model.check(&short).is_err() && golden.model.check(&golden.inputs).is_ok());
    let tokens = Inputs::Tokens(Tokens { ids: vec![1], types: vec![0], lengths: vec![1] });
    assert!(golden.model.check(&tokens).is_err());
}

#[test]
fn another_horizon_gives_a_fresh_head_and_a_new_lstm_remembers() {
    let request = HeadRequest { outputs: Some(7), ..HeadRequest::default() };
    let model = models::load(&folder("lstm-forecaster"), &request).unwrap();
    let fresh: Vec<&str> = model
        .parameters()
        .iter()
        .filter(|parameter| parameter.fresh)
        .map(|parameter| &parameter.name[..])
        .collect();
    assert_eq!(fresh, ["head.weight", "head.bias"]);
    assert_eq!(model.config()["horizon"], 7);

    let random = HeadRequest { random: true, ..HeadRequest::default() };
    let model = models::load(&folder("lstm-forecaster"), &random).unwrap();
    let bias = &model.parameters()[model.parameters().find("lstm.bias_ih_l0").unwrap()].data;
    assert!(bias.iter().enumerate().all(|(i, b)| *b == if (6..12).contains(&i) { 1.0 } else { 0.0 }));
}

#[test]
#[allow(clippy::print_stderr)]
fn the_character_model_knows_its_shakespeare() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets");
    if !assets.is_dir() {
        eprintln!("skipped: {} is absent", assets.display());
        return;
    }
    let folder = assets.join("models/charrnn-shakespeare");
    let model = models::load(&folder, &HeadRequest::default()).unwrap();
    let vocabulary: std::collections::HashMap<char, u32> =
        serde_json::from_slice(&std::fs::read(folder.join("vocab.json")).unwrap()).unwrap();
    let text = std::fs::read_to_string(assets.join("data/lm/tinyshakespeare.txt")).unwrap();
    let ids: Vec<u32> = text[text.len() - 60_000..].chars().map(|c| vocabulary[&c]).collect();

    // One sequence from the first character to the last: nothing may grow with its square.
    let engine = Engine::new(Precision::F32);
    let inputs =
        Inputs::Tokens(Tokens { types: vec![0; ids.len()], lengths: vec![ids.len()], ids: ids.clone() });
    let needs = model.needs(&vec![Slices::None; model.parameters().len()], model.levels(), false);
    let mut logits = model.forward(&engine, &inputs, &needs, &mut Tape::default());
    let targets: Vec<u32> = ids[1..].iter().copied().chain([IGNORED]).collect();
    let nats = engine.kernels.cross_entropy(logits.data_mut(), &targets, 1.0);
    eprintln!("charrnn: {nats:.4} nats per character");
    assert!((nats - 1.32).abs() < 0.01, "{nats}");
}
