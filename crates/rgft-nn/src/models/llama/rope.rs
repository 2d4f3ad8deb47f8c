//! Frequencies of rotary positions and the ways of scaling them, as `rope_scaling` (or `rope_parameters`) of
//! `config.json` names them: `default`, `linear`, `dynamic`, `llama3`, `yarn`.
//!
//! Unscaled `f_i = θ^(−2i/r)`, `r` the elements of a head that turn. Sources: linear, Chen et al. 2023; llama3, Llama 3.1's
//! reference code; yarn, Peng et al. 2023. `dynamic` changes nothing within `max_position_embeddings`, beyond which
//! nothing is read here.

use std::f64::consts::TAU;
use std::path::Path;

use serde_json::Value;

use crate::NnError;
use crate::models::config_keys::ConfigKeys;

/// How queries and keys turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Radians per position, `[r/2]`.
    pub(super) frequencies: Vec<f32>,
    /// What cosine and sine are multiplied by.
    pub(super) magnitude: f32,
}

/// Reads the frequencies for heads of `width`.
pub(super) fn read(
    keys: &ConfigKeys,
    values: &Value,
    width: usize,
    positions: usize,
) -> Result<Rope, NnError> {
    let present = |key: &&str| values.get(*key).is_some_and(|value| !value.is_null());
    let key = ["rope_scaling", "rope_parameters"].into_iter().find(present);
    let none = Value::Null;
    let scaling = key.map_or(&none, |key| &values[key]);
    let key = key.unwrap_or("rope_scaling");
    let wrong = |problem: String| keys.error(key, problem);
    // Newer files keep all of it in one place.
    let inner = ConfigKeys::new(Path::new(""), scaling);
    let number = |name: &str, default: Option<f64>| {
        inner.number(name, default).map_err(|_| wrong(format!("has no usable number {name:?}")))
    };
    let theta = number("rope_theta", Some(keys.number("rope_theta", Some(10_000.0))?))?;
    let share = number("partial_rotary_factor", Some(keys.number("partial_rotary_factor", Some(1.0))?))?;
    let turning = (width as f64 * share.min(1.0)) as usize / 2 * 2;
    if turning < 2 || theta <= 1.0 {
        let problem = format!("gives rope_theta {theta} and {turning} turning elements of {width} in a head");
        return Err(wrong(problem));
    }
    let plain: Vec<f64> = (0..turning).step_by(2).map(|i| theta.powf(-(i as f64) / turning as f64)).collect();
    let word = |name: &str| scaling.get(name).and_then(Value::as_str);
    let original = || number("original_max_position_embeddings", Some(positions as f64));
    let (frequencies, magnitude) = match word("rope_type").or_else(|| word("type")).unwrap_or("default") {
        "default" | "dynamic" => (plain, 1.0),
        "linear" => {
            let factor = factor_of(number("factor", None)?, wrong)?;
            (plain.into_iter().map(|f| f / factor).collect(), 1.0)
        }
        "llama3" => {
            let factor = factor_of(number("factor", None)?, wrong)?;
            let bounds = [number("low_freq_factor", None)?, number("high_freq_factor", None)?];
            (llama3(&plain, factor, bounds, number("original_max_position_embeddings", None)?), 1.0)
        }
        "yarn" => {
            let factor = factor_of(number("factor", None)?, wrong)?;
            let turns = [number("beta_fast", Some(32.0))?, number("beta_slow", Some(1.0))?];
            let truncate = scaling.get("truncate").and_then(Value::as_bool).unwrap_or(true);
            let [low, high] = yarn_range(turns, turning, theta, original()?, truncate);
            (yarn(&plain, factor, low, high), yarn_magnitude(scaling, factor))
        }
        other => {
            let known = "default, linear, dynamic, llama3 or yarn";
            return Err(wrong(format!("is of type {other:?}, expected {known}")));
        }
    };
    let (frequencies, magnitude): (Vec<f32>, _) =
        (frequencies.into_iter().map(|f| f as f32).collect(), magnitude as f32);
    let usable = |x: &f32| x.is_finite() && *x > 0.0;
    if !frequencies.iter().chain([&magnitude]).all(usable) {
        return Err(wrong("gives frequencies that are no positive numbers".into()));
    }
    Ok(Rope { frequencies, magnitude })
}

fn factor_of(factor: f64, wrong: impl Fn(String) -> NnError) -> Result<f64, NnError> {
    if factor > 0.0 { Ok(factor) } else { Err(wrong(format!("has factor {factor}, expected one above 0"))) }
}

