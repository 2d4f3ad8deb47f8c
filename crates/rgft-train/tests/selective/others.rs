//! The methods of others, pinned to their definitions: what each updates, when, and what it computes.

use rgft_core::{ComponentKind, Event};
use rgft_train::Workload;
use rgft_train::recipe::Recipe;

use super::common::{Run, first, recipe, run};

/// A run on the digits: 300 of them, in ten batches; three layers of four heads each.
fn by(settings: &[&str]) -> (Recipe, Workload, Run) {
    let recipe = recipe(settings);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    let finished = run(&recipe, &mut work);
    (recipe, work, finished)
}

struct Planned {
    step: usize,
    cut: usize,
    names: Vec<String>,
    layers: Vec<usize>,
    weights: Vec<f64>,
    ratio: f64,
}

fn plans(work: &Workload, finished: &Run) -> Vec<Planned> {
    let plan = |event: &Event| match event {
        Event::Plan { step, cut, active, weights, step_flops_ratio, .. } => {
            let mut layers: Vec<usize> = active.iter().filter_map(|&i| work.components[i].layer).collect();
            layers.sort_unstable();
            layers.dedup();
            Some(Planned {
                step: *step,
                cut: *cut,
                names: active.iter().map(|&i| work.components[i].name.clone()).collect(),
                layers,
                weights: weights.clone(),
                ratio: *step_flops_ratio,
            })
        }
        _ => None,
    };
    finished.events.iter().filter_map(plan).collect()
}

/// Steps before which the model was looked at, and what was seen.
fn maps(finished: &Run) -> Vec<(usize, Vec<f64>)> {
    let map = |event: &Event| match event {
        Event::Map { step, energies, .. } => Some((*step, energies.clone())),
        _ => None,
    };
    finished.events.iter().filter_map(map).collect()
}

/// Names of the parameters that a run by `method` changes.
fn changed(method: &str) -> (Vec<String>, Vec<String>, Run) {
    let recipe = recipe(&[&format!("method={method}"), "epochs=1"]);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    let before = work.model.parameters().clone();
    let finished = run(&recipe, &mut work);
    let (mut changed, mut kept) = (Vec::new(), Vec::new());
    for (old, new) in before.iter().zip(work.model.parameters().iter()) {
        let list = if old.data == new.data { &mut kept } else { &mut changed };
        list.push(new.name.clone());
    }
    (changed, kept, finished)
}

#[test]
fn bitfit_changes_every_bias_and_the_head_alone() {
    let (changed, kept, finished) = changed("bitfit");
    let is_its = |name: &String| name.ends_with(".bias") || name.starts_with("classifier");
    assert!(changed.iter().all(is_its) && !kept.iter().any(is_its), "{changed:?} {kept:?}");
    assert!(changed.iter().any(|name| name.contains("LayerNorm")));
    // The head's is the only weight gradient.
    let flops = &finished.summary.flops;
    assert!(flops.dw > 0 && flops.dw < flops.dx / 100, "{flops:?}");
}

#[test]
fn norm_changes_scales_and_shifts_and_the_head_alone() {
    let (changed, kept, finished) = changed("norm");
    let is_its = |name: &String| name.contains("LayerNorm") || name.starts_with("classifier");
    assert!(changed.iter().all(is_its) && !kept.iter().any(is_its), "{changed:?} {kept:?}");
    let flops = &finished.summary.flops;
    assert!(flops.dw > 0 && flops.dw < flops.dx / 100, "{flops:?}");
}

