//! What is kept and what is written: the best weights, and files that load back the same.

use std::path::Path;

use rgft_core::{Component, ComponentKind, Event, RunSummary};
use rgft_nn::models::{self, HeadRequest};
use rgft_nn::weights::Checkpoint;
use rgft_train::recipe::RawRecipe;
use rgft_train::{OutFolder, Predictor, Workload};
use serde_json::{Map, json};

use super::common::{Folder, Run, recipe, repository, run_in, same_bits};

/// `(step, accuracy, best)` of each validation.
fn validations(run: &Run) -> Vec<(usize, f64, bool)> {
    let of = |event: &Event| match event {
        Event::Validation { step, metrics, best, .. } => Some((*step, metrics["accuracy"], *best)),
        _ => None,
    };
    run.events.iter().filter_map(of).collect()
}

fn evaluated(folder: &Path, table: &str) -> std::collections::BTreeMap<String, f64> {
    let data = Some(repository().join("assets/demo").join(table));
    let settings = RawRecipe { model: Some(folder.into()), data, ..RawRecipe::default() };
    Predictor::load(settings).unwrap().evaluate().unwrap().evaluation.metrics
}

#[test]
fn a_head_of_other_labels_starts_anew_though_there_are_as_many() {
    let folder = Folder::new("labels");
    let of_labels = |digit: &str| {
        let named = |table: &str| {
            let text = std::fs::read_to_string(repository().join("assets/demo").join(table)).unwrap();
            let rows = text.lines().skip(1).filter_map(|line| line.split_once(','));
            let rows: Vec<String> = rows.map(|(text, label)| format!("{text},{digit}{label}")).collect();
            let path = folder.path().join(table);
            std::fs::write(&path, format!("text,label\n{}\n", rows.join("\n"))).unwrap();
            path.display().to_string()
        };
        let data = format!("data={}", named("shift-train.csv"));
        let validation = format!("validation={}", named("shift-validation.csv"));
        Workload::load(&recipe(&[&data, &validation])).unwrap()
    };
    let (same, other) = (of_labels(""), of_labels("digit "));
    assert_eq!((same.labels.len(), other.labels.len()), (10, 10));
    assert!(!same.head_is_fresh() && same.notes.is_empty(), "{:?}", same.notes);
    assert!(other.head_is_fresh() && other.notes[0].contains("starts anew"), "{:?}", other.notes);
}

#[test]
fn the_best_validation_is_what_is_kept_written_and_reported() {
    let folder = Folder::new("best");
    let test = repository().join("assets/demo/shift-test.csv");
    // A rate that ruins the model after a while.
    let recipe = recipe(&[
        "method=full",
        "epochs=4",
        "validate-every=2",
        "learning-rate=5e-3",
        "schedule=constant",
        "warmup=0.9",
        "clip=0",
        &format!("test={}", test.display()),
    ]);
    let mut work = Workload::load(&recipe).unwrap();
    let mut out = OutFolder::create(&folder.path().join("out")).unwrap();
    let finished = run_in(&recipe, &mut work, Some(&mut out));
    let seen = validations(&finished);
    let best = seen.iter().rev().find(|(_, _, best)| *best).unwrap();
    assert!(seen.iter().all(|(_, accuracy, _)| accuracy <= &best.1));
    assert!(seen.last().unwrap().1 < best.1, "the last validation must not be the best: {seen:?}");

    let text = std::fs::read_to_string(out.path().join("run.json")).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&finished.summary).unwrap() + "\n");
    let written: RunSummary = serde_json::from_str(&text).unwrap();
    assert_eq!(written.metrics.validation["accuracy"], best.1);
    for (metrics, table) in
        [(&written.metrics.validation, "shift-validation.csv"), (&written.metrics.test, "shift-test.csv")]
    {
        let fresh = evaluated(out.path(), table);
        assert_eq!(fresh.keys().collect::<Vec<_>>(), metrics.keys().collect::<Vec<_>>());
        for (name, value) in &fresh {
            assert!((value - metrics[name]).abs() < 1e-9, "{name}: {value}, reported {}", metrics[name]);
        }
    }
    let saved = models::load(out.path(), &HeadRequest::default()).unwrap();
    same_bits(saved.parameters(), work.model.parameters());
}

