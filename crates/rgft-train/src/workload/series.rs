//! Time series: files of regular series, cut by time into windows with a context and a horizon.

use std::path::Path;

use rgft_data::{
    Dataset, LabelMap, Missing, Objective, Scaling, SeriesDataset, SeriesParts, SeriesScaling, SeriesSpec,
    SeriesTable, joined, read_series, series_files,
};
use serde_json::{Map, Value, json};

use super::{Examples, Material, Subjects, limited};
use crate::TrainError;
use crate::recipe::{self, Recipe};

/// Context and horizon where neither recipe nor `config.json` says.
const WINDOW: (usize, usize) = (96, 24);

fn spec_of(recipe: &Recipe, config: &Value) -> SeriesSpec {
    let size = |key: &str| config.get(key).and_then(Value::as_u64).map(|n| n as usize);
    let context = recipe.context.or_else(|| size("context")).unwrap_or(WINDOW.0);
    let horizon = recipe.horizon.or_else(|| size("horizon")).unwrap_or(WINDOW.1);
    SeriesSpec {
        date_column: recipe.date_column.clone(),
        targets: recipe.target_columns.clone(),
        context,
        horizon,
        stride: recipe.window_stride,
        evaluation_stride: recipe.evaluation_stride.unwrap_or(horizon),
        scaling: match recipe.scaling {
            recipe::Scaling::Standard => Scaling::Standard,
            recipe::Scaling::None => Scaling::None,
        },
        missing: match recipe.missing {
            recipe::Missing::Interpolate => Missing::Interpolate,
            recipe::Missing::Refuse => Missing::Refuse,
        },
        season: recipe.season,
        validation_part: if recipe.validation.is_some() { 0.0 } else { recipe.validation_part },
        test_part: if recipe.test.is_some() { 0.0 } else { recipe.test_part },
    }
}

/// The parts of several files of series, put together.
struct Parts {
    train: Vec<Box<dyn Dataset>>,
    validation: Vec<Box<dyn Dataset>>,
    test: Vec<Box<dyn Dataset>>,
    scaling: SeriesScaling,
    notes: Vec<String>,
}

