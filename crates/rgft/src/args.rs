//! The command line. clap lives in this file and its folder alone: what leaves it is a [`RawRecipe`] or a plain struct.
//!
//! The flags of `train`, `plan` and `map` are made from the recipe's table of keys, so that a key, its flag and
//! its help cannot differ.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use rgft_kernels::Precision;
use rgft_train::recipe::{Key, KeyType, RawRecipe, Recipe, RecipeError, Texts};
use rgft_train::{Generation, Sampling};

use crate::hub;

mod compare;
mod data;
mod growth;
mod localize;
mod patch;
mod runs;
mod theory;

pub(crate) use compare::{CompareArgs, GridArgs, ResultsArgs, RunsArgs, SuiteArgs};
pub(crate) use data::{DataAction, GetArgs};
pub(crate) use growth::{GrowthArgs, GrowthAxis};
pub(crate) use localize::LocalizeArgs;
pub(crate) use patch::{PatchAction, Side};
pub(crate) use runs::WholeRunsArgs;
pub(crate) use theory::{ForetellArgs, Theory, VerifyArgs};

/// Find which parts of a pre-trained model cause its errors on your data, train those, skip the rest.
#[derive(Debug, Parser)]
#[command(
    name = "rgft",
    version,
    after_help = "\
Examples:
  rgft demo --out demo
  rgft train --model minilm --data trec6 --task text-classification --out runs/trec6
  rgft eval --model runs/trec6 --data trec6/test.csv

Exit status: 0 done, 1 the run failed, 2 bad arguments or input"
)]
pub(crate) struct Cli {
    /// Print one JSON document on stdout (predict: one per line); progress stays on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print no progress and no notes
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Threads; 0 takes every core
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fine-tune a model
    #[command(after_help = "\
Examples:
  rgft train --model minilm --data trec6 --task text-classification --out runs/trec6
  rgft train --model minilm --data reviews.csv --task text-regression --label-column stars --budget 0.2 --out runs/stars
  rgft train --config runs/trec6/recipe.toml --set seed=1 --set epochs=2 --out runs/trec6-seed1
  rgft train --model minilm --data nli.jsonl --task text-classification --text-column premise --text-column hypothesis --out runs/nli")]
    Train(RecipeArgs),

    /// Train a model from random weights: a config.json makes the model, everything is trained
    #[command(after_help = "\
Examples:
  rgft pretrain --config experiments/pretrain/gru-pjm.toml --out models/gru-pjm
  rgft pretrain --model my-lstm --tokenizer minilm --data ag-news.csv --task text-classification --out models/lstm")]
    Pretrain(RecipeArgs),

    /// Show what a training run would compute, save and store; trains nothing
    #[command(after_help = "\
Examples:
  rgft plan --model minilm --data trec6 --task text-classification --budget 0.1
  rgft plan --config runs/trec6/recipe.toml --json")]
    Plan(RecipeArgs),

    /// Draw the error map of a fine-tuned model on some data; trains nothing
    #[command(after_help = "\
Examples:
  rgft map --model minilm --data trec6 --task text-classification --out maps/trec6
  rgft map --model minilm --data trec6 --task text-classification --granularity module --signal gram --out maps/trec6-gram")]
    Map(RecipeArgs),

    /// Measure a trained model on labelled data; settings are those of its training unless given
    #[command(after_help = "\
Examples:
  rgft eval --model runs/trec6 --data trec6/test.csv
  rgft eval --model runs/trec6 --data trec6/test.csv --json
  rgft eval --model resnet20 --data cifar10/test.parquet --corrupt gaussian-noise:4")]
    Eval(RecipeArgs),

    /// Label texts with a trained model: one JSON object per line with text, label, score and scores
    #[command(after_help = "\
Without --data, each line of stdin is one text.

Examples:
  echo 'How far is it to the moon ?' | rgft predict --model runs/trec6
  rgft predict --model runs/trec6 --data trec6/test.csv --out labels.jsonl")]
    Predict(PredictArgs),

    /// Go on with a text, with a language model; the text comes on stdout while it grows
    #[command(after_help = "\
Without --prompt and --file, the prompt is what stdin holds, less its last line break.

Examples:
  rgft generate --model stories260k --prompt 'Once upon a time'
  rgft generate --model runs/python --file start.py --max-new-tokens 200 --temperature 0.8 --top-p 0.95 --seed 1
  rgft generate --model charrnn --prompt ROMEO: --stop JULIET: --json")]
    Generate(GenerateArgs),

