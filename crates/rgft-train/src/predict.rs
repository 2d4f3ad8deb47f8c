//! Using a model folder: metrics on labelled data, and predictions for the rest.

use std::path::Path;

use rgft_data::{LabelMap, Objective, Table};
use rgft_nn::Engine;
use rgft_nn::models::{self, HeadRequest, Model, Purpose};
use serde_json::{Map, Value, json};

use crate::recipe::{RawRecipe, Recipe, Task};
use crate::workload::{self, Examples, Subjects, check_fit, precision_of};
use crate::{Evaluation, TrainError, evaluate};

/// A model folder ready for use.
pub struct Predictor {
    /// The settings that it is used with: those that it was trained with, and what was said otherwise.
    pub recipe: Recipe,
    model: Model,
    config: Value,
    engine: Engine,
}

/// What the model says of one example.
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
    /// The coming steps, in scaled units.
    Forecast(Vec<f64>),
}

/// Predictions for a data set.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// One object per example.
    pub lines: Vec<Map<String, Value>>,
    /// What was done to the data.
    pub notes: Vec<String>,
}

/// Metrics of a model on a data set.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How many examples there were.
    pub examples: usize,
    /// Metrics and outputs.
    pub evaluation: Evaluation,
    /// What was done to the data.
    pub notes: Vec<String>,
}

impl Predictor {
    /// Loads the model folder that `settings` name, to be used as it was trained unless they say otherwise.
    ///
    /// # Errors
    /// If it is no model folder, or has no trained head.
    pub fn load(settings: RawRecipe) -> Result<Self, TrainError> {
        settings.require("model")?;
        let folder = settings.model.clone().unwrap_or_default();
        let config = models::read_config(&folder)?;
        let mut raw = RawRecipe::of_trained(&folder)?;
        // Nothing is held out unless that is asked for.
        raw.test_part = Some(0.0);
        raw.merge(settings);
        raw.task = match raw.task {
            Some(task) => Some(task),
            None => Some(task_of(&folder, &config)?),
        };
        // Nothing is trained, so nothing need be named to train on.
        raw.data = Some(raw.data.unwrap_or_else(|| ".".into()));
        let recipe = raw.check()?;
        workload::config_for(&recipe)?;
        for (key, asked) in [("context", recipe.context), ("horizon", recipe.horizon)] {
            let own = config.get(key).and_then(Value::as_u64).map(|n| n as usize);
            if let (Some(asked), Some(own)) = (asked, own)
                && asked != own
            {
                return Err(TrainError::Mismatch {
                    problem: format!("{}: {key} is {asked}, the model was made for {own}", folder.display()),
                    hint: "leave it out, or fine-tune the model for it",
                });
            }
        }
        let outputs = workload::outputs_of(&recipe, &config);
        let model =
            models::load(&folder, &HeadRequest { outputs, ..workload::head_request(&recipe, outputs) })?;
        if model.parameters().iter().any(|parameter| parameter.fresh) {
            return Err(TrainError::Mismatch {
                problem: format!("{}: no trained task head for the task {}", folder.display(), recipe.task),
                hint: "fine-tune it first: rgft train --model … --data … --out …",
            });
        }
        let engine = Engine::new(precision_of(&recipe));
        Ok(Self { recipe, model, config, engine })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What it runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Names of its labels.
    pub fn labels(&self) -> LabelMap {
        workload::labels_in(&self.config).unwrap_or_else(|| workload::placeholder_labels(&self.config))
    }

    /// Metrics and outputs on the labelled data of the recipe.
    ///
    /// # Errors
    /// If the data is wrong, or a label is unknown to the model.
    pub fn evaluate(&self) -> Result<Measured, TrainError> {
        let Examples { objective, set, snippets, notes } =
            workload::examples(&self.recipe, &self.config, &self.model)?;
        check_fit(&self.model, &*set)?;
        let mut evaluation = evaluate(&self.model, &self.engine, &*set, objective);
        if let Some(snippets) = snippets {
            let share = snippets.share_that_parse(&self.model, &self.engine)?;
            evaluation.metrics.extend(share.map(|share| ("parse_share".into(), share)));
        }
        Ok(Measured { examples: set.len(), evaluation, notes })
    }

    /// One JSON object per example of `data`: what it is, and what the model says of it; and what was done to the data.
    ///
    /// # Errors
    /// If the data is wrong, or does not fit the model.
    pub fn predict(&self, data: &Path) -> Result<Predicted, TrainError> {
        self.lines(workload::subjects(&self.recipe, &self.config, &self.model, data)?)
    }

    /// As [`Predictor::predict`], for a table of texts in memory.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn predict_table(&self, table: &Table) -> Result<Predicted, TrainError> {
        self.lines(workload::subjects_of_table(&self.recipe, &self.config, &self.model, table)?)
    }

