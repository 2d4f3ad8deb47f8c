//! A budget bounds the whole run, and is spent.

use rgft_core::{Component, ComponentKind, Event};
use rgft_train::Workload;
use rgft_train::recipe::Recipe;

use super::common::{Run, first, recipe, run};

fn accounts(run: &Run) -> u64 {
    let flops = &run.summary.flops;
    flops.forward + flops.dx + flops.dw + flops.update + flops.probe + flops.cache + flops.tracking
}

/// A run under a budget, validated on a few rows.
fn under(budget: f64, epochs: u32) -> Run {
    by("rgft", budget, epochs)
}

fn by(method: &str, budget: f64, epochs: u32) -> Run {
    let recipe =
        recipe(&[&format!("method={method}"), &format!("budget={budget}"), &format!("epochs={epochs}")]);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    run(&recipe, &mut work)
}

fn spends(method: &str, epochs: u32) {
    let mut missed = Vec::new();
    for budget in [0.2, 0.35, 0.5, 0.8] {
        let finished = by(method, budget, epochs);
        let flops = &finished.summary.flops;
        assert_eq!(flops.total, accounts(&finished));
        assert_eq!(flops.ratio, flops.total as f64 / flops.full_equivalent as f64);
        let part = flops.total as f64 / (budget * flops.full_equivalent as f64);
        if (part - 1.0).abs() > 0.02 || part > 1.001 {
            missed.push(format!("budget {budget}: {part:.4} of it spent"));
        }
        let told = finished.events.iter().rev().find_map(|event| match event {
            Event::Step { flops, .. } => Some(*flops),
            _ => None,
        });
        assert!(told.is_some_and(|told| told <= flops.total));
    }
    assert!(missed.is_empty(), "{epochs} epochs: {missed:?}");
}

#[test]
fn two_epochs_spend_their_budget_and_no_more() {
    spends("rgft", 2);
    spends("full-short", 2);
}

#[test]
fn eight_epochs_spend_their_budget_and_no_more() {
    spends("rgft", 8);
    spends("full-short", 8);
}

/// The learning rate of each step of a run on eight whole batches.
fn rates(recipe: &Recipe) -> Vec<f64> {
    let mut work = Workload::load(recipe).unwrap();
    (work.train, work.validation) = (first(work.train, 256), first(work.validation, 10));
    let rate = |event| match event {
        Event::Step { learning_rate, .. } => Some(learning_rate),
        _ => None,
    };
    run(recipe, &mut work).events.into_iter().filter_map(rate).collect()
}

/// However many steps full fine-tuning would make: a warm-up of half of the run is half of the steps that are made.
#[test]
fn a_warm_up_is_a_part_of_the_steps_that_are_made() {
    let settings = ["budget=0.1", "epochs=12", "cache=off", "warmup=0.5", "learning-rate=1"];
    let recipe = recipe(&[&settings[..], &["optimizer=sgd", "clip=1e-6"]].concat());
    let rates = rates(&recipe);
    let steps = rates.len() as f64;
    assert!((8.0..48.0).contains(&steps), "{steps}");
    // The k-th of K is warmed up to k/(K/2 + 1), and steps are not quite alike.
    for (k, rate) in rates.iter().enumerate().take(rates.len() / 2 - 1) {
        let expected = (k as f64 + 1.0) / (0.5 * steps + 1.0);
        assert!((rate / expected - 1.0).abs() < 0.2, "step {k} of {steps}: {rate} instead of {expected}");
    }
    assert!(rates.last().is_some_and(|last| (0.0..0.5).contains(last)), "{rates:?}");
}

/// Their first step is warmed up by the steps that they make, and no step has no rate.
#[test]
fn the_rates_of_the_methods_of_others_are_those_of_their_steps() {
    for method in ["lisa", "badam", "auto-rgn", "selective-backprop"] {
        let recipe = recipe(&[&format!("method={method}"), "epochs=2", "warmup=0.5", "learning-rate=1e-3"]);
        let rates = rates(&recipe);
        assert!(rates.iter().all(|rate| *rate > 0.0), "{method}: {rates:?}");
        // Of 16 steps, eight warm up.
        if rates.len() == 16 {
            assert!((rates[0] - 1e-3 / 9.0).abs() < 1e-9, "{method}: {rates:?}");
        }
        assert_eq!(rates.len() == 16, ["lisa", "badam"].contains(&method), "{method}: {} steps", rates.len());
    }
}

