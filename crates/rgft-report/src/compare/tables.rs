//! The tables of a comparison, as cells; and all of them as plain text.

use super::compute_to_quality::{Aim, Cost, Needed, over_tasks};
use super::{Comparison, Estimate, Paired, Summary, TaskResults};
use crate::terminal::{align, clean, plain, trimmed};
use crate::units;

/// A heading, a header and rows of cells; the first `text` columns are text, the others numbers.
pub(super) struct Cells {
    pub(super) heading: String,
    pub(super) text: usize,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Lines below the table.
    pub(super) notes: Vec<String>,
}

/// The rows of one task.
pub(super) fn of_task(task: &TaskResults) -> Cells {
    let percent = task.percent();
    let (factor, decimals) = if percent { (100.0, 2) } else { (1.0, 4) };
    let measured = format!("{}{}", task.measured(), if percent { ", %" } else { "" });
    let header =
        ["method", "chosen", "budget", "seeds", &measured, "vs full", "FLOPs of full", "seconds", "of full"];
    let full = task.full();
    let full_quality = full.and_then(|row| row.quality());
    let rows = task.rows.iter().map(|row| {
        let quality = row.quality();
        let versus = full_quality
            .zip(quality)
            .filter(|_| row.name() != "full")
            .map(|(full, quality)| format!("{:+.decimals$}", factor * (quality.mean - full.mean)));
        vec![
            clean(&row.name()),
            clean(&row.chosen),
            units::percent_round(row.budget),
            row.points.len().to_string(),
            quality.map_or("missing".into(), |quality| spread(quality, factor, decimals)),
            versus.unwrap_or_default(),
            row.flops_ratio().map(|ratio| format!("{:.4}", ratio.mean)).unwrap_or_default(),
            row.seconds().map(|seconds| units::significant(seconds.mean)).unwrap_or_default(),
            full.and_then(|full| row.seconds_of(full)).map(units::significant).unwrap_or_default(),
        ]
    });
    Cells {
        heading: format!("{}: {}, mean ± standard error over seeds", clean(&task.name), task.measured()),
        text: 2,
        header: header.map(String::from).to_vec(),
        rows: rows.collect(),
        notes: missing(task),
    }
}

/// What has no result, and why.
fn missing(task: &TaskResults) -> Vec<String> {
    let of_row = |row: &super::Row| {
        let name = format!("{} at {}", row.name(), units::percent_round(row.budget));
        let missing = row.missing.iter();
        missing
            .map(|(seed, why)| format!("missing: {} seed {seed}: {}", clean(&name), clean(why)))
            .collect::<Vec<_>>()
    };
    task.rows.iter().flat_map(of_row).collect()
}

/// All tasks together, or those of a group; `None` where nothing can be summed up.
pub(super) fn of_all(comparison: &Comparison, group: Option<&str>) -> Option<Cells> {
    let summaries = Summary::of(comparison, group);
    let tasks = summaries.iter().map(|summary| summary.tasks).max()?;
    let in_points = summaries.iter().flat_map(|summary| &summary.standings).any(|line| line.points.is_some());
    let mut header = ["method", "budget", "of full's quality, %", "rank"].map(String::from).to_vec();
    if in_points {
        header.push("vs full, points".into());
    }
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for summary in &summaries {
        let budget = units::percent_round(summary.budget);
        for line in &summary.standings {
            let mut row = vec![
                clean(&line.name),
                budget.clone(),
                line.relative.map(|relative| spread(relative, 100.0, 2)).unwrap_or_default(),
                spread(line.rank, 1.0, 2),
            ];
            if in_points {
                row.push(line.points.map(|points| spread(points, 1.0, 2)).unwrap_or_default());
            }
            rows.push(row);
        }
        if !summary.left_out.is_empty() {
            notes.push(format!(
                "at {budget} without {}: a method has no result there",
                summary.left_out.join(", ")
            ));
        }
    }
    let which = group.map_or("all tasks".to_owned(), |group| format!("group {}", clean(group)));
    let heading =
        format!("{which} ({tasks}): quality relative to full (± from seeds) and rank (± from tasks), means");
    Some(Cells { heading, text: 1, header, rows, notes })
}

/// How far `rgft` is above the others, budget by budget.
pub(super) fn lead(comparison: &Comparison) -> Option<Cells> {
    let others: Vec<String> = comparison.names().into_iter().filter(|name| name != "rgft").collect();
    let at = |summary: &Summary| {
        let cell = |other: &String| {
            let paired = Paired::of(comparison, None, summary.budget, "rgft", other);
            let words = |Paired { mean, interval: [low, high], .. }| {
                format!("{:+.2} [{:+.2}, {:+.2}]", 100.0 * mean, 100.0 * low, 100.0 * high)
            };
            paired.map(words).unwrap_or_default()
        };
        let budget = units::percent_round(summary.budget);
        let cells: Vec<String> = others.iter().map(cell).collect();
        let is_empty = cells.iter().all(String::is_empty);
        (!is_empty).then(|| [vec![budget], cells].concat())
    };
    let rows: Vec<Vec<String>> = Summary::of(comparison, None).iter().filter_map(at).collect();
    let against = others.iter().map(|name| format!("− {}", clean(name)));
    let header = ["budget".to_owned()].into_iter().chain(against).collect();
    let heading =
        "rgft's lead: paired difference in relative quality, %, and its 95 % interval (bootstrap over seeds)";
    (!rows.is_empty()).then(|| Cells { heading: heading.into(), text: 1, header, rows, notes: Vec::new() })
}

