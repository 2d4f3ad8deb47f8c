//! When two runs are the same run: their settings agree, as far as a method reads them. Where they ran, on how many
//! threads and how long they took is no part of it.
//!
//! A recipe gains keys over time. A record that does not know a key was made by what is that key's default now, or the
//! key would change results silently; a default that changes makes another run of it.

use std::collections::BTreeMap;

use rgft_train::recipe::{MethodName, RawRecipe, Recipe};
use serde_json::Value;

/// Settings by their keys.
pub(super) type Settings = BTreeMap<String, Value>;

/// Keys that no result depends on.
const OF_THE_PLACE: [&str; 3] = ["cache-memory", "out", "threads"];

/// What stands among the settings of maps, but says what the components are.
const OF_COMPONENTS: [&str; 2] = ["granularity", "neuron-group"];

/// What stands among the settings of plans, but concerns whatever trains a part of the model.
const OF_EVERY_PART: [&str; 2] = ["head-first", "calibration"];

/// Every setting of `recipe` that a result may depend on, defaults included.
pub(super) fn settings(recipe: &Recipe) -> Settings {
    let mut settings = written(&recipe.to_raw());
    OF_THE_PLACE.iter().for_each(|key| drop(settings.remove(*key)));
    settings
}

/// `settings` without what is a default today and what the method does not read, as one text.
pub(super) fn identity(settings: &Settings) -> String {
    let word = |key: &str| settings.get(key).and_then(Value::as_str).unwrap_or_default();
    let method = word("method");
    let defaults = defaults(word("task"), method);
    let differing =
        settings.iter().filter(|(key, value)| reads(method, key) && defaults.get(*key) != Some(value));
    serde_json::to_string(&differing.collect::<BTreeMap<_, _>>()).unwrap_or_default()
}

/// Eight digits that stand for `text`, the same on every machine (FNV-1a).
pub(super) fn digits(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// Whether `method` reads the setting `key`. A method that is not known here reads everything.
pub(super) fn reads(method: &str, key: &str) -> bool {
    let group = Recipe::keys().iter().find(|known| known.name == key).map(|known| known.group);
    let plans = method.parse::<MethodName>().map_or(true, MethodName::plans);
    match (key, group) {
        ("budget", _) => method != "full",
        ("last-k" | "only", _) => method == key,
        ("lora-rank" | "lora-alpha", _) => ["lora", "rslora"].contains(&method),
        ("s2ft-part", _) => method == "s2ft",
        ("lisa-layers" | "lisa-interval", _) => method == "lisa",
        ("badam-interval", _) => method == "badam",
        ("selectivity", _) => method == "selective-backprop",
        ("step-ratio", _) => method == "greentrainer",
        ("neuron-group", _) if method == "s2ft" => true,
        (_, Some("Prefix cache")) => method != "full",
        (_, Some("Plan")) if OF_EVERY_PART.iter().any(|start| key.starts_with(start)) => method != "full",
        (key, Some("Error map")) if OF_COMPONENTS.contains(&key) => method == "only" || plans,
        (_, Some("Error map")) => method != "random" && plans,
        (_, Some("Plan")) => plans,
        _ => true,
    }
}

/// What the keys are when nobody sets them.
fn defaults(task: &str, method: &str) -> Settings {
    let mut raw = RawRecipe { model: Some("-".into()), data: Some("-".into()), ..RawRecipe::default() };
    let known = raw.set("task", task).and_then(|()| raw.set("method", method)).and_then(|()| raw.check());
    let mut settings = known.map(|recipe| written(&recipe.to_raw())).unwrap_or_default();
    // These say what the run is, whatever their defaults.
    ["model", "data", "task", "method", "budget", "seed", "learning-rate"]
        .iter()
        .for_each(|key| drop(settings.remove(*key)));
    settings
}

fn written(raw: &RawRecipe) -> Settings {
    match serde_json::to_value(raw) {
        Ok(Value::Object(keys)) => keys.into_iter().collect(),
        _ => Settings::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(assignments: &[&str]) -> Settings {
        let mut raw = RawRecipe::default();
        let common = ["model=m", "data=d.csv", "task=text-classification"];
        common.iter().chain(assignments).for_each(|assignment| raw.assign(assignment).unwrap());
        settings(&raw.check().unwrap())
    }

    #[test]
    fn the_place_and_unread_keys_make_no_other_run() {
        let same = |a: &[&str], b: &[&str]| identity(&of(a)) == identity(&of(b));
        assert!(same(&["method=full"], &["method=full", "out=x", "threads=2", "signal=gram", "last-k=3"]));
        assert!(same(&["method=rgft"], &["method=rgft", "batch-size=32"]), "a default that is written out");
        for other in ["signal=gram", "budget=0.5", "seed=1", "epochs=4", "learning-rate=2e-4"] {
            assert!(!same(&["method=rgft"], &["method=rgft", other]), "{other}");
        }
        assert!(!same(&["method=last-k"], &["method=last-k", "last-k=2"]));
        assert!(same(&["method=random"], &["method=random", "signal=gram"]), "its map is drawn");
        for method in [&["method=random"][..], &["method=only", "only=[\"layer.1*\"]"], &["method=rgft"]] {
            assert!(!same(method, &[method, &["granularity=layer"]].concat()), "{method:?}");
        }
    }

    #[test]
    fn a_key_that_a_record_does_not_know_is_at_its_default() {
        let mut record = of(&["method=rgft"]);
        record.remove("refresh").unwrap();
        assert_eq!(identity(&record), identity(&of(&["method=rgft"])));
        assert_ne!(identity(&record), identity(&of(&["method=rgft", "refresh=3"])));
        // A default that was another one then is written in the record.
        record.insert("refresh".into(), 7.into());
        assert_ne!(identity(&record), identity(&of(&["method=rgft"])));
    }

    #[test]
    fn digits_are_those_of_the_published_hash() {
        // FNV-1a of "a" is af63dc4c8601ec8c.
        assert_eq!(digits("a"), format!("{:08x}", 0xaf63_dc4c_u32 ^ 0x8601_ec8c));
    }
}
