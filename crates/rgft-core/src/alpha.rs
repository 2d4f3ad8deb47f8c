//! α, the scaling that makes the energies of unlike components comparable.
//!
//! Raw energy grows with the number of parameters, so large late layers always look worst. Energy per parameter,
//! or relative to the weights, names the part that is worth training.

use std::str::FromStr;

use globset::Glob;

use crate::component::Component;
use crate::error::CoreError;
use crate::words;

/// Weights whose mean square is below this count as this large under `relative` scaling: a component that starts
/// at zero has no scale to be relative to, and must not take the whole share.
const LEAST_MEAN_SQUARE: f64 = 1e-8;

/// The scaling α_i of component i.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Alpha {
    /// `1 / |θ_i|`, the number of parameters.
    #[default]
    PerParameter,
    /// `1 / ‖θ_i‖²`, with the norm as it was at the last observation.
    Relative,
    /// 1.
    Uniform,
    /// The factor of the first glob that matches the component's name, 1 where none does:
    /// `("encoder.layer.*.attention.head.*", 2.0)`.
    Table(Vec<(String, f64)>),
}

impl FromStr for Alpha {
    type Err = CoreError;

    fn from_str(word: &str) -> Result<Self, CoreError> {
        let table =
            [("per-parameter", Self::PerParameter), ("relative", Self::Relative), ("uniform", Self::Uniform)];
        words::parse("alpha", &table, word)
    }
}

/// An [`Alpha`] made out for given components.
#[derive(Clone, Debug)]
pub(crate) enum Scaling {
    Fixed(Vec<f64>),
    Relative { parameters: Vec<f64>, squared_norms: Vec<f64> },
}

impl Scaling {
    pub(crate) fn new(alpha: &Alpha, components: &[Component]) -> Result<Self, CoreError> {
        let parameters = components.iter().map(|component| component.parameters.max(1) as f64);
        Ok(match alpha {
            Alpha::PerParameter => Self::Fixed(parameters.map(|n| 1.0 / n).collect()),
            Alpha::Relative => Self::Relative {
                parameters: parameters.collect(),
                squared_norms: vec![0.0; components.len()],
            },
            Alpha::Uniform => Self::Fixed(vec![1.0; components.len()]),
            Alpha::Table(table) => Self::Fixed(look_up(table, components)?),
        })
    }

    pub(crate) fn needs_norms(&self) -> bool {
        matches!(self, Self::Relative { .. })
    }

    pub(crate) fn update_norms(&mut self, latest: &[f64]) {
        if let Self::Relative { squared_norms, .. } = self {
            squared_norms.copy_from_slice(latest);
        }
    }

    /// α of component `i`: finite and ≥ 0.
    pub(crate) fn alpha(&self, i: usize) -> f64 {
        match self {
            Self::Fixed(alphas) => alphas[i],
            Self::Relative { parameters, squared_norms } => {
                1.0 / squared_norms[i].max(LEAST_MEAN_SQUARE * parameters[i])
            }
        }
    }
}

fn look_up(table: &[(String, f64)], components: &[Component]) -> Result<Vec<f64>, CoreError> {
    let mut matchers = Vec::with_capacity(table.len());
    for (pattern, factor) in table {
        if !(factor.is_finite() && *factor >= 0.0) {
            let expected = "a finite number ≥ 0";
            return Err(CoreError::OutOfRange { setting: "alpha", found: *factor, expected });
        }
        let glob =
            Glob::new(pattern).map_err(|source| CoreError::Glob { pattern: pattern.clone(), source })?;
        matchers.push((glob.compile_matcher(), *factor));
    }
    let factor_of = |component: &Component| {
        matchers
            .iter()
            .find(|(matcher, _)| matcher.is_match(&component.name))
            .map_or(1.0, |(_, factor)| *factor)
    };
    Ok(components.iter().map(factor_of).collect())
}
