//! The arguments of `rgft data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `rgft data`
#[derive(Debug, Subcommand)]
pub(crate) enum DataAction {
    /// Show the models and data sets that have a name here
    List,

    /// Fetch models and data sets, check their hashes and say where they are
    #[command(after_help = "\
A NAME of `data list` is put under --to, laid out as the recipes of experiments want it (they look in
../shared/assets). Any other repository of the Hugging Face hub, owner/name or datasets/owner/name, perhaps with
@revision, stays in the hub's cache unless --to is given; a model of the cache can be named by its id: --model
owner/name. What the cache has is not fetched again, what broke off goes on where it was, and every file is checked
against the hash that the hub gives for it, if it gives one.

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are heard.

Examples:
  rgft data get minilm tweet-emotion
  rgft data get trec6 --source ../shared/assets
  rgft data get sentence-transformers/all-MiniLM-L12-v2
  rgft data get datasets/fancyzhx/ag_news --file 'data/*.parquet' --to data/ag-news")]
    Get(GetArgs),
}

/// `rgft data get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Names, `all` (without --source: what of them the hub has), or repositories of the hub
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Folder to put them in [default: the current one for names, the hub's cache for others]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,

    /// Folder that holds what has a name already, laid out as --to: copy from there, use no network
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,

    /// Of a repository, the files that this pattern matches; may be repeated [default: of a model its weights,
    /// configuration and tokenizer, of a data set its tables]
    #[arg(long = "file", value_name = "GLOB")]
    pub(crate) files: Vec<String>,
}
