//! A budget bounds the whole run, and is spent.

use rgft_core::Event;
use rgft_train::Workload;

use super::common::{Run, first, recipe, run};

fn accounts(run: &Run) -> u64 {
    let flops = &run.summary.flops;
    flops.forward + flops.dx + flops.dw + flops.update + flops.probe + flops.cache + flops.tracking
}

/// A run under a budget, validated on a few rows.
fn under(budget: f64, epochs: u32) -> Run {
    let recipe = recipe(&[&format!("budget={budget}"), &format!("epochs={epochs}")]);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    run(&recipe, &mut work)
}

fn spends(epochs: u32) {
    let mut missed = Vec::new();
    for budget in [0.2, 0.35, 0.5, 0.8] {
        let finished = under(budget, epochs);
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
    spends(2);
}

#[test]
fn eight_epochs_spend_their_budget_and_no_more() {
    spends(8);
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
            run.summary.flops.ratio <= 0.9 && run.summary.flops.ratio > 0.85,
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
