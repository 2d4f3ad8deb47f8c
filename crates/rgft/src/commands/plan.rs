//! `rgft plan`: what a run would compute, save and store.

use anyhow::Result;
use rgft_train::{Outlook, Workload, outlook, within_limit};

use crate::args::RecipeArgs;
use crate::pool;
use crate::printer::Printer;

pub(crate) fn run(args: &RecipeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let recipe = args.recipe(threads)?.check()?;
    let outlook = pool::quietly(recipe.threads, || {
        let mut work = Workload::load(&recipe)?;
        let recipe = within_limit(&recipe, &mut work)?;
        Ok(outlook(&recipe, &work)?)
    })?;
    printer.text(&describe(&outlook))?;
    printer.document(&outlook)?;
    Ok(())
}

fn describe(outlook: &Outlook) -> String {
    let giga = |flops: u64| format!("{:.2} GFLOP", flops as f64 / 1e9);
    let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let ratio = outlook.step_flops as f64 / outlook.full_step_flops as f64;
    let rows = [
        ("method", outlook.method.clone()),
        ("steps of full fine-tuning", outlook.steps.to_string()),
        ("full fine-tuning", giga(outlook.full_equivalent_flops)),
        ("budget", giga(outlook.budget_flops)),
        ("a typical full step", giga(outlook.full_step_flops)),
        ("a step of the first plan", format!("{} ({ratio:.3} of full)", giga(outlook.step_flops))),
        ("what lies below its cut", giga(outlook.prefix_flops)),
        ("backward ends at level", format!("{} of {}", outlook.cut, outlook.levels - 1)),
        ("components updated", format!("{} of {}", outlook.active.len(), outlook.components)),
        ("scalars updated", outlook.updated_scalars.to_string()),
        ("weights", mega(outlook.weight_bytes)),
        ("gradients", mega(outlook.memory.gradient_bytes)),
        ("optimizer state", mega(outlook.memory.optimizer_bytes)),
        ("best weights so far", mega(outlook.memory.kept_bytes)),
        ("saved activations", mega(outlook.activation_bytes)),
        ("all buffers of a step", mega(outlook.memory.step_bytes)),
        ("prefix cache in memory", mega(outlook.memory.cache_bytes)),
        ("peak memory, about", mega(outlook.memory.peak_bytes)),
        ("the plan rests on", outlook.basis.into()),
    ];
    let lines = rows.iter().map(|(name, value)| format!("{name:<26}{value}"));
    lines.collect::<Vec<_>>().join("\n")
}
