//! Low-rank adapters on every registered model: forward, gradients, counted products, merging.

#![allow(clippy::unwrap_used, missing_docs)]

mod examples;

use examples::{Example, build};
use rgft_core::{ComponentKind, Granularity, Slices};
use rgft_kernels::Precision;
use rgft_nn::layers::Sinks;
use rgft_nn::models::{Grain, MODELS, Model, SiteKind, update_of};
use rgft_nn::{Blind, Engine, Gradients, Pass, Tape};

const RANK: usize = 13;
const SCALE: f32 = 0.7;

/// A product's site, pass and sizes.
type Brief = (usize, Pass, [usize; 3]);

/// Outputs and gradients under `update`; the products that ran are those that were planned.
fn run(model: &Model, example: &Example, update: &[Slices]) -> (Vec<f32>, Gradients, Vec<Brief>) {
    let engine = Engine::new(Precision::F32);
    engine.set_dropout(None);
    let needs = model.needs(update, 0, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    engine.record();
    let mut tape = Tape::default();
    let y = model.forward(&engine, &example.inputs, &needs, &mut tape);
    let outputs = y.data().to_vec();
    let mut d = engine.tensor(y.rows(), y.cols());
    d.data_mut().iter_mut().enumerate().for_each(|(i, d)| *d = (0.3 + 1.7 * i as f32).cos());
    let sinks = &mut Sinks { gradients: &mut gradients, probe: &mut Blind };
    model.backward(&engine, &example.inputs, &needs, d, &mut tape, sinks);
    assert!(tape.is_empty(), "forward saved what backward did not read");
    let (mut executed, mut planned) = (engine.recorded(), model.products(&example.inputs.extent(), &needs));
    executed.sort_unstable();
    planned.sort_unstable();
    assert_eq!(executed, planned);
    let brief = executed.iter().map(|p| (p.site, p.pass, [p.m, p.k, p.n])).collect();
    (outputs, gradients, brief)
}

/// Every model, without adapters and with some.
fn adapted() -> impl Iterator<Item = (&'static str, Model, Model, Example)> {
    MODELS.iter().map(|(name, ..)| {
        let (plain, _) = build(name);
        let (mut model, example) = build(name);
        assert!(model.add_adapters(RANK, SCALE, 5) > 0, "{name}");
        (*name, plain, model, example)
    })
}

fn learn(model: &mut Model) {
    for parameter in model.parameters_mut().iter_mut().filter(|p| p.name.ends_with("lora_B.weight")) {
        parameter.data.iter_mut().enumerate().for_each(|(i, b)| *b = 0.1 * (0.9 * i as f32).sin());
    }
}

fn close(name: &str, a: &[f32], b: &[f32]) {
    let largest = b.iter().fold(1e-3f32, |largest, b| largest.max(b.abs()));
    assert_eq!(a.len(), b.len(), "{name}");
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 2e-4 * largest, "{name}: {worst} of {largest}");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_merged_one_is_the_weight() {
    for (name, plain, mut model, example) in adapted() {
        let nothing = |model: &Model| vec![Slices::None; model.parameters().len()];
        let before = run(&plain, &example, &nothing(&plain)).0;
        assert_eq!(run(&model, &example, &nothing(&model)).0, before, "{name}");
        learn(&mut model);
        let adapted = run(&model, &example, &nothing(&model)).0;
        assert_ne!(adapted, before, "{name}");
        let folder = tempfile::tempdir().unwrap();
        let saved = |model: &Model, file: &str| {
            model.checkpoint().write(&folder.path().join(file)).unwrap();
            std::fs::read(folder.path().join(file)).unwrap()
        };
        let before_merging = saved(&model, "adapted");
        model.merge_adapters();
        assert_eq!(model.parameters().len(), plain.parameters().len(), "{name}");
        close(name, &run(&model, &example, &nothing(&model)).0, &adapted);
        assert!(before_merging == saved(&model, "merged"), "{name}: what is saved is merged");
    }
}

/// `dB = s·dW·Aᵀ` and `dA = s·Bᵀ·dW`, with dW the gradient of the weight into which the adapter is merged.
#[test]
fn gradients_of_adapters_follow_from_the_weights_and_no_weight_gradient_is_computed() {
    for (name, _, mut model, example) in adapted() {
        learn(&mut model);
        let components = model.components(Grain { granularity: Granularity::Layer, neuron_group: 0 });
        let own: Vec<usize> =
            (0..components.len()).filter(|&i| components[i].kind == ComponentKind::Adapter).collect();
        let update = update_of(model.parameters(), &components, &own);
        let (_, gradients, products) = run(&model, &example, &update);
        let a_and_b: usize = own.iter().map(|&i| components[i].parameters).sum();
        assert_eq!(gradients.scalars(), a_and_b, "{name}: buffers for adapters alone");
        for (site, pass, shape) in products {
            let (SiteKind::Linear { weight, .. } | SiteKind::Conv { weight, .. }) = model.sites()[site].kind
            else {
                continue;
            };
            let w = &model.parameters()[weight];
            let of_weight = pass == Pass::Dw && shape[0] == w.rows() && shape[2] == w.cols();
            assert!(!of_weight, "{name}: {}", w.name);
        }
        let factors: Vec<_> = own
            .iter()
            .map(|&i| {
                let [a, b] = [0, 1].map(|end| components[i].slices[end].parameter);
                let path = components[i].name.trim_end_matches(".lora");
                let site = model.sites().iter().find(|site| site.name == path).unwrap();
                let weight = site.kind.weight();
                let data = |index: usize| model.parameters().data(index).to_vec();
                let (out, input) = (data(b).len() / RANK, data(a).len() / RANK);
                let da = gradients.dense(a, RANK, input);
                let db = gradients.dense(b, out, RANK);
                (weight, data(a), data(b), da, db)
            })
            .collect();
        model.merge_adapters();
        let everything = model.parameters().everything();
        let (_, full, _) = run(&model, &example, &everything);
        for (weight, a, b, da, db) in factors {
            let (out, input) = (b.len() / RANK, a.len() / RANK);
            let dw = full.dense(weight, out, input);
            let (mut expected_a, mut expected_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for o in 0..out {
                for i in 0..input {
                    for r in 0..RANK {
                        expected_b[o * RANK + r] += SCALE * dw[o * input + i] * a[r * input + i];
                        expected_a[r * input + i] += SCALE * b[o * RANK + r] * dw[o * input + i];
                    }
                }
            }
            close(&format!("{name}, A of {}", model.parameters()[weight].name), &da, &expected_a);
            close(&format!("{name}, B of {}", model.parameters()[weight].name), &db, &expected_b);
        }
    }
}

#[test]
fn components_with_adapters_cover_everything_once() {
    for (name, plain, model, _) in adapted() {
        for granularity in Granularity::ALL {
            let grain = Grain { granularity, neuron_group: 0 };
            let (without, with) = (plain.components(grain), model.components(grain));
            let kept: Vec<_> = with.iter().filter(|c| c.kind != ComponentKind::Adapter).collect();
            assert_eq!(kept, without.iter().collect::<Vec<_>>(), "{name} {granularity}");
            let scalars: usize = with.iter().map(|component| component.parameters).sum();
            let all: usize = model.parameters().iter().filter(|p| !p.buffer).map(|p| p.data.len()).sum();
            assert_eq!(scalars, all, "{name} {granularity}");
        }
        // What full fine-tuning costs does not depend on adapters.
        assert_eq!(model.parameters().scalars(), plain.parameters().scalars());
    }
}
