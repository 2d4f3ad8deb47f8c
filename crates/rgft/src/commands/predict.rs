//! `rgft eval` and `rgft predict`: using a model folder.

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use rgft_data::{Labels, TableSpec, parse_table};
use rgft_train::{Predictor, TrainError};
use serde_json::{Value, json};

use crate::args::{PredictArgs, RecipeArgs};
use crate::pool;
use crate::printer::Printer;

/// Classes up to which a confusion matrix is printed; it is in the JSON document in any case.
const WIDEST_CONFUSION: usize = 12;

pub(crate) fn eval(args: &RecipeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let raw = args.recipe(threads)?;
    raw.require("model")?;
    raw.require("data")?;
    let (measured, labels) = pool::quietly(threads.unwrap_or(0), || {
        let predictor = Predictor::load(raw)?;
        Ok((predictor.evaluate()?, predictor.labels()))
    })?;
    measured.notes.iter().for_each(|note| printer.note(note));
    let (metrics, names) = (measured.evaluation.metrics, labels.names());
    let lines: Vec<Vec<String>> =
        metrics.iter().map(|(name, value)| vec![name.clone(), format!("{value:.4}")]).collect();
    printer.table(&["metric", "value"], &lines)?;
    let confusion: Vec<&[u64]> = measured.evaluation.confusion.chunks(names.len().max(1)).collect();
    if !confusion.is_empty() && names.len() <= WIDEST_CONFUSION {
        let header: Vec<&str> =
            ["true \\ predicted"].into_iter().chain(names.iter().map(|n| &n[..])).collect();
        let row = |(name, counts): (&String, &&[u64])| {
            std::iter::once(name.clone()).chain(counts.iter().map(u64::to_string)).collect()
        };
        printer.table(&header, &names.iter().zip(&confusion).map(row).collect::<Vec<Vec<String>>>())?;
    }
    let mut document = json!({ "rows": measured.examples, "metrics": metrics });
    if !confusion.is_empty() {
        document["confusion"] = json!({ "labels": names, "counts": confusion });
    }
    printer.document(&document)?;
    Ok(())
}

pub(crate) fn predict(args: &PredictArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    if let Some(path) = &args.out
        && !path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir())
    {
        let (problem, hint) = ("its folder does not exist".into(), "create it first");
        return Err(TrainError::OutFolder { path: path.clone(), problem, hint }.into());
    }
    let raw = args.recipe()?;
    let predicted = pool::quietly(threads.unwrap_or(0), || {
        let predictor = Predictor::load(raw)?;
        match &args.data {
            Some(path) => Ok(predictor.predict(path)?),
            None => Ok(predictor.predict_table(&stdin_table(&predictor)?)?),
        }
    })?;
    predicted.notes.iter().for_each(|note| printer.note(note));
    let lines: Vec<Value> = predicted.lines.into_iter().map(Value::Object).collect();
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
fn stdin_table(predictor: &Predictor) -> Result<rgft_data::Table> {
    let refuse =
        |problem: &str| TrainError::Mismatch { problem: problem.into(), hint: "give data: --data FILE" };
    if !predictor.recipe.task.reads_text() {
        let problem = format!("a model for {} does not read lines of text", predictor.recipe.task);
        return Err(refuse(&problem).into());
    }
    if predictor.recipe.text_columns.len() > 1 {
        let problem = "this model labels pairs of texts, and a line of standard input is one text";
        return Err(refuse(problem).into());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| TrainError::Mismatch {
        problem: format!("standard input: {error}"),
        hint: "texts are UTF-8, one per line",
    })?;
    if text.trim().is_empty() {
        return Err(refuse("standard input is empty").into());
    }
    let lines: String = text.lines().map(|line| format!("{}\n", json!({ "text": line }))).collect();
    let (name, spec) = (Path::new("stdin.jsonl"), TableSpec::default());
    Ok(parse_table(name, lines.as_bytes(), &spec, Labels::Optional)?)
}
