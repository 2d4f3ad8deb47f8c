//! Passes that begin or end between two levels, for every registered model: a stored hidden state replaces what lies
//! below it.

#![allow(clippy::unwrap_used, missing_docs)]

mod examples;

use examples::{Example, build};
use rgft_core::Slices;
use rgft_kernels::Precision;
use rgft_nn::models::{Hidden, MODELS, Model};
use rgft_nn::{Blind, Engine, Gradients, Needs, Product, Tape, Tensor};

/// The hidden state that enters `to`, with nothing saved.
fn state(model: &Model, example: &Example, engine: &Engine, from: Option<Hidden>, to: usize) -> Tensor {
    let mut tape = Tape::default();
    let state = model.forward_between(engine, &example.inputs, from, to, &model.no_needs(), &mut tape);
    assert!(tape.is_empty(), "a frozen prefix saves nothing");
    state
}

fn sorted(mut products: Vec<Product>) -> Vec<Product> {
    products.sort_unstable();
    products
}

/// Outputs, gradients and executed products of a step whose cut is `cut`.
fn step(
    model: &Model,
    example: &Example,
    engine: &Engine,
    from: Option<Hidden>,
    needs: &[Needs],
    update: &[Slices],
) -> (Vec<f32>, Vec<Vec<f32>>, Vec<Product>) {
    let mut gradients = Gradients::new(engine, model.parameters(), update, &model.tables());
    let mut outputs = Vec::new();
    engine.record();
    model.forward_backward_from(engine, &example.inputs, from, needs, &mut gradients, &mut Blind, |y| {
        outputs = y.data().to_vec();
        y.data_mut().iter_mut().enumerate().for_each(|(i, d)| *d = (0.3 + 1.7 * i as f32).cos());
        0.0
    });
    let executed = sorted(engine.recorded());
    let dense = |(i, p): (usize, &rgft_nn::Parameter)| gradients.dense(i, p.rows(), p.cols());
    (outputs, model.parameters().iter().enumerate().map(dense).collect(), executed)
}

/// The slices of all components that lie at `cut` or above it.
fn above(model: &Model, cut: usize) -> Vec<Slices> {
    let components = model.components(Default::default());
    let active: Vec<usize> = (0..components.len()).filter(|&i| components[i].depth >= cut).collect();
    rgft_nn::models::update_of(model.parameters(), &components, &active)
}

#[test]
fn a_step_from_a_stored_state_is_the_whole_step() {
    let mut trained = 0;
    for (name, ..) in MODELS {
        let (model, example) = build(name);
        let extent = example.inputs.extent();
        for cut in 1..model.levels() {
            let engine = Engine::new(Precision::F32);
            engine.record();
            let stored = state(&model, &example, &engine, None, cut);
            let prefix = sorted(model.products_between(&extent, &model.no_needs(), 0..cut));
            assert_eq!(sorted(engine.recorded()), prefix, "{name} below {cut}");
            assert_eq!(stored.rows(), model.extent_at(&extent, cut).rows(), "{name} {cut}");
            assert_eq!(model.rows_at(&extent, cut).iter().sum::<usize>(), stored.rows(), "{name} {cut}");
            assert_eq!(model.rows_at(&extent, cut).len(), extent.examples(), "{name} {cut}");

            let update = above(&model, cut);
            let needs = model.needs(&update, cut, false);
            // In training steps too, where nothing is dropped below the cut: batch norms above it use the batch's
            // statistics, those below it do not.
            for seed in [None, Some(7)] {
                engine.set_dropout(seed);
                if state(&model, &example, &engine, None, cut).data() != stored.data() {
                    assert!(seed.is_some(), "{name}: evaluation is a function of the inputs");
                    continue;
                }
                trained += usize::from(seed.is_some());
                let whole = step(&model, &example, &engine, None, &needs, &update);
                let mut copy = engine.tensor(stored.rows(), stored.cols());
                copy.data_mut().copy_from_slice(stored.data());
                let from = Some(Hidden { level: cut, state: copy });
                let part = step(&model, &example, &engine, from, &needs, &update);
                assert_eq!(part.0, whole.0, "{name} from {cut}: outputs");
                assert_eq!(part.1, whole.1, "{name} from {cut}: gradients");
                assert!(part.1.iter().flatten().any(|g| *g != 0.0), "{name} from {cut}: there are gradients");
                let planned = model.products_between(&extent, &needs, cut..model.levels());
                assert_eq!(part.2, sorted(planned), "{name} from {cut}");
                let all = [prefix.clone(), part.2].concat();
                assert_eq!(sorted(all), whole.2, "{name} from {cut}: prefix and suffix are the whole");
            }
        }
    }
    assert!(trained > 30, "{trained} training steps from a stored state");
}

