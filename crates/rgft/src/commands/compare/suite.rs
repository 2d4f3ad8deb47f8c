//! The file of a suite: what is compared, on which tasks.
//!
//! ```toml
//! methods = ["full", "full-short", "rgft"]
//! budgets = [0.1, 0.3]
//! seeds = 3
//! learning-rates = "grid"         # or numbers; absent: the recipe's own
//! rate-factors = { lora = 10 }    # what a method's rates are multiplied by
//! records = "records/method"      # absent: the --out folder
//! like = "suites/method.toml"     # what is not said here is as there, but for its title and its bars
//!
//! [set]                           # keys of every task's recipe
//! batch-size = 32
//!
//! [[bar]]                         # what the results are to reach, for `rgft bench results`
//! what = "above the shorter schedule"
//! above = ["full-short"]          # or points, first, quality, seconds, spent; group and budgets narrow it down; or
//!                                 # compute = 0.15: FLOPs to come within 0.3 points of full, on `each` task, `than` others
//!
//! [task.trec6]
//! recipe = "trec6.toml"           # from the working directory; may be absent
//! group = "text"                  # tasks of a group are summed up as well
//! learning-rates = [1e-4, 2e-4]   # and rate-factors; methods, budgets and seeds stand above alone
//! vary = ["signal=sketch,gram"]   # rows of their own
//! set = { epochs = 3 }            # wins over the recipe and over [set]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rgft_report::compare::Bar;
use rgft_train::TrainError;
use rgft_train::recipe::{MethodName, RawRecipe, RecipeError};
use serde::Deserialize;
use toml::{Table, Value};

use super::grid::{Grid, Rates, Task, Varied};
use crate::args::GridArgs;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    like: Option<PathBuf>,
    title: Option<String>,
    records: Option<PathBuf>,
    methods: Option<Vec<String>>,
    budgets: Option<Vec<f64>>,
    seeds: Option<usize>,
    search_seeds: Option<usize>,
    learning_rates: Option<WrittenRates>,
    #[serde(default)]
    rate_factors: BTreeMap<String, f64>,
    last_ks: Option<Vec<usize>>,
    #[serde(default)]
    vary: Vec<String>,
    #[serde(default)]
    ablate: Vec<String>,
    #[serde(default)]
    set: Table,
    #[serde(default)]
    bar: Vec<Bar>,
    #[serde(default)]
    task: Table,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct WrittenTask {
    recipe: Option<PathBuf>,
    group: Option<String>,
    learning_rates: Option<WrittenRates>,
    #[serde(default)]
    rate_factors: BTreeMap<String, f64>,
    last_ks: Option<Vec<usize>>,
    #[serde(default)]
    vary: Vec<String>,
    #[serde(default)]
    set: Table,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenRates {
    Word(String),
    Numbers(Vec<f64>),
}

/// A suite, laid out.
pub(super) struct Suite {
    pub(super) title: String,
    /// Folder of the tracked records.
    pub(super) records: Option<PathBuf>,
    pub(super) tasks: Vec<Task>,
    /// What its results are to reach.
    pub(super) bars: Vec<Bar>,
}

/// Reads `file`; what `flags` say wins, and `only` names the tasks to take where it is not empty.
///
/// # Errors
/// A file that cannot be read, is no suite, or has a task whose settings no run can have.
pub(super) fn read(file: &Path, flags: &GridArgs, only: &[String]) -> Result<Suite> {
    let wrong = |problem: String| wrong(file, problem);
    let written = written(file)?;
    if let Some(unknown) = only.iter().find(|name| !written.task.contains_key(*name)) {
        return Err(wrong(format!("no task {unknown}")).into());
    }
    let of_file = GridArgs {
        methods: written.methods.clone().unwrap_or_default(),
        budgets: written.budgets.clone().unwrap_or_default(),
        seeds: written.seeds,
        search_seeds: written.search_seeds,
        learning_rates: written.learning_rates.as_ref().map(rates).transpose().map_err(&wrong)?,
        rate_factors: factors(&written.rate_factors).map_err(&wrong)?,
        last_ks: written.last_ks.clone().unwrap_or_default(),
        vary: varied(&written.vary).map_err(&wrong)?,
        ablate: varied(&written.ablate).map_err(&wrong)?,
    };
    let mut tasks = Vec::new();
    for (name, value) in &written.task {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let wrong = |problem: String| wrong(format!("task {name}: {problem}"));
        let task: WrittenTask =
            value.clone().try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
        let of_task = GridArgs {
            learning_rates: task.learning_rates.as_ref().map(rates).transpose().map_err(&wrong)?,
            rate_factors: factors(&task.rate_factors).map_err(&wrong)?,
            last_ks: task.last_ks.clone().unwrap_or_default(),
            vary: varied(&task.vary).map_err(&wrong)?,
            ..GridArgs::default()
        };
        let grid = flags.or(&of_task).or(&of_file).grid()?;
        tasks.push(
            lay_out(name, &task, &written.set, &grid)
                .with_context(|| format!("{}: task {name}", file.display()))?,
        );
    }
    written.bar.iter().try_for_each(Bar::check).map_err(&wrong)?;
    let groups: Vec<&str> = tasks.iter().map(|task| task.group.as_str()).collect();
    for bar in &written.bar {
        if let Some(group) = bar.group.as_deref().filter(|group| only.is_empty() && !groups.contains(group)) {
            return Err(wrong(format!("bar {:?}: no task is of the group {group}", bar.what)).into());
        }
        if let Some(unknown) = bar.above.iter().find(|name| name.parse::<MethodName>().is_err()) {
            return Err(wrong(format!("bar {:?}: {unknown} is no method", bar.what)).into());
        }
    }
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let title = written.title.or(stem).unwrap_or_default();
    Ok(Suite { title, records: written.records, tasks, bars: written.bar })
}

/// The suite as it stands in `file`, over the one that it is `like`.
fn written(file: &Path) -> Result<Written> {
    let read = |file: &Path| -> Result<(Written, Table)> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| RecipeError::Read { file: file.to_path_buf(), source })?;
        // Each by itself: what is wrong is in this file, at a line.
        let written = toml::from_str(&text).map_err(|error| wrong(file, error.to_string()))?;
        Ok((written, toml::from_str(&text).map_err(|error| wrong(file, error.to_string()))?))
    };
    let (mut suite, own) = read(file)?;
    if let Some(like) = &suite.like {
        let (written, mut table) = read(like)?;
        if written.like.is_some() {
            return Err(wrong(file, format!("{} is itself like another", like.display())).into());
        }
        table.retain(|key, _| !["title", "bar"].contains(&key));
        lay_over(&mut table, own);
        suite = table.try_into().map_err(|error: toml::de::Error| wrong(file, error.to_string()))?;
    }
    if suite.task.is_empty() {
        return Err(wrong(file, "no [task]".into()).into());
    }
    Ok(suite)
}

