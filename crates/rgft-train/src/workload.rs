//! Model and data of a run, loaded and checked against each other before anything is written or computed.

use std::path::{Path, PathBuf};

use rgft_core::Component;
use rgft_data::{
    LabelMap, Labels, Table, TableSpec, TextDataset, TextTask, TextTokenizer, encode, locate, read_table,
    split_stratified,
};
use rgft_kernels::Precision;
use rgft_nn::models::{self, Grain, HeadRequest, Model, TokenBatch};
use rgft_nn::{Engine, NnError};
use serde_json::{Value, json};

use crate::TrainError;
use crate::methods;
use crate::recipe::{self, Init, Pooling, Recipe};

/// Part of the training rows held out for validation where there is no validation file.
const VALIDATION_PART: f64 = 0.1;

/// Everything that a run works on.
pub struct Workload {
    /// The model, with a head for the task.
    pub model: Box<dyn Model>,
    /// Its components, at the recipe's granularity.
    pub components: Vec<Component>,
    /// The task.
    pub task: TextTask,
    /// Names of the classes, empty for regression.
    pub labels: LabelMap,
    /// Examples to learn from.
    pub train: TextDataset,
    /// Examples to choose by.
    pub validation: TextDataset,
    /// Examples to report on.
    pub test: Option<TextDataset>,
    /// Where the tokenizer's files are.
    pub tokenizer_folder: PathBuf,
    /// What the user should know about the input.
    pub notes: Vec<String>,
}

/// The engine's precision for a recipe.
pub(crate) fn precision_of(recipe: &Recipe) -> Precision {
    match recipe.precision {
        recipe::Precision::F32 => Precision::F32,
        recipe::Precision::Bf16 => Precision::Bf16,
    }
}

pub(crate) fn table_spec(recipe: &Recipe) -> TableSpec {
    TableSpec {
        text: recipe.text_columns.clone(),
        label: recipe.label_column.clone(),
        label_separator: recipe.label_separator.clone(),
    }
}

fn head_request(recipe: &Recipe, outputs: usize) -> HeadRequest {
    HeadRequest {
        outputs: Some(outputs),
        pooling: pooling_of(recipe.pooling),
        dropout: recipe.dropout.map(|p| p as f32),
        seed: recipe.seed,
        random: recipe.init == Init::Random,
    }
}

pub(crate) fn pooling_of(pooling: Pooling) -> models::Pooling {
    match pooling {
        Pooling::Auto => models::Pooling::Auto,
        Pooling::Mean => models::Pooling::Mean,
        Pooling::Cls => models::Pooling::Cls,
        Pooling::Pooler => models::Pooling::Pooler,
    }
}

/// Names that the model's `config.json` gives to its labels, unless they are the placeholders of `transformers`.
fn labels_in(config: &Value) -> Option<LabelMap> {
    let named = config.get("id2label")?.as_object()?;
    let pairs = named.iter().map(|(id, name)| Some((id.parse().ok()?, name.as_str()?)));
    let pairs: Vec<(usize, &str)> = pairs.collect::<Option<_>>()?;
    let placeholders = pairs.iter().all(|(id, name)| *name == format!("LABEL_{id}"));
    if placeholders { None } else { LabelMap::from_id2label(pairs).ok() }
}

impl Workload {
    /// Loads what `recipe` names.
    ///
    /// # Errors
    /// If a file is missing or wrong, or model and data do not fit together.
    pub fn load(recipe: &Recipe) -> Result<Self, TrainError> {
        let files = locate(&recipe.data, recipe.test.as_deref(), recipe.validation.as_deref())?;
        let (spec, task) = (table_spec(recipe), TextTask::from(recipe.task));
        let read = |path: &Path| read_table(path, &spec, Labels::Required);
        let train = read(&files.train)?;
        let validation = files.validation.as_deref().map(read).transpose()?;
        let test = files.test.as_deref().map(read).transpose()?;
        Self::of_tables(recipe, task, &train, validation.as_ref(), test.as_ref())
    }