/// Slow turns are slowed by `factor`, fast ones stay, those between are mixed.
fn llama3(plain: &[f64], factor: f64, [low, high]: [f64; 2], original: f64) -> Vec<f64> {
    let scaled = |f: &f64| {
        // Turns within the original length.
        let turns = original * f / TAU;
        if turns < low {
            f / factor
        } else if turns > high {
            *f
        } else {
            let mix = (turns - low) / (high - low);
            (1.0 - mix) * f / factor + mix * f
        }
    };
    plain.iter().map(scaled).collect()
}

/// The planes between which YaRN passes from unscaled to scaled.
fn yarn_range(turns: [f64; 2], turning: usize, theta: f64, original: f64, truncate: bool) -> [f64; 2] {
    let plane = |turns: f64| turning as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
    let [mut low, mut high] = turns.map(plane);
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    [low.max(0.0), high.min(turning as f64 - 1.0)]
}

fn yarn(plain: &[f64], factor: f64, low: f64, high: f64) -> Vec<f64> {
    let span = if low == high { 0.001 } else { high - low };
    let scaled = |(i, f): (usize, &f64)| {
        let ramp = ((i as f64 - low) / span).clamp(0.0, 1.0);
        f / factor * ramp + f * (1.0 - ramp)
    };
    plain.iter().enumerate().map(scaled).collect()
}

fn yarn_magnitude(scaling: &Value, factor: f64) -> f64 {
    let number = |key: &str| scaling.get(key).and_then(Value::as_f64);
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    match (number("attention_factor"), number("mscale"), number("mscale_all_dim")) {
        (Some(given), ..) => given,
        (None, Some(one), Some(other)) if one != 0.0 && other != 0.0 => magnitude(one) / magnitude(other),
        _ => magnitude(1.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rope(values: Value) -> Result<Rope, String> {
        let keys = ConfigKeys::new(Path::new("m"), &values);
        read(&keys, &values, 16, 128).map_err(|error| error.to_string())
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f64::from(*f) / e - 1.0).abs() < 1e-6, "{found:?} against {expected:?}");
        }
    }

    /// What `transformers` 4.57 computes for the same settings.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let plain = rope(json!({ "rope_theta": 10000.0 }));
        let Ok(plain) = plain else { panic!("{plain:?}") };
        let powers: Vec<f64> = (0..8).map(|i| 10f64.powf(-f64::from(i) / 2.0)).collect();
        close(&plain.frequencies, &powers);
        assert_eq!(rope(json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } })), Ok(plain.clone()));
        let halved: Vec<f64> = powers.iter().map(|f| f / 2.0).collect();
        let linear = rope(json!({ "rope_scaling": { "rope_type": "linear", "factor": 2.0 } }));
        close(&linear.unwrap_or_else(|e| panic!("{e}")).frequencies, &halved);
        let inner = json!({ "rope_parameters": { "rope_type": "default", "rope_theta": 10000.0 }, "rope_theta": 5.0 });
        assert_eq!(rope(inner), Ok(plain));
        let partial = rope(json!({ "partial_rotary_factor": 0.5 })).unwrap_or_else(|e| panic!("{e}"));
        close(&partial.frequencies, &[1.0, 0.1, 0.01, 0.001]);

        let llama3 = json!({
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        });
        let found = rope(llama3).unwrap_or_else(|e| panic!("{e}"));
        close(&found.frequencies, &LLAMA3);
        let yarn = json!({
            "rope_theta": 10000.0,
            "rope_scaling": { "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64 },
        });
        let found = rope(yarn).unwrap_or_else(|e| panic!("{e}"));
        close(&found.frequencies, &YARN);
        assert!((f64::from(found.magnitude) - 1.138_629_436_111_989).abs() < 1e-6);
    }

    const LLAMA3: [f64; 8] = [
        1.0,
        0.244384587,
        0.0130422562,
        0.00395284733,
        0.00124999997,
        0.000395284733,
        0.000125000006,
        3.95284733e-05,
    ];
    const YARN: [f64; 8] = [
        1.0,
        0.237170815,
        0.049999997,
        0.00790569466,
        0.00249999994,
        0.000790569466,
        0.000250000012,
        7.90569466e-05,
    ];

    #[test]
    fn what_is_not_known_is_refused() {
        for (values, part) in [
            (json!({ "rope_scaling": { "rope_type": "longrope" } }), "is of type \"longrope\""),
            (json!({ "rope_scaling": { "rope_type": "linear" } }), "has no usable number \"factor\""),
            (json!({ "rope_scaling": { "rope_type": "linear", "factor": 0.0 } }), "has factor 0"),
            (json!({ "rope_theta": 0.5 }), "gives rope_theta 0.5"),
        ] {
            let Err(error) = rope(values.clone()) else { panic!("{values}") };
            assert!(error.contains(part), "{error}");
        }
    }
}
