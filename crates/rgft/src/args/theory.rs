//! The arguments of `rgft theory`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::RecipeArgs;

/// `rgft theory`
#[derive(Debug, Subcommand)]
pub(crate) enum Theory {
    /// The bounds of THEORY.md on random problems whose constants are known, and a search for violations
    #[command(after_help = "\
Examples:
  rgft theory verify
  rgft theory verify --problems 200 --search 1000
  rgft theory verify --search 1000000 --out theory")]
    Verify(VerifyArgs),

    /// Does Lemma 1 foretell what a gradient step of some components is worth, on real data?
    #[command(after_help = "\
One step of gradient descent on one large batch, from the model as it is; nothing is written but what --out names. The
method and the optimizer of the recipe are not looked at.

Examples:
  rgft theory predict --model runs/trec6 --data trec6
  rgft theory predict --config experiments/etth1-lstm.toml --random 100 --out runs/predict")]
    Predict(Box<ForetellArgs>),
}

/// `rgft theory predict`
#[derive(Debug, Args)]
pub(crate) struct ForetellArgs {
    /// Examples of the batch
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) examples: usize,

    /// Random sets of components
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) random: usize,

    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
}

/// `rgft theory verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Problems to draw for each statement
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) problems: usize,

    /// Problems to bend towards a violation, for each statement
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) search: usize,

    /// Another seed draws other problems
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Folder for theory.json, theory.md (the table) and theory.svg (bounds beside what they bound)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