#[test]
fn what_was_first_updated_after_the_best_validation_is_restored_too() {
    // The head alone at first; then a rate that ruins everything below it.
    let recipe = recipe(&[
        "method=rgft",
        "budget=0.9",
        "epochs=2",
        "validate-every=1",
        "learning-rate=0.5",
        "head-learning-rate=3e-2",
        "head-first=1",
        "head-first-passes=5",
        "clip=0",
        "warmup=0",
    ]);
    let mut work = Workload::load(&recipe).unwrap();
    // As if the head were new: then it learns alone at first.
    let is_head = |component: &&mut Component| component.kind == ComponentKind::TaskHead;
    work.components.iter_mut().filter(is_head).for_each(|component| component.fresh = true);
    let finished = run_in(&recipe, &mut work, None);
    let seen = validations(&finished);
    let (step, best, _) = seen.iter().rev().find(|(_, _, best)| *best).unwrap();
    let mapped = finished.events.iter().find_map(|event| match event {
        Event::Map { step, .. } => Some(*step),
        _ => None,
    });
    assert!(
        mapped.is_some_and(|mapped| *step <= mapped),
        "the best must come before the first map: {seen:?}"
    );
    assert_eq!(finished.summary.metrics.validation["accuracy"], *best);
    let engine = Workload::engine(&recipe);
    let again = rgft_train::evaluate(&work.model, &engine, &*work.validation, work.objective).metrics;
    assert_eq!(again, finished.summary.metrics.validation);
}

#[test]
fn patience_ends_a_run_that_does_not_improve() {
    for patience in [1, 3] {
        let recipe = recipe(&[
            "method=full",
            "epochs=4",
            "validate-every=2",
            "learning-rate=0.3",
            "schedule=constant",
            &format!("patience={patience}"),
        ]);
        let finished = super::common::run(&recipe, &mut Workload::load(&recipe).unwrap());
        let seen = validations(&finished);
        let (best, _, _) = seen.iter().rev().find(|(_, _, best)| *best).unwrap();
        assert_eq!(finished.summary.steps, best + 2 * patience, "{seen:?}");
        assert!(finished.summary.steps < 40);
    }
}

#[test]
fn shards_load_as_the_single_file() {
    let folder = Folder::new("shards");
    let demo = repository().join("assets/demo");
    let whole = models::load(&demo, &HeadRequest::default()).unwrap();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut shards = [Checkpoint::default(), Checkpoint::default()];
    let mut places = Map::new();
    for (i, parameter) in whole.parameters().iter().enumerate() {
        shards[i % 2].push_f32(&parameter.name, &parameter.shape, &parameter.data);
        places.insert(parameter.name.clone(), json!(names[i % 2]));
    }
    for (name, shard) in names.iter().zip(&shards) {
        shard.write(&folder.path().join(name)).unwrap();
    }
    std::fs::copy(demo.join("config.json"), folder.path().join("config.json")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let write = |places: &Map<String, serde_json::Value>| {
        std::fs::write(&index, json!({ "metadata": {}, "weight_map": places }).to_string()).unwrap();
    };
    write(&places);
    let sharded = models::load(folder.path(), &HeadRequest::default()).unwrap();
    same_bits(whole.parameters(), sharded.parameters());

    // A shard that is not there, and one outside of the folder.
    for wrong in ["model-00003-of-00002.safetensors", "../demo/model.safetensors"] {
        let mut places = places.clone();
        places.values_mut().take(1).for_each(|place| *place = json!(wrong));
        write(&places);
        let error = models::load(folder.path(), &HeadRequest::default()).err().unwrap().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}
