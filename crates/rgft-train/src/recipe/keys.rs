//! The one table of settings: key, type, default, what it takes, help. The TOML schema ([`RawRecipe`]), the
//! command line's flags, `--help` and the documentation are all made from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::alpha::RawAlpha;
use super::choices::{
    Augment, Cache, CacheDtype, CodeLanguage, Init, MethodName, Missing, OptimizerName, Pooling, Precision,
    Recompute, Resize, Scaling, Task, UnknownCharacters,
};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// Text.
    Text,
    /// A path, from the working directory.
    Path,
    /// One word of a list.
    Word,
    /// A number with or without a fraction.
    Number,
    /// A whole number.
    Count,
    /// One text, or an array of texts.
    Texts,
    /// A word, or a table from glob to number.
    Alpha,
}

impl KeyType {
    /// The placeholder in `--help`.
    pub const fn placeholder(self) -> &'static str {
        match self {
            KeyType::Text | KeyType::Texts => "TEXT",
            KeyType::Path => "PATH",
            KeyType::Word => "WORD",
            KeyType::Number => "X",
            KeyType::Count => "N",
            KeyType::Alpha => "WORD|TABLE",
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in TOML, after `--set`, and as a flag.
    pub name: &'static str,
    /// The heading that it stands under.
    pub group: &'static str,
    /// How its value is written.
    pub kind: KeyType,
    /// What is used when it is not set; `required` and `none` are words, not values.
    pub default: &'static str,
    /// What it takes, as it stands in error messages after "expected".
    pub expected: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
}

impl Key {
    /// The setting called `name`.
    pub fn named(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }
}

/// Writes [`RawRecipe`] and [`KEYS`] from one list; a setting's doc comment is its help.
macro_rules! recipe_keys {
    ($($group:literal {
        $($(#[doc = $help:literal])+ $name:literal $field:ident: $type:ty, $kind:ident, $default:literal, $expected:literal;)+
    })+) => {
        /// Every setting of a run, in the order of the documentation.
        pub(super) const KEYS: &[Key] = &[$($(Key {
            name: $name,
            group: $group,
            kind: KeyType::$kind,
            default: $default,
            expected: $expected,
            help: concat!($($help),+).trim_ascii(),
        },)+)+];

        /// Settings as written: any of them may be absent, and none is checked yet.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RawRecipe {
            $($(
                $(#[doc = $help])+
                #[serde(rename = $name, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+)+
        }

        impl RawRecipe {
            /// Takes over every setting of `later`: what is written later wins.
            pub fn merge(&mut self, later: RawRecipe) {
                $($(if later.$field.is_some() { self.$field = later.$field; })+)+
            }
        }
    };
}

recipe_keys! {
    "Data" {
        /// Folder of the pre-trained model: config.json, model.safetensors, tokenizer.json
        "model" model: PathBuf, Path, "required", "a folder";
        /// Folder of the tokenizer or vocabulary
        "tokenizer" tokenizer: PathBuf, Path, "none: the model folder", "a folder";
        /// Data to learn from, or for eval to measure: a .csv, .tsv, .jsonl or .parquet file, or a folder with train.csv (and dev.csv, test.csv); for pictures also a folder of class folders, for language models also a text or a folder of sources, for series also several files by a pattern with *
        "data" data: PathBuf, Path, "required", "a file or a folder";
        /// Test data, read once, after training
        "test" test: PathBuf, Path, "none: test.* of the data folder, where there is one", "a file";
        /// Validation data, which chooses the checkpoint
        "validation" validation: PathBuf, Path, "none: dev.*, validation.*, valid.* or val.* of the data folder, else a part of the training rows", "a file";
        /// What the model learns to do
        "task" task: Task, Word, "required", "text-classification, text-multi-label, text-regression, image-classification, causal-lm, code or forecasting";
        /// Folder that receives the model and the run's records
        "out" out: PathBuf, Path, "none", "a folder";
        /// Column of the text; two columns, as an array, for pairs
        "text-column" text_column: Texts, Texts, "text", "a column name, or an array of two";
        /// Column of the label
        "label-column" label_column: String, Text, "label", "a column name that is no text column";
        /// What separates the labels of one cell (text-multi-label)
        "label-separator" label_separator: String, Text, "none", "a text that is not empty";
        /// Tokens after which a text is cut; tokens of a language model's sequences
        "max-length" max_length: usize, Count, "128", "a whole number from 3";
        /// Training examples to use, before a validation part is split off: the first ones; of texts and pictures each class in its share; of several files of series from each
        "limit-train" limit_train: usize, Count, "none: all", "a whole number from 2";
        /// Test examples to use, chosen likewise
        "limit-test" limit_test: usize, Count, "none: all", "a whole number from 1";
        /// Part of the training data held out for validation where no validation file is given: of texts and pictures each class in its share; the latest before the test part of series
        "validation-part" validation_part: f64, Number, "0.1", "a number above 0, up to 0.5";
        /// Part of the data held out for the test where no test file is given (causal-lm, code: of the documents; forecasting: of the time, the latest)
        "test-part" test_part: f64, Number, "0 for every task but forecasting, 0.2 for that", "a number from 0, below 0.9";
    }

    "Pictures" {
        /// Column of the picture, in Parquet files
        "image-column" image_column: String, Text, "image", "a column name";
        /// Pixels of each side
        "image-size" image_size: usize, Count, "none: what config.json says", "a whole number from 8";
        /// How a picture becomes one of that size
        "resize" resize: Resize, Word, "crop", "crop or squash";
        /// How training pictures vary from epoch to epoch
        "augment" augment: Augment, Word, "none", "none, flip or flip-crop";
        /// How every picture is spoilt, for experiments with shifted inputs: NAME:SEVERITY (1 to 5, after Hendrycks & Dietterich 2019); gaussian-noise:sigma=X on normalised values; box-blur:SIZE; invert
        "corrupt" corrupt: String, Text, "none", "gaussian-noise, shot-noise, gaussian-blur, contrast or pixelate with a severity (gaussian-noise:4), box-blur:5 or invert";
    }

    "Language" {
        /// Column of the prompt; with completion-column, only completions are learnt
        "prompt-column" prompt_column: String, Text, "none", "a column name";
        /// Column of the completion
        "completion-column" completion_column: String, Text, "none", "a column name";
        /// Endings of the files to read from a folder
        "extensions" extensions: Texts, Texts, "none: every text file up to 1 MiB", "an ending, or an array of them";
        /// What becomes of characters that a character model does not know
        "unknown-characters" unknown_characters: UnknownCharacters, Word, "replace", "replace, drop or refuse";
        /// Language that generated snippets are parsed as (code)
        "code-language" code_language: CodeLanguage, Word, "python", "python or rust";
        /// Snippets that the model writes for the test (code)
        "snippets" snippets: usize, Count, "20", "a whole number from 0";
    }

    "Time series" {
        /// Column of the date
        "date-column" date_column: String, Text, "none: the first column, if it holds dates", "a column name";
        /// Columns to forecast
        "target-columns" target_columns: Texts, Texts, "none: every column of numbers", "a column name, or an array of them";
        /// Steps that the model looks back
        "context" context: usize, Count, "none: what config.json says", "a whole number from 2";
        /// Steps that it looks ahead
        "horizon" horizon: usize, Count, "none: what config.json says", "a whole number from 1";
        /// Steps between the training windows
        "window-stride" window_stride: usize, Count, "1", "a whole number from 1";
        /// Steps between the windows of validation and test
        "evaluation-stride" evaluation_stride: usize, Count, "none: the horizon, so that each step is forecast once", "a whole number from 1";
        /// How series are scaled, by the training part alone
        "scaling" scaling: Scaling, Word, "standard", "standard or none";
        /// What becomes of missing steps and values
        "missing" missing: Missing, Word, "interpolate", "interpolate or refuse";
        /// Steps of a season, for the naive forecast that the model is measured against
        "season" season: usize, Count, "none: a day of hours, a week of days and so on", "a whole number from 1";
    }

    "Method" {
        /// Which parameters are updated
        "method" method: MethodName, Word, "rgft", "full, full-short, head, last-k, only, bitfit, norm, lora, rslora, s2ft, lisa, badam, auto-rgn, greentrainer, selective-backprop, random, static or rgft";
        /// Compute that the whole run may spend, as a part of what full fine-tuning spends
        "budget" budget: f64, Number, "0.3 for rgft, random, static and full-short, 1 for every other method", "a number above 0, up to 1";
        /// Layers that the method last-k updates
        "last-k" last_k: usize, Count, "1", "a whole number from 1";
        /// Components that the method only updates: globs over their names (layer.3*)
        "only" only: Texts, Texts, "none", "a glob, or an array of globs";
        /// Seed of everything random; the same seed, machine and threads give the same bits
        "seed" seed: u64, Count, "0", "a whole number from 0 to 9223372036854775807";
        /// Where the weights come from
        "init" init: Init, Word, "pretrained", "pretrained or random";
    }

    "Optimisation" {
        /// Passes over the training data
        "epochs" epochs: f64, Number, "3", "a number above 0, up to 10000";
        /// Examples per forward and backward pass
        "batch-size" batch_size: usize, Count, "32", "a whole number from 1";
        /// Batches whose gradients are added up before one update
        "accumulation" accumulation: usize, Count, "1", "a whole number from 1";
        /// Highest learning rate
        "learning-rate" learning_rate: f64, Number, "1e-4", "a number above 0";
        /// Highest learning rate of the task head
        "head-learning-rate" head_learning_rate: f64, Number, "none: for a fresh head 1e-3 or the learning rate, if that is higher; else the learning rate", "a number above 0";
        /// The optimizer
        "optimizer" optimizer: OptimizerName, Word, "adamw", "adamw or sgd";
        /// Decoupled weight decay
        "weight-decay" weight_decay: f64, Number, "0.01", "a number from 0";
        /// AdamW's decay of the first moment
        "beta1" beta1: f64, Number, "0.9", "a number from 0, below 1";
        /// AdamW's decay of the second moment
        "beta2" beta2: f64, Number, "0.999", "a number from 0, below 1";
        /// AdamW's floor of the denominator
        "epsilon" epsilon: f64, Number, "1e-8", "a number above 0";
        /// SGD's momentum
        "momentum" momentum: f64, Number, "0.9", "a number from 0, below 1";
        /// How the learning rate falls after the warm-up
        "schedule" schedule: String, Word, "linear", "linear, cosine or constant";
        /// Part of the steps (under a budget: of the budget) in which the learning rate rises
        "warmup" warmup: f64, Number, "0.06", "a number from 0, below 1";
        /// Gradient norm above which a step is scaled down; 0 never scales
        "clip" clip: f64, Number, "1", "a number from 0";
        /// Dropout rate in place of the model's own
        "dropout" dropout: f64, Number, "none: what config.json says", "a number from 0, below 1";
        /// How a text's hidden states become one vector
        "pooling" pooling: Pooling, Word, "auto", "auto, mean, cls or pooler";
        /// Steps between validations
        "validate-every" validate_every: usize, Count, "none: once per epoch; below budget 1 at each fifth of it", "a whole number from 1";
        /// Validations without improvement after which the run stops
        "patience" patience: usize, Count, "none: never stops early", "a whole number from 1";
        /// How often a loss that spikes or is no number takes the run back to its best weights, at half the learning rate; after that a spike is only recorded, and a loss that is no number ends the run
        "roll-back" roll_back: usize, Count, "0", "a whole number from 0";
    }

    "Machine" {
        /// Operands of the matrix products; sums and weights stay f32
        "precision" precision: Precision, Word, "f32", "f32 or bf16";
        /// Threads; 0 takes every core
        "threads" threads: usize, Count, "0", "a whole number from 0";
    }

    "Error map" {
        /// How finely the model is divided into components
        "granularity" granularity: String, Word, "module", "layer, module, group or tensor";
        /// Neurons per feed-forward component; 0 makes as many groups as there are heads
        "neuron-group" neuron_group: usize, Count, "0", "a whole number from 0";
        /// Statistic that a component's energy is measured by
        "signal" signal: String, Word, "coherent", "coherent, sketch, gram, exact, absolute, taylor, fisher, relative, covariance or depth";
        /// What an energy is multiplied by: a word, or a table from component globs to numbers
        "alpha" alpha: RawAlpha, Alpha, "per-parameter", "per-parameter, relative, uniform, or a table from globs to numbers from 0";
        /// How much of the error map's average is kept at a look at probe-examples examples (signal coherent: at 32 examples)
        "beta" beta: f64, Number, "0.9", "a number from 0, below 1";
    }

    "Plan" {
        /// How energies become learning rates
        "lr-rule" lr_rule: String, Word, "uniform", "share, mean-one or uniform";
        /// Power of the share (mean-one)
        "lr-rule-gamma" lr_rule_gamma: f64, Number, "1", "a number from 0 to 16";
        /// Lowest learning-rate weight (mean-one)
        "lr-rule-min" lr_rule_min: f64, Number, "0.1", "a number from 0 to 1";
        /// Highest learning-rate weight (mean-one)
        "lr-rule-max" lr_rule_max: f64, Number, "10", "a number from 1";
        /// How much more a FLOP counts where the error pulls harder: 0 spreads, 1 weighs by the pull
        "focus" focus: f64, Number, "0.75", "a number from 0 to 16";
        /// How much it counts what a step moves: at 1 one step on everything is as good as two on half of it, below 1 plans are narrower and have more steps
        "breadth" breadth: f64, Number, "0.5", "a number above 0, up to 1";
        /// What seeing an example again is worth, as a part of what seeing it the last time was
        "repetition" repetition: f64, Number, "0.8", "a number above 0, below 1";
        /// Part of the training examples on which a new head learns first, from cached features, as far as half of the budget reaches
        "head-first" head_first: f64, Number, "0.3", "a number above 0, up to 1";
        /// Passes over them
        "head-first-passes" head_first_passes: f64, Number, "10", "a number above 0";
        /// Batches whose statistics the batch norms of a frozen prefix take over before the run; 0 keeps the model's own
        "calibration-batches" calibration_batches: usize, Count, "4", "a whole number from 0";
        /// Steps between plans
        "refresh" refresh: usize, Count, "50", "a whole number from 1";
        /// How much better a new plan must promise to be before the old one is given up, as a part of it
        "hysteresis" hysteresis: f64, Number, "0.1", "a number from 0";
        /// Chance that a component that no plan chose is updated all the same, drawn anew for each plan
        "explore" explore: f64, Number, "0", "a number from 0, below 1";
        /// Steps between the first two probes; the distance adapts afterwards
        "probe-interval" probe_interval: usize, Count, "50", "a whole number from 1";
        /// Examples in a probe, after the first
        "probe-examples" probe_examples: usize, Count, "32", "a whole number from 2";
        /// Batches behind the first error map
        "first-probe-batches" first_probe_batches: usize, Count, "4", "a whole number from 1";
        /// Part of the budget that probes may take
        "probe-share" probe_share: f64, Number, "0.03", "a number above 0, up to 0.5";
        /// Plans within which every component should be updated or probed; the certificate says whether it was
        "coverage-window" coverage_window: usize, Count, "20", "a whole number from 1";
    }

    "Prefix cache" {
        /// Whether the hidden states below the cut are kept
        "cache" cache: Cache, Word, "auto", "auto or off";
        /// Numbers that they are kept in
        "cache-dtype" cache_dtype: CacheDtype, Word, "bf16", "bf16 or f32";
        /// MiB of them in memory; what is more goes into a temporary file
        "cache-memory" cache_memory: usize, Count, "1024", "a whole number from 0";
    }

    "Memory" {
        /// Whether blocks run forward a second time instead of keeping what backward reads, for a fraction of the activations: a third more FLOPs in full fine-tuning, up to twice as many where little is updated
        "recompute" recompute: Recompute, Word, "off", "off or blocks";
        /// MiB that the run may hold; to keep it, the prefix cache goes to disk, batches are cut into smaller ones, as many examples to a step, and blocks are recomputed; what cannot keep it does not start
        "memory-limit" memory_limit: usize, Count, "none", "a whole number from 1";
    }

    "Sampling" {
        /// Whether examples with large residuals come more often than others, after the first pass
        "sampling" sampling: String, Word, "unbiased for rgft, random and static, off for every other method", "off, unbiased or focus";
        /// Part of the examples that come in a pass
        "sampling-rate" sampling_rate: f64, Number, "0.6", "a number above 0, up to 1";
        /// Least chance of an example to come
        "sampling-least" sampling_least: f64, Number, "0.2", "a number above 0, up to 1";
    }

    "Methods of others" {
        /// Rank of the adapters of lora and rslora
        "lora-rank" lora_rank: usize, Count, "8", "a whole number from 1";
        /// What the adapters of lora and rslora are multiplied by, before it is divided by the rank or by its root
        "lora-alpha" lora_alpha: f64, Number, "16", "a number above 0";
        /// Part of the heads, and of the groups of neurons, channels or gates, that the method s2ft draws
        "s2ft-part" s2ft_part: f64, Number, "0.05", "a number above 0, up to 1";
        /// Layers that the method lisa updates at a time
        "lisa-layers" lisa_layers: usize, Count, "2", "a whole number from 1";
        /// Steps between draws of the method lisa; fewer where the run is too short for each layer to have a turn
        "lisa-interval" lisa_interval: usize, Count, "20", "a whole number from 1";
        /// Steps that the method badam stays with a layer; fewer likewise
        "badam-interval" badam_interval: usize, Count, "50", "a whole number from 1";
        /// What a step of the method greentrainer may cost, as a part of a full one
        "step-ratio" step_ratio: f64, Number, "0.5", "a number above 0, up to 1";
        /// Power of the percentile of an example's loss that selective-backprop draws it with: at 2 a third of the examples
        "selectivity" selectivity: f64, Number, "2", "a number above 0, up to 64";
    }
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// `"text"`
    One(String),
    /// `["premise", "hypothesis"]`
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}
