//! What runs gave, one line each, in a text file per task that is small enough to be tracked: who has it need not run
//! anything again.
//!
//! Settings that the runs of a task share stand on a line of their own, `{"base":"1f0c…","settings":{…}}`; a run names
//! its base and what differs. Of several lines for one run the last one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rgft_train::TrainError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Settings, digits, identity};
use super::place;

/// Keys that every record names, whatever its base.
const NAMED: [&str; 4] = ["method", "budget", "seed", "learning-rate"];

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The line with the settings that it shares.
    pub(super) base: String,
    pub(super) method: String,
    pub(super) budget: f64,
    pub(super) seed: u64,
    #[serde(rename = "learning-rate")]
    pub(super) learning_rate: f64,
    /// What differs from the base; `null` for a key that is not set.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub(super) settings: Settings,
    /// Why there is no result, where that would happen again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
    /// By which the checkpoint was chosen.
    #[serde(default)]
    pub(super) metric: String,
    /// Metrics by name; `None` for what was no number.
    #[serde(default)]
    pub(super) validation: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    pub(super) test: BTreeMap<String, Option<f64>>,
    /// Total FLOPs over those of full fine-tuning.
    #[serde(default)]
    pub(super) flops_ratio: f64,
    #[serde(default)]
    pub(super) flops: u64,
    /// Seconds of training, probes included: of the processor where the system tells.
    #[serde(default)]
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) peak_rss_bytes: Option<u64>,
    /// `[FLOPs over those of full fine-tuning, validation metric]`, thinned.
    #[serde(default)]
    pub(super) curve: Vec<(f64, Option<f64>)>,
    #[serde(default)]
    pub(super) threads: usize,
    /// Runs at the same time on the same machine.
    #[serde(default)]
    pub(super) jobs: usize,
    #[serde(default)]
    pub(super) machine: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Run(Box<Record>),
    Base { base: String, settings: Settings },
}

/// The file of one task.
#[derive(Clone, Debug)]
pub(super) struct Records {
    path: PathBuf,
}

impl Records {
    /// The records at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Whether the file is as it was when `stamp` was taken; takes a new one.
    pub(super) fn unchanged(&self, stamp: &mut Option<(u64, std::time::SystemTime)>) -> bool {
        let now = std::fs::metadata(&self.path).ok();
        let now = now.and_then(|found| Some((found.len(), found.modified().ok()?)));
        std::mem::replace(stamp, now) == now && now.is_some()
    }

    /// Every run by its identity.
    ///
    /// # Errors
    /// A file that cannot be read; a line that is no record.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Record>, TrainError> {
        let (bases, runs) = self.parse(&self.text()?)?;
        let named = |record: Record| (identity(&whole(&record, &bases)), record);
        Ok(runs.into_iter().map(named).collect())
    }

    /// Adds a run whose settings are `settings`, in a task whose settings are `shared`.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(super) fn append(
        &self,
        shared: &Settings,
        settings: &Settings,
        mut record: Record,
    ) -> Result<(), TrainError> {
        let shared: Settings =
            shared.iter().filter(|(key, _)| !NAMED.contains(&key.as_str())).map(owned).collect();
        record.base = digits(&json(&shared));
        record.settings = settings
            .iter()
            .filter(|(key, value)| !NAMED.contains(&key.as_str()) && shared.get(*key) != Some(value))
            .map(owned)
            .chain(
                shared
                    .keys()
                    .filter(|key| !settings.contains_key(*key))
                    .map(|key| (key.clone(), Value::Null)),
            )
            .collect();
        self.change(|text, bases| {
            if !bases.contains_key(&record.base) {
                text.push_str(&line(&Line::Base { base: record.base.clone(), settings: shared }));
            }
            text.push_str(&line(&Line::Run(Box::new(record))));
        })
    }

    /// Takes out the runs with these identities.
    ///
    /// # Errors
    /// As [`Records::append`].
    pub(super) fn forget(&self, identities: &BTreeSet<&str>) -> Result<(), TrainError> {
        if !self.path.exists() {
            return Ok(());
        }
        self.change(|text, bases| {
            let is_named = |line: &&str| match serde_json::from_str(line) {
                Ok(Line::Run(record)) => identities.contains(&*identity(&whole(&record, bases))),
                _ => false,
            };
            *text = text.lines().filter(|line| !is_named(line)).map(|line| format!("{line}\n")).collect();
        })
    }

    /// Replaces the file, whole or not at all, while no other process does.
    fn change(
        &self,
        change: impl FnOnce(&mut String, &BTreeMap<String, Settings>),
    ) -> Result<(), TrainError> {
        let _lock = place::lock(self.path.parent().unwrap_or(Path::new(".")))?;
        let mut text = self.text()?;
        let (bases, _) = self.parse(&text)?;
        change(&mut text, &bases);
        place::write(&self.path, &text)
    }

    fn text(&self) -> Result<String, TrainError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(TrainError::Write { path: self.path.clone(), source }),
        }
    }

    fn parse(&self, text: &str) -> Result<(BTreeMap<String, Settings>, Vec<Record>), TrainError> {
        let (mut bases, mut runs) = (BTreeMap::new(), Vec::<Record>::new());
        for (i, text) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |problem: String| TrainError::Mismatch {
                problem: format!("{}:{}: {problem}", self.path.display(), i + 1),
                hint: "remove the line, or choose other records with --records",
            };
            match serde_json::from_str(text) {
                Ok(Line::Run(record)) if bases.contains_key(&record.base) => runs.push(*record),
                Ok(Line::Run(record)) => {
                    return Err(wrong(format!("no line above has the settings of base {}", record.base)));
                }
                Ok(Line::Base { base, settings }) => drop(bases.insert(base, settings)),
                Err(_) => return Err(wrong("not the record of a run".into())),
            }
        }
        Ok((bases, runs))
    }
}

