//! Model and data of a run, loaded and checked against each other before anything is written or computed.
//!
//! A domain (a file in `workload/`) reads the data that a recipe names and says what the model must output; loading
//! the model, checking that the two fit, and everything after that is the same for all of them.

mod image;
mod language;
mod series;
mod text;

pub(crate) use text::subjects_of_table;

use std::path::Path;

use rgft_core::{Component, ComponentKind, Extent};
use rgft_data::{Dataset, LabelMap, Objective, TOKENIZER_FILES, Table};
use rgft_kernels::Precision;
use rgft_nn::models::{self, Grain, HeadRequest, Model, Purpose};
use rgft_nn::{Engine, NnError};
use serde_json::{Map, Value, json};

use crate::TrainError;
use crate::methods;
use crate::process;
use crate::recipe::{self, Init, Pooling, Recipe, Recompute, Task};
use crate::snippets::Snippets;

/// Everything that a run works on.
pub struct Workload {
    /// The model, with a head for the task.
    pub model: Model,
    /// Its components, at the recipe's granularity.
    pub components: Vec<Component>,
    /// What is learnt.
    pub objective: Objective,
    /// Names of the classes, empty where there are none.
    pub labels: LabelMap,
    /// Examples to learn from.
    pub train: Box<dyn Dataset>,
    /// Examples to choose by.
    pub validation: Box<dyn Dataset>,
    /// Examples to report on.
    pub test: Option<Box<dyn Dataset>>,
    /// Files that the model is used with, by name: tokenizer, scaling.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the data adds to `config.json`.
    pub settings: Map<String, Value>,
    /// What the model writes for the test, where it learns to write code.
    pub snippets: Option<Snippets>,
    /// What the user should know about the input.
    pub notes: Vec<String>,
    /// Resident bytes of the process when all of this was loaded.
    pub loaded_bytes: u64,
}

/// The data of a run as a domain reads it.
pub(crate) struct Material {
    pub(crate) objective: Objective,
    pub(crate) labels: LabelMap,
    /// Outputs that the model must have; `None`: those that its folder has.
    pub(crate) outputs: Option<usize>,
    pub(crate) train: Box<dyn Dataset>,
    pub(crate) validation: Box<dyn Dataset>,
    pub(crate) test: Option<Box<dyn Dataset>>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) settings: Map<String, Value>,
    pub(crate) snippets: Option<Snippets>,
    pub(crate) notes: Vec<String>,
}

/// Labelled data for a model that is trained already.
pub(crate) struct Examples {
    pub(crate) objective: Objective,
    pub(crate) set: Box<dyn Dataset>,
    pub(crate) snippets: Option<Snippets>,
    pub(crate) notes: Vec<String>,
}

/// Data to predict for.
pub(crate) struct Subjects {
    pub(crate) objective: Objective,
    pub(crate) set: Box<dyn Dataset>,
    /// What each example is, as keys of its line.
    pub(crate) described: Vec<Map<String, Value>>,
    /// From an output of an example to its own unit.
    pub(crate) scaled: Option<Unscale>,
    pub(crate) notes: Vec<String>,
}

/// `(example, scaled value) → value`.
pub(crate) type Unscale = Box<dyn Fn(usize, f64) -> f64>;

/// The engine's precision for a recipe.
pub(crate) fn precision_of(recipe: &Recipe) -> Precision {
    match recipe.precision {
        recipe::Precision::F32 => Precision::F32,
        recipe::Precision::Bf16 => Precision::Bf16,
    }
}

pub(crate) fn head_request(recipe: &Recipe, outputs: Option<usize>) -> HeadRequest {
    HeadRequest {
        outputs,
        pooling: match recipe.pooling {
            Pooling::Auto => models::Pooling::Auto,
            Pooling::Mean => models::Pooling::Mean,
            Pooling::Cls => models::Pooling::Cls,
            Pooling::Pooler => models::Pooling::Pooler,
        },
        dropout: recipe.dropout.map(|p| p as f32),
        seed: recipe.seed,
        random: recipe.init == Init::Random,
        new_head: false,
    }
}

/// Names that the model's `config.json` gives to its labels, unless they are the placeholders of `transformers`.
pub(crate) fn labels_in(config: &Value) -> Option<LabelMap> {
    if let Some(names) = config.get("labels").and_then(Value::as_array) {
        return LabelMap::from_id2label(names.iter().enumerate().filter_map(|(i, n)| Some((i, n.as_str()?))))
            .ok();
    }
    let named = config.get("id2label")?.as_object()?;
    let pairs = named.iter().map(|(id, name)| Some((id.parse().ok()?, name.as_str()?)));
    let pairs: Vec<(usize, &str)> = pairs.collect::<Option<_>>()?;
    let placeholders = pairs.iter().all(|(id, name)| *name == format!("LABEL_{id}"));
    if placeholders { None } else { LabelMap::from_id2label(pairs).ok() }
}

