//! The recipe: every setting of a run, checked once, into a type that cannot be wrong.
//!
//! ```text
//! recipe.toml  <  --set key=value  <  flags      (what is further right wins)
//!        └────────────┴─────────────────┘
//!                 RawRecipe  ── check() ──►  Recipe  ── to_toml() ──►  recipe.toml of the run
//! ```
//!
//! The keys stand in one table ([`Recipe::keys`]), which the command line and the documentation are made from.
//! No tensor, model or kernel may come in here.

mod alpha;
mod check;
mod choices;
mod error;
mod keys;
mod raw;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rgft_core::{Alpha, Granularity, LrRule, Sampling, ScheduleKind, Signal};

pub use alpha::RawAlpha;
pub use choices::{
    Augment, Cache, CacheDtype, CodeLanguage, Init, MethodName, Missing, OptimizerName, Pooling, Precision,
    Recompute, Resize, Scaling, Task, UnknownCharacters, UnknownWord,
};
pub use error::{Place, RecipeError};
pub use keys::{Key, KeyType, RawRecipe, Texts};

/// A run's settings, checked: each value is in the range that its key names, and they fit together.
///
/// Each field is the key of the same name ([`Recipe::keys`] says what it does); `None` stands for the default
/// that its key describes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)] // One field per key, documented there.
pub struct Recipe {
    pub model: PathBuf,
    /// As set; [`Recipe::tokenizer_folder`] gives the folder to use.
    pub tokenizer: Option<PathBuf>,
    pub data: PathBuf,
    pub test: Option<PathBuf>,
    pub validation: Option<PathBuf>,
    pub task: Task,
    /// `None`: nothing is written.
    pub out: Option<PathBuf>,
    /// One name, or two for pairs.
    pub text_columns: Vec<String>,
    pub label_column: String,
    pub label_separator: Option<String>,
    pub max_length: usize,
    pub limit_train: Option<usize>,
    pub limit_test: Option<usize>,
    pub validation_part: f64,
    pub test_part: f64,

    pub image_column: String,
    pub image_size: Option<usize>,
    pub resize: Resize,
    pub augment: Augment,
    pub corrupt: Option<String>,

    /// Columns of the prompt and of the completion.
    pub completion: Option<(String, String)>,
    pub extensions: Vec<String>,
    pub unknown_characters: UnknownCharacters,
    pub code_language: CodeLanguage,
    pub snippets: usize,

    pub date_column: Option<String>,
    /// Empty: every column of numbers.
    pub target_columns: Vec<String>,
    pub context: Option<usize>,
    pub horizon: Option<usize>,
    pub window_stride: usize,
    pub evaluation_stride: Option<usize>,
    pub scaling: Scaling,
    pub missing: Missing,
    pub season: Option<usize>,

    pub method: MethodName,
    pub budget: f64,
    pub last_k: usize,
    pub lora_rank: usize,
    pub lora_alpha: f64,
    pub s2ft_part: f64,
    pub lisa_layers: usize,
    pub lisa_interval: usize,
    pub badam_interval: usize,
    pub step_ratio: f64,
    pub selectivity: f64,
    /// Globs.
    pub only: Vec<String>,
    pub seed: u64,
    pub init: Init,

    pub epochs: f64,
    pub batch_size: usize,
    pub accumulation: usize,
    pub learning_rate: f64,
    /// As set; [`Recipe::head_learning_rate`] gives the number to use.
    pub head_learning_rate: Option<f64>,
    pub optimizer: OptimizerName,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub momentum: f64,
    pub schedule: ScheduleKind,
    /// Part of the steps, 0 ≤ warmup < 1.
    pub warmup: f64,
    /// 0: off.
    pub clip: f64,
    /// `None`: what config.json says.
    pub dropout: Option<f64>,
    pub pooling: Pooling,
    /// In steps; `None`: once per epoch.
    pub validate_every: Option<usize>,
    /// In validations; `None`: never stops early.
    pub patience: Option<usize>,
    /// How often a loss that spikes or is no number takes the run back.
    pub roll_back: usize,

    pub precision: Precision,
    /// 0: every core.
    pub threads: usize,

    pub granularity: Granularity,
    /// 0: as many groups as there are heads.
    pub neuron_group: usize,
    pub signal: Signal,
    pub alpha: Alpha,
    pub beta: f64,

    pub lr_rule: LrRule,
    pub focus: f64,
    pub breadth: f64,
    pub repetition: f64,
    pub head_first: f64,
    pub head_first_passes: f64,
    pub calibration_batches: usize,
    pub refresh: usize,
    pub hysteresis: f64,
    pub explore: f64,
    pub probe_interval: usize,
    pub probe_examples: usize,
    pub first_probe_batches: usize,
    pub probe_share: f64,
    pub coverage_window: usize,

    pub cache: Cache,
    pub cache_dtype: CacheDtype,
    /// MiB.
    pub cache_memory: usize,

    pub recompute: Recompute,
    /// MiB.
    pub memory_limit: Option<usize>,

    pub sampling: Sampling,
    pub sampling_rate: f64,
    pub sampling_least: f64,
}

