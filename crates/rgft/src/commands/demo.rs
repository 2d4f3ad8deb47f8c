//! `rgft demo`: a small transformer that reads hand-written digits meets faded ones, and learns to read them again by
//! `full`, `head` and `rgft`. Data and weights are inside the binary; `assets/demo/README.md` says where they are from.

use std::path::Path;

use anyhow::Result;
use rgft_core::RunSummary;
use rgft_train::recipe::RawRecipe;

use super::train::run_recipe;
use crate::args::DemoArgs;
use crate::printer::Printer;

macro_rules! asset {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../../assets/demo/", $name)) as &[u8])
    };
}

/// The model folder.
const MODEL: [(&str, &[u8]); 3] =
    [asset!("config.json"), asset!("tokenizer.json"), asset!("model.safetensors")];

/// The faded digits.
const DATA: [(&str, &str, &[u8]); 3] = [
    ("train.csv", "shift-train.csv", asset!("shift-train.csv").1),
    ("validation.csv", "shift-validation.csv", asset!("shift-validation.csv").1),
    ("test.csv", "shift-test.csv", asset!("shift-test.csv").1),
];

/// Each method with the settings that differ from the others'.
const METHODS: [(&str, &[&str]); 3] = [("full", &[]), ("head", &[]), ("rgft", &["budget=0.5"])];

pub(crate) fn run(args: &DemoArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let (model, data) = (args.out.join("model"), args.out.join("data"));
    write_files(&model, MODEL.iter().copied())?;
    write_files(&data, DATA.iter().map(|(name, _, bytes)| (*name, *bytes)))?;
    printer.note(
        "a transformer that reads hand-written digits meets faded ones: fine-tuning it by three methods",
    );
    let mut rows: Vec<RunSummary> = Vec::new();
    for (method, settings) in METHODS {
        let mut raw = RawRecipe::default();
        let common =
            ["task=text-classification", "epochs=15", "learning-rate=1e-3", "max-length=66", "batch-size=32"];
        for assignment in common.iter().chain(settings) {
            raw.assign(assignment)?;
        }
        raw.set("method", method)?;
        raw.model = Some(model.clone());
        raw.data = Some(data.clone());
        raw.out = Some(args.out.join(method));
        raw.threads = threads;
        rows.push(run_recipe(&raw.check()?, printer)?);
    }
    printer.text(&rgft_report::comparison_table(&rows))?;
    printer.note(&format!("report: {}", args.out.join("rgft").join("report.html").display()));
    printer.document(&rows)?;
    Ok(())
}

fn write_files<'a>(folder: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    let unusable = |source: std::io::Error| rgft_train::TrainError::OutFolder {
        path: folder.into(),
        problem: source.to_string(),
        hint: "choose a folder that can be written",
    };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).map_err(unusable)?;
    }
    Ok(())
}