/// Sets in `table` what `own` says, tables key by key.
fn lay_over(table: &mut Table, own: Table) {
    for (key, value) in own {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(table)), Value::Table(own)) => lay_over(table, own),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

fn wrong(file: &Path, problem: String) -> TrainError {
    TrainError::Mismatch {
        problem: format!("{}: {}", file.display(), problem.trim_end()),
        hint: "rgft bench suite --help shows a suite",
    }
}

fn varied(written: &[String]) -> Result<Vec<Varied>, String> {
    written.iter().map(|varied| varied.parse()).collect()
}

fn lay_out(name: &str, task: &WrittenTask, common: &Table, grid: &Grid) -> Result<Task> {
    let mut raw = RawRecipe::default();
    // The suite's settings are defaults: a recipe knows better.
    assign(&mut raw, common)?;
    if let Some(recipe) = &task.recipe {
        raw.merge(RawRecipe::from_file(recipe)?);
    }
    assign(&mut raw, &task.set)?;
    let laid_out = Task::new(name, &raw, grid)?;
    let group = task.group.clone().unwrap_or_default();
    Ok(Task { group, ..laid_out })
}

fn assign(raw: &mut RawRecipe, settings: &Table) -> Result<(), RecipeError> {
    settings.iter().try_for_each(|(key, value)| match value {
        Value::String(text) => raw.set(key, text),
        other => raw.set(key, &other.to_string()),
    })
}

fn rates(written: &WrittenRates) -> Result<Rates, String> {
    match written {
        WrittenRates::Word(word) => word.parse(),
        WrittenRates::Numbers(rates) if !rates.is_empty() && rates.iter().all(|rate| *rate > 0.0) => {
            Ok(Rates::List(rates.clone()))
        }
        WrittenRates::Numbers(rates) => Err(format!("learning-rates = {rates:?}: expected numbers above 0")),
    }
}