impl Recipe {
    /// Every setting with its type, default and help, in the order of the documentation.
    pub fn keys() -> &'static [Key] {
        keys::KEYS
    }

    /// The task head's learning rate: a freshly initialised one learns at 1e-3 at least, unless set.
    pub fn head_learning_rate(&self, fresh: bool) -> f64 {
        let least = if fresh { 1e-3 } else { 0.0 };
        self.head_learning_rate.unwrap_or(self.learning_rate.max(least))
    }

    /// Where the tokenizer or vocabulary is.
    pub fn tokenizer_folder(&self) -> &Path {
        self.tokenizer.as_deref().unwrap_or(&self.model)
    }

    /// The settings as written, every default filled in: `recipe.to_raw().check()` gives `recipe` back.
    pub fn to_raw(&self) -> RawRecipe {
        let (lr_rule_gamma, lr_rule_min, lr_rule_max) = match self.lr_rule {
            LrRule::MeanOne { gamma, min, max } => (Some(gamma), Some(min), Some(max)),
            _ => (None, None, None),
        };
        RawRecipe {
            model: Some(self.model.clone()),
            tokenizer: self.tokenizer.clone(),
            data: Some(self.data.clone()),
            test: self.test.clone(),
            validation: self.validation.clone(),
            task: Some(self.task),
            out: self.out.clone(),
            text_column: texts(&self.text_columns),
            label_column: Some(self.label_column.clone()),
            label_separator: self.label_separator.clone(),
            max_length: Some(self.max_length),
            limit_train: self.limit_train,
            limit_test: self.limit_test,
            validation_part: Some(self.validation_part),
            test_part: Some(self.test_part),
            image_column: Some(self.image_column.clone()),
            image_size: self.image_size,
            resize: Some(self.resize),
            augment: Some(self.augment),
            corrupt: self.corrupt.clone(),
            prompt_column: self.completion.as_ref().map(|(prompt, _)| prompt.clone()),
            completion_column: self.completion.as_ref().map(|(_, completion)| completion.clone()),
            extensions: texts(&self.extensions),
            unknown_characters: Some(self.unknown_characters),
            code_language: Some(self.code_language),
            snippets: Some(self.snippets),
            date_column: self.date_column.clone(),
            target_columns: texts(&self.target_columns),
            context: self.context,
            horizon: self.horizon,
            window_stride: Some(self.window_stride),
            evaluation_stride: self.evaluation_stride,
            scaling: Some(self.scaling),
            missing: Some(self.missing),
            season: self.season,
            method: Some(self.method),
            budget: Some(self.budget),
            last_k: Some(self.last_k),
            lora_rank: Some(self.lora_rank),
            lora_alpha: Some(self.lora_alpha),
            s2ft_part: Some(self.s2ft_part),
            lisa_layers: Some(self.lisa_layers),
            lisa_interval: Some(self.lisa_interval),
            badam_interval: Some(self.badam_interval),
            step_ratio: Some(self.step_ratio),
            selectivity: Some(self.selectivity),
            only: texts(&self.only),
            seed: Some(self.seed),
            init: Some(self.init),
            epochs: Some(self.epochs),
            batch_size: Some(self.batch_size),
            accumulation: Some(self.accumulation),
            learning_rate: Some(self.learning_rate),
            head_learning_rate: self.head_learning_rate,
            optimizer: Some(self.optimizer),
            weight_decay: Some(self.weight_decay),
            beta1: Some(self.beta1),
            beta2: Some(self.beta2),
            epsilon: Some(self.epsilon),
            momentum: Some(self.momentum),
            schedule: Some(self.schedule.to_string()),
            warmup: Some(self.warmup),
            clip: Some(self.clip),
            dropout: self.dropout,
            pooling: Some(self.pooling),
            validate_every: self.validate_every,
            patience: self.patience,
            roll_back: Some(self.roll_back),
            precision: Some(self.precision),
            threads: Some(self.threads),
            granularity: Some(self.granularity.to_string()),
            neuron_group: Some(self.neuron_group),
            signal: Some(self.signal.to_string()),
            alpha: Some(match &self.alpha {
                Alpha::PerParameter => RawAlpha::Word("per-parameter".to_owned()),
                Alpha::Relative => RawAlpha::Word("relative".to_owned()),
                Alpha::Uniform => RawAlpha::Word("uniform".to_owned()),
                Alpha::Table(table) => RawAlpha::Table(table.clone()),
            }),
            beta: Some(self.beta),
            lr_rule: Some(self.lr_rule.to_string()),
            lr_rule_gamma,
            lr_rule_min,
            lr_rule_max,
            refresh: Some(self.refresh),
            probe_interval: Some(self.probe_interval),
            probe_examples: Some(self.probe_examples),
            first_probe_batches: Some(self.first_probe_batches),
            probe_share: Some(self.probe_share),
            coverage_window: Some(self.coverage_window),
            focus: Some(self.focus),
            breadth: Some(self.breadth),
            repetition: Some(self.repetition),
            head_first: Some(self.head_first),
            head_first_passes: Some(self.head_first_passes),
            calibration_batches: Some(self.calibration_batches),
            hysteresis: Some(self.hysteresis),
            explore: Some(self.explore),
            cache: Some(self.cache),
            cache_dtype: Some(self.cache_dtype),
            cache_memory: Some(self.cache_memory),
            recompute: Some(self.recompute),
            memory_limit: self.memory_limit,
            sampling: Some(self.sampling.to_string()),
            sampling_rate: Some(self.sampling_rate),
            sampling_least: Some(self.sampling_least),
        }
    }

    /// The text of a `recipe.toml` that holds every setting and runs again as it is.
    pub fn to_toml(&self) -> String {
        let values = self.to_raw().values();
        let mut text =
            String::from("# Every setting of this run. Run it again: rgft train --config recipe.toml\n");
        for (key, value) in Self::keys().iter().filter_map(|key| Some((key.name, values.get(key.name)?))) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        text
    }
}

/// One text or several; `None` for none.
fn texts(all: &[String]) -> Option<Texts> {
    match all {
        [] => None,
        [one] => Some(Texts::One(one.clone())),
        many => Some(Texts::Many(many.to_vec())),
    }
}
