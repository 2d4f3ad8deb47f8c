//! The arguments of `rgft patch`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `rgft patch`
#[derive(Debug, Subcommand)]
pub(crate) enum PatchAction {
    /// Write what a fine-tuned model changes in its base; a run has done so already
    #[command(after_help = "\
Examples:
  rgft patch diff minilm runs/trec6 --out trec6.safetensors")]
    Diff {
        /// Folder of the base
        base: PathBuf,
        /// Folder of the fine-tuned model
        tuned: PathBuf,
        /// File for the patch
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },

    /// Make the fine-tuned model from its base, equal to the bit
    #[command(after_help = "\
Examples:
  rgft patch apply minilm runs/trec6/patch.safetensors --out trec6")]
    Apply {
        /// Folder of the base
        base: PathBuf,
        /// The patch
        patch: PathBuf,
        /// Folder for the fine-tuned model
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },

    /// Make the base from the fine-tuned model, equal to the bit
    #[command(after_help = "\
Examples:
  rgft patch revert runs/trec6 runs/trec6/patch.safetensors --out minilm-again")]
    Revert {
        /// Folder of the fine-tuned model
        tuned: PathBuf,
        /// The patch
        patch: PathBuf,
        /// Folder for the base
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },

    /// Make one patch of two with the same base, and say where they overlap
    #[command(after_help = "\
Examples:
  rgft patch merge runs/a/patch.safetensors runs/b/patch.safetensors --out both.safetensors
  rgft patch merge runs/a/patch.safetensors runs/b/patch.safetensors --prefer second --out both.safetensors")]
    Merge {
        /// A patch
        first: PathBuf,
        /// Another patch
        second: PathBuf,
        /// File for the merged patch
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Whose values to take where the two differ [default: refuse]
        #[arg(long, value_enum)]
        prefer: Option<Side>,
    },

    /// List what a patch holds, tensor by tensor
    #[command(after_help = "\
Examples:
  rgft patch show runs/trec6/patch.safetensors
  rgft patch show runs/trec6/patch.safetensors --json")]
    Show {
        /// The patch
        patch: PathBuf,
    },
}

/// One of two patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// The first
    First,
    /// The second
    Second,
}