/// The labels to learn: the model's own if the training data has no others, else those of the training data, for which
/// [`Workload::load`] gives the model a new head.
pub(crate) fn labels_for(of_data: LabelMap, config: &Value, recipe: &Recipe) -> LabelMap {
    let fits = |of_model: &LabelMap| of_data.names().iter().all(|name| of_model.index(name).is_some());
    let of_model = labels_in(config).filter(|of_model| recipe.init == Init::Pretrained && fits(of_model));
    of_model.unwrap_or(of_data)
}

/// The keys by which a `config.json` names its classes.
pub(crate) fn label_settings(names: &[String]) -> Map<String, Value> {
    let ids = || names.iter().enumerate();
    let id2label: Map<_, _> = ids().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let label2id: Map<_, _> = ids().map(|(i, name)| (name.clone(), json!(i))).collect();
    Map::from_iter([("id2label".into(), id2label.into()), ("label2id".into(), label2id.into())])
}

impl Workload {
    /// Loads what `recipe` names.
    ///
    /// # Errors
    /// If a file is missing or wrong, or model and data do not fit together.
    pub fn load(recipe: &Recipe) -> Result<Self, TrainError> {
        let config = config_for(recipe)?;
        Self::of(recipe, &config, material(recipe, &config)?)
    }

    /// As [`Workload::load`], from tables of text in memory.
    ///
    /// # Errors
    /// If the model folder is wrong, or model and data do not fit together.
    pub fn of_tables(
        recipe: &Recipe,
        train: &Table,
        validation: Option<&Table>,
        test: Option<&Table>,
    ) -> Result<Self, TrainError> {
        let config = config_for(recipe)?;
        Self::of(recipe, &config, text::of_tables(recipe, &config, train, validation, test)?)
    }

    fn of(recipe: &Recipe, config: &Value, material: Material) -> Result<Self, TrainError> {
        let Material {
            objective,
            labels,
            outputs,
            train,
            validation,
            test,
            files,
            settings,
            snippets,
            mut notes,
        } = material;
        if train.is_empty() || validation.is_empty() {
            return Err(TrainError::Mismatch {
                problem: format!(
                    "{}: too few examples ({}) to train on and to validate",
                    recipe.data.display(),
                    train.len() + validation.len()
                ),
                hint: "give more data, or a validation file",
            });
        }
        let named = recipe.init == Init::Pretrained && !labels.is_empty();
        let new_head = named && labels_in(config).is_some_and(|of_model| of_model != labels);
        if new_head {
            notes.push("the model was trained for other labels: its task head starts anew".into());
        }
        let request = HeadRequest { new_head, ..head_request(recipe, outputs) };
        let mut model = models::load(&recipe.model, &request)?;
        methods::prepare(recipe, &mut model)?;
        model.set_recompute(recipe.recompute == Recompute::Blocks);
        for set in [Some(&train), Some(&validation), test.as_ref()].into_iter().flatten() {
            check_fit(&model, &**set)?;
        }
        let grain = Grain { granularity: methods::granularity(recipe), neuron_group: recipe.neuron_group };
        let components = model.components(grain);
        let loaded_bytes = process::rss_bytes().unwrap_or_else(|| 4 * model.parameters().scalars() as u64);
        Ok(Self {
            loaded_bytes,
            model,
            components,
            objective,
            labels,
            train,
            validation,
            test,
            files,
            settings,
            snippets,
            notes,
        })
    }

    /// An engine for this recipe.
    pub fn engine(recipe: &Recipe) -> Engine {
        Engine::new(precision_of(recipe))
    }

    /// Adds what adapters have learnt to the weights, and takes them away.
    pub fn merge_adapters(&mut self) {
        self.model.merge_adapters();
        self.components.retain(|component| component.kind != ComponentKind::Adapter);
    }

    /// Whether the task head starts from random numbers.
    pub fn head_is_fresh(&self) -> bool {
        self.components.iter().any(|component| component.fresh)
    }

    /// `config.json` to save: the model's, with what the data adds, as `transformers` reads it.
    pub fn config(&self) -> Value {
        let mut config = self.model.config().clone();
        for (key, value) in &self.settings {
            config[key] = value.clone();
        }
        config
    }
}

