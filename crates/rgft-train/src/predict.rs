//! Using a model folder: labels and scores for texts.

use std::path::Path;

use rgft_data::{LabelMap, Table, TextDataset, TextTask, TextTokenizer};
use rgft_kernels::Precision;
use rgft_nn::Engine;
use rgft_nn::models::{self, HeadRequest, Model};
use serde_json::Value;

use crate::recipe::RawRecipe;
use crate::workload::check_fit;
use crate::{Evaluation, TrainError, evaluate};

/// Longest text, in tokens, where no recipe in the folder says.
const MAX_LENGTH: usize = 512;

/// A model folder ready for use.
pub struct Predictor {
    model: Box<dyn Model>,
    engine: Engine,
    tokenizer: TextTokenizer,
    /// The folder's task.
    pub task: TextTask,
    /// Names of its labels.
    pub labels: LabelMap,
}

/// What the model says of one text.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// The likeliest class and every class's probability.
    Class {
        /// Index of the class.
        class: usize,
        /// Softmax probabilities.
        probabilities: Vec<f64>,
    },
    /// Every label's own probability.
    Labels(Vec<f64>),
    /// A number.
    Value(f64),
}

/// Names of the labels; where `config.json` names none, those that `transformers` gives to `num_labels` (2) labels.
fn label_names(config: &Value) -> Vec<(usize, String)> {
    let named = config.get("id2label").and_then(Value::as_object).cloned().unwrap_or_default();
    let pairs = named.iter().filter_map(|(id, name)| Some((id.parse().ok()?, name.as_str()?.to_string())));
    let pairs: Vec<_> = pairs.collect();
    if !pairs.is_empty() {
        return pairs;
    }
    let n = config.get("num_labels").and_then(Value::as_u64).unwrap_or(2);
    (0..n as usize).map(|i| (i, format!("LABEL_{i}"))).collect()
}

impl Predictor {
    /// Loads a folder that a run has written.
    ///
    /// # Errors
    /// If it is no model folder.
    pub fn load(folder: &Path, precision: Precision) -> Result<Self, TrainError> {
        let config = models::read_config(folder)?;
        let task = match config.get("problem_type").and_then(Value::as_str) {
            Some("regression") => TextTask::Regression,
            Some("multi_label_classification") => TextTask::MultiLabel,
            _ => TextTask::Classification,
        };
        let labels = match task {
            TextTask::Regression => LabelMap::default(),
            _ => LabelMap::from_id2label(label_names(&config))?,
        };
        let outputs = Some(task.outputs(labels.len()));
        let model = models::load(folder, &HeadRequest { outputs, ..HeadRequest::default() })?;
        if model.parameters().iter().any(|parameter| parameter.fresh) {
            return Err(TrainError::Mismatch {
                problem: format!(
                    "{}: no trained task head for {} outputs",
                    folder.display(),
                    task.outputs(labels.len())
                ),
                hint: "fine-tune it first: rgft train --model … --data … --out …",
            });
        }
        let recipe = folder.join("recipe.toml");
        let trained_with = if recipe.is_file() { RawRecipe::from_file(&recipe)?.max_length } else { None };
        let max_length = trained_with.unwrap_or(MAX_LENGTH).min(model.positions());
        let tokenizer = TextTokenizer::from_folder(folder, max_length)?;
        Ok(Self { model, engine: Engine::new(precision), tokenizer, task, labels })
    }

    /// Metrics and logits on a labelled table.
    ///
    /// # Errors
    /// If a label is unknown to the model.
    pub fn evaluate(&self, table: &Table) -> Result<Evaluation, TrainError> {
        let set = TextDataset::labelled(table, self.task, &self.labels, &self.tokenizer)?;
        check_fit(&*self.model, &set)?;
        Ok(evaluate(&*self.model, &self.engine, &set))
    }

    /// One prediction per row.
    ///
    /// # Errors
    /// If a text does not fit the model.
    pub fn predict(&self, table: &Table) -> Result<Vec<Prediction>, TrainError> {
        let set = TextDataset::unlabelled(table, self.task, &self.labels, &self.tokenizer)?;
        check_fit(&*self.model, &set)?;
        let outputs = evaluate(&*self.model, &self.engine, &set).outputs;
        Ok(outputs.chunks_exact(set.outputs.max(1)).map(|logits| self.prediction(logits)).collect())
    }

    fn prediction(&self, logits: &[f32]) -> Prediction {
        match self.task {
            TextTask::Regression => Prediction::Value(f64::from(logits[0])),
            TextTask::MultiLabel => {
                Prediction::Labels(logits.iter().map(|&z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect())
            }
            TextTask::Classification => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weights: Vec<f64> = logits.iter().map(|&z| f64::from(z - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                let probabilities: Vec<f64> = weights.iter().map(|w| w / total).collect();
                let class = logits.iter().position(|&z| z == largest).unwrap_or(0);
                Prediction::Class { class, probabilities }
            }
        }
    }
}