    /// As [`Workload::load`], from tables in memory.
    ///
    /// # Errors
    /// If the model folder is wrong, or model and data do not fit together.
    pub fn of_tables(
        recipe: &Recipe,
        task: TextTask,
        train: &Table,
        validation: Option<&Table>,
        test: Option<&Table>,
    ) -> Result<Self, TrainError> {
        let config = models::read_config(&recipe.model)?;
        let mut notes = Vec::new();
        let labels = labels_for(task, train, &config, recipe, &mut notes)?;
        let tokenizer = TextTokenizer::from_folder(&recipe.model, recipe.max_length)?;
        let dataset = |table: &Table| TextDataset::labelled(table, task, &labels, &tokenizer);
        let (train_set, validation_set) = match validation {
            Some(table) => (dataset(train)?, dataset(table)?),
            None => {
                let split = split_stratified(&encode(train, task, &labels)?, VALIDATION_PART);
                let whole = dataset(train)?;
                notes.push(format!(
                    "no validation file: {} of {} training rows are held out, stratified by label",
                    split.validation.len(),
                    whole.len()
                ));
                (whole.subset(split.train), whole.subset(split.validation))
            }
        };
        let test = test.map(dataset).transpose()?;
        let truncated = train_set.truncated;
        if truncated > 0 {
            let of = train_set.len();
            notes.push(format!("{truncated} of {of} training texts are cut to {} tokens", recipe.max_length));
        }
        if train_set.is_empty() || validation_set.is_empty() {
            return Err(TrainError::Mismatch {
                problem: format!("{} rows are too few to train on and to validate", train.rows.len()),
                hint: "give more rows, or a validation file",
            });
        }
        let model = models::load(&recipe.model, &head_request(recipe, task.outputs(labels.len())))?;
        for set in [Some(&train_set), Some(&validation_set), test.as_ref()].into_iter().flatten() {
            check_fit(&*model, set)?;
        }
        let grain = Grain { granularity: methods::granularity(recipe), neuron_group: recipe.neuron_group };
        let components = model.components(grain);
        Ok(Self {
            model,
            components,
            task,
            labels,
            train: train_set,
            validation: validation_set,
            test,
            tokenizer_folder: recipe.model.clone(),
            notes,
        })
    }

    /// An engine for this recipe.
    pub fn engine(recipe: &Recipe) -> Engine {
        Engine::new(precision_of(recipe))
    }

    /// Whether the task head starts from random numbers.
    pub fn head_is_fresh(&self) -> bool {
        self.components.iter().any(|component| component.fresh)
    }

    /// Which parameters are embedding tables.
    pub fn tables(&self) -> Vec<bool> {
        (0..self.model.parameters().len()).map(|i| self.model.is_table(i)).collect()
    }

    /// `config.json` to save: the model's, with labels and problem type as `transformers` reads them.
    pub fn config(&self) -> Value {
        let mut config = self.model.config().clone();
        config["problem_type"] = json!(match self.task {
            TextTask::Classification => "single_label_classification",
            TextTask::MultiLabel => "multi_label_classification",
            TextTask::Regression => "regression",
        });
        let names: Vec<String> = match self.task {
            TextTask::Regression => vec!["LABEL_0".into()],
            _ => self.labels.names().to_vec(),
        };
        let ids = || names.iter().enumerate();
        config["id2label"] = Value::Object(ids().map(|(i, name)| (i.to_string(), json!(name))).collect());
        config["label2id"] = Value::Object(ids().map(|(i, name)| (name.clone(), json!(i))).collect());
        config
    }
}

/// The model's own labels if the training data has no others, else those of the training data.
fn labels_for(
    task: TextTask,
    train: &Table,
    config: &Value,
    recipe: &Recipe,
    notes: &mut Vec<String>,
) -> Result<LabelMap, TrainError> {
    if task == TextTask::Regression {
        return Ok(LabelMap::default());
    }
    let of_data = LabelMap::from_table(train, task)?;
    let Some(of_model) = labels_in(config).filter(|_| recipe.init == Init::Pretrained) else {
        return Ok(of_data);
    };
    if of_data.names().iter().all(|name| of_model.index(name).is_some()) {
        return Ok(of_model);
    }
    notes.push("the model was trained for other labels: its task head starts anew".into());
    Ok(of_data)
}

/// Refuses examples that the model has no tokens or positions for.
pub(crate) fn check_fit(model: &dyn Model, set: &TextDataset) -> Result<(), TrainError> {
    for example in &set.examples {
        let lengths = [example.ids.len()];
        let batch = TokenBatch { ids: &example.ids, types: &example.type_ids, lengths: &lengths };
        model.check(batch).map_err(|error| match error {
            NnError::OutOfRange { what: "sequence length", found, limit } => TrainError::Mismatch {
                problem: format!("a text has {found} tokens, the model has {limit} positions"),
                hint: "lower max-length",
            },
            NnError::OutOfRange { what: "token id", found, limit } => TrainError::Mismatch {
                problem: format!("tokenizer.json makes token {found}, the model's vocabulary has {limit}"),
                hint: "tokenizer.json and model.safetensors must come from the same model",
            },
            other => other.into(),
        })?;
    }
    Ok(())
}
