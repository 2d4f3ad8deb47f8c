//! `rgft bench results`: a page of what is on record, with its pictures. Runs nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use rgft_report::compare::results_part;
use rgft_train::TrainError;

use super::records::{Record, Records};
use super::schedule::Known;
use super::{gather, place, suite};
use crate::args::{GridArgs, ResultsArgs};
use crate::printer::Printer;

pub(crate) fn run(args: &ResultsArgs, printer: &mut Printer) -> Result<()> {
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let folder = args.out.parent().unwrap_or(Path::new("")).join(&stem);
    let command: Vec<String> = args.suites.iter().map(|suite| suite.display().to_string()).collect();
    let mut page = format!(
        "# Results\n\nEvery figure here is made by `rgft bench results {} --out {}` from the records that the suites name; \
         none is typed. Means are over seeds, ± is their standard error. Each method runs at the learning rate that \
         validation chose for it. A bar that is missed is printed as missed, and as open where results are missing.\n\n",
        command.join(" "),
        args.out.display()
    );
    let mut pictures = Vec::new();
    for file in &args.suites {
        let suite = suite::read(file, &GridArgs::default(), &[])?;
        let Some(records) = suite.records else {
            return Err(TrainError::Mismatch {
                problem: format!("{}: no records", file.display()),
                hint: "name the folder of its records: records = \"records/method\"",
            }
            .into());
        };
        let mut known = Vec::new();
        for task in &suite.tasks {
            let file = Records::new(records.join(format!("{}.jsonl", place::file_name(&task.name))));
            known.push(Known { records: file.read()?, ..Known::default() });
        }
        let pairs: Vec<_> = suite.tasks.iter().zip(&known).collect();
        let comparison = gather::gather(&suite.title, "", &pairs);
        let runs: Vec<&Record> = known.iter().flat_map(|known| known.records.values()).collect();
        let again = format!(
            "Made by `rgft bench suite {} --out runs/{} --jobs 2`.",
            file.display(),
            records.file_name().unwrap_or_default().to_string_lossy()
        );
        let stem_of_suite = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let part = results_part(&comparison, &suite.bars, &[again, provenance(&runs)], &stem, &stem_of_suite);
        page.push_str(&part.markdown);
        pictures.extend(part.pictures);
    }
    std::fs::create_dir_all(&folder).map_err(|source| TrainError::Write { path: folder.clone(), source })?;
    for (name, picture) in &pictures {
        place::write(&folder.join(name), picture)?;
    }
    place::write(&args.out, &format!("{}\n", page.trim_end()))?;
    printer.note(&format!(
        "results: {}, {} pictures in {}",
        args.out.display(),
        pictures.len(),
        folder.display()
    ));
    Ok(())
}

/// Where runs were made, and by what.
fn provenance(runs: &[&Record]) -> String {
    let all = |value: fn(&Record) -> String| {
        let values: BTreeSet<String> = runs.iter().map(|run| value(run)).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    };
    let mut words = format!("{} runs", runs.len());
    let _ = write!(
        words,
        " on {}",
        all(|run| format!("{}, {} threads, {} at a time", run.machine, run.threads, run.jobs))
    );
    let _ = write!(words, "; commits {}.", all(|run| run.commit.clone().unwrap_or_default()));
    words
}
