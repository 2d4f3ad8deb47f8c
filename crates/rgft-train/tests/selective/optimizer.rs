//! The optimizer on slices against one scalar at a time, and accumulation against one large batch.

use rgft_core::Slices;
use rgft_kernels::Precision;
use rgft_nn::{Engine, models};
use rgft_train::recipe::OptimizerName;
use rgft_train::{Optimizer, StepSize, Workload};

use super::common::{Tiny, first, recipe, run, scalars_of};

/// One scalar with its moments, in f64.
#[derive(Clone, Default)]
struct Scalar {
    weight: f64,
    first: f64,
    second: f64,
    steps: i32,
}

impl Scalar {
    fn adamw(&mut self, gradient: f64, rate: f64) {
        self.steps += 1;
        self.weight *= 1.0 - rate * 0.01;
        self.first = 0.9 * self.first + 0.1 * gradient;
        self.second = 0.999 * self.second + 0.001 * gradient * gradient;
        let first = self.first / (1.0 - 0.9f64.powi(self.steps));
        let second = self.second / (1.0 - 0.999f64.powi(self.steps));
        self.weight -= rate * first / (second.sqrt() + 1e-8);
    }

    fn sgd(&mut self, gradient: f64, rate: f64) {
        self.steps += 1;
        self.weight *= 1.0 - rate * 0.01;
        self.first = 0.9 * self.first + gradient;
        self.weight -= rate * self.first;
    }
}

/// Components come and go; what is skipped must stand still, and go on where it stopped, or begin anew if all is forgotten.
fn follows_the_scalar_rule(name: &str, rate: f64) {
    let recipe = recipe(&[&format!("optimizer={name}")]);
    let mut tiny = Tiny::load();
    let components = tiny.components();
    let engine = Engine::new(Precision::F32);
    let mut optimizer = Optimizer::new(&recipe, tiny.model.parameters(), &components);
    let scalar = |weight: &f32| Scalar { weight: f64::from(*weight), ..Scalar::default() };
    let mut scalars: Vec<Vec<Scalar>> =
        tiny.model.parameters().iter().map(|p| p.data.iter().map(scalar).collect()).collect();
    let mut ever = vec![false; components.len()];
    let (mut state, gradient_scale) = (1u32, 0.5f32);
    for step in 0..14 {
        if step == 9 {
            optimizer.forget();
            ever.fill(false);
            for scalar in scalars.iter_mut().flatten() {
                *scalar = Scalar { weight: scalar.weight, ..Scalar::default() };
            }
        }
        // A third of the components in most steps, all of them in two.
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        let active: Vec<usize> =
            (0..components.len()).filter(|_| draw() % 3 == 0 || step == 6 || step == 13).collect();
        let mut sizes = vec![StepSize::default(); components.len()];
        for &i in &active {
            sizes[i] = StepSize { learning_rate: rate * (0.5 + (i % 4) as f64 / 2.0), active: true };
            ever[i] = true;
        }
        let update = models::update_of(tiny.model.parameters(), &components, &active);
        let cut = active.iter().map(|&i| components[i].depth).min().unwrap();
        let mut gradients = tiny.gradients(&engine, &update);
        tiny.carry_back(&engine, &update, cut, &mut gradients, None);

        // Frozen slices have neither gradient nor state.
        let dense = (0..update.len()).filter(|&i| !tiny.model.is_table(i));
        let expected: usize = dense
            .map(|i| {
                let parameter = &tiny.model.parameters()[i];
                update[i].elements(parameter.rows(), parameter.cols())
            })
            .sum();
        let tables: usize = (0..update.len())
            .filter(|&i| tiny.model.is_table(i) && !update[i].is_none())
            .map(|i| rows_looked_up(&tiny, i) * tiny.model.parameters()[i].cols())
            .sum();
        assert_eq!(gradients.scalars(), expected + tables, "step {step}");

        let before = tiny.model.parameters().clone();
        for &i in &active {
            for slice in &components[i].slices {
                let parameter = &before[slice.parameter];
                let dense = gradients.dense(slice.parameter, parameter.rows(), parameter.cols());
                for at in scalars_of(slice, &before) {
                    let gradient = f64::from(dense[at]) * f64::from(gradient_scale);
                    let own = &mut scalars[slice.parameter][at];
                    match recipe.optimizer {
                        OptimizerName::AdamW => own.adamw(gradient, sizes[i].learning_rate),
                        OptimizerName::Sgd => own.sgd(gradient, sizes[i].learning_rate),
                    }
                }
            }
        }
        let parameters = tiny.model.parameters_mut();
        optimizer.step(&*engine.kernels, parameters, &gradients, &sizes, gradient_scale);

        let moments = if recipe.optimizer == OptimizerName::AdamW { 2 } else { 1 };
        let held: usize =
            (0..ever.len()).filter(|&i| ever[i]).map(|i| moments * components[i].parameters).sum();
        assert_eq!(optimizer.scalars(), held, "step {step}");
        let after = tiny.model.parameters();
        for (i, component) in components.iter().enumerate() {
            for slice in &component.slices {
                for at in scalars_of(slice, after) {
                    let (old, new) = (before.data(slice.parameter)[at], after.data(slice.parameter)[at]);
                    let expected = scalars[slice.parameter][at].weight;
                    let what = || format!("{} at step {step}: {old} → {new}, not {expected}", component.name);
                    assert!(sizes[i].active || old.to_bits() == new.to_bits(), "{}", what());
                    assert!(
                        (f64::from(new) - expected).abs() <= 2e-6 * expected.abs().max(1.0),
                        "{}",
                        what()
                    );
                }
            }
        }
    }
}

