//! Texts with labels: tables, a tokenizer, classes or numbers.

use std::path::{Path, PathBuf};

use rgft_data::{
    Dataset, LabelMap, Labels, Objective, Table, TableSpec, Target, TextDataset, TextTokenizer, locate,
    read_table, sample_stratified, split_stratified,
};
use rgft_nn::models::Model;
use serde_json::{Map, Value, json};

use super::{
    Examples, Material, Subjects, label_settings, labels_for, labels_in, limited, no_test,
    placeholder_labels, tokenizer_files,
};
use crate::TrainError;
use crate::recipe::{Recipe, Task};

fn objective_of(recipe: &Recipe) -> Objective {
    match recipe.task {
        Task::TextMultiLabel => Objective::MultiLabel,
        Task::TextRegression => Objective::Regression,
        _ => Objective::Classification,
    }
}

fn table_spec(recipe: &Recipe) -> TableSpec {
    TableSpec {
        text: recipe.text_columns.clone(),
        label: recipe.label_column.clone(),
        label_separator: recipe.label_separator.clone(),
    }
}

pub(super) fn load(recipe: &Recipe, config: &Value) -> Result<Material, TrainError> {
    let files = locate(&recipe.data, recipe.test.as_deref(), recipe.validation.as_deref())?;
    let spec = table_spec(recipe);
    let read = |path: &Path| read_table(path, &spec, Labels::Required);
    let train = read(&files.train)?;
    let validation = files.validation.as_deref().map(read).transpose()?;
    let test = files.test.as_deref().map(read).transpose()?;
    of_tables(recipe, config, &train, validation.as_ref(), test.as_ref())
}

pub(super) fn of_tables(
    recipe: &Recipe,
    config: &Value,
    train: &Table,
    validation: Option<&Table>,
    test: Option<&Table>,
) -> Result<Material, TrainError> {
    let objective = objective_of(recipe);
    let mut notes = Vec::new();
    let labels = match objective {
        Objective::Regression => LabelMap::default(),
        _ => labels_for(LabelMap::from_table(train, objective)?, config, recipe),
    };
    let tokenizer = TextTokenizer::from_folder(recipe.tokenizer_folder(), recipe.max_length)?;
    let dataset = |table: &Table| TextDataset::labelled(table, objective, &labels, &tokenizer);
    let whole = limited(recipe.limit_train, dataset(train)?, sample);
    let truncated = whole.truncated;
    let (train_set, validation_set) = match validation {
        Some(table) => (whole, dataset(table)?),
        None => {
            let split = split_stratified(&targets_of(&whole), recipe.validation_part);
            notes.push(format!(
                "no validation file: {} of {} training rows are held out, stratified by label",
                split.validation.len(),
                whole.len()
            ));
            (whole.subset(split.train), whole.subset(split.validation))
        }
    };
    if truncated > 0 {
        let of = train.rows.len();
        notes.push(format!("{truncated} of {of} training texts are cut to {} tokens", recipe.max_length));
    }
    let test = match test {
        Some(table) => {
            let set = limited(recipe.limit_test, dataset(table)?, sample);
            Some(Box::new(set) as Box<dyn Dataset>)
        }
        None => None,
    };
    Ok(Material {
        objective,
        outputs: Some(labels.outputs(objective)),
        train: Box::new(train_set),
        validation: Box::new(validation_set),
        test,
        files: tokenizer_files(recipe)?,
        settings: settings(objective, &labels),
        labels,
        snippets: None,
        notes,
    })
}

fn targets_of(set: &TextDataset) -> Vec<Target> {
    set.examples.iter().map(|example| example.target.clone()).collect()
}

fn sample(set: &TextDataset, n: usize) -> TextDataset {
    set.subset(sample_stratified(&targets_of(set), n))
}

fn labels_of(objective: Objective, config: &Value) -> LabelMap {
    match objective {
        Objective::Regression => LabelMap::default(),
        _ => labels_in(config).unwrap_or_else(|| placeholder_labels(config)),
    }
}

fn tokenizer_for(recipe: &Recipe, model: &Model) -> Result<TextTokenizer, TrainError> {
    Ok(TextTokenizer::from_folder(recipe.tokenizer_folder(), recipe.max_length.min(model.positions()))?)
}

/// What is measured: the file that is named, or the test file of a folder.
fn measured_file(recipe: &Recipe) -> Result<PathBuf, TrainError> {
    if !recipe.data.is_dir() {
        return Ok(recipe.data.clone());
    }
    locate(&recipe.data, None, None)?.test.ok_or_else(|| no_test(&recipe.data))
}

pub(super) fn examples(recipe: &Recipe, config: &Value, model: &Model) -> Result<Examples, TrainError> {
    let objective = objective_of(recipe);
    let table = read_table(&measured_file(recipe)?, &table_spec(recipe), Labels::Required)?;
    let (labels, tokenizer) = (labels_of(objective, config), tokenizer_for(recipe, model)?);
    let set = TextDataset::labelled(&table, objective, &labels, &tokenizer)?;
    let set = limited(recipe.limit_test, set, sample);
    Ok(Examples { objective, set: Box::new(set), snippets: None, notes: Vec::new() })
}

pub(super) fn subjects(
    recipe: &Recipe,
    config: &Value,
    model: &Model,
    data: &Path,
) -> Result<Subjects, TrainError> {
    subjects_of_table(recipe, config, model, &read_table(data, &table_spec(recipe), Labels::Optional)?)
}

/// Texts in memory, to predict for.
pub(crate) fn subjects_of_table(
    recipe: &Recipe,
    config: &Value,
    model: &Model,
    table: &Table,
) -> Result<Subjects, TrainError> {
    let objective = objective_of(recipe);
    let (labels, tokenizer) = (labels_of(objective, config), tokenizer_for(recipe, model)?);
    let set = TextDataset::unlabelled(table, objective, &labels, &tokenizer)?;
    let described = table.rows.iter().map(|row| {
        let text = match &row.texts[..] {
            [one] => json!(one),
            several => json!(several),
        };
        Map::from_iter([("text".into(), text)])
    });
    Ok(Subjects {
        objective,
        set: Box::new(set),
        described: described.collect(),
        scaled: None,
        notes: Vec::new(),
    })
}

fn settings(objective: Objective, labels: &LabelMap) -> Map<String, Value> {
    let problem = match objective {
        Objective::MultiLabel => "multi_label_classification",
        Objective::Regression => "regression",
        _ => "single_label_classification",
    };
    let regression = ["LABEL_0".to_string()];
    let names = if objective == Objective::Regression { &regression[..] } else { labels.names() };
    let mut settings = label_settings(names);
    settings.insert("problem_type".into(), json!(problem));
    settings
}
