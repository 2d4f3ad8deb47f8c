//! The encoder against PyTorch, and selectivity: what is computed, saved and allocated under any plan.

#![allow(clippy::unwrap_used, missing_docs)]

mod pytorch;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use pytorch::{close, flat};
use rgft_core::{Component, Extent, Granularity, Inputs, Slices, Tokens};
use rgft_kernels::{Kernels, Precision};
use rgft_nn::models::{self, Grain, HeadRequest, Model};
use rgft_nn::{Blind, Engine, Gradients, Needs, Pass, Product, Tape};
use serde_json::Value;

const FAMILY: [&str; 3] = ["bert", "roberta", "distilbert"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rgft/tests/goldens/tiny").join(name)
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder(name).join("golden.json")).unwrap()).unwrap()
}

fn load(name: &str) -> Model {
    models::load(&folder(name), &HeadRequest::default()).unwrap()
}

/// A golden's sequences.
fn inputs_of(golden: &Value) -> Inputs {
    let rows = |key: &str| -> Option<Vec<Vec<u32>>> { serde_json::from_value(golden.get(key)?.clone()).ok() };
    let ids = rows("ids").unwrap();
    let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
    let types = rows("type_ids").map_or_else(|| vec![0; lengths.iter().sum()], |rows| rows.concat());
    Inputs::Tokens(Tokens { ids: ids.concat(), types, lengths })
}

/// Gradients of the cross-entropy under a plan, with everything that can be said about how they came about.
struct Outcome {
    gradients: Gradients,
    loss: f64,
    executed: Vec<Product>,
    planned: Vec<Product>,
    saved: usize,
    needs: Vec<Needs>,
}

