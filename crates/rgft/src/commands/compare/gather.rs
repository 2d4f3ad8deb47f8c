//! From records to what a report shows, and to the JSON document.

use rgft_report::compare::{Comparison, Point, Row, Summary, TaskResults};
use serde_json::{Value, json};

use super::grid::{Cell, Task};
use super::records::Record;
use super::schedule::{Decision, Known, decide};

/// The comparison as far as runs are there.
pub(super) fn gather(title: &str, conditions: &str, tasks: &[(&Task, &Known)]) -> Comparison {
    let tasks = tasks.iter().map(|(task, known)| of_task(task, known)).collect();
    Comparison { title: title.to_owned(), conditions: conditions.to_owned(), tasks }
}

fn of_task(task: &Task, known: &Known) -> TaskResults {
    let results = || task.cells.iter().filter(|cell| cell.shown).filter_map(|cell| known.result(cell));
    let metric = results().map(|record| record.metric.clone()).next().unwrap_or_default();
    // One run without a test metric, and there is no common test.
    let on_test = results().all(|record| record.test.contains_key(&metric));
    let rows = task.arms.iter().enumerate().flat_map(|(arm, settings)| {
        let metric = &metric;
        settings.budgets.iter().map(move |&budget| {
            let mut row = Row {
                method: settings.method.clone(),
                settings: settings.settings.clone(),
                budget,
                ..Row::default()
            };
            match decide(task, known, arm, budget) {
                Decision::Made(choice) => {
                    let choice_made = settings.choices[choice];
                    row.chosen = words(choice_made.learning_rate, choice_made.last_k);
                    let of_row = |cell: &&Cell| {
                        (cell.arm, cell.choice, cell.shown) == (arm, choice, true) && cell.budget == budget
                    };
                    for cell in task.cells.iter().filter(of_row) {
                        add(&mut row, cell, known, metric, on_test);
                    }
                }
                Decision::Open => {}
                Decision::Impossible => {
                    let cells = task.cells.iter().filter(|cell| cell.arm == arm && cell.searches);
                    let why =
                        cells.filter_map(|cell| known.failure(cell)).next().unwrap_or("no validation metric");
                    row.missing.push((0, format!("nothing to choose a learning rate by: {why}")));
                }
            }
            row
        })
    });
    let rows = rows.collect();
    TaskResults { name: task.name.clone(), group: task.group.clone(), metric, on_test, rows }
}

fn add(row: &mut Row, cell: &Cell, known: &Known, metric: &str, on_test: bool) {
    let quality = |record: &Record| {
        let metrics = if on_test { &record.test } else { &record.validation };
        metrics.get(metric).copied().flatten()
    };
    match known.result(cell) {
        Some(record) => match quality(record) {
            Some(quality) => row.points.push(Point {
                seed: cell.seed,
                quality,
                flops_ratio: record.flops_ratio,
                seconds: record.seconds,
                machine: record.machine.clone(),
                curve: record.curve.iter().filter_map(|&(x, y)| Some((x, y?))).collect(),
            }),
            None => row.missing.push((cell.seed, format!("the run has no {metric}"))),
        },
        None => row.missing.push((cell.seed, known.failure(cell).unwrap_or("not run yet").to_owned())),
    }
}

fn words(learning_rate: f64, last_k: Option<usize>) -> String {
    let rate = format!("{learning_rate:e}");
    last_k.map_or(rate.clone(), |k| format!("{rate}, k {k}"))
}

/// The JSON document of a comparison.
pub(super) fn document(comparison: &Comparison) -> Value {
    let row = |row: &Row| {
        json!({
            "method": row.method,
            "settings": row.settings,
            "budget": row.budget,
            "chosen": row.chosen,
            "quality": row.quality(),
            "flops_ratio": row.flops_ratio(),
            "seconds": row.seconds(),
            "runs": row.points.iter().map(|point| json!({
                "seed": point.seed,
                "quality": point.quality,
                "flops_ratio": point.flops_ratio,
                "seconds": point.seconds,
            })).collect::<Vec<_>>(),
            "missing": row.missing.iter().map(|(seed, why)| json!({ "seed": seed, "reason": why })).collect::<Vec<_>>(),
        })
    };
    let task = |task: &TaskResults| {
        json!({
            "task": task.name,
            "group": task.group,
            "metric": task.metric,
            "set": if task.on_test { "test" } else { "validation" },
            "larger_is_better": task.larger_is_better(),
            "rows": task.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let summary = |summary: &Summary| {
        json!({
            "budget": summary.budget,
            "tasks": summary.tasks,
            "left_out": summary.left_out,
            "methods": summary.standings.iter().map(|line| json!({
                "method": line.name,
                "relative_quality": line.relative,
                "rank": line.rank,
                "points": line.points,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "title": comparison.title,
        "conditions": comparison.conditions,
        "tasks": comparison.tasks.iter().map(task).collect::<Vec<_>>(),
        "summary": Summary::of(comparison, None).iter().map(summary).collect::<Vec<_>>(),
    })
}