fn factors(written: &BTreeMap<String, f64>) -> Result<BTreeMap<String, f64>, String> {
    let usable = |factor: f64| factor.is_finite() && factor > 0.0;
    match written.iter().find(|(_, factor)| !usable(**factor)) {
        None => Ok(written.clone()),
        Some((name, factor)) => Err(format!("rate-factors: {name} = {factor}: expected a number above 0")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn suite(text: &str, flags: &GridArgs, only: &[&str]) -> Result<Suite> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("small.toml");
        std::fs::write(folder.path().join("r.toml"), "model = 'm'\nepochs = 5\nbatch-size = 8\n").unwrap();
        std::fs::write(&file, text.replace("DIR", &folder.path().display().to_string())).unwrap();
        read(&file, flags, &only.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    const TEXT: &str = "
        methods = ['full', 'rgft']
        budgets = [0.3]
        seeds = 2
        [set]
        data = 'd.csv'
        task = 'text-classification'
        batch-size = 16
        dropout = 0.0
        [task.b]
        recipe = 'DIR/r.toml'
        group = 'text'
        learning-rates = 'grid'
        rate-factors = { rgft = 3 }
        set = { epochs = 2, text-column = ['a', 'b'] }
        [task.a]
        set = { model = 'other' }
    ";

    #[test]
    fn a_task_wins_over_its_recipe_and_the_recipe_over_the_suite() {
        let suite = suite(TEXT, &GridArgs::default(), &[]).unwrap();
        let names: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!((suite.title.as_str(), names), ("small", vec!["b", "a"]), "in the order of the file");
        let task = &suite.tasks[0];
        assert_eq!(task.group, "text");
        let found = ["epochs", "batch-size", "dropout", "model"].map(|key| task.shared[key].clone());
        assert_eq!(serde_json::json!(found), serde_json::json!([2.0, 8, 0.0, "m"]));
        let largest =
            |arm: usize| task.arms[arm].choices.iter().map(|choice| choice.learning_rate).fold(0.0, f64::max);
        assert_eq!(task.arms[1].choices.len(), 4);
        assert!((largest(1) / largest(0) - 3.0).abs() < 1e-6, "the task's own factor");
        assert_eq!(suite.tasks[1].arms[1].choices.len(), 1);
    }

    #[test]
    fn suites_of_the_experiments_are_suites() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let copies = tempfile::tempdir().unwrap();
        let files = std::fs::read_dir(root.join("experiments/suites")).unwrap();
        let copied: Vec<PathBuf> = files
            .map(|file| {
                let file = file.unwrap().path();
                let text = std::fs::read_to_string(&file).unwrap();
                let text = text
                    .replace("\"experiments/suites/", &format!("\"{}/", copies.path().display()))
                    .replace("\"experiments/", &format!("\"{}/experiments/", root.display()));
                let copy = copies.path().join(file.file_name().unwrap());
                std::fs::write(&copy, text).unwrap();
                copy
            })
            .collect();
        for file in copied {
            assert!(!read(&file, &GridArgs::default(), &[]).unwrap().tasks.is_empty(), "{}", file.display());
        }
    }

    #[test]
    fn flags_win_and_tasks_can_be_picked() {
        let flags = GridArgs { seeds: Some(1), methods: vec!["rgft".into()], ..GridArgs::default() };
        let suite = suite(TEXT, &flags, &["a"]).unwrap();
        assert_eq!((suite.tasks.len(), suite.tasks[0].cells.len()), (1, 1));
    }

    #[test]
    fn a_suite_like_another_says_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (other, own) = (folder.path().join("other.toml"), folder.path().join("own.toml"));
        let text = TEXT.replace("[task.b]\n        recipe = 'DIR/r.toml'\n", "[task.b]\n");
        std::fs::write(&other, text.replace("[set]", "[[bar]]\nwhat = 'x'\nspent = 0.1\n[set]\nmodel = 'm'"))
            .unwrap();
        let own_text = "methods = ['head']\n[task.a]\nset = { seed = 7 }";
        std::fs::write(&own, format!("like = '{}'\n{own_text}", other.display())).unwrap();
        let suite = read(&own, &GridArgs::default(), &[]).unwrap();
        assert_eq!((suite.title.as_str(), suite.bars.len(), suite.tasks.len()), ("own", 0, 2));
        assert!(suite.tasks.iter().all(|task| task.arms.len() == 1));
        let found = ["seed", "model", "batch-size"].map(|key| suite.tasks[1].shared[key].clone());
        assert_eq!(
            serde_json::json!(found),
            serde_json::json!([7, "other", 16]),
            "a task is laid over the other's"
        );
        assert_eq!(
            suite.tasks[0].cells.len(),
            read(&other, &GridArgs::default(), &[]).unwrap().tasks[0].cells.len() / 2
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let says = |text: &str, only: &[&str], expected: &str| {
            let error = suite(text, &GridArgs::default(), only).map(|_| ()).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{text}");
        };
        says(TEXT, &["c"], "no task c");
        says("like = 'nowhere.toml'", &[], "nowhere.toml");
        says(&format!("rate-factors = {{ rgtf = 2 }}\n{TEXT}"), &[], "rgtf");
        says(&format!("rate-factors = {{ rgft = -2 }}\n{TEXT}"), &[], "expected a number above 0");
        says("like = 3", &[], "expected path");
        says("seeds = 3", &[], "no [task]");
        let nested = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(nested.path(), "like = 'x.toml'").unwrap();
        says(&format!("like = '{}'", nested.path().display()), &[], "is itself like another");
        says(&TEXT.replace("seeds = 2", "sedes = 2"), &[], "line 4");
        says(&TEXT.replace("epochs = 2", "epcohs = 2"), &[], "unknown key `epcohs`");
        says(&TEXT.replace("'rgft'", "'rgtf'"), &[], "rgtf");
        let bar = |bar: &str| TEXT.replace("[set]", &format!("[[bar]]\nwhat = 'x'\n{bar}\n[set]"));
        says(&bar("seconds = 1.0\nspent = 0.1"), &[], "expected one of points");
        says(&bar("points = 1.0\ngroup = 'txet'"), &[], "txet");
        says(&bar("above = ['rgtf']"), &[], "rgtf is no method");
        says(
            &TEXT.replace("'grid'", "[0.0]"),
            &[],
            "task b: learning-rates = [0.0]: expected numbers above 0",
        );
        says(&TEXT.replace("rgft = 3", "rgft = 0"), &[], "task b: rate-factors: rgft = 0");
    }
}