#[test]
fn lora_learns_adapters_and_the_head_and_leaves_a_plain_model() {
    let learnt = |method: &str| {
        let recipe = recipe(&[&format!("method={method}"), "epochs=1"]);
        let mut work = Workload::load(&recipe).unwrap();
        work.validation = first(work.validation, 10);
        let with_adapters = work.components.len();
        let before = work.model.parameters().clone();
        let finished = run(&recipe, &mut work);
        assert!(work.components.len() < with_adapters);
        let mut maps = 0;
        for (i, new) in work.model.parameters().iter().enumerate() {
            let adapted =
                new.name.contains("layer.") && new.name.ends_with(".weight") && new.shape.len() == 2;
            let changes = adapted || new.name.starts_with("classifier");
            assert_eq!(new.data != before.data(i), changes, "{}", new.name);
            maps += usize::from(adapted);
        }
        assert_eq!(maps, 3 * 6, "six maps in each of three layers");
        assert_eq!(work.model.parameters().len() + 2 * maps, before.len());
        // What was validated is what is left.
        let engine = Workload::engine(&recipe);
        let again = rgft_train::evaluate(&work.model, &engine, &*work.validation, work.objective).metrics;
        let told = finished.summary.metrics.validation["loss"];
        assert!((again["loss"] - told).abs() < 1e-4 * told, "{again:?}");
        (work.model.parameters().clone(), finished.summary.flops)
    };
    let (plain, flops) = learnt("lora");
    // Rank 8 beside maps of 64 × 64 and larger: no product of a weight gradient's size.
    assert!(flops.dw < flops.dx, "{flops:?}");
    let (stabilised, _) = learnt("rslora");
    assert_ne!(plain, stabilised);
}

#[test]
fn s2ft_draws_its_heads_and_neurons_once() {
    let drawn = |seed: &str| {
        let (_, work, finished) = by(&["method=s2ft", "s2ft-part=0.25", "epochs=2", &format!("seed={seed}")]);
        let mut plans = plans(&work, &finished);
        assert_eq!(plans.len(), 1);
        let names = plans.remove(0).names;
        let of = |part: &str| names.iter().filter(|name| name.contains(part)).count();
        assert_eq!((of(".head."), of(".neurons."), names.len()), (3, 3, 7), "{names:?}");
        names
    };
    assert_eq!(drawn("0"), drawn("0"));
    assert_ne!(drawn("0"), drawn("1"));
}

#[test]
fn lisa_draws_layers_beside_embeddings_and_head() {
    let (_, work, finished) = by(&["method=lisa", "epochs=4", "lisa-interval=3"]);
    let plans = plans(&work, &finished);
    assert_eq!(plans.len(), 14, "40 steps in turns of 3");
    for (i, plan) in plans.iter().enumerate() {
        assert_eq!((plan.step, plan.cut, plan.layers.len()), (3 * i, 0, 2));
        let outside = work.components.iter().filter(|component| component.layer.is_none());
        let mut outside = outside.map(|component| &component.name);
        assert!(outside.all(|name| plan.names.contains(name)), "{:?}", plan.names);
    }
    assert!(plans.iter().any(|plan| plan.layers != plans[0].layers), "the draw changes");
    // Two turns bring every layer its chance: half of the run each, if they may be as long.
    let (_, work, finished) = by(&["method=lisa", "epochs=2"]);
    let plans = self::plans(&work, &finished);
    assert_eq!(plans.iter().map(|plan| plan.step).collect::<Vec<_>>(), [0, 10]);
}

#[test]
fn badam_takes_one_layer_after_the_other_from_the_last() {
    let (_, work, finished) = by(&["method=badam", "epochs=2", "badam-interval=4"]);
    let plans = plans(&work, &finished);
    let turns: Vec<_> = plans.iter().map(|plan| (plan.step, plan.layers.clone())).collect();
    let expected = [2, 1, 0, 2, 1].map(|layer| vec![layer]);
    assert_eq!(turns, [0, 4, 8, 12, 16].into_iter().zip(expected).collect::<Vec<_>>());
    for plan in &plans {
        let own = |name: &&String| work.components.iter().any(|c| c.name == **name && c.depth >= plan.cut);
        assert!(plan.names.iter().all(|name| own(&name)));
        assert!(plan.names.iter().any(|name| name == "head"), "{:?}", plan.names);
        assert!(!plan.names.iter().any(|name| name.contains("embeddings")), "{:?}", plan.names);
    }
    // The lower the layer, the further backward goes, and no further.
    assert!(plans[0].cut > plans[1].cut && plans[1].cut > plans[2].cut && plans[2].cut > 0);
    // The least that a short run does is one round.
    let (_, work, finished) = by(&["method=badam", "epochs=1", "budget=0.2"]);
    let layers: Vec<_> = self::plans(&work, &finished).into_iter().map(|plan| plan.layers).collect();
    assert_eq!(layers[..3], [vec![2], vec![1], vec![0]]);
}