#[test]
fn the_methods_of_others_spend_a_budget_or_all_of_their_epochs() {
    for method in [
        "bitfit",
        "norm",
        "lora",
        "rslora",
        "s2ft",
        "lisa",
        "badam",
        "auto-rgn",
        "greentrainer",
        "selective-backprop",
    ] {
        let finished = by(method, 0.3, 2);
        let flops = &finished.summary.flops;
        assert_eq!(flops.total, accounts(&finished), "{method}");
        let part = flops.total as f64 / (0.3 * flops.full_equivalent as f64);
        let steps = finished.events.iter().filter(|event| matches!(event, Event::Step { .. })).count();
        // Here a forward pass that decides on no step any more is 6 % of the budget.
        let least = if method == "selective-backprop" { 0.94 } else { 0.98 };
        assert!(part <= 1.001 && (part > least || steps == 20), "{method}: {part:.4} in {steps} steps");
        let rates = finished.events.iter().filter_map(|event| match event {
            Event::Step { learning_rate, .. } => Some(*learning_rate),
            _ => None,
        });
        let rates: Vec<f64> = rates.collect();
        assert!(rates[rates.len() - 1] < 0.35 * rates[rates.len() / 4], "{method}: {rates:?}");
    }
}

#[test]
fn a_budget_below_the_price_of_a_look_is_kept() {
    for (budget, epochs) in [(0.02, 2), (0.1, 2), (0.05, 4)] {
        let flops = under(budget, epochs).summary.flops;
        assert!(flops.ratio <= budget * 1.001, "budget {budget}, {epochs} epochs: spent {}", flops.ratio);
    }
}

#[test]
fn a_budget_below_the_price_of_a_step_is_refused() {
    let recipe = recipe(&["budget=0.0001", "epochs=2"]);
    let mut work = Workload::load(&recipe).unwrap();
    let error = rgft_train::train(&recipe, &mut work, None, &mut |_| {}).err().unwrap();
    assert!(error.is_bad_input() && error.to_string().starts_with("budget = 0.0001 is "), "{error}");
}

#[test]
fn every_step_updates_something() {
    for budget in [0.2, 0.35, 0.5] {
        let mut active = 0;
        for event in under(budget, 2).events {
            match event {
                Event::Plan { active: chosen, .. } => active = chosen.len(),
                Event::Step { step, .. } => {
                    assert!(active > 0, "budget {budget}: step {step} learns nothing")
                }
                _ => {}
            }
        }
    }
}

#[test]
fn sampling_passes_over_examples_after_the_first_pass_and_spends_the_same() {
    let examples = |sampling: &str| {
        let recipe =
            recipe(&["method=full-short", "budget=0.9", "epochs=4", &format!("sampling={sampling}")]);
        let mut work = Workload::load(&recipe).unwrap();
        work.validation = first(work.validation, 10);
        let run = run(&recipe, &mut work);
        assert!(
            run.summary.flops.ratio <= 0.9 && run.summary.flops.ratio > 0.88,
            "{sampling}: {:?}",
            run.summary.flops
        );
        let of = |event: Event| if let Event::Step { examples, .. } = event { Some(examples) } else { None };
        let all: Vec<usize> = run.events.into_iter().filter_map(of).collect();
        // Ends of passes show as smaller batches.
        all.iter()
            .position(|n| *n < 32)
            .map_or(all.len(), |end| all[end + 1..].iter().take_while(|n| **n == 32).count())
    };
    let whole = examples("off");
    for sampling in ["focus", "unbiased"] {
        let part = examples(sampling);
        assert!(
            part < whole,
            "{sampling}: {part} whole batches in the second pass, {whole} without sampling"
        );
    }
}

#[test]
fn without_a_budget_full_is_its_own_equivalent() {
    let recipe = recipe(&["method=full", "epochs=1"]);
    let finished = run(&recipe, &mut Workload::load(&recipe).unwrap());
    assert_eq!(finished.summary.flops.total, accounts(&finished));
    assert_eq!(finished.summary.flops.total, finished.summary.flops.full_equivalent);
}

/// A run of a fresh head under half of the budget, two epochs.
fn with_a_fresh_head(settings: &[&str]) -> Run {
    let recipe = recipe(&[&["budget=0.5", "epochs=2"], settings].concat());
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    let is_head = |component: &&mut Component| component.kind == ComponentKind::TaskHead;
    work.components.iter_mut().filter(is_head).for_each(|component| component.fresh = true);
    run(&recipe, &mut work)
}

#[test]
fn without_a_prefix_cache_a_new_head_learns_in_one_pass() {
    // Until the second plan, which is the first one behind the head's.
    let first_phase = |settings: &[&str]| {
        let events = with_a_fresh_head(settings).events;
        let is_plan = |event: &&Event| matches!(event, Event::Plan { .. });
        assert!(events.iter().filter(is_plan).count() > 1, "phase 0 and what follows");
        let of = |event: &Event| if let Event::Step { examples, .. } = event { *examples } else { 0 };
        let after_first = events.iter().skip_while(|event| !is_plan(event)).skip(1);
        after_first.take_while(|event| !is_plan(event)).map(of).sum::<usize>() as f64
    };
    let rows = Workload::load(&recipe(&[])).unwrap().train.len() as f64;
    let (kept, computed) = (first_phase(&["cache=auto"]), first_phase(&["cache=off"]));
    let wanted = recipe(&[]).head_first * rows;
    // A working set is whole batches, and the end of the phase is seen one step later.
    assert!((wanted..wanted + 64.0).contains(&computed), "{computed} examples, {wanted} wanted");
    assert!(kept > 4.0 * computed, "{kept} examples from the cache, {computed} without");
}

