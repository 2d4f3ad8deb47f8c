//! The learning-rate rule: from the energies of the active components to a weight on each one's learning rate.
//!
//! ```text
//! share      w_i = p_i = E_i / Σ_{j active} E_j                         Σ w = 1
//! mean-one   w_i = clip(s · p_i^γ, w_min, w_max)                        s such that the mean of w is 1
//! uniform    w_i = 1
//! ```
//!
//! A skipped component has weight 0. A fresh one (a new task head) has weight 1 while active and stands outside
//! of the sums: its energy measures its random start, not an error of the model. The weight multiplies the
//! learning rate and the decoupled weight decay, never the gradient: Adam would cancel it.

use std::fmt;
use std::str::FromStr;

use crate::error::CoreError;
use crate::error_map::shares;
use crate::words;

/// How energies turn into learning-rate weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LrRule {
    /// A component learns in proportion to its share of the error.
    Share,
    /// The same, keeping the mean learning rate of the active components.
    MeanOne {
        /// Exponent of the share: 0 is uniform, 1 proportional.
        gamma: f64,
        /// Least weight, 0 ≤ min ≤ 1.
        min: f64,
        /// Largest weight, ≥ 1.
        max: f64,
    },
    /// All active components alike: the control that every other rule must beat.
    #[default]
    Uniform,
}

impl LrRule {
    /// `mean-one` with its default settings: γ = 1, weights in `[0.1, 10]`.
    pub const MEAN_ONE: Self = Self::MeanOne { gamma: 1.0, min: 0.1, max: 10.0 };

    /// The rule itself, if its settings make sense.
    ///
    /// # Errors
    /// [`CoreError::OutOfRange`] with the setting.
    pub fn check(self) -> Result<Self, CoreError> {
        let Self::MeanOne { gamma, min, max } = self else { return Ok(self) };
        let settings = [
            ("lr-rule-gamma", gamma, (0.0..=16.0).contains(&gamma), "0 ≤ gamma ≤ 16"),
            ("lr-rule-min", min, (0.0..=1.0).contains(&min), "0 ≤ min ≤ 1"),
            ("lr-rule-max", max, max.is_finite() && max >= 1.0, "a finite number ≥ 1"),
        ];
        match settings.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((setting, found, _, expected)) => Err(CoreError::OutOfRange { setting, found, expected }),
            None => Ok(self),
        }
    }

    /// Bounds `(w_min, w_max)` on the weight of any active component.
    pub fn bounds(self) -> (f64, f64) {
        match self {
            Self::Share => (0.0, 1.0),
            Self::MeanOne { min, max, .. } => (min, max),
            Self::Uniform => (1.0, 1.0),
        }
    }
}

const NAMES: [(&str, LrRule); 3] =
    [("share", LrRule::Share), ("mean-one", LrRule::MEAN_ONE), ("uniform", LrRule::Uniform)];

impl FromStr for LrRule {
    type Err = CoreError;

    /// The rule of that name, with default settings.
    fn from_str(word: &str) -> Result<Self, CoreError> {
        words::parse("lr-rule", &NAMES, word)
    }
}

impl fmt::Display for LrRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Share => "share",
            Self::MeanOne { .. } => "mean-one",
            Self::Uniform => "uniform",
        })
    }
}

/// The weight of every component. `energies` are finite and ≥ 0; where those of all active components are 0,
/// their shares are uniform.
///
/// # Panics
/// If the three lists differ in length.
pub fn weights(rule: LrRule, energies: &[f64], active: &[bool], fresh: &[bool]) -> Vec<f64> {
    assert!(
        energies.len() == active.len() && energies.len() == fresh.len(),
        "energies, active and fresh hold one value per component"
    );
    let ruled: Vec<usize> = (0..energies.len()).filter(|&i| active[i] && !fresh[i]).collect();
    let p = shares(&ruled.iter().map(|&i| energies[i]).collect::<Vec<_>>());
    let by_rule = match rule {
        LrRule::Share => p,
        LrRule::MeanOne { gamma, min, max } => mean_one(&p, gamma, min, max),
        LrRule::Uniform => vec![1.0; p.len()],
    };

    let mut weights: Vec<f64> =
        active.iter().zip(fresh).map(|(&active, &fresh)| f64::from(u8::from(active && fresh))).collect();
    for (i, weight) in ruled.into_iter().zip(by_rule) {
        weights[i] = weight;
    }
    weights
}

