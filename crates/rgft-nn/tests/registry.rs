//! Every registered model, walked through: build, forward, backward under random plans, save, load, equal.

#![allow(clippy::unwrap_used, missing_docs)]

mod examples;

use examples::{Example, build};
use proptest::prelude::*;
use rgft_core::{Granularity, Inputs, Slices};
use rgft_kernels::Precision;
use rgft_nn::layers::Sinks;
use rgft_nn::models::{self, Grain, HeadRequest, MODELS, Model};
use rgft_nn::{Blind, Engine, Gradients, Needs, Pass, Product, Tape};

/// What forward and backward did under a plan.
struct Outcome {
    outputs: Vec<f32>,
    gradients: Gradients,
    executed: Vec<Product>,
    planned: Vec<Product>,
    saved: usize,
    needs: Vec<Needs>,
}

fn run(model: &Model, example: &Example, update: &[Slices], cut: usize) -> Outcome {
    run_with(None, model, example, update, cut)
}

/// As a training step with this seed, or in evaluation: batch norms and dropout differ.
fn run_with(seed: Option<u32>, model: &Model, example: &Example, update: &[Slices], cut: usize) -> Outcome {
    let engine = Engine::new(Precision::F32);
    engine.set_dropout(seed);
    let needs = model.needs(update, cut, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    engine.record();
    let mut tape = Tape::default();
    let y = model.forward(&engine, &example.inputs, &needs, &mut tape);
    let (outputs, saved) = (y.data().to_vec(), tape.scalars());
    let mut d = engine.tensor(y.rows(), y.cols());
    d.data_mut().iter_mut().enumerate().for_each(|(i, d)| *d = (0.3 + 1.7 * i as f32).cos());
    let sinks = &mut Sinks { gradients: &mut gradients, probe: &mut Blind };
    model.backward(&engine, &example.inputs, &needs, d, &mut tape, sinks);
    assert!(tape.is_empty(), "forward saved what backward did not read");
    let mut executed = engine.recorded();
    let mut planned = model.products(&example.inputs.extent(), &needs);
    executed.sort_unstable();
    planned.sort_unstable();
    Outcome { outputs, gradients, executed, planned, saved, needs }
}

/// The same inputs but for the last token, pixel or step.
fn changed(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    match &mut inputs {
        Inputs::Tokens(tokens) => *tokens.ids.last_mut().unwrap() ^= 1,
        Inputs::Images(images) => *images.pixels.last_mut().unwrap() += 1.0,
        Inputs::Series(series) => *series.values.last_mut().unwrap() += 1.0,
    }
    inputs
}

#[test]
fn every_model_has_outputs_that_depend_on_its_inputs() {
    for (name, ..) in MODELS {
        let (model, example) = build(name);
        model.check(&example.inputs).unwrap();
        let nothing = vec![Slices::None; model.parameters().len()];
        let found = run(&model, &example, &nothing, model.levels());
        assert!(found.outputs.iter().all(|y| y.is_finite()), "{name}");
        let other = Example { inputs: changed(&example.inputs), ..example };
        let others = run(&model, &other, &nothing, model.levels());
        assert_ne!(found.outputs, others.outputs, "{name}: the inputs do not matter");
        assert_eq!(found.saved, 0, "{name}: a frozen model saves nothing");
        assert!(found.executed.iter().all(|product| product.pass == Pass::Forward), "{name}");
    }
}

#[test]
fn components_of_every_model_cover_its_parameters_exactly_once() {
    for (name, ..) in MODELS {
        let (model, _) = build(name);
        for granularity in Granularity::ALL {
            let components = model.components(Grain { granularity, neuron_group: 0 });
            let total: usize = components.iter().map(|component| component.parameters).sum();
            assert_eq!(total, model.parameters().scalars(), "{name} {granularity}");
            let all: Vec<usize> = (0..components.len()).collect();
            let update = models::update_of(model.parameters(), &components, &all);
            assert_eq!(update, model.parameters().everything(), "{name} {granularity}");
            let mut names: Vec<&str> = components.iter().map(|component| &component.name[..]).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), components.len(), "{name} {granularity}: names are unique");
        }
    }
}

