#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::path::Path;

use rgft_core::Axis;
use rgft_train::recipe::RawRecipe;

use super::*;

fn recipe() -> Recipe {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo");
    let mut raw = RawRecipe {
        model: Some(demo.clone()),
        data: Some(demo.join("digits-train.csv")),
        ..RawRecipe::default()
    };
    for setting in
        ["task=text-classification", "max-length=66", "batch-size=8", "limit-train=64", "granularity=group"]
    {
        raw.assign(setting).unwrap();
    }
    raw.check().unwrap()
}

fn settings() -> Settings {
    Settings { faults: 2, rise: -1.0, seeds: 2, kinds: Vec::new(), steps: 1, oracle: 3, batches: 1, tune: 1 }
}

fn bits(parameters: &Parameters) -> Vec<u32> {
    parameters.iter().flat_map(|parameter| parameter.data.iter().map(|x| x.to_bits())).collect()
}

#[test]
fn the_model_is_afterwards_what_it_was_before() {
    let (recipe, settings) = (recipe(), settings());
    let mut work = Workload::load(&recipe).unwrap();
    let before = bits(work.model.parameters());
    let alphas = [("uniform".to_owned(), Alpha::Uniform)];
    let candidates = [3, 5];
    let mut trial = Trial::new(&recipe, &settings, &alphas, &candidates);
    let found = trial.run(&mut work, &mut |_| {}).unwrap();
    assert!(bits(work.model.parameters()) == before);
    assert_eq!(found.len(), 4);
    // Each seed plants a fault in each candidate.
    for pair in found.chunks(2) {
        assert_ne!(pair[0].component, pair[1].component);
    }
    // The second fault finds the model whole: it is what it would be alone.
    let second = work.components.iter().position(|component| component.name == found[1].component).unwrap();
    let alone = [second];
    let mut trial_of_one = Trial::new(&recipe, &settings, &alphas, &alone);
    let found_alone = trial_of_one.run(&mut work, &mut |_| {}).unwrap();
    assert_eq!(found_alone[0].component, found[1].component);
    assert_eq!(found_alone[0].loss_after, found[1].loss_after);
    let again = trial.run(&mut work, &mut |_| {}).unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap(), serde_json::to_value(&again).unwrap());
}

#[test]
fn a_fault_changes_its_component_and_nothing_else() {
    let recipe = recipe();
    let mut work = Workload::load(&recipe).unwrap();
    let before = work.model.parameters().clone();
    let head = work.components.iter().find(|c| c.kind == ComponentKind::AttentionHead).unwrap().clone();
    let twin = Twin::new(&recipe, &work.model, work.train.outputs(), 7).unwrap();
    twin.plant(&mut work.model, &head);
    let mut changed = 0;
    for (i, (old, new)) in before.iter().zip(work.model.parameters().iter()).enumerate() {
        for (at, (old, new)) in old.data.iter().zip(&new.data).enumerate() {
            let (row, col) = (at / before[i].cols(), at % before[i].cols());
            let owns = head.slices.iter().any(|slice| {
                let place = if slice.axis == Axis::Rows { row } else { col };
                slice.parameter == i && slice.range.contains(&place)
            });
            assert!(owns || old.to_bits() == new.to_bits(), "{} {at}", before[i].name);
            changed += usize::from(old.to_bits() != new.to_bits());
        }
    }
    for slice in head.slices.iter().filter(|slice| slice.axis == Axis::Cols) {
        let norm = |parameters: &Parameters| {
            let Range { start, end } = slice.range;
            let rows = parameters[slice.parameter].data.chunks_exact(parameters[slice.parameter].cols());
            rows.flat_map(|row| &row[start..end]).map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
        };
        let (old, new) = (norm(&before), norm(work.model.parameters()));
        assert!((new / old - 1.0).abs() < 1e-5, "{new} was {old}");
    }
    // Weights are drawn anew; biases, which start at 0, may have been 0.
    assert!(changed * 10 > head.parameters * 9, "{changed} of {}", head.parameters);
}
