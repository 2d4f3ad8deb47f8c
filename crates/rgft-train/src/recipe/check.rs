//! From settings as written to a recipe that cannot be wrong.

use std::path::PathBuf;
use std::str::FromStr;

use rgft_core::{Alpha, ErrorMap, ErrorMapSettings, LrRule};

use super::alpha::RawAlpha;
use super::error::{Place, RecipeError};
use super::keys::{Key, RawRecipe};
use super::{MethodName, Recipe, Task};

impl RawRecipe {
    /// Fills in the defaults and checks every setting, alone and with the others. Files are not looked at.
    ///
    /// # Errors
    /// A required key that is absent, a value out of its range, or two values that do not go together.
    pub fn check(self) -> Result<Recipe, RecipeError> {
        let method = self.method.unwrap_or(MethodName::Rgft);
        let task = required("task", self.task)?;
        let text_columns: Vec<String> = self.text_column.map_or_else(|| vec!["text".to_owned()], Vec::from);
        let test_part = if task == Task::Forecasting { 0.2 } else { 0.0 };
        let label_column = self.label_column.unwrap_or_else(|| "label".to_owned());
        let recipe = Recipe {
            model: path("model", required("model", self.model)?)?,
            tokenizer: optional_path("tokenizer", self.tokenizer)?,
            data: path("data", required("data", self.data)?)?,
            test: optional_path("test", self.test)?,
            validation: optional_path("validation", self.validation)?,
            task,
            out: optional_path("out", self.out)?,
            text_columns: columns(text_columns)?,
            label_column,
            label_separator: self.label_separator,
            max_length: count("max-length", self.max_length, 128, 3)?,
            limit_train: optional_count("limit-train", self.limit_train, 2)?,
            limit_test: optional_count("limit-test", self.limit_test, 1)?,
            validation_part: number("validation-part", self.validation_part, 0.1, |x| x > 0.0 && x <= 0.5)?,
            test_part: number("test-part", self.test_part, test_part, |x| (0.0..0.9).contains(&x))?,

            image_column: name("image-column", self.image_column, "image")?,
            image_size: optional_count("image-size", self.image_size, 8)?,
            resize: self.resize.unwrap_or(super::Resize::Crop),
            augment: self.augment.unwrap_or(super::Augment::None),
            corrupt: corruption(self.corrupt)?,

            completion: completion(self.prompt_column, self.completion_column)?,
            extensions: self.extensions.map(Vec::from).unwrap_or_default(),
            unknown_characters: self.unknown_characters.unwrap_or(super::UnknownCharacters::Replace),
            code_language: self.code_language.unwrap_or(super::CodeLanguage::Python),
            snippets: self.snippets.unwrap_or(20),

            date_column: self.date_column,
            target_columns: self.target_columns.map(Vec::from).unwrap_or_default(),
            context: optional_count("context", self.context, 2)?,
            horizon: optional_count("horizon", self.horizon, 1)?,
            window_stride: count("window-stride", self.window_stride, 1, 1)?,
            evaluation_stride: optional_count("evaluation-stride", self.evaluation_stride, 1)?,
            scaling: self.scaling.unwrap_or(super::Scaling::Standard),
            missing: self.missing.unwrap_or(super::Missing::Interpolate),
            season: optional_count("season", self.season, 1)?,

            method,
            budget: budget(self.budget, method)?,
            last_k: count("last-k", self.last_k, 1, 1)?,
            lora_rank: count("lora-rank", self.lora_rank, 8, 1)?,
            lora_alpha: number("lora-alpha", self.lora_alpha, 16.0, above_zero)?,
            s2ft_part: number("s2ft-part", self.s2ft_part, 0.05, part)?,
            lisa_interval: count("lisa-interval", self.lisa_interval, 20, 1)?,
            badam_interval: count("badam-interval", self.badam_interval, 50, 1)?,
            lisa_layers: count("lisa-layers", self.lisa_layers, 2, 1)?,
            selectivity: number("selectivity", self.selectivity, 2.0, |x| x > 0.0 && x <= 64.0)?,
            step_ratio: number("step-ratio", self.step_ratio, 0.5, part)?,
            only: self.only.map(Vec::from).unwrap_or_default(),
            seed: seed(self.seed)?,
            init: self.init.unwrap_or(super::Init::Pretrained),

            epochs: number("epochs", self.epochs, 3.0, |x| x > 0.0 && x <= 10_000.0)?,
            batch_size: count("batch-size", self.batch_size, 32, 1)?,
            accumulation: count("accumulation", self.accumulation, 1, 1)?,
            learning_rate: number("learning-rate", self.learning_rate, 1e-4, above_zero)?,
            head_learning_rate: optional("head-learning-rate", self.head_learning_rate, above_zero)?,
            optimizer: self.optimizer.unwrap_or(super::OptimizerName::AdamW),
            weight_decay: number("weight-decay", self.weight_decay, 0.01, from_zero)?,
            beta1: number("beta1", self.beta1, 0.9, below_one)?,
            beta2: number("beta2", self.beta2, 0.999, below_one)?,
            epsilon: number("epsilon", self.epsilon, 1e-8, above_zero)?,
            momentum: number("momentum", self.momentum, 0.9, below_one)?,
            schedule: word("schedule", self.schedule, "linear")?,
            warmup: number("warmup", self.warmup, 0.06, below_one)?,
            clip: number("clip", self.clip, 1.0, from_zero)?,
            dropout: optional("dropout", self.dropout, below_one)?,
            pooling: self.pooling.unwrap_or(super::Pooling::Auto),
            validate_every: optional_count("validate-every", self.validate_every, 1)?,
            patience: optional_count("patience", self.patience, 1)?,
            roll_back: self.roll_back.unwrap_or(0),

            precision: self.precision.unwrap_or(super::Precision::F32),
            threads: self.threads.unwrap_or(0),

            granularity: word("granularity", self.granularity, "module")?,
            neuron_group: self.neuron_group.unwrap_or(0),
            signal: word("signal", self.signal, "coherent")?,
            alpha: alpha(self.alpha)?,
            beta: number("beta", self.beta, 0.9, below_one)?,

            lr_rule: lr_rule(self.lr_rule, self.lr_rule_gamma, self.lr_rule_min, self.lr_rule_max)?,
            focus: number("focus", self.focus, 0.75, |x| (0.0..=16.0).contains(&x))?,
            breadth: number("breadth", self.breadth, 0.5, |x| x > 0.0 && x <= 1.0)?,
            repetition: number("repetition", self.repetition, 0.8, |x| x > 0.0 && x < 1.0)?,
            head_first: number("head-first", self.head_first, 0.3, part)?,
            head_first_passes: number("head-first-passes", self.head_first_passes, 10.0, |x| x > 0.0)?,
            calibration_batches: self.calibration_batches.unwrap_or(4),
            refresh: count("refresh", self.refresh, 50, 1)?,
            hysteresis: number("hysteresis", self.hysteresis, 0.1, from_zero)?,
            explore: number("explore", self.explore, 0.0, below_one)?,
            probe_interval: count("probe-interval", self.probe_interval, 50, 1)?,
            probe_examples: count("probe-examples", self.probe_examples, 32, 2)?,
            first_probe_batches: count("first-probe-batches", self.first_probe_batches, 4, 1)?,
            probe_share: number("probe-share", self.probe_share, 0.03, |x| x > 0.0 && x <= 0.5)?,
            coverage_window: count("coverage-window", self.coverage_window, 20, 1)?,

            cache: self.cache.unwrap_or(super::Cache::Auto),
            cache_dtype: self.cache_dtype.unwrap_or(super::CacheDtype::Bf16),
            cache_memory: self.cache_memory.unwrap_or(1024),

            recompute: self.recompute.unwrap_or(super::Recompute::Off),
            memory_limit: optional_count("memory-limit", self.memory_limit, 1)?,

            sampling: word("sampling", self.sampling, if method.plans() { "unbiased" } else { "off" })?,
            sampling_rate: number("sampling-rate", self.sampling_rate, 0.6, part)?,
            sampling_least: number("sampling-least", self.sampling_least, 0.2, part)?,
        };
        together(recipe)
    }
}

