//! `rgft train`: a run, its files and its report.

use anyhow::Result;
use rgft_core::{Event, RunSummary};
use rgft_train::recipe::{RawRecipe, Recipe};
use rgft_train::{OutFolder, Workload};

use crate::args::RecipeArgs;
use crate::pool;
use crate::printer::Printer;

pub(crate) fn run(args: &RecipeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    run_raw(args.recipe(threads)?, printer)
}

/// Trains by settings as written, and says where the report is.
pub(crate) fn run_raw(raw: RawRecipe, printer: &mut Printer) -> Result<()> {
    raw.require("out")?;
    let recipe = raw.check()?;
    let summary = run_recipe(&recipe, printer)?;
    printer.text(&rgft_report::terminal_summary(&summary))?;
    if let Some(out) = &recipe.out {
        printer.note(&format!("report: {}", out.join("report.html").display()));
    }
    printer.document(&summary)?;
    Ok(())
}

/// Loads everything, then creates the out folder, then trains: bad input leaves nothing behind.
pub(crate) fn run_recipe(recipe: &Recipe, printer: &mut Printer) -> Result<RunSummary> {
    pool::run(recipe.threads, |say| train_and_report(recipe, say), |event| printer.event(&event))
}

fn train_and_report(recipe: &Recipe, say: &mut dyn FnMut(Event)) -> Result<RunSummary> {
    let mut workload = Workload::load(recipe)?;
    let recipe = &rgft_train::within_limit(recipe, &mut workload)?;
    let mut out = recipe.out.as_deref().map(OutFolder::create).transpose()?;
    let mut events = Vec::new();
    let outcome = rgft_train::train(recipe, &mut workload, out.as_mut(), &mut |event| {
        events.push(event.clone());
        say(event.clone());
    })?;
    if let Some(out) = &out {
        let page = rgft_report::html(&events, Some(&outcome.certificate));
        out.write("report.html", page.as_bytes())?;
    }
    Ok(outcome.summary)
}