/// `clip(s · p_i^γ, min, max)`, s such that the mean is 1, or as near to it as the clip permits.
fn mean_one(p: &[f64], gamma: f64, min: f64, max: f64) -> Vec<f64> {
    // Relative to the largest share, so that the powers cannot all underflow.
    let largest = p.iter().copied().fold(0.0, f64::max);
    let powers: Vec<f64> = p.iter().map(|p| (p / largest).powf(gamma)).collect();
    let clipped = |s: f64| powers.iter().map(move |power| (s * power).max(min).min(max));
    let sum = |s: f64| clipped(s).sum::<f64>();

    // The sum grows with s, in straight lines between the points where a weight starts or ends to be clipped.
    let mut corners: Vec<f64> =
        powers.iter().flat_map(|power| [min / power, max / power]).filter(|s| s.is_finite()).collect();
    corners.sort_by(f64::total_cmp);
    let n = p.len() as f64;
    let s = match corners.partition_point(|&s| sum(s) < n) {
        0 => corners.first().copied().unwrap_or(1.0),
        at if at == corners.len() => corners[at - 1],
        at => {
            let (low, high) = (corners[at - 1], corners[at]);
            low + (high - low) * (n - sum(low)) / (sum(high) - sum(low))
        }
    };
    clipped(s).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn share_by_hand() {
        let found = weights(
            LrRule::Share,
            &[1.0, 8.0, 3.0, 100.0, 7.0],
            &[true, false, true, true, false],
            &[false, false, false, true, true],
        );
        assert_eq!(found, [0.25, 0.0, 0.75, 1.0, 0.0]);
    }

    #[test]
    fn mean_one_by_hand() {
        let all = [true; 4];
        let none = [false; 4];
        let rule = |min, max| LrRule::MeanOne { gamma: 1.0, min, max };
        let near = |found: Vec<f64>, expected: [f64; 4]| {
            assert!(
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12),
                "{found:?}"
            );
        };
        near(weights(rule(0.0, 10.0), &[1.0, 2.0, 3.0, 2.0], &all, &none), [0.5, 1.0, 1.5, 1.0]);
        // 0.2 is lifted to 0.5, which leaves 3.5 for three equal ones.
        let third = 3.5 / 3.0;
        near(weights(rule(0.5, 10.0), &[0.2, 2.0, 2.0, 2.0], &all, &none), [0.5, third, third, third]);
        // Only one has energy: at most 2 + 3 · 0.1, the clip does not permit a mean of 1.
        assert_eq!(weights(rule(0.1, 2.0), &[5.0, 0.0, 0.0, 0.0], &all, &none), [2.0, 0.1, 0.1, 0.1]);
    }

    #[test]
    fn without_energy_all_are_alike() {
        let active = [true, true, false];
        let fresh = [false; 3];
        assert_eq!(weights(LrRule::Share, &[0.0; 3], &active, &fresh), [0.5, 0.5, 0.0]);
        assert_eq!(weights(LrRule::MEAN_ONE, &[0.0; 3], &active, &fresh), [1.0, 1.0, 0.0]);
        assert_eq!(weights(LrRule::Uniform, &[0.0; 3], &active, &fresh), [1.0, 1.0, 0.0]);
        assert_eq!(weights(LrRule::MEAN_ONE, &[4.0], &[true], &[true]), [1.0]);
    }

    #[test]
    fn settings_are_checked() {
        assert!(LrRule::MEAN_ONE.check().is_ok());
        let error = LrRule::MeanOne { gamma: 1.0, min: 2.0, max: 10.0 }.check().unwrap_err();
        assert_eq!(error.to_string(), "lr-rule-min: found 2, expected 0 ≤ min ≤ 1");
        assert!(LrRule::MeanOne { gamma: f64::NAN, min: 0.1, max: 10.0 }.check().is_err());
        for (word, rule) in NAMES {
            assert_eq!((word.parse::<LrRule>().unwrap(), rule.to_string().as_str()), (rule, word));
        }
    }

    prop_compose! {
        fn components()(list in proptest::collection::vec(
            (prop_oneof![Just(0.0), 1e-9..1e9f64], any::<bool>(), proptest::bool::weighted(0.1)), 1..40,
        )) -> (Vec<f64>, Vec<bool>, Vec<bool>) {
            let energies = list.iter().map(|c| c.0).collect();
            (energies, list.iter().map(|c| c.1).collect(), list.iter().map(|c| c.2).collect())
        }
    }

    proptest! {
        #[test]
        fn weights_keep_their_promises(
            (energies, active, fresh) in components(),
            gamma in 0.0..3.0f64,
            min in 0.0..=1.0f64,
            max in 1.0..20.0f64,
        ) {
            let ruled: Vec<usize> = (0..energies.len()).filter(|&i| active[i] && !fresh[i]).collect();
            let n = ruled.len() as f64;
            for rule in [LrRule::Share, LrRule::MeanOne { gamma, min, max }, LrRule::Uniform] {
                let w = weights(rule, &energies, &active, &fresh);
                let (low, high) = rule.bounds();
                for i in 0..w.len() {
                    match (active[i], fresh[i]) {
                        (false, _) => prop_assert_eq!(w[i], 0.0),
                        (true, true) => prop_assert_eq!(w[i], 1.0),
                        (true, false) => prop_assert!((low..=high).contains(&w[i]), "{rule} {w:?}"),
                    }
                }
                // More error never learns more slowly.
                for (&i, &j) in ruled.iter().zip(ruled.iter().skip(1)) {
                    prop_assert!((energies[i] - energies[j]) * (w[i] - w[j]) >= 0.0);
                }
                let sum: f64 = ruled.iter().map(|&i| w[i]).sum();
                let expected = if rule == LrRule::Share { n.min(1.0) } else { n };
                // Short of the mean only where every one that has energy is at the upper clip.
                let clipped = ruled.iter().all(|&i| w[i] >= high * (1.0 - 1e-9) || energies[i] == 0.0);
                prop_assert!((sum - expected).abs() < 1e-9 * n.max(1.0) || (sum < n && clipped), "{rule} {w:?}");
            }
        }
    }
}