    /// Fine-tune by several methods, budgets, settings and seeds: a table and plots
    #[command(after_help = compare::EXAMPLES)]
    Compare(CompareArgs),

    /// What fine-tuning changed, as a small file that can be applied, taken back and merged
    #[command(subcommand)]
    Patch(PatchAction),

    /// Public models and data sets, fetched when asked for
    #[command(subcommand)]
    Data(DataAction),

    /// The convergence theory, checked numerically
    #[command(subcommand)]
    Theory(Theory),

    /// Run the embedded example: full, head and rgft side by side, without a network
    #[command(after_help = "\
Examples:
  rgft demo
  rgft demo --out demo --json")]
    Demo(DemoArgs),

    /// Measure this machine
    #[command(subcommand)]
    Bench(Bench),
}

/// A recipe: `--config`, then `--set`, then the flags; what is further right wins.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Recipe file (TOML); every option below is one of its keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one key of the recipe; may be repeated, and stands below flags
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,

    #[command(flatten)]
    flags: RecipeFlags,
}

impl RecipeArgs {
    /// The settings as written, of the file, of `--set` and of the flags; `threads` is the global flag's.
    ///
    /// # Errors
    /// A file that cannot be read; an unknown key; a value of the wrong type.
    pub(crate) fn recipe(&self, threads: Option<usize>) -> Result<RawRecipe, RecipeError> {
        let mut recipe = match &self.config {
            Some(file) => RawRecipe::from_file(file)?,
            None => RawRecipe::default(),
        };
        for assignment in &self.assignments {
            recipe.assign(assignment)?;
        }
        for (key, values) in &self.flags.0 {
            match values.as_slice() {
                [value] => recipe.set(key.name, value)?,
                several => recipe.text_column = Some(Texts::Many(several.to_vec())),
            }
        }
        recipe.threads = threads.or(recipe.threads);
        recipe.model = recipe.model.map(hub::local);
        Ok(recipe)
    }
}

/// The keys of the recipe that were given as flags, with their values as typed.
#[derive(Debug)]
struct RecipeFlags(Vec<(&'static Key, Vec<String>)>);

impl RecipeFlags {
    /// What `-h` shows; `--help` shows all.
    const SHORT: [&str; 12] = [
        "model",
        "data",
        "test",
        "task",
        "out",
        "method",
        "budget",
        "seed",
        "epochs",
        "batch-size",
        "learning-rate",
        "text-column",
    ];

    /// The keys that are flags here: `threads` is a flag of every command.
    fn keys() -> impl Iterator<Item = &'static Key> {
        Recipe::keys().iter().filter(|key| key.name != "threads")
    }

    fn flag(key: &'static Key) -> Arg {
        let default = match key.default.strip_prefix("none: ") {
            _ if key.default == "none" || key.default == "required" => String::new(),
            Some(explained) => format!("; default: {explained}"),
            None => format!("; default: {}", key.default),
        };
        Arg::new(key.name)
            .long(key.name)
            .value_name(key.kind.placeholder())
            .help(format!("{} [{}{default}]", key.help, key.expected))
            .help_heading(key.group)
            .hide_short_help(!Self::SHORT.contains(&key.name))
            .allow_negative_numbers(matches!(key.kind, KeyType::Number | KeyType::Count))
            .action(if key.kind == KeyType::Texts { ArgAction::Append } else { ArgAction::Set })
    }
}

impl Args for RecipeFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(Self::keys().map(Self::flag))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RecipeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &'static Key| {
            let values = matches.try_get_many::<String>(key.name);
            match values.map_err(|error| clap::Error::raw(ErrorKind::UnknownArgument, error)) {
                Ok(values) => values.map(|values| Ok((key, values.cloned().collect()))),
                Err(error) => Some(Err(error)),
            }
        };
        Self::keys().filter_map(given).collect::<Result<_, _>>().map(RecipeFlags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `rgft predict`
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Folder of a trained model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,

    /// Data: a table, a folder of pictures, a file of series; labels are not needed [default: stdin, one text per line]
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// File for the labels [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Set one key of the recipe otherwise than in training; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,

    /// Column of the text, twice for pairs [default: as in training]
    #[arg(long, value_name = "TEXT")]
    text_column: Vec<String>,
}

