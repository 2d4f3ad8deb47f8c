//! The certificate of a run names the condition that the run was made to break, and looking changes nothing.

use std::collections::BTreeMap;

use rgft_core::{Certificate, Event, Status};
use rgft_train::Workload;

use super::common::{Altered, first, recipe, repository};

fn certificate(settings: &[&str]) -> (Certificate, Vec<Event>) {
    let recipe = recipe(settings);
    let mut work = Workload::load(&recipe).unwrap();
    work.validation = first(work.validation, 10);
    let mut events = Vec::new();
    let outcome =
        rgft_train::train(&recipe, &mut work, None, &mut |event| events.push(event.clone())).unwrap();
    (outcome.certificate, events)
}

fn status(certificate: &Certificate, condition: &str) -> Status {
    certificate.get(condition).unwrap_or_else(|| panic!("{certificate:?}")).status
}

const STEP_SIZE: &str = "step size below 1/(L·w_max)";

#[test]
fn a_hundredfold_learning_rate_is_named_where_steps_go_along_the_gradient() {
    for momentum in ["momentum=0", "momentum=0.9"] {
        let settings = ["optimizer=sgd", "budget=0.5", "epochs=2", "clip=0", momentum];
        let under = |rate: &str| certificate(&[&settings[..], &[rate]].concat()).0;
        assert_eq!(status(&under("learning-rate=1e-5"), STEP_SIZE), Status::Holds);
        let fast = under("learning-rate=1e-2");
        assert_eq!(status(&fast, STEP_SIZE), Status::DoesNotHold, "{fast:?}");
    }
    let adam = certificate(&["budget=0.5", "epochs=1"]).0;
    assert_eq!(status(&adam, STEP_SIZE), Status::NotCovered);
}

#[test]
fn a_starved_component_is_named() {
    let settings = ["budget=0.5", "epochs=2", "refresh=1", "alpha={ \"encoder.layer.1.*\" = 0, \"*\" = 1 }"];
    let window = |window: &str| certificate(&[&settings[..], &["probe-share=0.01", window]].concat()).0;
    assert_eq!(status(&window("coverage-window=2"), "coverage window"), Status::DoesNotHold);
    assert_eq!(status(&window("coverage-window=1000"), "coverage window"), Status::Holds);
}

#[test]
fn looking_at_the_step_size_changes_no_step() {
    let steps = |every: &str| {
        let settings = ["method=full", "optimizer=sgd", "momentum=0.9", "epochs=1", "dropout=0.1", every];
        let of = |event: Event| match event {
            Event::Step { loss, gradient_norm, flops, .. } => {
                Some((loss.to_bits(), gradient_norm.to_bits(), flops))
            }
            _ => None,
        };
        certificate(&settings).1.into_iter().filter_map(of).collect::<Vec<_>>()
    };
    let (often, once) = (steps("validate-every=2"), steps("validate-every=10"));
    assert_eq!(often.len(), 10);
    assert_eq!(often, once);
}

#[test]
fn a_run_that_diverges_goes_back_as_often_as_it_may() {
    // Far too fast: halved some times it is not.
    let settings =
        ["method=full", "optimizer=sgd", "clip=0", "schedule=constant", "epochs=4", "learning-rate=3e4"];
    let of = |more: &[&str]| {
        let recipe = recipe(&[&settings[..], more].concat());
        let mut work = Workload::load(&recipe).unwrap();
        work.validation = first(work.validation, 10);
        let mut notes = 0;
        let outcome = rgft_train::train(&recipe, &mut work, None, &mut |event| {
            notes +=
                usize::from(matches!(event, Event::Note { message, .. } if message.contains("back to the")));
        });
        (outcome, notes)
    };
    for more in [&[][..], &["roll-back=2"]] {
        let (outcome, notes) = of(more);
        let error = outcome.err().unwrap();
        assert!(matches!(error, rgft_train::TrainError::Diverged { .. }), "{error}");
        assert_eq!(notes, 2 * more.len());
    }
    let (outcome, notes) = of(&["roll-back=30"]);
    let outcome = outcome.unwrap();
    assert!((3..30).contains(&notes), "{notes} times");
    assert!(outcome.summary.metrics.validation["loss"].is_finite());
    assert_eq!(status(&outcome.certificate, "loss finite"), Status::DoesNotHold);
}

/// One digit of another class than it is, among 400: the batch that holds it is a spike. The prefix is the same before and
/// after, stored or not.
#[test]
fn a_spike_takes_a_run_back_whether_or_not_it_caches() {
    let steps = |cache: &str| {
        let data = format!("data={}", repository().join("assets/demo/digits-train.csv").display());
        let settings =
            ["method=last-k", "roll-back=1", "learning-rate=1e-6", "epochs=2", "batch-size=8", &data, cache];
        let recipe = recipe(&settings);
        let mut work = Workload::load(&recipe).unwrap();
        work.validation = first(work.validation, 10);
        let (rows, classes) = ((0..400).collect(), BTreeMap::from([(21, 3)]));
        work.train = Box::new(Altered { set: work.train, rows, classes });
        let mut steps = Vec::new();
        rgft_train::train(&recipe, &mut work, None, &mut |event| {
            if let Event::Step { step, loss, .. } = event {
                steps.push((*step, loss.to_bits()));
            }
        })
        .unwrap();
        steps
    };
    let computed = steps("cache=off");
    let made: Vec<usize> = computed.iter().map(|(step, _)| *step).collect();
    assert_eq!(made, (0..100).filter(|&step| step != 22).collect::<Vec<_>>(), "step 22 took the run back");
    assert_eq!(computed, steps("cache-dtype=f32"));
}
