//! `rgft map`: the error map alone, as JSON and as a picture.

use anyhow::Result;
use rgft_train::recipe::{MethodName, RawRecipe};
use rgft_train::{MapOutcome, OutFolder, Workload, map};

use crate::args::RecipeArgs;
use crate::pool;
use crate::printer::Printer;

/// Batches that a map rests on: on text a map needs several before it means anything.
const BATCHES: usize = 16;

/// Components that are listed on the terminal.
const LISTED: usize = 10;

pub(crate) fn run(args: &RecipeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let mut given = args.recipe(threads)?;
    given.require("out")?;
    // A run plans by modules, because a probe of a few batches says little of smaller parts; a map has more to go by.
    given.granularity.get_or_insert_with(|| "group".into());
    // Components and signal are those asked for, whatever method made the model.
    given.method = Some(MethodName::Rgft);
    // A model that was trained here is looked at with the settings of its training.
    let mut raw = match &given.model {
        Some(folder) => RawRecipe::of_trained(folder)?,
        None => RawRecipe::default(),
    };
    raw.merge(given);
    raw.only = None;
    let recipe = raw.check()?;
    let folder = recipe.out.as_deref().map(OutFolder::for_map).transpose()?;
    let outcome = pool::run(
        recipe.threads,
        |say| {
            let workload = Workload::load(&recipe)?;
            Ok(map(&recipe, &workload, BATCHES, &mut |done, of| say((done, of)))?)
        },
        |(done, of)| {
            if done == of {
                printer.note(&format!("{of} batches carried back"));
            }
        },
    )?;
    if let Some(folder) = folder {
        folder.error_map(&outcome.components, &outcome.energies, &outcome.shares)?;
        let picture = rgft_report::heat_map_svg(&outcome.components, &outcome.shares);
        folder.write("error_map.svg", picture.as_bytes())?;
        printer.note(&format!("picture: {}", folder.path().join("error_map.svg").display()));
    }
    if outcome.head_is_fresh {
        printer.warning("the task head is untrained: its residuals say little about the layers below. Map a fine-tuned model instead");
    }
    printer.table(&["component", "share", "energy"], &largest(&outcome))?;
    printer.document(&outcome)?;
    Ok(())
}

fn largest(outcome: &MapOutcome) -> Vec<Vec<String>> {
    let mut order: Vec<usize> = (0..outcome.shares.len()).collect();
    order.sort_by(|&a, &b| outcome.shares[b].total_cmp(&outcome.shares[a]));
    let row = |i: usize| {
        let share = format!("{:.2} %", 100.0 * outcome.shares[i]);
        vec![outcome.components[i].name.clone(), share, format!("{:.3e}", outcome.energies[i])]
    };
    order.into_iter().take(LISTED).map(row).collect()
}