impl PredictArgs {
    /// The settings that are not those of training.
    ///
    /// # Errors
    /// An unknown key; a value of the wrong type.
    pub(crate) fn recipe(&self) -> Result<RawRecipe, RecipeError> {
        let mut recipe = RawRecipe { model: Some(hub::local(self.model.clone())), ..RawRecipe::default() };
        self.assignments.iter().try_for_each(|assignment| recipe.assign(assignment))?;
        match &self.text_column[..] {
            [] => {}
            [one] => recipe.text_column = Some(Texts::One(one.clone())),
            several => recipe.text_column = Some(Texts::Many(several.to_vec())),
        }
        Ok(recipe)
    }
}

/// `rgft generate`
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Folder of a language model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,

    /// The text to go on with
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub(crate) prompt: Option<String>,

    /// File with the text to go on with
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_new_tokens: usize,

    /// What logits are divided by before a token is drawn; 0 takes the likeliest
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, value_parser = temperature, allow_negative_numbers = true)]
    temperature: f64,

    /// Draw from this many of the likeliest tokens alone; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,

    /// Draw from the fewest tokens that hold this share of the probability
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    top_p: f64,

    /// End before this text; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,

    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl GenerateArgs {
    /// How to generate.
    pub(crate) fn settings(&self) -> Generation {
        let (temperature, top_k, top_p, seed) = (self.temperature, self.top_k, self.top_p, self.seed);
        let sampling = Sampling { temperature, top_k, top_p, seed };
        Generation { max_new_tokens: self.max_new_tokens, stop: self.stop.clone(), sampling }
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|t: &f64| t.is_finite() && *t >= 0.0);
    found.ok_or_else(|| "expected a number of at least 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|p: &f64| *p > 0.0 && *p <= 1.0);
    found.ok_or_else(|| "expected a number above 0 and up to 1".into())
}

/// `rgft demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the three runs and their reports
    #[arg(long, value_name = "DIR", default_value = "rgft-demo")]
    pub(crate) out: PathBuf,
}

/// `rgft bench`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Matrix products at training shapes, against this machine's measured peak
    #[command(after_help = "\
Examples:
  rgft bench gemm --quick
  rgft bench gemm --threads 1 --json")]
    Gemm {
        /// Fewer repetitions
        #[arg(long)]
        quick: bool,
    },

    /// Training steps, full and selective, against PyTorch and other programs where there are some
    #[command(after_help = "\
Examples:
  rgft bench steps --quick
  rgft bench steps --work bertbase --profile
  rgft bench steps --work resnet20,lstm --scaling
  rgft bench steps --work lstm --beside experiments/peers/target/release/candle")]
    Steps(StepsArgs),

    /// How forward and full step grow with an encoder's depth, width, length, batch and size, beside their floor
    #[command(after_help = growth::EXAMPLES)]
    Growth(GrowthArgs),

    /// Whole runs of one task: full fine-tuning, the recipe's method, and PyTorch where there is one; seconds, memory, quality
    #[command(after_help = runs::EXAMPLES)]
    Runs(Box<WholeRunsArgs>),

    /// Faults planted in a fine-tuned model: which signal finds them, and which foretells what training gives
    #[command(after_help = localize::EXAMPLES)]
    Localize(Box<LocalizeArgs>),

    /// Many tasks under many methods, by a suite file: tables, plots and their summary
    #[command(after_help = compare::SUITE)]
    Suite(Box<SuiteArgs>),

    /// A page of what the records of suites hold: bars, tables and plots; runs nothing
    #[command(after_help = compare::RESULTS)]
    Results(ResultsArgs),
}

/// `rgft bench steps`
#[derive(Debug, Args)]
pub(crate) struct StepsArgs {
    /// Models and batches, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "minilm")]
    pub(crate) work: Vec<Work>,

    /// In what precisions, separated by commas, of those that the processor has
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32,bf16")]
    pub(crate) precision: Vec<PrecisionName>,

    /// Python with torch, for the same work in PyTorch [default: RGFT_YARDSTICK_PYTHON, else none]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Program that does the same work, to be named once for each: called as PROGRAM WORK --threads N, it prints what steps.py
    /// prints; experiments/peers builds one of candle and one of burn
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) beside: Vec<PathBuf>,

    /// Print where the time of each step goes, kernel by kernel
    #[arg(long)]
    pub(crate) profile: bool,

    /// Also run each work on one thread, and print how much faster it is on all
    #[arg(long)]
    pub(crate) scaling: bool,

    /// Fewer repetitions
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write what was measured into this folder, as steps.json and the table as steps.md
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
}

