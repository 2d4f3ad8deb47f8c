//! Pictures with classes: Parquet files or folders of pictures, at the size that the model reads.

use std::path::Path;

use rgft_data::{
    Augment, Dataset, ImageDataset, ImageSource, ImageSpec, LabelMap, Objective, Resize, locate_images,
    read_images, split_stratified,
};
use serde_json::{Map, Value, json};

use super::{Examples, Material, Subjects, label_settings, labels_for, labels_in, placeholder_labels};
use crate::TrainError;
use crate::recipe::{self, Recipe};

/// What Hugging Face's models say of their pictures.
const PREPROCESSOR: &str = "preprocessor_config.json";

fn spec_of(recipe: &Recipe, config: &Value) -> Result<ImageSpec, TrainError> {
    let preprocessor = std::fs::read(recipe.model.join(PREPROCESSOR)).ok();
    let preprocessor = preprocessor.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let mut config = config.clone();
    if let Some(size) = recipe.image_size {
        config["image_size"] = json!(size);
    }
    let mut spec = ImageSpec::from_config(&config, preprocessor.as_ref())?;
    // The default names are found as they are spelt in the data; others must be there.
    spec.image_column = Some(recipe.image_column.clone()).filter(|name| name != "image");
    spec.label_column = Some(recipe.label_column.clone()).filter(|name| name != "label");
    spec.resize = match recipe.resize {
        recipe::Resize::Crop => Resize::Crop,
        recipe::Resize::Squash => Resize::Squash,
    };
    spec.augment = match recipe.augment {
        recipe::Augment::None => Augment::None,
        recipe::Augment::Flip => Augment::Flip,
        recipe::Augment::FlipCrop => Augment::FlipCrop,
    };
    spec.corrupt = recipe.corrupt.as_deref().map(str::parse).transpose()?;
    Ok(spec)
}

/// What `config.json` says afterwards of the pictures that the model reads.
fn settings(spec: &ImageSpec, labels: &LabelMap) -> Map<String, Value> {
    let mut settings = label_settings(labels.names());
    let size = if spec.height == spec.width { json!(spec.height) } else { json!([spec.height, spec.width]) };
    settings.insert("image_size".into(), size);
    settings.insert("image_mean".into(), json!(spec.mean));
    settings.insert("image_std".into(), json!(spec.std));
    settings.insert("num_labels".into(), json!(labels.len()));
    settings.insert("labels".into(), json!(labels.names()));
    settings
}

pub(super) fn load(recipe: &Recipe, config: &Value) -> Result<Material, TrainError> {
    let files = locate_images(&recipe.data, recipe.test.as_deref(), recipe.validation.as_deref())?;
    let spec = spec_of(recipe, config)?;
    let limited = |limit: Option<usize>| ImageSpec { limit, ..spec.clone() };
    let mut notes = Vec::new();
    let table = read_images(&files.train, &limited(recipe.limit_train))?;
    let labels = labels_for(table.label_map()?, config, recipe);
    let whole = ImageDataset::labelled(&table, &spec, &labels)?;
    let read = |source: &ImageSource, limit| -> Result<ImageDataset, TrainError> {
        Ok(ImageDataset::labelled(&read_images(source, &limited(limit))?, &spec, &labels)?)
    };
    let (train, validation) = match &files.validation {
        Some(source) => (whole, read(source, None)?),
        None => {
            let split = split_stratified(&whole.targets(), recipe.validation_part);
            notes.push(format!(
                "no validation pictures: {} of {} training pictures are held out, stratified by label",
                split.validation.len(),
                whole.len()
            ));
            (whole.subset(split.train), whole.subset(split.validation))
        }
    };
    let test = files.test.as_ref().map(|source| read(source, recipe.limit_test)).transpose()?;
    if let Some(corruption) = &recipe.corrupt {
        notes.push(format!("every picture is spoilt by {corruption}"));
    }
    Ok(Material {
        objective: Objective::Classification,
        outputs: Some(labels.len()),
        train: Box::new(train),
        validation: Box::new(validation),
        test: test.map(|test| Box::new(test) as Box<dyn Dataset>),
        files: Vec::new(),
        settings: settings(&spec, &labels),
        labels,
        snippets: None,
        notes,
    })
}

fn labels_of(config: &Value) -> LabelMap {
    labels_in(config).unwrap_or_else(|| placeholder_labels(config))
}

pub(super) fn examples(recipe: &Recipe, config: &Value) -> Result<Examples, TrainError> {
    let spec = ImageSpec { limit: recipe.limit_test, ..spec_of(recipe, config)? };
    // The pictures that are named, or those of the test part of a folder that has one.
    let parts = locate_images(&recipe.data, None, None).ok().and_then(|parts| parts.test);
    let source = parts.map_or_else(|| ImageSource::at(&recipe.data), Ok)?;
    let table = read_images(&source, &spec)?;
    let set = ImageDataset::labelled(&table, &spec, &labels_of(config))?;
    Ok(Examples {
        objective: Objective::Classification,
        set: Box::new(set),
        snippets: None,
        notes: Vec::new(),
    })
}

pub(super) fn subjects(recipe: &Recipe, config: &Value, data: &Path) -> Result<Subjects, TrainError> {
    let spec = ImageSpec { limit: None, ..spec_of(recipe, config)? };
    let table = read_images(&ImageSource::at(data)?, &spec)?;
    let set = ImageDataset::unlabelled(&table, &spec, labels_of(config).len())?;
    let described =
        (0..set.len()).map(|example| Map::from_iter([("image".into(), json!(set.place(example)))]));
    let described = described.collect();
    Ok(Subjects {
        objective: Objective::Classification,
        set: Box::new(set),
        described,
        scaled: None,
        notes: Vec::new(),
    })
}
