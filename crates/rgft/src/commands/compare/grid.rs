//! Which runs a comparison is made of: methods × settings (an arm each) × budgets × seeds, and for each arm the choices
//! (learning rate, `last-k`) among which validation decides.

use std::path::PathBuf;

use rgft_train::TrainError;
use rgft_train::recipe::{MethodName, RawRecipe, RecipeError};

use super::identity::{Settings, digits, identity, reads, settings};

/// Budgets at which choices are made; every other budget takes the choice of the nearer one.
pub(super) const SEARCH_BUDGETS: [f64; 2] = [0.3, 1.0];

/// What `grid` multiplies the recipe's learning rate by.
const GRID: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// Learning rates to choose from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rates {
    /// ½, 1, 2 and 4 times the recipe's.
    Grid,
    /// These.
    List(Vec<f64>),
}

impl std::str::FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "grid" {
            return Ok(Rates::Grid);
        }
        let rates = text.split(',').map(|rate| rate.trim().parse().ok().filter(|rate| *rate > 0.0));
        let rates: Option<Vec<f64>> = rates.collect();
        rates.map(Rates::List).ok_or_else(|| "expected grid, or numbers above 0, separated by commas".into())
    }
}

/// A setting and the values that it takes: each makes rows of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Varied {
    key: String,
    values: Vec<String>,
}

impl std::str::FromStr for Varied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, values) = text.split_once('=').ok_or("expected key=value,value")?;
        let other = match key {
            "method" => "--methods",
            "budget" => "--budgets",
            "seed" => "--seeds",
            "learning-rate" => "--learning-rates",
            "last-k" => "--last-ks",
            "out" | "threads" => return Err(format!("{key} is the same for all runs")),
            _ => return Ok(Varied { key: key.into(), values: outside_brackets(values) }),
        };
        Err(format!("give the values of {key} to {other}"))
    }
}

/// `text` at its commas, but for those inside brackets or braces.
fn outside_brackets(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        match parts.last_mut() {
            Some(part) if c != ',' || depth > 0 => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

/// What is compared on a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) methods: Vec<MethodName>,
    pub(crate) budgets: Vec<f64>,
    pub(crate) seeds: usize,
    pub(crate) search_seeds: usize,
    pub(crate) rates: Option<Rates>,
    /// What the rates of some methods are multiplied by: of few parameters the best rate is larger.
    pub(crate) rate_factors: Vec<(MethodName, f64)>,
    pub(crate) last_ks: Vec<usize>,
    pub(crate) varied: Vec<Varied>,
    /// Varied one at a time, all else as it is.
    pub(crate) ablated: Vec<Varied>,
}

/// A method with settings of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Arm {
    pub(super) method: String,
    /// `signal=gram`, as shown.
    pub(super) settings: String,
    pub(super) choices: Vec<Choice>,
    pub(super) budgets: Vec<f64>,
}

/// What validation chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) learning_rate: f64,
    pub(super) last_k: Option<usize>,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) arm: usize,
    pub(super) choice: usize,
    pub(super) budget: f64,
    pub(super) seed: u64,
    /// Its folder, below the task's.
    pub(super) folder: PathBuf,
    pub(super) identity: String,
    pub(super) settings: Settings,
    pub(super) recipe: RawRecipe,
    /// Whether its validation metric chooses, where there is a choice.
    pub(super) searches: bool,
    /// Whether it stands in the table, if it is of the choice that was made.
    pub(super) shown: bool,
}

/// A task with everything that may have to be run.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) arms: Vec<Arm>,
    pub(super) cells: Vec<Cell>,
    /// The settings of plain full fine-tuning: what records share.
    pub(super) shared: Settings,
}

impl Task {
    /// Lays out all runs.
    ///
    /// # Errors
    /// Settings that no run can have.
    pub(super) fn new(name: &str, base: &RawRecipe, grid: &Grid) -> Result<Self, TrainError> {
        let mut base = RawRecipe { out: None, threads: None, ..base.clone() };
        let first_seed = base.seed.unwrap_or(0);
        let plain = RawRecipe {
            method: Some(MethodName::Full),
            budget: None,
            last_k: None,
            only: None,
            ..base.clone()
        };
        let plain = plain.check()?;
        base.learning_rate = Some(plain.learning_rate);
        let mut task = Task {
            name: name.to_owned(),
            group: String::new(),
            arms: Vec::new(),
            cells: Vec::new(),
            shared: settings(&plain),
        };
        let alone = grid.ablated.iter().flat_map(|Varied { key, values }| {
            values.iter().map(move |value| Some((key.clone(), value.clone())))
        });
        for ablated in std::iter::once(None).chain(alone) {
            for mut varied in combinations(&grid.varied) {
                if let Some(ablated) = ablated.clone() {
                    varied.retain(|(key, _)| *key != ablated.0);
                    varied.push(ablated);
                }
                for &method in &grid.methods {
                    task.add_arm(&base, method, &varied, grid, first_seed)?;
                }
            }
        }
        Ok(task)
    }

