//! `rgft bench localize`: where is a fault that was planted? Asked of every signal, under every α.
//!
//! In a fine-tuned model one component is re-initialised (`fault.rs`). Each signal then makes its
//! map from the same training batches, and ranks components by `E_i = α_i·Ê_i`, as the planner does. Three figures, means
//! over faults with their standard errors (`figures.rs`): recall@1 and recall@3 of the planted component among the
//! candidates, and the rank correlation, over all kinds of components, with the oracle's gain, which is what training a
//! component alone gives (`oracle.rs`). After each fault the model is put back, bit for bit (`trial.rs`).

mod fault;
mod figures;
mod oracle;
mod trial;

use anyhow::{Context, Result};
use rgft_core::{Alpha, ComponentKind, Signal};
use rgft_report::compare::Estimate;
use rgft_train::recipe::{MethodName, RawRecipe, Recipe};
use rgft_train::{OutFolder, TrainError, Workload};
use serde::Serialize;

use self::figures::Figures;
pub(crate) use self::trial::Settings;
use self::trial::{Found, Trial};
use crate::args::LocalizeArgs;
use crate::pool;
use crate::printer::Printer;

/// The file that is written to `--out`.
const FILE: &str = "localize.json";

/// A map that gives every component the same energy: what α alone finds.
const NONE: &str = "none";

/// A line of the table: a signal under one α.
#[derive(Clone, Debug, Serialize)]
struct Row {
    signal: String,
    alpha: String,
    /// Whether the recipe names both.
    default: bool,
    #[serde(flatten)]
    figures: Figures,
    /// FLOPs of its maps, as a part of as many steps of full fine-tuning.
    cost: f64,
}

/// What `localize.json` holds.
#[derive(Serialize)]
struct Report {
    components: usize,
    candidates: usize,
    settings: Settings,
    rows: Vec<Row>,
    faults: Vec<Found>,
}

pub(crate) fn run(args: &LocalizeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let mut given = args.recipe.recipe(threads)?;
    // Faults are as small as components can be; methods that do not plan know layers alone.
    given.granularity.get_or_insert_with(|| "group".into());
    given.method = Some(MethodName::Rgft);
    // A model that was trained here is looked at with the settings of its training.
    let mut raw = match &given.model {
        Some(folder) => RawRecipe::of_trained(folder)?,
        None => RawRecipe::default(),
    };
    raw.merge(given);
    raw.only = None;
    let recipe = raw.check()?;
    let settings = args.settings();
    let out = recipe.out.as_deref().map(|path| OutFolder::for_files(path, &[FILE])).transpose()?;
    let report = pool::run(
        recipe.threads,
        |say| measure(&recipe, settings, say),
        |message: String| printer.note(&message),
    )?;
    let lines: Vec<Vec<String>> = shown(&report.rows).map(line).collect();
    printer
        .table(&["signal", "alpha", "recall@1", "recall@3", "rank correlation", "mean", "cost"], &lines)?;
    printer.text(
        "± one standard error over faults; * as the recipe says; cost: FLOPs of a map, of as many full steps",
    )?;
    if let Some(out) = out {
        let mut bytes = serde_json::to_vec_pretty(&report)?;
        bytes.push(b'\n');
        out.write(FILE, &bytes)?;
        printer.note(&format!("all figures: {}", out.path().join(FILE).display()));
    }
    printer.document(&report)?;
    Ok(())
}

fn measure(recipe: &Recipe, settings: Settings, say: &mut dyn FnMut(String)) -> Result<Report> {
    let mut work = Workload::load(recipe)?;
    let candidates = candidates(&work, &settings.kinds)?;
    let alphas = alphas(&recipe.alpha)?;
    let mut trial = Trial::new(recipe, &settings, &alphas, &candidates);
    let faults = trial.run(&mut work, say)?;
    let mut rows = Vec::new();
    let signals = Signal::ALL.into_iter().map(Some).chain([None]);
    for (s, signal) in signals.enumerate() {
        for (a, (name, alpha)) in alphas.iter().enumerate() {
            let answers = faults.iter().map(|found| found.answers[s][a]);
            let figures = Figures::of(answers).context("no fault")?;
            let default = signal == Some(recipe.signal) && *alpha == recipe.alpha;
            let signal = signal.map_or_else(|| NONE.into(), |signal| signal.to_string());
            rows.push(Row { signal, alpha: name.clone(), default, figures, cost: trial.cost(s) });
        }
    }
    let (components, candidates) = (work.components.len(), candidates.len());
    Ok(Report { components, candidates, settings, rows, faults })
}

/// Every α by its word; first the recipe's, where that is a table.
fn alphas(of_recipe: &Alpha) -> Result<Vec<(String, Alpha)>> {
    let mut alphas = Vec::new();
    if let Alpha::Table(_) = of_recipe {
        alphas.push(("table".to_owned(), of_recipe.clone()));
    }
    for word in ["per-parameter", "relative", "uniform"] {
        alphas.push((word.to_owned(), word.parse()?));
    }
    Ok(alphas)
}

/// The components that a fault may be planted in: those of `kinds`, or, where it is empty, all but norms, embeddings and
/// the task head.
fn candidates(work: &Workload, kinds: &[ComponentKind]) -> Result<Vec<usize>> {
    use ComponentKind::{Embedding, Norm, TaskHead};
    let is_asked = |kind: ComponentKind| match kinds {
        [] => !matches!(kind, Norm | Embedding | TaskHead),
        kinds => kinds.contains(&kind),
    };
    let components = &work.components;
    let candidates: Vec<usize> = (0..components.len()).filter(|&i| is_asked(components[i].kind)).collect();
    if candidates.is_empty() {
        let mut kinds: Vec<String> = components.iter().map(|component| component.kind.to_string()).collect();
        kinds.sort();
        kinds.dedup();
        return Err(TrainError::Mismatch {
            problem: format!("no such component; this model has {}", kinds.join(", ")),
            hint: "give one of them to --kind, or choose another granularity",
        }
        .into());
    }
    Ok(candidates)
}

/// Of each signal, the best α, and besides it the recipe's.
fn shown(rows: &[Row]) -> impl Iterator<Item = &Row> {
    let best = |row: &Row| {
        let same = rows.iter().filter(|other| other.signal == row.signal);
        same.max_by(|a, b| a.figures.mean.total_cmp(&b.figures.mean))
            .is_some_and(|best| std::ptr::eq(best, row))
    };
    rows.iter().filter(move |row| row.default || best(row))
}

fn line(row: &Row) -> Vec<String> {
    let with_error = |figure: Estimate| match figure.error {
        Some(error) => format!("{:.3} ± {error:.3}", figure.mean),
        None => format!("{:.3}", figure.mean),
    };
    let mark = if row.default { " *" } else { "" };
    let figures = &row.figures;
    vec![
        format!("{}{mark}", row.signal),
        row.alpha.clone(),
        with_error(figures.recall_at_1),
        with_error(figures.recall_at_3),
        with_error(figures.rank_correlation),
        format!("{:.3}", figures.mean),
        format!("{:.2}", row.cost),
    ]
}
