//! The arguments of `rgft compare` and `rgft bench suite`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use rgft_train::recipe::{Key, MethodName, Place, RecipeError};

use super::RecipeArgs;
use crate::commands::compare::grid::{Grid, Rates, Varied};

/// Examples of `rgft compare`.
pub(super) const EXAMPLES: &str = "\
The recipe's own method, budget and last-k are not looked at; its seed is the first one.
Runs that are on record are not made again. Several of these commands may work on one folder at a time.

Examples:
  rgft compare --model minilm --data trec6 --task text-classification --methods full,rgft --seeds 3 --out cmp/trec6
  rgft compare --config runs/trec6/recipe.toml --budgets 0.1,0.3,0.5 --learning-rates grid --jobs 2 --out cmp/trec6
  rgft compare --config runs/trec6/recipe.toml --methods full,rgft --vary signal=sketch,gram --out cmp/signals";

/// Examples of `rgft bench suite`.
pub(super) const SUITE: &str = "\
A suite:
  methods = [\"full\", \"last-k\", \"rgft\"]
  budgets = [0.1, 0.3]
  seeds = 3
  learning-rates = \"grid\"        # or numbers; absent: the recipe's own rate
  rate-factors = { lora = 10 }   # what a method's rates are multiplied by
  ablate = [\"sampling=off\"]      # and vary: as the flags
  records = \"records/method\"     # folder of the tracked results; absent: --out
  like = \"suites/other.toml\"     # what is not said here is as there, but for its title and its bars
  [set]                          # keys of every recipe
  epochs = 3
  [task.trec6]                   # recipe, group, learning-rates, rate-factors, last-ks, vary, set
  recipe = \"trec6.toml\"
  group = \"text\"

What stands in a task wins over its recipe, and the recipe over [set]; flags win over all.

Examples:
  rgft bench suite experiments/suites/method.toml --out runs/method --jobs 2
  rgft bench suite experiments/suites/method.toml --tasks trec6,banking77 --methods full,rgft --out runs/method";

/// Examples of `rgft bench results`.
pub(super) const RESULTS: &str = "\
The records of a suite are those that its file names. Pictures lie in a folder beside the page, called as the page in lower
case.

Examples:
  rgft bench results experiments/suites/method.toml experiments/suites/ablation.toml --out RESULTS.md";

/// `rgft bench results`
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// Suite files, in the order of the page
    #[arg(required = true, value_name = "FILE.toml")]
    pub(crate) suites: Vec<PathBuf>,

    /// The page to write
    #[arg(long, value_name = "FILE.md")]
    pub(crate) out: PathBuf,
}

/// What is compared; what is not given is left to a suite file, or to the defaults.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct GridArgs {
    /// Methods, separated by commas [default: full,full-short,last-k,rgft]
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) methods: Vec<String>,

    /// Budgets of every method but full, separated by commas [default: 0.3]
    #[arg(long, value_name = "X,X", value_delimiter = ',')]
    pub(crate) budgets: Vec<f64>,

    /// Runs of each row, with this many seeds [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub(crate) seeds: Option<usize>,

    /// Learning rates among which validation chooses for each row, separated by commas; or grid: ½, 1, 2 and 4 times
    /// the recipe's [default: the recipe's alone]
    #[arg(long, value_name = "X,X|grid")]
    pub(crate) learning_rates: Option<Rates>,

    /// What a method's rates are multiplied by, from a suite's file.
    #[arg(skip)]
    pub(crate) rate_factors: BTreeMap<String, f64>,

    /// Numbers of layers among which validation chooses for last-k, separated by commas [default: 1,2,4]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) last_ks: Vec<usize>,

    /// Seeds that are looked at for a choice; it is made at budget 0.3, for budgets nearer to 1 at 1 [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub(crate) search_seeds: Option<usize>,

    /// A key of the recipe and values that make rows of their own; may be repeated
    #[arg(long, value_name = "KEY=VALUE,VALUE")]
    pub(crate) vary: Vec<Varied>,

    /// Likewise, but one key at a time, all else as it is
    #[arg(long, value_name = "KEY=VALUE,VALUE")]
    pub(crate) ablate: Vec<Varied>,
}

impl GridArgs {
    /// These, and where nothing is given, `other`.
    pub(crate) fn or(&self, other: &GridArgs) -> GridArgs {
        fn list<T: Clone>(first: &[T], other: &[T]) -> Vec<T> {
            if first.is_empty() { other.to_vec() } else { first.to_vec() }
        }
        GridArgs {
            methods: list(&self.methods, &other.methods),
            budgets: list(&self.budgets, &other.budgets),
            seeds: self.seeds.or(other.seeds),
            learning_rates: self.learning_rates.clone().or(other.learning_rates.clone()),
            rate_factors: if self.rate_factors.is_empty() { &other.rate_factors } else { &self.rate_factors }
                .clone(),
            last_ks: list(&self.last_ks, &other.last_ks),
            search_seeds: self.search_seeds.or(other.search_seeds),
            vary: list(&self.vary, &other.vary),
            ablate: list(&self.ablate, &other.ablate),
        }
    }

    /// What is to be compared, defaults filled in.
    ///
    /// # Errors
    /// A method that there is not.
    pub(crate) fn grid(&self) -> Result<Grid, RecipeError> {
        let defaults = GridArgs {
            methods: ["full", "full-short", "last-k", "rgft"].map(String::from).to_vec(),
            budgets: vec![0.3],
            last_ks: vec![1, 2, 4],
            ..GridArgs::default()
        };
        let all = self.or(&defaults);
        let method = |word: &String| {
            let expected = Key::named("method").map_or("", |key| key.expected);
            let wrong =
                |_| RecipeError::Value { place: Place::flag(), key: "method", found: word.clone(), expected };
            word.parse::<MethodName>().map_err(wrong)
        };
        let factor = |(name, factor): (&String, &f64)| method(name).map(|method| (method, *factor));
        Ok(Grid {
            rate_factors: all.rate_factors.iter().map(factor).collect::<Result<_, RecipeError>>()?,
            methods: all.methods.iter().map(method).collect::<Result<_, _>>()?,
            budgets: all.budgets,
            seeds: all.seeds.unwrap_or(1).max(1),
            search_seeds: all.search_seeds.unwrap_or(1).max(1),
            rates: all.learning_rates,
            last_ks: all.last_ks,
            varied: all.vary,
            ablated: all.ablate,
        })
    }
}

/// How the runs are made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct RunsArgs {
    /// Runs at the same time; they share the threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub(crate) jobs: usize,

    /// Keep the weights and reports of the runs
    #[arg(long)]
    pub(crate) keep: bool,

    /// Folder of the results, one small text file for each task [default: --out, or what the suite says]
    #[arg(long, value_name = "DIR")]
    pub(crate) records: Option<PathBuf>,

    /// Methods whose runs of this comparison are forgotten first and made again, separated by commas
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) again: Vec<String>,
}

/// `rgft compare`
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) grid: GridArgs,

    #[command(flatten)]
    pub(crate) runs: RunsArgs,

    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
}

/// `rgft bench suite`
#[derive(Debug, Args)]
pub(crate) struct SuiteArgs {
    /// The suite (TOML)
    pub(crate) file: PathBuf,

    /// Folder for the runs, the tables and the page
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Tasks to take, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) tasks: Vec<String>,

    #[command(flatten)]
    pub(crate) grid: GridArgs,

    #[command(flatten)]
    pub(crate) runs: RunsArgs,
}
