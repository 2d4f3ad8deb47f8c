//! The arguments of `rgft bench runs`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::{RecipeArgs, yardstick_python};

pub(super) const EXAMPLES: &str = "\
Full fine-tuning here, the recipe's method under its budget, and full fine-tuning and LoRA in PyTorch, each in f32 and
bf16, seed after seed; every run in a process of its own. Where PyTorch is wanted, data must be a folder with train.csv
and test.csv (text,label) and the model a BERT.

Examples:
  rgft bench runs --model minilm --data trec6 --task text-classification --epochs 3 --record records/runs/trec6";

/// `rgft bench runs`
#[derive(Debug, Args)]
pub(crate) struct WholeRunsArgs {
    /// Seeds
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub(crate) seeds: usize,

    /// Python with torch [default: RGFT_YARDSTICK_PYTHON, else none]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// What LoRA in PyTorch multiplies the learning rate by
    #[arg(long, value_name = "X", default_value_t = 5.0)]
    pub(crate) lora_factor: f64,

    /// Write what was measured into this folder, as runs.json and the table as runs.md
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
}

impl WholeRunsArgs {
    /// The Python to compare with, if any.
    pub(crate) fn python(&self) -> Option<PathBuf> {
        yardstick_python(self.python.as_ref())
    }
}