#[test]
fn a_state_that_advances_is_the_one_from_the_bottom() {
    for (name, ..) in MODELS {
        let (model, example) = build(name);
        let (engine, extent) = (Engine::new(Precision::F32), example.inputs.extent());
        for (low, high) in (1..=model.levels()).flat_map(|high| (1..=high).map(move |low| (low, high))) {
            let from = Hidden { level: low, state: state(&model, &example, &engine, None, low) };
            engine.record();
            let advanced = state(&model, &example, &engine, Some(from), high);
            let planned = sorted(model.products_between(&extent, &model.no_needs(), low..high));
            assert_eq!(sorted(engine.recorded()), planned, "{name} from {low} to {high}");
            let direct = state(&model, &example, &engine, None, high);
            assert_eq!(advanced.data(), direct.data(), "{name} from {low} to {high}");
        }
    }
}

#[test]
fn another_state_makes_other_outputs() {
    // So the comparisons above can fail.
    for (name, ..) in MODELS {
        let (model, example) = build(name);
        let engine = Engine::new(Precision::F32);
        for level in 1..model.levels() {
            let mut other = state(&model, &example, &engine, None, level);
            other.data_mut().iter_mut().for_each(|x| *x = *x * 1.5 + 0.1);
            let own = state(&model, &example, &engine, None, model.levels());
            let from = Some(Hidden { level, state: other });
            let found = state(&model, &example, &engine, from, model.levels());
            assert_ne!(found.data(), own.data(), "{name} {level}");
        }
    }
}

/// Scalars that forward saves of the example.
fn saved(model: &Model, example: &Example, engine: &Engine, needs: &[Needs]) -> usize {
    let mut tape = Tape::default();
    model.forward(engine, &example.inputs, needs, &mut tape);
    tape.scalars()
}

#[test]
fn recomputation_changes_no_bit_and_saves_what_enters_each_block() {
    for (name, ..) in MODELS {
        let (mut model, example) = build(name);
        let extent = example.inputs.extent();
        for cut in 0..model.levels() {
            let engine = Engine::new(Precision::F32);
            engine.set_dropout(Some(7));
            let update = above(&model, cut);
            let needs = model.needs(&update, cut, false);
            model.set_recompute(false);
            let plain = step(&model, &example, &engine, None, &needs, &update);
            let statistics = engine.take_statistics();
            let plainly_saved = saved(&model, &example, &engine, &needs);
            engine.take_statistics();
            model.set_recompute(true);
            let again = step(&model, &example, &engine, None, &needs, &update);
            assert_eq!(engine.take_statistics(), statistics, "{name} from {cut}: each statistic once");
            assert_eq!((&again.0, &again.1), (&plain.0, &plain.1), "{name} from {cut}");
            assert_eq!(again.2, sorted(model.products(&extent, &needs)), "{name} from {cut}: as planned");
            assert_eq!(plain.2, sorted(model.products_once(&extent, &needs)), "{name} from {cut}");
            let kept = saved(&model, &example, &engine, &needs);
            if cut == 0 && model.levels() > 2 {
                assert!(
                    again.2.len() > plain.2.len() && kept < plainly_saved,
                    "{name}: {kept} of {plainly_saved}"
                );
            }
            if cut + 1 == model.levels() {
                assert_eq!((&again.2, kept), (&plain.2, plainly_saved), "{name}: the last block runs once");
            }
        }
    }
}