impl Parts {
    fn read(recipe: &Recipe, spec: &SeriesSpec) -> Result<Self, TrainError> {
        let (train, validation, test, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut all = Self { train, validation, test, scaling: SeriesScaling::default(), notes };
        for path in series_files(&recipe.data)? {
            let table = read_series(&path, spec)?;
            all.notes.extend(table.notes.iter().cloned());
            all.notes.push(described(&table, spec));
            let SeriesParts { train, validation, test, scaling } = SeriesParts::split(&table, spec)?;
            all.train.push(Box::new(limited(recipe.limit_train, train, |set, n| set.subset(0..n))));
            all.validation.extend(validation.map(|set| Box::new(set) as Box<dyn Dataset>));
            let test = test.map(|test| limited(recipe.limit_test, test, |set, n| set.subset(0..n)));
            all.test.extend(test.map(|set| Box::new(set) as Box<dyn Dataset>));
            if let Some(unit) = scaling.series.iter().find(|unit| all.scaling.unit(&unit.name).is_ok()) {
                return Err(TrainError::Mismatch {
                    problem: format!("{}: a second series called {}", path.display(), unit.name),
                    hint: "series of several files need names of their own",
                });
            }
            all.scaling.series.extend(scaling.series);
        }
        Ok(all)
    }

    /// All windows of another file, under the scaling of the training part.
    fn other(&mut self, path: &Path, spec: &SeriesSpec) -> Result<Box<dyn Dataset>, TrainError> {
        let names = self.scaling.series.iter().map(|unit| unit.name.clone()).collect();
        let table = read_series(path, &SeriesSpec { targets: names, ..spec.clone() })?;
        self.notes.extend(table.notes.iter().cloned());
        Ok(Box::new(SeriesDataset::whole(&table, spec, &self.scaling, spec.evaluation_stride)?))
    }
}

pub(super) fn load(recipe: &Recipe, config: &Value) -> Result<Material, TrainError> {
    let spec = spec_of(recipe, config);
    let mut parts = Parts::read(recipe, &spec)?;
    if let Some(path) = &recipe.validation {
        parts.validation = vec![parts.other(path, &spec)?];
    }
    if let Some(path) = &recipe.test {
        parts.test = vec![parts.other(path, &spec)?];
    }
    let Parts { train, validation, test, scaling, notes } = parts;
    let bytes = serde_json::to_vec_pretty(&scaling).unwrap_or_default();
    Ok(Material {
        objective: Objective::Forecast,
        labels: LabelMap::default(),
        outputs: Some(spec.horizon),
        train: joined(train),
        validation: joined(validation),
        test: (!test.is_empty()).then(|| joined(test)),
        files: vec![(SeriesScaling::FILE.into(), bytes)],
        settings: Map::from_iter([
            ("context".into(), json!(spec.context)),
            ("horizon".into(), json!(spec.horizon)),
        ]),
        snippets: None,
        notes,
    })
}

fn described(table: &SeriesTable, spec: &SeriesSpec) -> String {
    let names = match &table.names[..] {
        [one] => format!("series {one}"),
        several => format!("{} series", several.len()),
    };
    let interval = table.interval().map_or_else(String::new, |interval| format!(", one every {interval}"));
    let part = |part: f64, place: &str| match part {
        0.0 => String::new(),
        part => format!("{:.0} % {place}, ", 100.0 * part),
    };
    format!(
        "{names}: {} steps{interval}; {}{}the rest for training, by which they are scaled",
        table.steps(),
        part(spec.test_part, "at the end for the test"),
        part(spec.validation_part, "before for validation"),
    )
}

/// The scaling of the model folder; where it has none, or not of these series, that of the data itself.
fn scaling_for(
    recipe: &Recipe,
    table: &SeriesTable,
    spec: &SeriesSpec,
    notes: &mut Vec<String>,
) -> Result<SeriesScaling, TrainError> {
    if recipe.model.join(SeriesScaling::FILE).is_file() {
        let scaling = SeriesScaling::load(&recipe.model)?;
        if table.names.iter().all(|name| scaling.unit(name).is_ok()) {
            return Ok(scaling);
        }
    }
    notes.push("the model has not seen these series: they are scaled by all of this file".into());
    Ok(SeriesScaling::fit(table, table.steps(), spec.scaling))
}

pub(super) fn examples(recipe: &Recipe, config: &Value) -> Result<Examples, TrainError> {
    let spec = spec_of(recipe, config);
    let (mut sets, mut notes) = (Vec::new(), Vec::new());
    for path in series_files(&recipe.data)? {
        let table = read_series(&path, &spec)?;
        notes.extend(table.notes.iter().cloned());
        let set = if recipe.test_part > 0.0 {
            notes.push(described(&table, &spec));
            SeriesParts::split(&table, &spec)?.test
        } else {
            let scaling = scaling_for(recipe, &table, &spec, &mut notes)?;
            Some(SeriesDataset::whole(&table, &spec, &scaling, spec.evaluation_stride)?)
        };
        let set = set.map(|set| limited(recipe.limit_test, set, |set, n| set.subset(0..n)));
        sets.extend(set.map(|set| Box::new(set) as Box<dyn Dataset>));
    }
    Ok(Examples { objective: Objective::Forecast, set: joined(sets), snippets: None, notes })
}

/// The steps after the last one of each series.
pub(super) fn subjects(recipe: &Recipe, config: &Value, data: &Path) -> Result<Subjects, TrainError> {
    let spec = spec_of(recipe, config);
    let (mut sets, mut described, mut units, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for path in series_files(data)? {
        let table = read_series(&path, &spec)?;
        notes.extend(table.notes.iter().cloned());
        let scaling = scaling_for(recipe, &table, &spec, &mut notes)?;
        let set = SeriesDataset::future(&table, &spec, &scaling)?;
        for example in 0..set.len() {
            let mut line = Map::from_iter([("series".into(), json!(set.unit(example).name))]);
            let times: Vec<String> = (0..spec.horizon).filter_map(|ahead| set.time(example, ahead)).collect();
            if !times.is_empty() {
                line.insert("times".into(), json!(times));
            }
            described.push(line);
            units.push(set.unit(example).clone());
        }
        sets.push(Box::new(set) as Box<dyn Dataset>);
    }
    Ok(Subjects {
        objective: Objective::Forecast,
        set: joined(sets),
        described,
        scaled: Some(Box::new(move |example, value| units[example].unscale(value as f32))),
        notes,
    })
}
