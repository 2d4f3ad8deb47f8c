//! Equality to the bit: selective training with everything selected, frozen slices, and runs repeated.

use std::collections::BTreeSet;

use rgft_core::{Event, Granularity, Schedule, Slices};
use rgft_kernels::cpu::optimizer::{AdamW, Block};
use rgft_nn::models::Grain;
use rgft_nn::{Blind, Gradients};
use rgft_train::recipe::Recipe;
use rgft_train::schedule_of_batches::BatchSchedule;
use rgft_train::{OutFolder, Workload};
use serde_json::Value;

use super::common::{Folder, recipe, run, run_in, same_bits, scalars_of};

/// Twenty steps of full fine-tuning, validated at the end alone, so that the last weights are kept.
const FULL: [&str; 3] = ["method=full", "epochs=2", "validate-every=20"];

#[test]
fn all_groups_active_are_full_fine_tuning() {
    let recipe = recipe(&FULL);
    let [mut whole, mut cut] = [(); 2].map(|()| Workload::load(&recipe).unwrap());
    let before = whole.model.parameters().clone();
    for granularity in [Granularity::Module, Granularity::Group] {
        cut.components = cut.model.components(Grain { granularity, neuron_group: 0 });
        *cut.model.parameters_mut() = before.clone();
        *whole.model.parameters_mut() = before.clone();
        assert!(cut.components.len() > whole.components.len());
        let (of_layers, of_groups) = (run(&recipe, &mut whole), run(&recipe, &mut cut));
        assert_eq!(of_layers.summary.steps, 20);
        assert_eq!(of_layers.summary.flops, of_groups.summary.flops);
        same_bits(whole.model.parameters(), cut.model.parameters());
        assert_ne!(before, *whole.model.parameters());
    }
}

/// Full fine-tuning without components, plans or slices: one dense gradient and one AdamW call per parameter.
fn plain(recipe: &Recipe, work: &mut Workload) {
    let engine = Workload::engine(recipe);
    let batches = BatchSchedule::new(&*work.train, recipe.epochs, recipe.batch_size, 1, recipe.seed);
    let schedule = Schedule { kind: recipe.schedule, warmup: recipe.warmup };
    let everything = vec![Slices::All; work.model.parameters().len()];
    let needs = work.model.needs(&everything, 0, false);
    let mut gradients = Gradients::new(&engine, work.model.parameters(), &everything, &work.model.tables());
    let mut moments: Vec<[Vec<f32>; 2]> =
        work.model.parameters().iter().map(|p| [(); 2].map(|()| vec![0.0; p.data.len()])).collect();
    for step in 0..batches.len() {
        let batch = work.train.pack(&batches.step(step)[0], None);
        let rgft_data::Targets::Classes(targets) = &batch.targets else { panic!("classes") };
        gradients.clear();
        work.model.forward_backward(&engine, &batch.inputs, &needs, &mut gradients, &mut Blind, |z| {
            engine.kernels.cross_entropy(z.data_mut(), targets, 1.0)
        });
        let norm = gradients.squared_norm(&engine).sqrt();
        for (i, [m, v]) in moments.iter_mut().enumerate() {
            let parameter = &mut work.model.parameters_mut()[i];
            let gradient = gradients.dense(i, parameter.rows(), parameter.cols());
            let width = parameter.cols();
            let block = Block {
                weight: &mut parameter.data,
                weight_stride: width,
                gradient: Some(&gradient),
                gradient_stride: width,
                width,
            };
            let step = AdamW {
                learning_rate: (recipe.learning_rate * schedule.factor(step as f64, batches.len() as f64))
                    as f32,
                weight_decay: recipe.weight_decay as f32,
                beta1: recipe.beta1 as f32,
                beta2: recipe.beta2 as f32,
                epsilon: recipe.epsilon as f32,
                step: step as u32 + 1,
                gradient_scale: (recipe.clip / (norm + 1e-6)).min(1.0) as f32,
            };
            engine.kernels.adamw(block, m, v, step);
        }
    }
}

#[test]
fn full_fine_tuning_is_the_plain_loop() {
    let recipe = recipe(&[&FULL[..], &["dropout=0"]].concat());
    let [mut by_hand, mut by_run] = [(); 2].map(|()| Workload::load(&recipe).unwrap());
    plain(&recipe, &mut by_hand);
    by_run.components = by_run.model.components(Grain::default());
    run(&recipe, &mut by_run);
    same_bits(by_hand.model.parameters(), by_run.model.parameters());
}

#[test]
fn a_run_changes_no_bit_of_what_it_never_chose() {
    // A factor of 0 promises no gain, so the planner never takes these.
    let alpha = "alpha={ \"encoder.layer.1.*\" = 0, \"embeddings.words\" = 0 }";
    let recipe = recipe(&["budget=0.5", "epochs=2", "granularity=group", alpha]);
    let mut work = Workload::load(&recipe).unwrap();
    let before = work.model.parameters().clone();
    let finished = run(&recipe, &mut work);
    let chosen: BTreeSet<usize> = finished
        .events
        .iter()
        .filter_map(|event| if let Event::Plan { active, .. } = event { Some(active.clone()) } else { None })
        .flatten()
        .collect();
    let frozen = |name: &str| name.starts_with("encoder.layer.1.") || name == "embeddings.words";
    assert!(!chosen.is_empty() && chosen.iter().all(|&i| !frozen(&work.components[i].name)));
    let after = work.model.parameters();
    let mut changed = 0;
    for (i, component) in work.components.iter().enumerate() {
        for slice in &component.slices {
            let (old, new) = (before.data(slice.parameter), after.data(slice.parameter));
            let differs =
                scalars_of(slice, after).into_iter().any(|at| old[at].to_bits() != new[at].to_bits());
            assert!(!differs || chosen.contains(&i), "{} was frozen", component.name);
            changed += usize::from(differs);
        }
    }
    assert!(changed > 0);
}

/// The lines of `events.jsonl` without what a clock or the system says.
fn timeless(text: &str) -> Vec<Value> {
    fn strip(value: &mut Value) {
        if let Value::Object(map) = value {
            ["seconds", "memory"].iter().for_each(|key| drop(map.remove(*key)));
            map.values_mut().for_each(strip);
        }
    }
    let parse = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        strip(&mut value);
        value
    };
    text.lines().map(parse).collect()
}

#[test]
fn one_seed_gives_one_result_and_another_seed_another() {
    let folder = Folder::new("seeds");
    let files = ["a", "b", "c"].map(|name| {
        let seed = if name == "c" { "seed=1" } else { "seed=7" };
        let recipe = recipe(&["budget=0.5", "epochs=2", seed]);
        let mut out = OutFolder::create(&folder.path().join(name)).unwrap();
        run_in(&recipe, &mut Workload::load(&recipe).unwrap(), Some(&mut out));
        let read = |file: &str| std::fs::read(out.path().join(file)).unwrap();
        let events = timeless(&String::from_utf8(read("events.jsonl")).unwrap());
        (["model.safetensors", "error_map.json", "certificate.json", "recipe.toml"].map(read), events)
    });
    let [a, b, c] = &files;
    assert!(a.1.len() > 12, "{} events", a.1.len());
    assert_eq!(a.1, b.1);
    assert!(a.0 == b.0, "files differ");
    assert_ne!(a.0[0], c.0[0]);
    assert_ne!(a.1, c.1);
}