/// What only shows when settings are seen together.
fn together(recipe: Recipe) -> Result<Recipe, RecipeError> {
    if recipe.text_columns.contains(&recipe.label_column) || recipe.label_column.is_empty() {
        return Err(wrong("label-column", &recipe.label_column));
    }
    if (recipe.method == MethodName::Only) == recipe.only.is_empty() {
        return Err(RecipeError::Conflict {
            key: "method",
            found: recipe.method.to_string(),
            reason: "the method only and the globs of its components go together".to_owned(),
            hint: "set method = \"only\" and only = [\"encoder.layer.5*\"], or neither".to_owned(),
        });
    }
    match &recipe.label_separator {
        Some(separator) if separator.is_empty() => return Err(wrong("label-separator", "\"\"")),
        Some(separator) if recipe.task != Task::TextMultiLabel => {
            return Err(RecipeError::Conflict {
                key: "label-separator",
                found: separator.clone(),
                reason: format!("the task {} has one label per row", recipe.task),
                hint: "leave it out, or set task to text-multi-label".to_owned(),
            });
        }
        _ => {}
    }
    Ok(recipe)
}

// Computed in f32, so that is what must be in range.
fn above_zero(x: f64) -> bool {
    x as f32 > 0.0 && (x as f32).is_finite()
}