/// How much compute each method takes to come near to full fine-tuning's quality: over all tasks, and on each. Nothing where
/// methods have a single budget.
pub(super) fn compute_to_quality(comparison: &Comparison) -> Vec<Cells> {
    if !comparison.has_budgets() {
        return Vec::new();
    }
    let names = comparison.names();
    let over_all = |cost: Cost, what: &str| {
        let row = |name: &String| {
            let cell = |&aim: &Aim| {
                let needed = over_tasks(comparison, None, name, aim, cost);
                needed
                    .map(|(mean, reached, tasks)| format!("{mean:.3} ({reached} of {tasks})"))
                    .unwrap_or_default()
            };
            let cells: Vec<String> = Aim::ALL.iter().map(cell).collect();
            (!cells.iter().all(String::is_empty)).then(|| [vec![clean(name)], cells].concat())
        };
        let rows: Vec<Vec<String>> = names.iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| Cells {
            heading: format!(
                "{what} to come to a part of full's quality, of full's: geometric mean over tasks, 1 where it does not come \
                 there (tasks where it does)"
            ),
            text: 1,
            header: ["method".into()].into_iter().chain(Aim::ALL.map(Aim::name)).collect(),
            rows,
            notes: Vec::new(),
        })
    };
    let cell = |task: &TaskResults, name: &String| match Needed::of(task, name, Aim::Near, Cost::Flops) {
        None => String::new(),
        Some(Needed::NotReached) => "–".into(),
        Some(Needed::AtMost(cost)) => format!("≤ {cost:.3}"),
        Some(Needed::Exactly(cost)) => format!("{cost:.3}"),
    };
    let on_each = comparison.tasks.iter().filter_map(|task| {
        let cells: Vec<String> = names.iter().map(|name| cell(task, name)).collect();
        (!cells.iter().all(String::is_empty)).then(|| [vec![clean(&task.name)], cells].concat())
    });
    let rows: Vec<Vec<String>> = on_each.collect();
    let on_each = (!rows.is_empty()).then(|| Cells {
        heading: "FLOPs to come within 0.3 points (or 0.3 %) of full, of full's".into(),
        text: 1,
        header: ["task".to_owned()].into_iter().chain(names.iter().map(|name| clean(name))).collect(),
        rows,
        notes: Vec::new(),
    });
    [over_all(Cost::Flops, "FLOPs"), over_all(Cost::Seconds, "Seconds"), on_each]
        .into_iter()
        .flatten()
        .collect()
}

/// The groups with more than one task that are not all tasks.
pub(super) fn groups(comparison: &Comparison) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for task in comparison.tasks.iter().filter(|task| !task.group.is_empty()) {
        if !groups.contains(&task.group.as_str()) {
            groups.push(&task.group);
        }
    }
    let size = |group: &&str| comparison.tasks.iter().filter(|task| task.group == **group).count();
    groups.retain(|group| size(group) > 1 && size(group) < comparison.tasks.len());
    groups
}

/// Every table of the comparison as text: one for each task, and for several tasks their summary.
pub fn comparison_text(comparison: &Comparison) -> String {
    let mut tables: Vec<Cells> = comparison.tasks.iter().map(of_task).collect();
    if comparison.tasks.len() > 1 {
        let groups = groups(comparison).into_iter().map(Some);
        tables.extend(groups.chain([None]).filter_map(|group| of_all(comparison, group)));
        tables.extend(lead(comparison));
        tables.extend(compute_to_quality(comparison));
    }
    let words = tables.iter().map(|cells| {
        let mut table = plain();
        table.set_header(cells.header.clone());
        table.add_rows(cells.rows.clone());
        align(&mut table, cells.text);
        let notes = cells.notes.iter().map(|note| format!("{note}\n")).collect::<String>();
        format!("{}\n{}\n{notes}", cells.heading, trimmed(&table))
    });
    let text = words.collect::<Vec<_>>().join("\n");
    if text.is_empty() { "no runs to compare\n".into() } else { text }
}

fn spread(estimate: Estimate, factor: f64, decimals: usize) -> String {
    let mean = factor * estimate.mean;
    match estimate.error {
        Some(error) => format!("{mean:.decimals$} ± {:.decimals$}", factor * error),
        None => format!("{mean:.decimals$}"),
    }
}