#[test]
fn a_small_budget_ends_no_pass_of_a_new_head_and_plans_without_a_map() {
    let events = with_a_fresh_head(&["budget=0.02", "batch-size=8"]).events;
    assert!(!events.iter().any(|event| matches!(event, Event::Map { .. })), "a look is too dear");
    let is_plan = |event: &&Event| matches!(event, Event::Plan { .. });
    let plans: Vec<(usize, usize)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Plan { active, examples, .. } => Some((active.len(), *examples)),
            _ => None,
        })
        .collect();
    let seen = |event: &Event| if let Event::Step { examples, .. } = event { *examples } else { 0 };
    let phase = events.iter().skip_while(|event| !is_plan(event)).skip(1).take_while(|event| !is_plan(event));
    let passes = phase.map(seen).sum::<usize>() as f64 / plans[0].1 as f64;
    assert!(passes >= recipe(&[]).head_first_passes, "{passes} passes over {} examples", plans[0].1);
    assert!(plans.len() > 1 && plans[1].0 > plans[0].0, "more than the head: {plans:?}");
}

#[test]
fn a_new_head_leaves_half_of_a_small_budget_to_what_follows() {
    for budget in [0.03, 0.05, 0.1] {
        let finished = with_a_fresh_head(&[&format!("budget={budget}")]);
        let is_plan = |event: &&Event| matches!(event, Event::Plan { .. });
        let after = finished
            .events
            .iter()
            .skip_while(|event| !is_plan(event))
            .skip(1)
            .skip_while(|event| !is_plan(event));
        let spent = finished.events.iter().rev().skip(after.count()).find_map(|event| match event {
            Event::Step { flops, .. } => Some(*flops),
            _ => None,
        });
        let part = spent.unwrap() as f64 / (budget * finished.summary.flops.full_equivalent as f64);
        // Texts are not all of one length.
        assert!(part < 0.53, "budget {budget}: {part} of it went to the head");
    }
}

#[test]
fn breadth_reaches_the_planner() {
    let first_step = |setting: &str| {
        let events = with_a_fresh_head(&[setting]).events;
        let mut mapped = events.iter().skip_while(|event| !matches!(event, Event::Map { .. }));
        let ratio = |event: &Event| match event {
            Event::Plan { step_flops_ratio, .. } => Some(*step_flops_ratio),
            _ => None,
        };
        mapped.find_map(ratio).unwrap()
    };
    let (narrow, wide) = (first_step("breadth=0.1"), first_step("breadth=1"));
    assert!(narrow < 0.8 * wide, "{narrow} of a full step, {wide} where breadth counts in full");
}

#[test]
fn what_is_left_of_the_probes_share_is_looked_with_later() {
    let looks = |method: &str| {
        let events = with_a_fresh_head(&[
            "probe-share=0.2",
            "first-probe-batches=2",
            "batch-size=8",
            "refresh=4",
            "probe-interval=4",
            &format!("method={method}"),
        ])
        .events;
        let of = |event: &Event| {
            if let Event::Map { probe_flops, .. } = event { Some(*probe_flops) } else { None }
        };
        events.iter().filter_map(of).collect::<Vec<u64>>()
    };
    let (again, once) = (looks("rgft"), looks("static"));
    assert!(again.len() > 1 && once.len() == 1, "{again:?}, {once:?}");
    assert_eq!(again[0], once[0]);
}

#[test]
fn a_head_that_has_learnt_enough_makes_way() {
    // Nothing but the head, which is not new, seems to be wrong, and from stored states its steps cost next to nothing.
    let alpha = "alpha={\"head\" = 1.0, \"*\" = 1e-12}";
    let recipe = recipe(&["budget=0.5", "epochs=2", "refresh=1000000", alpha]);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    let rows = work.train.len();
    let events = run(&recipe, &mut work).events;
    let planned = events.iter().skip_while(|event| !matches!(event, Event::Map { .. }));
    let cuts: Vec<usize> = planned
        .clone()
        .filter_map(|event| if let Event::Plan { cut, .. } = event { Some(*cut) } else { None })
        .collect();
    assert!(cuts[0] > 0 && cuts.last() < cuts.first(), "{cuts:?}");
    let seen: usize =
        planned.map(|event| if let Event::Step { examples, .. } = event { *examples } else { 0 }).sum();
    assert!(seen < 80 * cuts[0] * rows, "{seen} examples of {rows}");
}
