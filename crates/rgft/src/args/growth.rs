//! The arguments of `rgft bench growth`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::PrecisionName;

pub(super) const EXAMPLES: &str = "\
A BERT encoder with random weights, around 4 layers of 256 hidden units and 8 texts of 64 tokens. The largest has
354 M parameters, 2 texts and takes 6 GiB of memory.

Examples:
  rgft bench growth --quick
  rgft bench growth --axes depth,length --precision f32
  rgft bench growth --record growth";

/// `rgft bench growth`
#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    /// What grows, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "depth,width,length,batch,size")]
    pub(crate) axes: Vec<GrowthAxis>,

    /// In what precisions, separated by commas, of those that the processor has
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32,bf16")]
    pub(crate) precision: Vec<PrecisionName>,

    /// Few small points, and few repetitions
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write what was measured into this folder, as growth.json, the table as growth.md and the curves as growth.svg
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
}

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GrowthAxis {
    /// Layers
    Depth,
    /// Hidden units, and with them everything that is wide
    Width,
    /// Tokens of a text
    Length,
    /// Texts of a batch
    Batch,
    /// Layers and width together, from 0.3 M to 354 M parameters, of 2 texts
    Size,
}
