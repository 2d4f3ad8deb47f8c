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
