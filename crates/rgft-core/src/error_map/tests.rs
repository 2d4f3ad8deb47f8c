//! The error map, by hand and by property.

#![allow(clippy::unwrap_used, missing_docs)]

use super::*;
use proptest::prelude::*;

use crate::component::ComponentKind;

fn component(name: &str, parameters: usize) -> Component {
    Component {
        name: name.to_owned(),
        kind: ComponentKind::AttentionHead,
        layer: Some(0),
        depth: 0,
        slices: vec![],
        parameters,
        fresh: false,
    }
}

fn map(alpha: Alpha) -> ErrorMap {
    let components = [component("layer.0.head.0", 4), component("layer.1.head.0", 10)];
    ErrorMap::new(&components, ErrorMapSettings { alpha, beta: 0.5, max: 100.0 }).unwrap()
}

/// β = ½: m = ½·8 = 4 → 4/½ = 8; then m = ½·4 + ½·2 = 3 → 3/¾ = 4.
#[test]
fn bias_correction_by_hand() {
    let mut map = map(Alpha::Uniform);
    assert_eq!(map.raw(), [0.0, 0.0]);
    map.observe(&[Some(8.0), None], &[], 1.0).unwrap();
    assert_eq!(map.raw(), [8.0, 0.0]);
    map.observe(&[Some(2.0), Some(6.0)], &[], 1.0).unwrap();
    assert_eq!(map.raw(), [4.0, 6.0]);
    assert_eq!(map.shares(), [0.4, 0.6]);
    assert!((map.effective_components() - 1.0 / 0.52).abs() < 1e-12);
}

#[test]
fn a_weight_of_two_is_the_same_seen_twice() {
    let (mut once, mut twice) = (map(Alpha::Uniform), map(Alpha::Uniform));
    for map in [&mut once, &mut twice] {
        map.observe(&[Some(1.0), Some(4.0)], &[], 1.0).unwrap();
    }
    once.observe(&[Some(8.0), Some(3.0)], &[], 2.0).unwrap();
    for _ in 0..2 {
        twice.observe(&[Some(8.0), Some(3.0)], &[], 1.0).unwrap();
    }
    for (once, twice) in once.raw().into_iter().zip(twice.raw()) {
        assert!((once - twice).abs() < 1e-12, "{once} {twice}");
    }
}

#[test]
fn each_alpha_by_hand() {
    let energies = |alpha: Alpha| {
        let mut map = map(alpha);
        map.observe(&[Some(8.0), Some(30.0)], &[2.0, 3.0], 1.0).unwrap();
        map.energies()
    };
    assert_eq!(energies(Alpha::Uniform), [8.0, 30.0]);
    assert_eq!(energies(Alpha::PerParameter), [2.0, 3.0]);
    assert_eq!(energies(Alpha::Relative), [4.0, 10.0]);
    let table = Alpha::Table(vec![("layer.1.*".to_owned(), 3.0), ("*".to_owned(), 9.0)]);
    assert_eq!(energies(table), [72.0, 90.0]);
    assert_eq!(energies(Alpha::Table(vec![("*.1.*".to_owned(), 4.0)])), [8.0, 100.0]);
}

#[test]
fn weights_of_norm_zero_stay_bounded() {
    let mut map = map(Alpha::Relative);
    map.observe(&[Some(1e-9), Some(0.0)], &[0.0, 0.0], 1.0).unwrap();
    let energies = map.energies();
    assert!((energies[0] - 0.025).abs() < 1e-12, "1e-9 / (1e-8 · 4): {}", energies[0]);
    assert_eq!(energies[1], 0.0);
}

#[test]
fn shares_are_uniform_while_nothing_was_seen() {
    assert_eq!(map(Alpha::default()).shares(), [0.5, 0.5]);
    assert_eq!(map(Alpha::default()).effective_components(), 2.0);
    assert_eq!(effective_components(&shares(&[])), 0.0);
}

#[test]
fn what_is_no_energy_is_refused_by_name() {
    let mut map = map(Alpha::Relative);
    map.observe(&[Some(1.0), Some(1.0)], &[1.0, 1.0], 1.0).unwrap();
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let error = map.observe(&[Some(5.0), Some(bad)], &[1.0, 1.0], 1.0).unwrap_err();
        assert!(error.to_string().starts_with("component `layer.1.head.0`: found energy"), "{error}");
        let error = map.observe(&[Some(5.0), None], &[bad, 1.0], 1.0).unwrap_err();
        assert!(error.to_string().starts_with("component `layer.0.head.0`: found squared norm"), "{error}");
    }
    assert!(matches!(
        map.observe(&[None], &[1.0, 1.0], 1.0),
        Err(CoreError::Length { found: 1, expected: 2, .. })
    ));
    assert!(matches!(map.observe(&[None, None], &[], 1.0), Err(CoreError::Length { found: 0, .. })));
    assert_eq!(map.raw(), [1.0, 1.0], "a refused observation leaves no trace");
}

#[test]
fn settings_are_checked() {
    let new = |beta, max, alpha| ErrorMap::new(&[], ErrorMapSettings { beta, max, alpha });
    assert!(new(1.0, 1.0, Alpha::Uniform).is_err());
    assert!(new(0.9, 0.0, Alpha::Uniform).is_err());
    assert!(new(0.9, f64::INFINITY, Alpha::Uniform).is_err());
    let table = |pattern: &str, factor| Alpha::Table(vec![(pattern.to_owned(), factor)]);
    assert!(matches!(new(0.9, 1.0, table("[", 1.0)), Err(CoreError::Glob { .. })));
    assert!(new(0.9, 1.0, table("*", -1.0)).is_err());
}

proptest! {
    #[test]
    fn the_map_is_bounded_and_its_shares_sum_to_one(
        beta in 0.0..0.999f64,
        batches in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of(0.0..f64::MAX), 2), 1..20,
        ),
    ) {
        let components = [component("a", 1), component("b", 1000)];
        let mut map = ErrorMap::new(&components, ErrorMapSettings { beta, ..Default::default() }).unwrap();
        for batch in &batches {
            map.observe(batch, &[], 1.0).unwrap();
        }
        prop_assert!(map.energies().iter().all(|energy| (0.0..=1e12).contains(energy)));
        prop_assert!((map.shares().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    /// A constant energy is reported as such from the first batch on, whatever β.
    #[test]
    fn a_constant_is_its_own_average(beta in 0.0..0.999f64, energy in 0.0..1e6f64, batches in 1..50) {
        let settings = ErrorMapSettings { beta, ..Default::default() };
        let mut map = ErrorMap::new(&[component("a", 1)], settings).unwrap();
        for _ in 0..batches {
            map.observe(&[Some(energy)], &[], 1.0).unwrap();
        }
        prop_assert!((map.raw()[0] - energy).abs() <= 1e-9 * energy);
    }
}
