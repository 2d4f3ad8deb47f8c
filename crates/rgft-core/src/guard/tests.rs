//! The guard: a sound run keeps every condition, and each breach is named.

#![allow(clippy::unwrap_used, missing_docs)]

use super::*;

fn guard(update_rule: UpdateRule) -> Guard {
    Guard::new(GuardSettings {
        components: vec!["head.0".to_owned(), "head.1".to_owned()],
        energy_max: 100.0,
        weight_min: 0.1,
        weight_max: 2.0,
        window: 3,
        update_rule,
        momentum: 0.5,
    })
}

/// A run in which all is well.
fn sound_run() -> Guard {
    let mut guard = guard(UpdateRule::Sgd);
    for step in 0..40 {
        guard.observe_map(step, &[3.0, 1.0]);
        guard.observe_plan(if step % 3 == 0 { &[0, 1] } else { &[0] });
        guard.observe_weights(step, step.checked_sub(1), &[1.5, 0.0], &[3.0, 1.0]);
        guard.observe_smoothness(step, 4.0, 0.125);
        assert!(guard.observe_loss(step, 2.0 / (1.0 + step as f64) + 0.1 * (step % 2) as f64));
    }
    guard
}

fn broken(guard: &Guard) -> Vec<String> {
    guard.certificate().broken().map(|condition| condition.condition.clone()).collect()
}

#[test]
fn a_sound_run_keeps_every_condition() {
    let certificate = sound_run().certificate();
    assert_eq!(certificate.broken().count(), 0, "{certificate:#?}");
    let open = certificate.conditions.iter().filter(|condition| condition.status == Status::NotCovered);
    assert_eq!(open.count(), 0, "{certificate:#?}");
}

#[test]
fn each_breach_is_named_and_no_other() {
    type Breach = fn(&mut Guard);
    let cases: [(&str, Breach); 11] = [
        ("energies finite and non-negative", |guard| guard.observe_map(7, &[1.0, f64::NAN])),
        ("energies finite and non-negative", |guard| guard.observe_map(7, &[-1.0, 1.0])),
        ("energies bounded", |guard| guard.observe_map(7, &[1.0, 101.0])),
        ("weights in range", |guard| guard.observe_weights(7, None, &[2.5, 0.1], &[1.0, 0.0])),
        ("weights in range", |guard| guard.observe_weights(7, None, &[1.0, 0.05], &[1.0, 0.0])),
        ("weights predictable", |guard| guard.observe_weights(7, Some(7), &[1.0, 0.1], &[1.0, 0.0])),
        ("weights aligned with energies", |guard| guard.observe_weights(7, None, &[0.1, 1.0], &[9.0, 1.0])),
        ("step size below 1/(L·w_max)", |guard| guard.observe_smoothness(7, 4.0, 0.126)),
        ("step size below 1/(L·w_max)", |guard| guard.observe_smoothness(7, f64::NAN, 0.1)),
        ("loss finite", |guard| assert!(!guard.observe_loss(7, f64::NAN))),
        ("no loss spikes", |guard| assert!(!guard.observe_loss(7, 50.0))),
    ];
    for (name, breach) in cases {
        let mut guard = sound_run();
        breach(&mut guard);
        assert_eq!(broken(&guard), [name]);
        let certificate = guard.certificate();
        let detail = &certificate.get(name).unwrap().detail;
        assert!(name.contains("aligned") || detail.contains("first at step 7"), "{detail}");
    }

    // What went back may rise again without a spike.
    let mut guard = sound_run();
    guard.went_back();
    assert!(guard.observe_loss(7, 50.0));
    assert!(broken(&guard).is_empty());

    // Only what the map shows no gradient at is updated.
    let mut guard = sound_run();
    guard.observe_weights(7, None, &[0.0, 1.0], &[1.0, 0.0]);
    assert_eq!(broken(&guard), ["weights aligned with energies", "captured share"]);

    let mut guard = sound_run();
    (0..3).for_each(|_| guard.observe_plan(&[0]));
    assert_eq!(broken(&guard), ["coverage window"]);
}

#[test]
fn the_component_is_named() {
    let mut guard = guard(UpdateRule::AdamW);
    guard.observe_map(4, &[1.0, f64::INFINITY]);
    let certificate = guard.certificate();
    let condition = certificate.get("energies finite and non-negative").unwrap();
    assert_eq!(
        condition.detail,
        "0 ≤ E < ∞: broken in 1 of 1 observations, first at step 4: `head.1` has energy inf"
    );
    assert_eq!(condition.value, Some(1.0));
}

#[test]
fn what_was_not_observed_is_not_claimed() {
    let certificate = guard(UpdateRule::AdamW).certificate();
    assert!(certificate.conditions.iter().all(|condition| condition.status == Status::NotCovered));
    assert!(certificate.get("update rule within the theorems").unwrap().detail.contains("AdamW"));
}

/// Shares as weights: A = n Σ p², the seed's inverse participation ratio.
#[test]
fn alignment_and_spread_by_hand() {
    let mut guard = guard(UpdateRule::Sgd);
    guard.observe_map(0, &[3.0, 1.0]);
    guard.observe_weights(0, None, &[0.75, 0.25], &[3.0, 1.0]);
    let certificate = guard.certificate();
    assert_eq!(certificate.get("weights aligned with energies").unwrap().value, Some(1.25));
    assert_eq!(certificate.get("effective components").unwrap().value, Some(1.6));
}

#[test]
fn certificate_json_is_a_list() {
    let json = serde_json::to_value(sound_run().certificate()).unwrap();
    assert_eq!(json[0]["condition"], "energies finite and non-negative");
    assert_eq!(json[0]["status"], "holds");
    assert_eq!(json[10]["value"], serde_json::Value::Null);
    let certificate: Certificate = serde_json::from_value(json).unwrap();
    assert_eq!(certificate, sound_run().certificate());
}