/// The model's `config.json`, where the model is one for the recipe's task.
pub(crate) fn config_for(recipe: &Recipe) -> Result<Value, TrainError> {
    let config = models::read_config(&recipe.model)?;
    let purpose = models::purpose(&recipe.model, &config)?;
    let (reads, tasks) = match purpose {
        Purpose::Text => ("texts to label", "text-classification, text-multi-label or text-regression"),
        Purpose::Language => ("text to go on with", "causal-lm or code"),
        Purpose::Images => ("pictures", "image-classification"),
        Purpose::Series => ("time series", "forecasting"),
    };
    if purpose == recipe.task.purpose() {
        return Ok(config);
    }
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    Err(TrainError::WrongTask {
        folder: recipe.model.clone(),
        model_type: model_type.into(),
        reads,
        task: recipe.task.name(),
        tasks,
    })
}

/// Names for as many labels as `config.json` counts, as `transformers` gives them: 2 where it does not say.
pub(crate) fn placeholder_labels(config: &Value) -> LabelMap {
    let named = config.get("id2label").and_then(Value::as_object).map(Map::len);
    let n = named.or_else(|| config.get("num_labels")?.as_u64().map(|n| n as usize)).unwrap_or(2);
    LabelMap::from_id2label((0..n).map(|i| (i, format!("LABEL_{i}")))).unwrap_or_default()
}

/// Outputs that the head of a trained folder has for the task; `None`: the folder alone says.
pub(crate) fn outputs_of(recipe: &Recipe, config: &Value) -> Option<usize> {
    match recipe.task {
        Task::TextRegression => Some(1),
        Task::TextClassification | Task::TextMultiLabel | Task::ImageClassification => {
            Some(labels_in(config).unwrap_or_else(|| placeholder_labels(config)).len())
        }
        _ => None,
    }
}

/// Reads the data of a run.
fn material(recipe: &Recipe, config: &Value) -> Result<Material, TrainError> {
    match recipe.task {
        Task::CausalLm | Task::Code => language::load(recipe),
        Task::Forecasting => series::load(recipe, config),
        Task::ImageClassification => image::load(recipe, config),
        _ => text::load(recipe, config),
    }
}

/// Reads the labelled data of a recipe for a model that is trained already.
pub(crate) fn examples(recipe: &Recipe, config: &Value, model: &Model) -> Result<Examples, TrainError> {
    match recipe.task {
        Task::CausalLm | Task::Code => language::examples(recipe),
        Task::Forecasting => series::examples(recipe, config),
        Task::ImageClassification => image::examples(recipe, config),
        _ => text::examples(recipe, config, model),
    }
}

/// Reads data to predict for.
pub(crate) fn subjects(
    recipe: &Recipe,
    config: &Value,
    model: &Model,
    data: &Path,
) -> Result<Subjects, TrainError> {
    match recipe.task {
        Task::CausalLm | Task::Code => Err(TrainError::Mismatch {
            problem: "a language model writes on, it does not label".into(),
            hint: "use rgft generate",
        }),
        Task::Forecasting => series::subjects(recipe, config, data),
        Task::ImageClassification => image::subjects(recipe, config, data),
        _ => text::subjects(recipe, config, model, data),
    }
}

fn no_test(folder: &Path) -> TrainError {
    TrainError::Mismatch {
        problem: format!("{}: no test file in this folder", folder.display()),
        hint: "name the file to measure",
    }
}

/// `limit` examples as `some` picks them, or all.
fn limited<D: Dataset>(limit: Option<usize>, set: D, some: impl Fn(&D, usize) -> D) -> D {
    match limit {
        Some(n) if n < set.len() => some(&set, n),
        _ => set,
    }
}

/// The files by which the model of a recipe reads text: saved again with it.
fn tokenizer_files(recipe: &Recipe) -> Result<Vec<(String, Vec<u8>)>, TrainError> {
    let paths = TOKENIZER_FILES.iter().map(|name| (name, recipe.tokenizer_folder().join(name)));
    paths
        .filter(|(_, path)| path.is_file())
        .map(|(name, path)| match std::fs::read(&path) {
            Ok(bytes) => Ok(((*name).into(), bytes)),
            Err(source) => Err(NnError::Io { path, source }.into()),
        })
        .collect()
}

/// Examples that are checked together.
const CHECKED_TOGETHER: usize = 256;

/// Refuses examples that the model cannot read.
pub(crate) fn check_fit(model: &Model, set: &dyn Dataset) -> Result<(), TrainError> {
    let mut all: Vec<usize> = (0..set.len()).collect();
    if let (Some(first), Extent::Maps { .. }) = (all.first(), set.extent(&all[..all.len().min(1)])) {
        // Pictures are all of one size.
        all = vec![*first];
    }
    for examples in all.chunks(CHECKED_TOGETHER) {
        model.check(&set.pack(examples, None).inputs).map_err(|error| match error {
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