impl StepsArgs {
    /// The Python to compare with, if any.
    pub(crate) fn python(&self) -> Option<PathBuf> {
        yardstick_python(self.python.as_ref())
    }
}

/// The Python with torch to compare with: the one that is named, else that of the environment.
fn yardstick_python(named: Option<&PathBuf>) -> Option<PathBuf> {
    let variable = || std::env::var_os("RGFT_YARDSTICK_PYTHON").filter(|path| !path.is_empty());
    named.cloned().or_else(|| variable().map(PathBuf::from))
}

/// In what products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionName {
    /// Single precision
    F32,
    /// bfloat16, accumulated in single precision
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
        }
    }
}

/// What a step is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// MiniLM (6 layers, hidden 384), 32 texts of 64 tokens
    Minilm,
    /// BERT-base (12 layers, hidden 768), 16 texts of 64 tokens
    Bertbase,
    /// ResNet-20, 128 pictures of 32 × 32
    Resnet20,
    /// ResNet-18, 32 pictures of 64 × 64
    Resnet18,
    /// An LSTM of 256 units, 64 series of 96 steps with 32 values each
    Lstm,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;
    use rgft_train::recipe::MethodName;

    use super::*;

    fn recipe(line: &str) -> RawRecipe {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        match &cli.command {
            Command::Train(args) | Command::Pretrain(args) | Command::Plan(args) | Command::Map(args) => {
                args.recipe(cli.threads).unwrap()
            }
            Command::Compare(args) => args.recipe.recipe(cli.threads).unwrap(),
            other => panic!("{other:?} has no recipe"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_is_a_flag_with_its_help() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("train").unwrap().render_long_help().to_string();
        for key in RecipeFlags::keys() {
            assert!(help.contains(&format!("--{} ", key.name)) && help.contains(key.help), "{}", key.name);
        }
        for key in RecipeFlags::SHORT {
            assert!(Key::named(key).is_some(), "{key}");
        }
    }

    /// The words of a line, as a shell sees them: what stands between single quotes is one.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (i, part) in line.split('\'').enumerate() {
            match i % 2 {
                0 => words.extend(part.split_whitespace().map(String::from)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }

    #[test]
    fn examples_in_the_help_are_commands() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            found.extend(help.lines().filter_map(|line| line.find("rgft ").map(|at| line[at..].to_owned())));
            command.get_subcommands().for_each(|command| examples(command, found));
        }
        let mut found = Vec::new();
        examples(&Cli::command(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        for example in found {
            let cli =
                Cli::try_parse_from(words(&example)).unwrap_or_else(|error| panic!("{example}: {error}"));
            if let Command::Train(args) | Command::Pretrain(args) | Command::Plan(args) | Command::Map(args) =
                &cli.command
                && args.config.is_none()
            {
                args.recipe(None)
                    .and_then(RawRecipe::check)
                    .unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn flags_win_over_set_and_set_over_the_file() {
        let file = std::env::temp_dir().join(format!("rgft-args-{}.toml", std::process::id()));
        std::fs::write(&file, "epochs = 1\nbatch-size = 8\nseed = 1\nthreads = 3\n").unwrap();
        let line =
            format!("rgft train --epochs 3 --set epochs=2 --set batch-size=16 --config {}", file.display());
        let raw = recipe(&line);
        let threads = recipe(&format!("{line} --threads 2")).threads;
        std::fs::remove_file(&file).unwrap();
        assert_eq!((raw.epochs, raw.batch_size, raw.seed), (Some(3.0), Some(16), Some(1)));
        assert_eq!((raw.threads, threads), (Some(3), Some(2)));
    }

    #[test]
    fn flags_become_settings() {
        let raw = recipe(
            "rgft train --method last-k --last-k 2 --learning-rate -1 --text-column a --text-column b",
        );
        assert_eq!(
            (raw.method, raw.last_k, raw.learning_rate),
            (Some(MethodName::LastK), Some(2), Some(-1.0))
        );
        assert_eq!(raw.text_column, Some(Texts::Many(vec!["a".into(), "b".into()])));
        assert_eq!(recipe("rgft map --text-column a").text_column, Some(Texts::One("a".into())));
        assert_eq!(recipe("rgft plan"), RawRecipe::default());
    }
}
