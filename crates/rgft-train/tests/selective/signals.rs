//! Signals against what they stand for, on the tiny net: `exact` against full gradients, `gram` against its formula,
//! `sketch` against its mean. All signals on all models: `signals_of_models.rs`.

use rgft_core::{Axis, Component, Inputs, Signal, Slices};
use rgft_kernels::Precision;
use rgft_nn::models::SiteKind;
use rgft_nn::{Activation, Engine, Gradients, Probe, Tensor};
use rgft_train::Tracker;

use super::common::{Tiny, scalars_of};

/// What passes the linear sites: `(site, a [T, in], δ [T, out])`, rows concatenated.
#[derive(Default)]
struct Recorder(Vec<(usize, Vec<f32>, Vec<f32>)>);

impl Probe for Recorder {
    fn see(&mut self, _: &Engine, site: usize, input: Activation, delta: &Tensor) {
        if let Activation::Dense(a) = input {
            self.0.push((site, a.data().to_vec(), delta.data().to_vec()));
        }
    }
}

fn energies(tiny: &Tiny, signal: Signal, seed: u64) -> Vec<f64> {
    let engine = Engine::new(Precision::F32);
    let mut tracker = Tracker::new(&tiny.model, &tiny.components(), signal, 0.9, seed);
    look(tiny, &engine, &mut tracker);
    tracker.take()
}

fn look(tiny: &Tiny, engine: &Engine, tracker: &mut Tracker) {
    tracker.look(engine, &tiny.model, &Inputs::Tokens(tiny.tokens.clone()), |logits| {
        engine.kernels.cross_entropy(logits.data_mut(), &tiny.targets, 1.0)
    });
}

/// `‖dθ_i‖²` of each component, from full gradients; `of` replaces the energy of some slices.
fn from_gradients(tiny: &Tiny, of: impl Fn(usize, Axis, std::ops::Range<usize>) -> Option<f64>) -> Vec<f64> {
    let engine = Engine::new(Precision::F32);
    let everything = tiny.model.parameters().everything();
    let mut gradients = tiny.gradients(&engine, &everything);
    tiny.carry_back(&engine, &everything, 0, &mut gradients, None);
    let parameters = tiny.model.parameters();
    let energy = |component: &Component| -> f64 {
        let slices = component.slices.iter().map(|slice| {
            let parameter = &parameters[slice.parameter];
            of(slice.parameter, slice.axis, slice.range.clone()).unwrap_or_else(|| {
                let dense = gradients.dense(slice.parameter, parameter.rows(), parameter.cols());
                scalars_of(slice, parameters).into_iter().map(|at| f64::from(dense[at]).powi(2)).sum()
            })
        });
        slices.sum()
    };
    tiny.components().iter().map(energy).collect()
}

fn close(tiny: &Tiny, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for ((component, found), expected) in tiny.components().iter().zip(found).zip(expected) {
        assert!(*expected > 0.0 && found.is_finite(), "{}: {found}, {expected}", component.name);
        let off = (found / expected - 1.0).abs();
        assert!(off <= tolerance, "{}: {found} against {expected}", component.name);
    }
}

#[test]
fn exact_is_the_squared_norm_of_the_gradient() {
    let tiny = Tiny::load();
    close(&tiny, &energies(&tiny, Signal::Exact, 0), &from_gradients(&tiny, |_, _, _| None), 1e-5);
}

#[test]
fn gram_is_the_diagonal_of_the_gram_form() {
    let tiny = Tiny::load();
    let engine = Engine::new(Precision::F32);
    let nothing = vec![Slices::None; tiny.model.parameters().len()];
    let mut recorder = Recorder::default();
    tiny.carry_back(&engine, &nothing, 0, &mut Gradients::default(), Some(&mut recorder));
    let linear = |wanted: usize| {
        let site = tiny
            .model
            .sites()
            .iter()
            .position(|site| matches!(site.kind, SiteKind::Linear { weight, .. } if weight == wanted))?;
        recorder.0.iter().find(|(seen, _, _)| *seen == site)
    };
    let expected = from_gradients(&tiny, |parameter, axis, range| {
        let (_, a, delta) = linear(parameter)?;
        let (out, input) =
            (tiny.model.parameters()[parameter].rows(), tiny.model.parameters()[parameter].cols());
        let squared = |row: &[f32]| -> f64 { row.iter().map(|x| f64::from(*x).powi(2)).sum() };
        let token = |(a, delta): (&[f32], &[f32])| match axis {
            Axis::Rows => squared(&delta[range.clone()]) * squared(a),
            Axis::Cols => squared(delta) * squared(&a[range.clone()]),
        };
        Some(a.chunks_exact(input).zip(delta.chunks_exact(out)).map(token).sum())
    });
    let found = energies(&tiny, Signal::Gram, 0);
    close(&tiny, &found, &expected, 1e-5);
    let exact = energies(&tiny, Signal::Exact, 0);
    assert!(found.iter().zip(&exact).any(|(gram, exact)| (gram / exact - 1.0).abs() > 0.1));
}

#[test]
fn sketch_is_unbiased() {
    let tiny = Tiny::load();
    let exact = energies(&tiny, Signal::Exact, 0);
    let n = 4000;
    let (mut sum, mut squares) = (vec![0.0; exact.len()], vec![0.0; exact.len()]);
    for seed in 0..n {
        for (i, energy) in energies(&tiny, Signal::Sketch, seed).into_iter().enumerate() {
            sum[i] += energy;
            squares[i] += energy * energy;
        }
    }
    let n = n as f64;
    let mut drawn = 0;
    for (i, component) in tiny.components().iter().enumerate() {
        let mean = sum[i] / n;
        let error = ((squares[i] / n - mean * mean).max(0.0) / n).sqrt();
        drawn += usize::from(error > 1e-4 * mean);
        assert!(
            (mean - exact[i]).abs() <= 5.0 * error + 1e-5 * exact[i],
            "{}: mean {mean}, exact {}, standard error {error}",
            component.name,
            exact[i]
        );
    }
    // Heads, neurons and the task head are sketched; norms and embeddings are exact.
    assert_eq!(drawn, 2 * (4 + 4) + 1);
}

#[test]
fn energies_of_several_batches_are_averaged_and_taken_once() {
    let tiny = Tiny::load();
    let engine = Engine::new(Precision::F32);
    let mut tracker = Tracker::new(&tiny.model, &tiny.components(), Signal::Exact, 0.9, 0);
    (0..3).for_each(|_| look(&tiny, &engine, &mut tracker));
    close(&tiny, &tracker.take(), &energies(&tiny, Signal::Exact, 0), 1e-12);
    assert!(tracker.take().iter().all(|energy| *energy == 0.0));
}
