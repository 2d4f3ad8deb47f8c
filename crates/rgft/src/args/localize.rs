//! The arguments of `rgft bench localize`.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use rgft_core::ComponentKind;

use super::RecipeArgs;
use crate::bench::localize::Settings;

/// Examples of `rgft bench localize`.
pub(super) const EXAMPLES: &str = "\
The model is a fine-tuned one, or is fine-tuned first by --tune. Nothing of it is written. The recipe's signal and alpha
are marked in the table; its method and budget are not looked at. Granularity is group unless given here.

Examples:
  rgft bench localize --model runs/trec6 --data trec6 --out runs/localize
  rgft bench localize --model resnet20 --data cifar10 --task image-classification --kind channels --faults 40 --json
  rgft bench localize --config recipe.toml --tune 200 --seeds 3 --signal sketch --alpha relative";

/// A whole number from `least`.
fn from(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=1_000_000)
}

fn rise(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|rise: &f64| rise.is_finite() && *rise >= 0.0);
    found.ok_or_else(|| "expected a number of at least 0".into())
}

/// `rgft bench localize`
#[derive(Debug, Args)]
pub(crate) struct LocalizeArgs {
    #[command(flatten)]
    trial: TrialArgs,

    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Trial")]
struct TrialArgs {
    /// Faults of each seed, at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = from(1))]
    faults: usize,

    /// Least rise of the loss by a fault that counts, as a part of what the loss was
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = rise)]
    rise: f64,

    /// How many seeds, from --seed on; each shuffles data and faults anew
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from(1))]
    seeds: usize,

    /// Kind of component that faults are planted in; may be repeated [default: all but norm, embedding and task-head]
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<ComponentKind>,

    /// Steps that the oracle trains each component alone
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = from(1))]
    steps: usize,

    /// Components that the oracle trains, spread over the model
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = from(2))]
    oracle: usize,

    /// Batches of a map, and held-out ones of the oracle
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = from(2))]
    batches: usize,

    /// Steps of full fine-tuning before the first fault; 0 for a model that is fine-tuned already
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = from(0))]
    tune: usize,
}

impl LocalizeArgs {
    /// How the trial is made.
    pub(crate) fn settings(&self) -> Settings {
        let TrialArgs { faults, rise, seeds, ref kinds, steps, oracle, batches, tune } = self.trial;
        Settings { faults, rise, seeds: seeds as u64, kinds: kinds.clone(), steps, oracle, batches, tune }
    }
}