#[test]
fn auto_rgn_weighs_tensors_by_relative_gradients_at_each_epoch() {
    let (_, work, finished) = by(&["method=auto-rgn", "epochs=4"]);
    let (plans, maps) = (plans(&work, &finished), maps(&finished));
    // What looks cost is taken from the steps: for a fourth one nothing is left.
    assert_eq!(maps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 10, 20]);
    assert_eq!(plans.len(), 3);
    for (plan, (_, relative)) in plans.iter().zip(&maps) {
        assert_eq!((plan.cut, plan.names.len()), (0, work.components.len()));
        let largest = relative.iter().copied().fold(0.0, f64::max);
        for (weight, relative) in plan.weights.iter().zip(relative) {
            assert!((weight - relative / largest).abs() < 1e-12);
        }
    }
    let one_tensor = |component: &rgft_core::Component| {
        component.kind == ComponentKind::TaskHead || component.slices.len() == 1
    };
    assert!(work.components.iter().all(one_tensor));
    assert_ne!(plans[0].weights, plans[1].weights);
    assert!(finished.summary.flops.probe > 0 && finished.summary.flops.ratio <= 1.0);
}

#[test]
fn greentrainer_chooses_within_the_price_of_a_step_at_every_other_epoch() {
    for ratio in [0.4, 0.5, 0.8] {
        let setting = format!("step-ratio={ratio}");
        let (_, work, finished) = by(&["method=greentrainer", "epochs=4", "cache=off", &setting]);
        let (plans, maps) = (plans(&work, &finished), maps(&finished));
        assert_eq!(maps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 20]);
        for (plan, (_, importances)) in plans.iter().zip(&maps) {
            assert!(plan.ratio <= ratio, "{} of {ratio}", plan.ratio);
            let largest = importances.iter().copied().fold(0.0, f64::max);
            assert_eq!(largest, 1.0);
            assert!(plan.names.len() > 1, "{:?}", plan.names);
        }
        // The whole step: what the plan leaves out is forward below the cut.
        let flops = &finished.summary.flops;
        let steps = (flops.total - flops.probe - flops.tracking) as f64 / flops.full_equivalent as f64;
        assert!(steps <= ratio + 0.01 && steps > ratio - 0.1, "{steps} of {ratio}");
    }
}

#[test]
fn selective_backprop_passes_all_forward_and_learns_from_a_third() {
    let (_, _, finished) = by(&["method=selective-backprop", "epochs=4"]);
    let learnt: usize = finished
        .events
        .iter()
        .map(|event| if let Event::Step { examples, .. } = event { *examples } else { 0 })
        .sum();
    let part = learnt as f64 / 1200.0;
    // A third of examples like those before; fewer while residuals shrink.
    assert!((0.2..0.36).contains(&part), "{part} of all were learnt from");
    // Forward of all, and all of the work for a third.
    let flops = &finished.summary.flops;
    let forward = (1.0 + part) * flops.full_equivalent as f64 / 3.0;
    assert!((flops.forward as f64 / forward - 1.0).abs() < 0.05, "{flops:?}");
    assert!((flops.ratio - (1.0 / 3.0 + part)).abs() < 0.05, "{flops:?}");
}

#[test]
fn a_run_that_only_its_budget_ends_announces_no_number_of_steps() {
    for (method, budget, expected) in
        [("rgft", "1", 0), ("rgft", "0.5", 0), ("full", "1", 10), ("lisa", "1", 10), ("lisa", "0.5", 0)]
    {
        let (_, _, finished) = by(&[&format!("method={method}"), &format!("budget={budget}"), "epochs=1"]);
        let announced = finished.events.iter().find_map(|event| match event {
            Event::RunStarted { total_steps, .. } => Some(*total_steps),
            _ => None,
        });
        assert_eq!(announced, Some(expected), "{method} at {budget}");
    }
}
