//! `rgft bench results`: a page of what is on record, with its pictures. Runs nothing.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rgft_report::compare::results_part;
use rgft_train::TrainError;
use serde_json::json;

use super::grid::{Cell, Task};
use super::records::{Record, Records};
use super::schedule::Known;
use super::suite::Suite;
use super::{gather, place, suite};
use crate::args::{GridArgs, ResultsArgs};
use crate::printer::Printer;

pub(crate) fn run(args: &ResultsArgs, printer: &mut Printer) -> Result<()> {
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let folder = args.out.parent().unwrap_or(Path::new("")).join(&stem);
    let files: Vec<String> = args.suites.iter().map(|suite| suite.display().to_string()).collect();
    let mut page = format!(
        "# Results\n\nEvery figure here is made by `rgft bench results {} --out {}` from the records that the suites name; \
         none is typed. Means are over seeds, ± is their standard error. A bar that is missed is printed as missed, and as \
         open where results are missing.\n\n",
        files.join(" "),
        args.out.display()
    );
    let (mut pictures, mut suites) = (Vec::new(), Vec::new());
    for (i, file) in args.suites.iter().enumerate() {
        let suite = suite::read(file, &GridArgs::default(), &[])?;
        let known = known(file, &suite)?;
        let pairs: Vec<_> = suite.tasks.iter().zip(&known).collect();
        let comparison = gather::gather(&suite.title, "", &pairs);
        let named = file.file_stem().unwrap_or_default().to_string_lossy();
        let before = args.suites[..i].iter().filter(|other| other.file_stem() == file.file_stem()).count();
        let name = if before == 0 { named.into_owned() } else { format!("{named}-{}", before + 1) };
        let lines = [format!("By `rgft bench suite {} --out DIR`.", file.display()), provenance(&pairs)];
        let part = results_part(&comparison, &suite.bars, &lines, &stem, &name);
        page.push_str(&part.markdown);
        pictures.extend(part.pictures);
        let bars = suite.bars.iter().map(|bar| {
            let outcome = bar.outcome(&comparison);
            json!({ "bar": bar.what, "measured": outcome.measured, "reached": outcome.reached })
        });
        suites.push(json!({ "suite": file, "bars": bars.collect::<Vec<_>>() }));
    }
    std::fs::create_dir_all(&folder).map_err(|source| TrainError::Write { path: folder.clone(), source })?;
    for (name, picture) in &pictures {
        place::write(&folder.join(name), picture)?;
    }
    place::write(&args.out, &format!("{}\n", page.trim_end()))?;
    let told =
        format!("results: {}, {} pictures in {}", args.out.display(), pictures.len(), folder.display());
    printer.note(&told);
    let names: Vec<&String> = pictures.iter().map(|(name, _)| name).collect();
    printer.document(&json!({ "page": args.out, "folder": folder, "pictures": names, "suites": suites }))?;
    Ok(())
}

/// What is on record of each task.
fn known(file: &Path, suite: &Suite) -> Result<Vec<Known>, TrainError> {
    let Some(folder) = &suite.records else {
        return Err(TrainError::Mismatch {
            problem: format!("{}: no records", file.display()),
            hint: "name the folder of its records: records = \"records/method\"",
        });
    };
    let read = |task: &Task| {
        let records = Records::new(folder.join(format!("{}.jsonl", place::file_name(&task.name))));
        Ok(Known { records: records.read()?, ..Known::default() })
    };
    suite.tasks.iter().map(read).collect()
}

/// What the figures rest on: how many runs, with which seeds and learning rates, made where and by what.
fn provenance(tasks: &[(&Task, &Known)]) -> String {
    let made: Vec<(&Cell, &Record)> = tasks
        .iter()
        .flat_map(|(task, known)| task.cells.iter().filter_map(|cell| Some((cell, known.result(cell)?))))
        .collect();
    let all = |value: &dyn Fn(&Cell, &Record) -> Option<String>| {
        let values: BTreeSet<String> = made.iter().filter_map(|(cell, record)| value(cell, record)).collect();
        values.into_iter().collect::<Vec<_>>()
    };
    let machines = all(&|_, run| {
        Some(format!("{} ({} at a time, {} threads each)", run.machine, run.jobs, run.threads))
    });
    let searches = tasks.iter().any(|(task, _)| task.arms.iter().any(|arm| arm.choices.len() > 1));
    let rates = if searches { "the one of its list that validation chose" } else { "one for all" };
    if made.is_empty() {
        return "No run is on record.".into();
    }
    let seeds = all(&|cell, _| Some(cell.seed.to_string())).join(", ");
    let commits = all(&|_, run| run.commit.clone()).join(", ");
    format!(
        "{} runs, seeds {seeds}; each method's learning rate is {rates}. Made on {}{}.",
        made.len(),
        machines.join("; "),
        if commits.is_empty() { String::new() } else { format!(", by commits {commits}") },
    )
}