fn run(model: &Model, inputs: &Inputs, targets: &[u32], update: &[Slices], cut: usize) -> Outcome {
    let engine = Engine::new(Precision::F32);
    let needs = model.needs(update, cut, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    engine.record();
    let mut tape = Tape::default();
    let mut logits = model.forward(&engine, inputs, &needs, &mut tape);
    let saved = tape.scalars();
    let loss = engine.kernels.cross_entropy(logits.data_mut(), targets, 1.0);
    let sinks = &mut rgft_nn::layers::Sinks { gradients: &mut gradients, probe: &mut Blind };
    model.backward(&engine, inputs, &needs, logits, &mut tape, sinks);
    assert!(tape.is_empty(), "forward saved what backward did not read");
    let mut executed = engine.recorded();
    let mut planned = model.products(&inputs.extent(), &needs);
    executed.sort_unstable();
    planned.sort_unstable();
    Outcome { gradients, loss, executed, planned, saved, needs }
}

#[test]
fn logits_loss_and_all_gradients_are_pytorchs() {
    for name in FAMILY {
        let (model, golden) = (load(name), golden(name));
        let inputs = inputs_of(&golden);
        let engine = Engine::new(Precision::F32);
        let update = vec![Slices::None; model.parameters().len()];
        let nothing = model.needs(&update, model.levels(), false);
        let logits = model.forward(&engine, &inputs, &nothing, &mut Tape::default());
        close(logits.data(), &flat(&golden["logits"]), 1e-5, name);

        let entropy = &golden["cross_entropy"];
        let targets: Vec<u32> = serde_json::from_value(entropy["targets"].clone()).unwrap();
        let outcome = run(&model, &inputs, &targets, &model.parameters().everything(), 0);
        assert!((outcome.loss - entropy["loss"].as_f64().unwrap()).abs() < 1e-5);
        let expected = entropy["gradients"].as_object().unwrap();
        assert_eq!(expected.len(), model.parameters().len(), "{name}: every parameter has a golden gradient");
        for (i, parameter) in model.parameters().iter().enumerate() {
            let found = outcome.gradients.dense(i, parameter.rows(), parameter.cols());
            close(&found, &flat(&expected[&parameter.name]), 2e-4, &format!("{name} {}", parameter.name));
        }
    }
}

#[test]
fn other_losses_are_pytorchs() {
    let (model, golden) = (load("bert"), golden("bert"));
    let inputs = inputs_of(&golden);
    let classifier = model.parameters().find("classifier.weight").unwrap();
    type Loss = fn(&dyn Kernels, &mut [f32], &[f32], f64) -> f64;
    let losses: [(&str, Loss); 2] = [
        ("binary_cross_entropy", |k, z, y, w| k.binary_cross_entropy(z, y, w)),
        ("squared_error", |k, z, y, w| k.squared_error(z, y, w)),
    ];
    for (name, loss) in losses {
        let expected = &golden[name];
        let targets: Vec<f32> = flat(&expected["targets"]).iter().map(|x| *x as f32).collect();
        let engine = Engine::new(Precision::F32);
        let mut update = vec![Slices::None; model.parameters().len()];
        update[classifier] = Slices::All;
        let needs = model.needs(&update, model.levels() - 1, false);
        let mut gradients = Gradients::new(&engine, model.parameters(), &update, &model.tables());
        let value = model.forward_backward(&engine, &inputs, &needs, &mut gradients, &mut Blind, |z| {
            loss(&*engine.kernels, z.data_mut(), &targets, 1.0)
        });
        assert!((value - expected["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}");
        let found = gradients.dense(classifier, 3, 16);
        close(&found, &flat(&expected["gradients"]["classifier.weight"]), 1e-4, name);
    }
}

/// A random plan: some components, and a cut at or below the lowest of them.
fn plan_of(
    model: &Model,
    granularity: Granularity,
    chosen: &[bool],
    deeper: usize,
) -> (Vec<Component>, Vec<usize>, usize) {
    let components = model.components(Grain { granularity, neuron_group: 0 });
    let active: Vec<usize> = (0..components.len()).filter(|i| chosen[i % chosen.len()]).collect();
    let lowest = active.iter().map(|&i| components[i].depth).min().unwrap_or(model.levels() - 1);
    (components, active, lowest.saturating_sub(deeper))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_plan_computes_its_slices_of_the_full_gradient_and_nothing_else(
        which in 0..3usize,
        granularity in proptest::sample::select(Granularity::ALL.to_vec()),
        chosen in proptest::collection::vec(any::<bool>(), 31),
        deeper in 0..3usize,
    ) {
        let model = load(FAMILY[which]);
        let inputs = inputs_of(&golden(FAMILY[which]));
        let targets = [0, 2, 1, 2];
        let full = run(&model, &inputs, &targets, &model.parameters().everything(), 0);
        let (components, active, cut) = plan_of(&model, granularity, &chosen, deeper);
        let update = models::update_of(model.parameters(), &components, &active);
        let part = run(&model, &inputs, &targets, &update, cut);

        // The executed products are the planned ones, for the plan and for full fine-tuning.
        prop_assert_eq!(&part.executed, &part.planned);
        prop_assert_eq!(&full.executed, &full.planned);
        prop_assert_eq!(part.loss, full.loss);
        prop_assert!(part.saved <= full.saved);

        let mut expected_scalars = 0;
        for (i, parameter) in model.parameters().iter().enumerate() {
            let (rows, cols) = (parameter.rows(), parameter.cols());
            // No gradient buffer for what is frozen.
            prop_assert_eq!(part.gradients.has(i), !update[i].is_none());
            if !model.is_table(i) {
                expected_scalars += update[i].elements(rows, cols);
            }
            let (whole, found) = (full.gradients.dense(i, rows, cols), part.gradients.dense(i, rows, cols));
            let largest = whole.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (at, (w, f)) in whole.iter().zip(&found).enumerate() {
                let active = match &update[i] {
                    Slices::None => false,
                    Slices::All => true,
                    Slices::Rows(ranges) => ranges.contains(at / cols),
                    Slices::Cols(ranges) => ranges.contains(at % cols),
                };
                let expected = if active { *w } else { 0.0 };
                prop_assert!((f - expected).abs() <= 1e-5 * largest.max(1e-3), "{} {}", parameter.name, at);
            }
        }
        let table_scalars: usize = (0..model.parameters().len())
            .filter(|&i| model.is_table(i) && part.gradients.has(i))
            .map(|i| part.gradients.dense(i, model.parameters()[i].rows(), 16).chunks(16).filter(|r| r.iter().any(|x| *x != 0.0)).count() * 16)
            .sum();
        prop_assert_eq!(part.gradients.scalars(), expected_scalars + table_scalars);

        // Below the cut nothing runs backward.
        let below = |product: &&Product| product.pass != Pass::Forward && part.needs[product.site].is_empty();
        prop_assert_eq!(part.executed.iter().filter(below).count(), 0);
    }
}

#[test]
fn components_cover_every_parameter_exactly_once() {
    for name in FAMILY {
        let model = load(name);
        for granularity in Granularity::ALL {
            let components = model.components(Grain { granularity, neuron_group: 5 });
            let total: usize = components.iter().map(|component| component.parameters).sum();
            assert_eq!(total, model.parameters().scalars(), "{name} {granularity}");
            let all: Vec<usize> = (0..components.len()).collect();
            let update = models::update_of(model.parameters(), &components, &all);
            assert!(update.iter().all(|slices| *slices == Slices::All), "{name} {granularity}");
        }
    }
}

#[test]
fn a_frozen_model_saves_nothing_and_runs_forward_only() {
    let model = load("bert");
    let inputs = inputs_of(&golden("bert"));
    let nothing = vec![Slices::None; model.parameters().len()];
    let outcome = run(&model, &inputs, &[0, 2, 1, 2], &nothing, model.levels());
    assert_eq!(outcome.saved, 0);
    assert!(outcome.executed.iter().all(|product| product.pass == Pass::Forward));
    assert_eq!(outcome.executed, outcome.planned);
}

#[test]
fn the_count_is_the_hand_count_on_a_two_layer_net() {
    // tiny/bert: hidden 16, 2 layers, 4 heads of width 4, intermediate 32, 3 labels, head with a pooler.
    let model = load("bert");
    let inputs = inputs_of(&golden("bert"));
    let (tokens, squares) = (32u64, (3 * 3 + 7 * 7 + 12 * 12 + 10 * 10) as u64);
    assert_eq!(inputs.extent(), Extent::Sequences(vec![3, 7, 12, 10]));
    let flops = |update: &[Slices], cut: usize| -> u64 {
        run(&model, &inputs, &[0, 2, 1, 2], update, cut).executed.iter().map(Product::flops).sum()
    };
    let linear = |out: u64, input: u64| 2 * tokens * out * input;
    let layer_forward = 4 * linear(16, 16) + 2 * linear(32, 16) + 2 * (2 * squares * 16);
    let layer_dx = 4 * linear(16, 16) + 2 * linear(32, 16) + 4 * (2 * squares * 16);
    let layer_dw = 4 * linear(16, 16) + 2 * linear(32, 16);
    let head = 2 * 4 * (16 * 16 + 3 * 16);
    let full = 2 * (layer_forward + layer_dx + layer_dw) + 3 * head;
    assert_eq!(flops(&model.parameters().everything(), 0), full);

    // Head 1 of layer 1 and the second of its four neuron groups, cut at that attention block: nothing leaves it.
    let components = model.components(Grain::default());
    let wanted = ["encoder.layer.1.attention.head.1", "encoder.layer.1.feed_forward.neurons.1"];
    let active: Vec<usize> =
        wanted.iter().map(|name| components.iter().position(|c| c.name == *name).unwrap()).collect();
    let update = models::update_of(model.parameters(), &components, &active);
    let head_dx = 2 * 4 * (16 * 16 + 3 * 16);
    let feed_forward = 2 * linear(32, 16) + 2 * linear(8, 16);
    let attention = linear(16, 4) + 4 * (2 * squares * 4) + 4 * linear(4, 16);
    assert_eq!(flops(&update, 3), 2 * layer_forward + head + head_dx + feed_forward + attention);
}

#[test]
fn other_outputs_keep_the_layer_before_them() {
    let known = load("bert");
    let request = HeadRequest { new_head: true, ..HeadRequest::default() };
    let model = models::load(&folder("bert"), &request).unwrap();
    for (new, old) in model.parameters().iter().zip(known.parameters().iter()) {
        let is_output = new.name.starts_with("classifier.");
        assert_eq!((new.fresh, new.data == old.data), (is_output, !is_output), "{}", new.name);
    }
    assert!(model.parameters().find("bert.pooler.dense.weight").is_some());
}

#[test]
fn saved_folders_load_back_equal() {
    for name in FAMILY {
        let model = load(name);
        let target = tempfile::tempdir().unwrap();
        model.checkpoint().write(&target.path().join("model.safetensors")).unwrap();
        let config = serde_json::to_vec(model.config()).unwrap();
        std::fs::write(target.path().join("config.json"), config).unwrap();
        let again = models::load(target.path(), &HeadRequest::default()).unwrap();
        assert_eq!(model.parameters(), again.parameters());
        assert_eq!(model.config(), again.config());
    }
}

#[test]
fn the_second_step_allocates_nothing() {
    let model = load("bert");
    let inputs = inputs_of(&golden("bert"));
    let engine = Engine::new(Precision::F32);
    let update = model.parameters().everything();
    let needs = model.needs(&update, 0, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), &update, &model.tables());
    let mut step = || {
        gradients.clear();
        model.forward_backward(&engine, &inputs, &needs, &mut gradients, &mut Blind, |z| {
            engine.kernels.cross_entropy(z.data_mut(), &[0, 2, 1, 2], 1.0)
        });
        engine.arena.allocations()
    };
    let warm = step();
    assert_eq!(step(), warm);
}

#[test]
fn weights_that_stay_packed_change_no_bit_and_are_noticed_when_they_move() {
    let mut model = load("bert");
    let inputs = inputs_of(&golden("bert"));
    let update = model.parameters().everything();
    let needs = model.needs(&update, 0, false);
    let gradients_by = |engine: &Engine, model: &Model| {
        let mut gradients = Gradients::new(engine, model.parameters(), &update, &model.tables());
        let loss = model.forward_backward(engine, &inputs, &needs, &mut gradients, &mut Blind, |z| {
            engine.kernels.cross_entropy(z.data_mut(), &[0, 2, 1, 2], 1.0)
        });
        let of = |(i, p): (usize, &rgft_nn::Parameter)| gradients.dense(i, p.rows(), p.cols());
        let all: Vec<f32> = model.parameters().iter().enumerate().flat_map(of).collect();
        (loss.to_bits(), all)
    };
    let engine = Engine::new(Precision::Bf16);
    for moved in 0..2 {
        // The second pass packs, the third multiplies by what is packed.
        let fresh = gradients_by(&Engine::new(Precision::Bf16), &model);
        (0..3).for_each(|pass| {
            assert!(gradients_by(&engine, &model) == fresh, "pass {pass}, moved {moved} times")
        });
        model
            .parameters_mut()
            .chosen_mut(|i| i % 2 == 0)
            .for_each(|(_, p)| p.data.iter_mut().for_each(|x| *x *= 1.25));
        let first = model.parameters().len() - 1;
        model.parameters_mut()[first].data.iter_mut().for_each(|x| *x += 0.5);
    }
}