fn from_zero(x: f64) -> bool {
    x >= 0.0
}

fn part(x: f64) -> bool {
    x > 0.0 && x <= 1.0
}

fn below_one(x: f64) -> bool {
    x >= 0.0 && (x as f32) < 1.0
}

/// The error for a value out of its key's range.
fn wrong(key: &str, found: impl ToString) -> RecipeError {
    let (key, expected) = Key::named(key).map_or(("", ""), |key| (key.name, key.expected));
    RecipeError::Value { place: Place::flag(), key, found: found.to_string(), expected }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T, RecipeError> {
    value.ok_or_else(|| {
        let (key, expected) = Key::named(key).map_or(("", ""), |key| (key.name, key.expected));
        RecipeError::Missing { key, expected }
    })
}

fn number(key: &str, value: Option<f64>, default: f64, fits: fn(f64) -> bool) -> Result<f64, RecipeError> {
    let value = value.unwrap_or(default);
    if value.is_finite() && fits(value) { Ok(value) } else { Err(wrong(key, value)) }
}

fn optional(key: &str, value: Option<f64>, fits: fn(f64) -> bool) -> Result<Option<f64>, RecipeError> {
    value.map(|value| number(key, Some(value), value, fits)).transpose()
}

fn count(key: &str, value: Option<usize>, default: usize, least: usize) -> Result<usize, RecipeError> {
    let value = value.unwrap_or(default);
    // TOML's whole numbers end at i64's, and the recipe must be writable.
    if value >= least && i64::try_from(value).is_ok() { Ok(value) } else { Err(wrong(key, value)) }
}

fn optional_count(key: &str, value: Option<usize>, least: usize) -> Result<Option<usize>, RecipeError> {
    value.map(|n| count(key, Some(n), n, least)).transpose()
}

fn name(key: &str, value: Option<String>, default: &str) -> Result<String, RecipeError> {
    match value {
        Some(name) if name.is_empty() => Err(wrong(key, "\"\"")),
        name => Ok(name.unwrap_or_else(|| default.to_owned())),
    }
}

fn corruption(value: Option<String>) -> Result<Option<String>, RecipeError> {
    match value {
        Some(text) if text.parse::<rgft_data::Corruption>().is_err() => Err(wrong("corrupt", text)),
        value => Ok(value),
    }
}

/// Prompt and completion come together.
fn completion(
    prompt: Option<String>,
    completion: Option<String>,
) -> Result<Option<(String, String)>, RecipeError> {
    let (key, other, found) = match (prompt, completion) {
        (None, None) => return Ok(None),
        (Some(prompt), Some(completion)) if prompt != completion => return Ok(Some((prompt, completion))),
        (Some(both), Some(_)) => return Err(wrong("completion-column", both)),
        (Some(prompt), None) => ("prompt-column", "completion-column", prompt),
        (None, Some(completion)) => ("completion-column", "prompt-column", completion),
    };
    Err(RecipeError::Conflict {
        key,
        found,
        reason: "a prompt goes with a completion".to_owned(),
        hint: format!("set {other} too"),
    })
}

fn seed(value: Option<u64>) -> Result<u64, RecipeError> {
    let value = value.unwrap_or(0);
    i64::try_from(value).map(|_| value).map_err(|_| wrong("seed", value))
}

/// A word of a list that another crate owns.
fn word<T: FromStr>(key: &str, value: Option<String>, default: &str) -> Result<T, RecipeError> {
    let value = value.as_deref().unwrap_or(default);
    value.parse().map_err(|_| wrong(key, value))
}

fn path(key: &str, value: PathBuf) -> Result<PathBuf, RecipeError> {
    if value.as_os_str().is_empty() { Err(wrong(key, "\"\"")) } else { Ok(value) }
}

fn optional_path(key: &str, value: Option<PathBuf>) -> Result<Option<PathBuf>, RecipeError> {
    value.map(|value| path(key, value)).transpose()
}

fn columns(names: Vec<String>) -> Result<Vec<String>, RecipeError> {
    let distinct = names.len() < 2 || names[0] != names[1];
    if (1..=2).contains(&names.len()) && distinct && names.iter().all(|name| !name.is_empty()) {
        Ok(names)
    } else {
        Err(wrong("text-column", format!("{names:?}")))
    }
}

/// Methods that plan, and full fine-tuning cut short, exist for a budget.
fn budget(value: Option<f64>, method: MethodName) -> Result<f64, RecipeError> {
    let default = if method.plans() || method == MethodName::FullShort { 0.3 } else { 1.0 };
    number("budget", value, default, part)
}

fn alpha(value: Option<RawAlpha>) -> Result<Alpha, RecipeError> {
    match value {
        None => Ok(Alpha::PerParameter),
        Some(RawAlpha::Word(name)) => word("alpha", Some(name), ""),
        Some(RawAlpha::Table(table)) => {
            if let Some((glob, factor)) =
                table.iter().find(|(_, factor)| !(factor.is_finite() && *factor >= 0.0))
            {
                return Err(wrong("alpha", format!("{{ {glob:?} = {factor} }}")));
            }
            // An error map of no components compiles the globs all the same.
            let alpha = Alpha::Table(table);
            let settings = ErrorMapSettings { alpha: alpha.clone(), ..ErrorMapSettings::default() };
            ErrorMap::new(&[], settings)?;
            Ok(alpha)
        }
    }
}

fn lr_rule(
    name: Option<String>,
    gamma: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
) -> Result<LrRule, RecipeError> {
    let gamma = number("lr-rule-gamma", gamma, 1.0, |x| (0.0..=16.0).contains(&x))?;
    let min = number("lr-rule-min", min, 0.1, |x| (0.0..=1.0).contains(&x))?;
    let max = number("lr-rule-max", max, 10.0, |x| x >= 1.0)?;
    Ok(match word("lr-rule", name, "uniform")? {
        LrRule::MeanOne { .. } => LrRule::MeanOne { gamma, min, max },
        other => other,
    })
}
