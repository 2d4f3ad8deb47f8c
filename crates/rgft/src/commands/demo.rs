//! `rgft demo`: a small transformer that reads hand-written digits meets faded ones, and learns to read them again by
//! `full`, `head` and `rgft`. Data and weights are inside the binary; `assets/demo/README.md` says where they are from.

use std::path::{Path, PathBuf};

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
const DATA: [(&str, &[u8]); 3] = [
    ("train.csv", asset!("shift-train.csv").1),
    ("validation.csv", asset!("shift-validation.csv").1),
    ("test.csv", asset!("shift-test.csv").1),
];

/// Settings of all three runs.
const COMMON: [&str; 5] =
    ["task=text-classification", "epochs=15", "learning-rate=1e-3", "max-length=66", "batch-size=32"];

/// Each method with the settings that differ from the others'.
const METHODS: [(&str, &[&str]); 3] = [("full", &[]), ("head", &[]), ("rgft", &["budget=0.5"])];

pub(crate) fn run(args: &DemoArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let (model, data) = (args.out.join("model"), args.out.join("data"));
    let recipes = METHODS.iter().map(|(method, settings)| {
        let mut raw = RawRecipe::default();
        COMMON.iter().chain(*settings).try_for_each(|assignment| raw.assign(assignment))?;
        raw.set("method", method)?;
        raw.model = Some(model.clone());
        raw.data = Some(data.clone());
        raw.out = Some(args.out.join(method));
        raw.threads = threads;
        raw.check()
    });
    let recipes = recipes.collect::<Result<Vec<_>, _>>()?;
    let files = MODEL.iter().map(|(name, bytes)| (model.join(name), *bytes));
    let files = files.chain(DATA.iter().map(|(name, bytes)| (data.join(name), *bytes)));
    write_files(&args.out, &files.collect::<Vec<_>>())?;
    printer.note(
        "a transformer that reads hand-written digits meets faded ones: fine-tuning it by three methods",
    );
    let rows =
        recipes.iter().map(|recipe| run_recipe(recipe, printer)).collect::<Result<Vec<RunSummary>>>()?;
    printer.text(&rgft_report::comparison_table(&rows))?;
    printer.note(&format!("report: {}", args.out.join("rgft").join("report.html").display()));
    printer.document(&rows)?;
    Ok(())
}

/// Writes `files` into `out`, unless that folder holds something other than an earlier demo.
fn write_files(out: &Path, files: &[(PathBuf, &[u8])]) -> Result<()> {
    let refuse =
        |problem: String, hint| rgft_train::TrainError::OutFolder { path: out.into(), problem, hint };
    let unusable = |source: std::io::Error| refuse(source.to_string(), "choose a folder that can be written");
    let is_demo = files.iter().all(|(path, bytes)| std::fs::read(path).is_ok_and(|found| found == *bytes));
    let holds_something = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something && !is_demo {
        return Err(refuse("holds other files".into(), "choose an empty folder").into());
    }
    for (path, bytes) in files {
        std::fs::create_dir_all(path.parent().unwrap_or(out)).map_err(unusable)?;
        rgft_nn::weights::write_whole(path, bytes).map_err(unusable)?;
    }
    Ok(())
}