/// Distinct rows of table `index` that the golden batch looks up.
fn rows_looked_up(tiny: &Tiny, index: usize) -> usize {
    let name = &tiny.model.parameters()[index].name;
    let mut rows: Vec<u32> = if name.contains("word") {
        tiny.tokens.ids.clone()
    } else if name.contains("position") {
        tiny.tokens.lengths.iter().flat_map(|&n| 0..n as u32).collect()
    } else {
        tiny.tokens.types.clone()
    };
    rows.sort_unstable();
    rows.dedup();
    rows.len()
}

#[test]
fn adamw_on_slices_is_scalar_adamw() {
    follows_the_scalar_rule("adamw", 0.01);
}

#[test]
fn sgd_on_slices_is_scalar_sgd() {
    follows_the_scalar_rule("sgd", 0.01);
}

#[test]
fn nothing_active_holds_nothing() {
    let tiny = Tiny::load();
    let engine = Engine::new(Precision::F32);
    let nothing = vec![Slices::None; tiny.model.parameters().len()];
    assert_eq!(tiny.gradients(&engine, &nothing).scalars(), 0);
    let optimizer = Optimizer::new(&recipe(&[]), tiny.model.parameters(), &tiny.components());
    assert_eq!(optimizer.scalars(), 0);
}

/// `rows` examples, one step per epoch: the same examples at once, and in micro-batches of 16 (the last one smaller).
fn accumulated(rows: usize, epochs: u32) {
    let settings = ["method=full", "dropout=0", "optimizer=sgd", "learning-rate=0.02", "schedule=constant"];
    let [whole, parts] = [(rows, 1), (16, rows.div_ceil(16))].map(|(batch, accumulation)| {
        let sizes = [
            format!("batch-size={batch}"),
            format!("accumulation={accumulation}"),
            format!("epochs={epochs}"),
            format!("validate-every={epochs}"),
        ];
        let settings: Vec<&str> = settings.iter().copied().chain(sizes.iter().map(|s| &s[..])).collect();
        let recipe = recipe(&settings);
        let mut work = Workload::load(&recipe).unwrap();
        work.train = first(work.train, rows);
        let before = work.model.parameters().clone();
        let finished = run(&recipe, &mut work);
        assert_eq!(finished.summary.steps, epochs as usize);
        assert_ne!(before, *work.model.parameters());
        (work.model.parameters().clone(), finished.summary.flops.total)
    });
    assert_eq!(whole.1, parts.1);
    for (a, b) in whole.0.iter().zip(parts.0.iter()) {
        let off = a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
        assert!(off <= 1e-5, "{} is off by {off}", a.name);
    }
}

#[test]
fn two_batches_of_16_accumulate_to_one_of_32() {
    accumulated(32, 4);
}

#[test]
fn a_smaller_last_micro_batch_weighs_less() {
    accumulated(21, 4);
}
