//! `rgft eval` and `rgft predict`: using a model folder.

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use rgft_data::{Labels, TableSpec, parse_table, read_table};
use rgft_kernels::Precision;
use rgft_train::recipe::{RawRecipe, Texts};
use rgft_train::{Prediction, Predictor, TrainError};
use serde_json::{Value, json};

use crate::args::{EvalArgs, PredictArgs};
use crate::pool;
use crate::printer::Printer;

/// The columns to read: as given, else as in the run that wrote the folder, else the defaults.
fn spec(model: &Path, text: &[String], label: Option<&str>) -> Result<TableSpec> {
    let recipe = model.join("recipe.toml");
    let raw = if recipe.is_file() { RawRecipe::from_file(&recipe)? } else { RawRecipe::default() };
    let mut spec = TableSpec { label_separator: raw.label_separator, ..TableSpec::default() };
    match raw.text_column {
        Some(Texts::One(column)) => spec.text = vec![column],
        Some(Texts::Many(columns)) => spec.text = columns,
        None => {}
    }
    if !text.is_empty() {
        spec.text = text.to_vec();
    }
    if let Some(label) = label.map(String::from).or(raw.label_column) {
        spec.label = label;
    }
    Ok(spec)
}

pub(crate) fn eval(args: &EvalArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let spec = spec(&args.model, &args.text_column, args.label_column.as_deref())?;
    let (metrics, rows) = pool::quietly(threads.unwrap_or(0), || {
        let predictor = Predictor::load(&args.model, Precision::F32)?;
        let table = read_table(&args.data, &spec, Labels::Required)?;
        Ok((predictor.evaluate(&table)?.metrics, table.rows.len()))
    })?;
    let lines: Vec<Vec<String>> =
        metrics.iter().map(|(name, value)| vec![name.clone(), format!("{value:.4}")]).collect();
    printer.table(&["metric", "value"], &lines)?;
    printer.document(&json!({ "rows": rows, "metrics": metrics }))?;
    Ok(())
}

pub(crate) fn predict(args: &PredictArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let spec = spec(&args.model, &args.text_column, None)?;
    if let Some(path) = &args.out
        && !path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir())
    {
        let (problem, hint) = ("its folder does not exist".into(), "create it first");
        return Err(TrainError::OutFolder { path: path.clone(), problem, hint }.into());
    }
    if args.data.is_none() && spec.text.len() > 1 {
        return Err(TrainError::Mismatch {
            problem: "this model labels pairs of texts, and a line of standard input is one text".into(),
            hint: "give a table: --data FILE",
        }
        .into());
    }
    let table = match &args.data {
        Some(path) => read_table(path, &spec, Labels::Optional)?,
        None => stdin_table()?,
    };
    let lines: Vec<Value> = pool::quietly(threads.unwrap_or(0), || {
        let predictor = Predictor::load(&args.model, Precision::F32)?;
        let predictions = predictor.predict(&table)?;
        let texts = table.rows.iter().map(|row| &row.texts);
        Ok(texts.zip(predictions).map(|(texts, p)| line(&predictor, texts, p)).collect())
    })?;
    match &args.out {
        None => lines.iter().try_for_each(|line| printer.json_line(line))?,
        Some(path) => {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            rgft_nn::weights::write_whole(path, text.as_bytes())
                .map_err(|source| TrainError::Write { path: path.clone(), source })?;
            printer.note(&format!("{} predictions: {}", lines.len(), path.display()));
        }
    }
    Ok(())
}

/// Standard input, one text per line.
fn stdin_table() -> Result<rgft_data::Table> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| TrainError::Mismatch {
        problem: format!("standard input: {error}"),
        hint: "texts are UTF-8, one per line",
    })?;
    let lines: String = text.lines().map(|line| format!("{}\n", json!({ "text": line }))).collect();
    let (name, spec) = (Path::new("stdin.jsonl"), TableSpec::default());
    Ok(parse_table(name, lines.as_bytes(), &spec, Labels::Optional)?)
}

fn line(predictor: &Predictor, texts: &[String], prediction: Prediction) -> Value {
    let text = match texts {
        [one] => json!(one),
        several => json!(several),
    };
    let names = predictor.labels.names();
    let scores = |values: &[f64]| -> Value {
        Value::Object(names.iter().zip(values).map(|(name, value)| (name.clone(), json!(value))).collect())
    };
    match prediction {
        Prediction::Class { class, probabilities } => json!({
            "text": text,
            "label": names.get(class),
            "score": probabilities[class],
            "scores": scores(&probabilities),
        }),
        Prediction::Labels(values) => {
            let on: Vec<&String> =
                names.iter().zip(&values).filter(|(_, p)| **p > 0.5).map(|(n, _)| n).collect();
            json!({ "text": text, "label": on, "scores": scores(&values) })
        }
        Prediction::Value(value) => json!({ "text": text, "score": value }),
    }
}