    fn add_arm(
        &mut self,
        base: &RawRecipe,
        method: MethodName,
        varied: &[(String, String)],
        grid: &Grid,
        first_seed: u64,
    ) -> Result<(), RecipeError> {
        let full = method == MethodName::Full;
        let mut recipe = RawRecipe { method: Some(method), budget: None, last_k: None, ..base.clone() };
        varied.iter().try_for_each(|(key, value)| recipe.set(key, value))?;
        if method != MethodName::Only {
            recipe.only = None;
        }
        let rate = recipe.learning_rate.unwrap_or(1e-4);
        let rates = match &grid.rates {
            None => vec![rate],
            Some(Rates::Grid) => GRID.map(|factor| rounded(factor * rate)).to_vec(),
            Some(Rates::List(rates)) => rates.clone(),
        };
        let factor = grid.rate_factors.iter().find(|(name, _)| *name == method);
        let rates: Vec<f64> = match factor.filter(|_| rates.len() > 1) {
            Some((_, factor)) => rates.iter().map(|rate| rounded(factor * rate)).collect(),
            None => rates,
        };
        let last_ks: Vec<Option<usize>> = match method {
            MethodName::LastK => grid.last_ks.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        let choices: Vec<Choice> = last_ks
            .iter()
            .flat_map(|&last_k| rates.iter().map(move |&learning_rate| Choice { learning_rate, last_k }))
            .collect();
        let budgets = if full { vec![1.0] } else { grid.budgets.clone() };
        let mut searched: Vec<f64> = budgets.iter().map(|&budget| search_budget(budget)).collect();
        if choices.len() < 2 {
            searched.clear();
        }
        let mut all = budgets.clone();
        all.extend(searched.iter().filter(|budget| !budgets.contains(budget)));
        all.sort_by(f64::total_cmp);
        all.dedup();

        let arm = self.arms.len();
        let mut cells = Vec::new();
        for seed in 0..grid.seeds.max(grid.search_seeds) {
            for &budget in &all {
                for (i, choice) in choices.iter().enumerate() {
                    let searches = seed < grid.search_seeds && searched.contains(&budget);
                    let shown = seed < grid.seeds && budgets.contains(&budget);
                    if searches || shown {
                        let seed = first_seed + seed as u64;
                        let mut recipe = recipe.clone();
                        recipe.budget = Some(budget);
                        recipe.learning_rate = Some(choice.learning_rate);
                        recipe.last_k = choice.last_k;
                        recipe.seed = Some(seed);
                        cells.push(Cell::new(recipe, [arm, i], searches, shown)?);
                    }
                }
            }
        }
        // What the method does not read makes no second row.
        if cells.first().is_some_and(|cell| self.cells.iter().any(|known| known.identity == cell.identity)) {
            return Ok(());
        }
        let read = varied.iter().filter(|(key, _)| reads(method.name(), key));
        let settings: Vec<String> = read.map(|(key, value)| format!("{key}={value}")).collect();
        let settings = settings.join(" ");
        self.arms.push(Arm { method: method.name().to_owned(), settings, choices, budgets });
        self.cells.extend(cells);
        Ok(())
    }
}

impl Cell {
    fn new(
        recipe: RawRecipe,
        [arm, choice]: [usize; 2],
        searches: bool,
        shown: bool,
    ) -> Result<Self, RecipeError> {
        let checked = recipe.clone().check()?;
        let settings = settings(&checked);
        let identity = identity(&settings);
        let mut seedless = settings.clone();
        seedless.remove("seed");
        let arm_folder = format!(
            "{}-{}-{}",
            checked.method,
            checked.budget,
            digits(&super::identity::identity(&seedless))
        );
        Ok(Cell {
            arm,
            choice,
            budget: checked.budget,
            seed: checked.seed,
            folder: PathBuf::from(arm_folder).join(format!("seed-{}", checked.seed)),
            identity,
            settings,
            recipe,
            searches,
            shown,
        })
    }
}

/// Where the choice for `budget` is made.
pub(super) fn search_budget(budget: f64) -> f64 {
    let [low, high] = SEARCH_BUDGETS;
    if (budget - low).abs() <= (budget - high).abs() { low } else { high }
}

/// Every combination of the values, the first one's varying slowest; one that is empty where nothing varies.
fn combinations(varied: &[Varied]) -> Vec<Vec<(String, String)>> {
    varied.iter().fold(vec![Vec::new()], |all, Varied { key, values }| {
        let longer = |known: &Vec<(String, String)>, value: &String| {
            let mut longer = known.clone();
            longer.push((key.clone(), value.clone()));
            longer
        };
        all.iter()
            .flat_map(|known| values.iter().map(|value| longer(known, value)).collect::<Vec<_>>())
            .collect()
    })
}

/// Without the last bits that a product adds: 2 × 1e-4 is 2e-4.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn base() -> RawRecipe {
        let mut raw = RawRecipe::default();
        ["model=m", "data=d.csv", "task=text-classification", "out=o", "threads=2", "seed=5"]
            .iter()
            .for_each(|assignment| raw.assign(assignment).unwrap());
        raw
    }

    fn grid() -> Grid {
        Grid {
            methods: vec![MethodName::Full, MethodName::Rgft],
            budgets: vec![0.1, 0.5],
            seeds: 2,
            search_seeds: 1,
            rates: None,
            rate_factors: Vec::new(),
            last_ks: vec![1, 2],
            varied: Vec::new(),
            ablated: Vec::new(),
        }
    }

    #[test]
    fn without_choices_there_is_one_run_per_budget_and_seed() {
        let task = Task::new("t", &base(), &grid()).unwrap();
        let runs: Vec<_> =
            task.cells.iter().map(|cell| (cell.arm, cell.budget, cell.seed, cell.searches)).collect();
        let full = [(0, 1.0, 5, false), (0, 1.0, 6, false)];
        let rgft = [(1, 0.1, 5, false), (1, 0.5, 5, false), (1, 0.1, 6, false), (1, 0.5, 6, false)];
        assert_eq!(runs, [full.to_vec(), rgft.to_vec()].concat());
    }

    #[test]
    fn choices_are_searched_at_the_nearer_budget() {
        let task = Task::new("t", &base(), &Grid { rates: Some(Rates::Grid), ..grid() }).unwrap();
        let rates = |task: &Task, arm: usize| -> Vec<f64> {
            task.arms[arm].choices.iter().map(|choice| choice.learning_rate).collect()
        };
        assert_eq!(rates(&task, 1), [5e-5, 1e-4, 2e-4, 4e-4]);
        let rate_factors = vec![(MethodName::Rgft, 10.0)];
        let larger =
            Task::new("t", &base(), &Grid { rates: Some(Rates::Grid), rate_factors, ..grid() }).unwrap();
        assert_eq!(rates(&larger, 0), [5e-5, 1e-4, 2e-4, 4e-4]);
        assert_eq!(rates(&larger, 1), [5e-4, 1e-3, 2e-3, 4e-3]);
        let searched = |arm: usize| {
            let cells = task.cells.iter().filter(move |cell| cell.arm == arm && cell.searches);
            cells.map(|cell| (cell.budget, cell.seed, cell.shown)).collect::<Vec<_>>()
        };
        assert_eq!(searched(0), [(1.0, 5, true); 4]);
        assert_eq!(searched(1), [(0.3, 5, false); 4]);
        assert_eq!([0.05, 0.5, 0.64, 0.66, 1.0].map(search_budget), [0.3, 0.3, 0.3, 1.0, 1.0]);
    }

    #[test]
    fn varied_settings_multiply_the_rows_of_methods_that_read_them() {
        let varied =
            vec!["signal=sketch,gram".parse().unwrap(), "alpha={\"a*\"=1,\"b\"=2},uniform".parse().unwrap()];
        let task = Task::new("t", &base(), &Grid { varied, ..grid() }).unwrap();
        let names: Vec<_> =
            task.arms.iter().map(|arm| (arm.method.as_str(), arm.settings.as_str())).collect();
        let rgft = |settings| ("rgft", settings);
        assert_eq!(
            names,
            [
                ("full", ""),
                rgft("signal=sketch alpha={\"a*\"=1,\"b\"=2}"),
                rgft("signal=sketch alpha=uniform"),
                rgft("signal=gram alpha={\"a*\"=1,\"b\"=2}"),
                rgft("signal=gram alpha=uniform"),
            ]
        );
        let ablated = vec!["signal=coherent,gram".parse().unwrap(), "refresh=10".parse().unwrap()];
        let names: Vec<_> = Task::new("t", &base(), &Grid { ablated, ..grid() })
            .unwrap()
            .arms
            .iter()
            .map(|arm| format!("{} {}", arm.method, arm.settings))
            .collect();
        assert_eq!(names, ["full ", "rgft ", "rgft signal=gram", "rgft refresh=10"]);
        let folders: std::collections::BTreeSet<_> = task.cells.iter().map(|cell| &cell.folder).collect();
        assert_eq!(folders.len(), task.cells.len());
        assert!("budget=0.1".parse::<Varied>().unwrap_err().contains("--budgets"));
        assert!(
            Task::new("t", &base(), &Grid { varied: vec!["sginal=gram".parse().unwrap()], ..grid() })
                .is_err()
        );
    }
}