    fn lines(&self, subjects: Subjects) -> Result<Predicted, TrainError> {
        let Subjects { objective, set, described, scaled, notes } = subjects;
        if set.is_empty() {
            return Ok(Predicted { lines: Vec::new(), notes });
        }
        check_fit(&self.model, &*set)?;
        let outputs = evaluate(&self.model, &self.engine, &*set, objective).outputs;
        let labels = self.labels();
        let rows = outputs.chunks_exact(set.outputs().max(1));
        let line = |((mut line, output), example): ((Map<String, Value>, &[f32]), usize)| {
            let prediction = match prediction(objective, output) {
                Prediction::Forecast(values) => {
                    let real =
                        |value: &f64| scaled.as_ref().map_or(*value, |unscale| unscale(example, *value));
                    Prediction::Forecast(values.iter().map(real).collect())
                }
                other => other,
            };
            describe(&mut line, &labels, prediction);
            line
        };
        Ok(Predicted { lines: described.into_iter().zip(rows).zip(0..).map(line).collect(), notes })
    }
}

/// What a folder without a recipe was made for, by its architecture and its problem.
fn task_of(folder: &Path, config: &Value) -> Result<Task, TrainError> {
    let problem = config.get("problem_type").and_then(Value::as_str).unwrap_or("");
    Ok(match (models::purpose(folder, config)?, problem) {
        (Purpose::Text, "regression") => Task::TextRegression,
        (Purpose::Text, "multi_label_classification") => Task::TextMultiLabel,
        (Purpose::Text, _) => Task::TextClassification,
        (Purpose::Images, _) => Task::ImageClassification,
        (Purpose::Language, _) => Task::CausalLm,
        (Purpose::Series, _) => Task::Forecasting,
    })
}

fn prediction(objective: Objective, output: &[f32]) -> Prediction {
    match objective {
        Objective::Regression => Prediction::Value(f64::from(output[0])),
        Objective::Forecast => Prediction::Forecast(output.iter().map(|&y| f64::from(y)).collect()),
        Objective::MultiLabel => {
            Prediction::Labels(output.iter().map(|&z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect())
        }
        Objective::Classification | Objective::NextToken => {
            let largest = output.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f64> = output.iter().map(|&z| f64::from(z - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let probabilities: Vec<f64> = weights.iter().map(|w| w / total).collect();
            let class = output.iter().position(|&z| z == largest).unwrap_or(0);
            Prediction::Class { class, probabilities }
        }
    }
}

/// Adds what the model says to the line of an example.
fn describe(line: &mut Map<String, Value>, labels: &LabelMap, prediction: Prediction) {
    let names = labels.names();
    let scores = |values: &[f64]| -> Value {
        Value::Object(names.iter().zip(values).map(|(name, value)| (name.clone(), json!(value))).collect())
    };
    match prediction {
        Prediction::Class { class, probabilities } => {
            line.insert("label".into(), json!(names.get(class)));
            line.insert("score".into(), json!(probabilities[class]));
            line.insert("scores".into(), scores(&probabilities));
        }
        Prediction::Labels(values) => {
            let on: Vec<&String> =
                names.iter().zip(&values).filter(|(_, p)| **p > 0.5).map(|(name, _)| name).collect();
            line.insert("label".into(), json!(on));
            line.insert("scores".into(), scores(&values));
        }
        Prediction::Value(value) => {
            line.insert("score".into(), json!(value));
        }
        Prediction::Forecast(values) => {
            line.insert("forecast".into(), json!(values));
        }
    }
}