/// All settings of a record.
fn whole(record: &Record, bases: &BTreeMap<String, Settings>) -> Settings {
    let mut settings = bases.get(&record.base).cloned().unwrap_or_default();
    settings.extend(record.settings.iter().map(owned));
    settings.retain(|_, value| !value.is_null());
    let named =
        [record.method.clone().into(), record.budget.into(), record.seed.into(), record.learning_rate.into()];
    settings.extend(NAMED.into_iter().map(String::from).zip(named));
    settings
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn line(line: &Line) -> String {
    format!("{}\n", json(line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rgft_train::recipe::RawRecipe;

    use super::super::identity::settings;
    use super::*;

    fn of(assignments: &[&str]) -> Settings {
        let mut raw = RawRecipe::default();
        let common = ["model=m", "data=d.csv", "task=text-classification", "lr-rule=mean-one"];
        common.iter().chain(assignments).for_each(|assignment| raw.assign(assignment).unwrap());
        settings(&raw.check().unwrap())
    }

    fn record(method: &str, seed: u64) -> Record {
        let (budget, learning_rate) = (if method == "full" { 1.0 } else { 0.3 }, 1e-4);
        let test = BTreeMap::from([("accuracy".to_owned(), None)]);
        Record { method: method.into(), budget, seed, learning_rate, test, ..Record::default() }
    }

    #[test]
    fn what_is_written_is_found_by_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("deep/task.jsonl"));
        assert!(records.read().unwrap().is_empty());
        let shared = of(&["method=full"]);
        records.append(&shared, &shared, record("full", 0)).unwrap();
        // The rule's own settings belong to mean-one alone.
        let uniform = of(&["method=rgft", "lr-rule=uniform", "seed=3"]);
        records.append(&shared, &uniform, record("rgft", 3)).unwrap();
        records.append(&shared, &uniform, Record { seconds: 2.0, ..record("rgft", 3) }).unwrap();

        let found = records.read().unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains_key(&identity(&shared)));
        let run = &found[&identity(&uniform)];
        assert_eq!((run.seconds, run.seed, &run.test["accuracy"]), (2.0, 3, &None));
        assert!(!found.contains_key(&identity(&of(&["method=rgft", "seed=3"]))));
        let text = std::fs::read_to_string(folder.path().join("deep/task.jsonl")).unwrap();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("{\"base\"") && !line.contains("method")).count(),
            1
        );

        records.forget(&BTreeSet::from(["another", &*identity(&uniform)])).unwrap();
        assert_eq!(records.read().unwrap().into_keys().collect::<Vec<_>>(), [identity(&shared)]);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.jsonl");
        std::fs::write(&path, "\n{\"base\":\"0\",\"settings\":{}}\n<<<<<<< HEAD\n").unwrap();
        let error = Records::new(path.clone()).read().unwrap_err();
        assert!(
            error.is_bad_input() && error.to_string().contains("task.jsonl:3: not the record"),
            "{error}"
        );
        std::fs::write(&path, line(&Line::Run(Box::new(Record { base: "1f".into(), ..record("full", 0) }))))
            .unwrap();
        let error = Records::new(path).read().unwrap_err();
        assert!(
            error.to_string().contains("task.jsonl:1: no line above has the settings of base 1f"),
            "{error}"
        );
    }
}
