//! What no recipe brings about: a method that breaks its own bounds; and what a run that goes back finds again.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use rgft_core::Status;

use super::*;
use crate::recipe::RawRecipe;

/// A recipe on the demo's faded digits.
fn recipe(settings: &[&str]) -> Recipe {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo");
    let mut raw = RawRecipe {
        model: Some(demo.clone()),
        data: Some(demo.join("shift-validation.csv")),
        ..RawRecipe::default()
    };
    let fixed = ["task=text-classification", "max-length=66", "learning-rate=1e-3", "batch-size=32"];
    fixed.iter().chain(settings).for_each(|setting| raw.assign(setting).unwrap());
    raw.check().unwrap()
}

/// So many components, the first one with this weight.
struct Weighing(usize, f64);

impl Method for Weighing {
    fn plan(&mut self, standing: Standing) -> Option<Plan> {
        let mut weights = vec![1.0; self.0];
        weights[0] = self.1;
        (standing.step == 0).then(|| Plan { active: (0..self.0).collect(), weights, ..Plan::default() })
    }

    fn map(&self) -> Option<(Option<usize>, Vec<f64>)> {
        Some((None, vec![1.0; self.0]))
    }
}

#[test]
fn a_weight_outside_of_its_range_is_named() {
    let recipe = recipe(&["lr-rule=mean-one", "budget=0.3", "epochs=1"]);
    let status = |weight: f64| {
        let mut work = Workload::load(&recipe).unwrap();
        let mut sink = |_: &Event| ();
        let mut trainer = Trainer::new(&recipe, &mut work, None, &mut sink).unwrap();
        trainer.method = Box::new(Weighing(trainer.work.components.len(), weight));
        let certificate = trainer.run().unwrap().certificate;
        certificate.get("weights in range").unwrap().clone()
    };
    // `mean-one` promises weights from 0.1 to 10.
    for weight in [0.1, 10.0] {
        assert_eq!(status(weight).status, Status::Holds);
    }
    for weight in [0.09, 11.0] {
        let found = status(weight);
        assert_eq!(found.status, Status::DoesNotHold);
        assert!(found.detail.contains("`embeddings` has weight"), "{found:?}");
    }
}

#[test]
fn going_back_finds_the_weights_of_the_best_validation_or_the_first_ones() {
    let recipe = recipe(&["method=full", "optimizer=sgd", "momentum=0.9", "roll-back=2", "epochs=4"]);
    let mut work = Workload::load(&recipe).unwrap();
    let mut sink = |_: &Event| ();
    let mut trainer = Trainer::new(&recipe, &mut work, None, &mut sink).unwrap();
    let weights = |trainer: &Trainer| {
        trainer.work.model.parameters().iter().map(|parameter| parameter.data.clone()).collect::<Vec<_>>()
    };
    let step = |trainer: &mut Trainer, at: usize| {
        let batch = trainer.next_batch().unwrap();
        trainer.step(at, batch).unwrap().unwrap();
    };
    let (begun, rate) = (weights(&trainer), trainer.rate_factor(0, &[]));
    trainer.replan(0).unwrap();
    step(&mut trainer, 0);
    let after_one = weights(&trainer);
    assert!(after_one != begun);
    assert!(trainer.goes_back(1, 9.0).unwrap());
    assert!(weights(&trainer) == begun);
    assert_eq!(trainer.rate_factor(0, &[]), 0.5 * rate);

    step(&mut trainer, 0);
    trainer.validate(1).unwrap();
    let best = weights(&trainer);
    step(&mut trainer, 1);
    step(&mut trainer, 2);
    assert!(weights(&trainer) != best);
    assert!(trainer.goes_back(3, 9.0).unwrap());
    assert!(weights(&trainer) == best);
    assert_eq!(trainer.rate_factor(0, &[]), 0.25 * rate);
    assert!(!trainer.goes_back(3, 9.0).unwrap(), "twice is all that it may");
}

/// The first step after going back has no moments of what went wrong.
#[test]
fn going_back_forgets_moments() {
    let recipe =
        recipe(&["method=full", "optimizer=sgd", "momentum=0.9", "roll-back=1", "epochs=4", "clip=0"]);
    let mut work = Workload::load(&recipe).unwrap();
    let mut sink = |_: &Event| ();
    let mut trainer = Trainer::new(&recipe, &mut work, None, &mut sink).unwrap();
    trainer.replan(0).unwrap();
    let (first, second) = (trainer.next_batch().unwrap(), trainer.next_batch().unwrap());
    let weights = |trainer: &Trainer| trainer.work.model.parameters().data(0).to_vec();
    let begun = weights(&trainer);
    trainer.step(0, first.clone()).unwrap();
    let once = weights(&trainer);
    trainer.step(1, second).unwrap();
    trainer.goes_back(2, 9.0).unwrap();
    trainer.step(0, first).unwrap();
    for ((begun, once), again) in begun.iter().zip(&once).zip(weights(&trainer)) {
        let (whole, half) = (once - begun, again - begun);
        assert!((half - 0.5 * whole).abs() <= 1e-3 * whole.abs() + 1e-7, "{half} is half of {whole}");
    }
}