#[test]
fn every_model_is_saved_and_loaded_back_equal() {
    for (name, ..) in MODELS {
        let (model, example) = build(name);
        let folder = tempfile::tempdir().unwrap();
        model.checkpoint().write(&folder.path().join("model.safetensors")).unwrap();
        let config = serde_json::to_vec(model.config()).unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let request = HeadRequest { outputs: example.outputs, ..HeadRequest::default() };
        let again = models::load(folder.path(), &request).unwrap();
        assert!(again.parameters().iter().all(|parameter| !parameter.fresh), "{name}: all of it is loaded");
        for (a, b) in model.parameters().iter().zip(again.parameters().iter()) {
            assert_eq!((&a.name, &a.shape, &a.data), (&b.name, &b.shape, &b.data), "{name}");
        }
        assert_eq!(model.config(), again.config(), "{name}");
        let nothing = vec![Slices::None; model.parameters().len()];
        let [one, other] =
            [&model, &again].map(|model| run(model, &example, &nothing, model.levels()).outputs);
        assert_eq!(one, other, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_plan_computes_its_slices_of_the_full_gradient_and_nothing_else(
        granularity in proptest::sample::select(Granularity::ALL.to_vec()),
        chosen in proptest::collection::vec(prop::bool::weighted(0.3), 23),
        deeper in 0..3usize,
    ) {
        for (name, ..) in MODELS {
            let (model, example) = build(name);
            let parameters = model.parameters();
            let full = run(&model, &example, &parameters.everything(), 0);
            let components = model.components(Grain { granularity, neuron_group: 0 });
            let active: Vec<usize> = (0..components.len()).filter(|i| chosen[i % chosen.len()]).collect();
            let lowest = active.iter().map(|&i| components[i].depth).min().unwrap_or(model.levels() - 1);
            let update = models::update_of(parameters, &components, &active);
            let part = run(&model, &example, &update, lowest.saturating_sub(deeper));

            prop_assert_eq!(&part.executed, &part.planned, "{}", name);
            prop_assert_eq!(&full.executed, &full.planned, "{}", name);
            prop_assert_eq!(&part.outputs, &full.outputs, "{}", name);
            prop_assert!(part.saved <= full.saved, "{}", name);
            // In training, where batch norms make another function of each plan, the work is the same.
            let step = run_with(Some(7), &model, &example, &update, lowest.saturating_sub(deeper));
            prop_assert_eq!(&step.executed, &step.planned, "{}", name);
            prop_assert_eq!(&step.executed, &part.executed, "{}", name);
            prop_assert_eq!(step.gradients.scalars(), part.gradients.scalars(), "{}", name);
            for (i, parameter) in parameters.iter().enumerate() {
                let (rows, cols) = (parameter.rows(), parameter.cols());
                prop_assert_eq!(part.gradients.has(i), !update[i].is_none(), "{}", parameter.name);
                let (whole, found) = (full.gradients.dense(i, rows, cols), part.gradients.dense(i, rows, cols));
                let largest = whole.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
                for (at, (w, f)) in whole.iter().zip(&found).enumerate() {
                    let active = match &update[i] {
                        Slices::None => false,
                        Slices::All => true,
                        Slices::Rows(ranges) => ranges.contains(at / cols),
                        Slices::Cols(ranges) => ranges.contains(at % cols),
                    };
                    let expected = if active { *w } else { 0.0 };
                    prop_assert!(
                        (f - expected).abs() <= 2e-5 * largest,
                        "{} {} at {}: {} against {}", name, parameter.name, at, f, expected
                    );
                }
            }
            let below = |product: &&Product| product.pass != Pass::Forward && part.needs[product.site].is_empty();
            prop_assert_eq!(part.executed.iter().filter(below).count(), 0, "{}: work below the cut", name);
        }
    }
}
