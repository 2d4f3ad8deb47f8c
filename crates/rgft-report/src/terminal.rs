//! Plain text for a terminal: the end of one run, and runs side by side.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use rgft_core::events::RunSummary;

use crate::{ledger, units};

/// The end of one run: results, ledger, time and memory, in about twenty lines.
pub fn terminal_summary(summary: &RunSummary) -> String {
    let mut lines = vec![format!(
        "{} on {}  method {}, budget {}, seed {}",
        clean(&summary.model),
        clean(&summary.data),
        clean(&summary.method),
        units::percent_round(summary.budget),
        summary.seed
    )];
    let metrics = &summary.metrics;
    for (set, values) in [("test", &metrics.test), ("validation", &metrics.validation)] {
        if !values.is_empty() {
            let words: Vec<String> = values
                .iter()
                .map(|(name, value)| {
                    format!("{} {}", clean(&units::metric_name(name)), units::metric(name, *value))
                })
                .collect();
            lines.push(format!("{set:<11} {}", words.join(", ")));
        }
    }
    let flops = &summary.flops;
    if flops.full_equivalent > 0 {
        lines.push(format!(
            "{:<11} {} of {} for full fine-tuning: {}",
            "compute",
            units::flops(flops.total),
            units::flops(flops.full_equivalent),
            units::percent(flops.ratio)
        ));
    } else {
        lines.push(format!("{:<11} {}", "compute", units::flops(flops.total)));
    }
    let seconds = &summary.seconds;
    lines.push(format!(
        "{:<11} {} (training {}, probes {}, evaluation {})",
        "time",
        units::seconds(seconds.total),
        units::seconds(seconds.train),
        units::seconds(seconds.probe),
        units::seconds(seconds.eval)
    ));
    if let Some(peak) = summary.memory.peak_rss_bytes {
        lines.push(format!("{:<11} {} at most", "memory", units::bytes(peak)));
    }

    let mut table = plain();
    table.set_header(["account", "compute", "of total", "of full"]);
    let ratio = |value: u64, whole: u64| {
        if whole == 0 { "n/a".into() } else { units::percent(value as f64 / whole as f64) }
    };
    let accounts = ledger::accounts(flops).map(|(name, _, value)| (name, value));
    for (name, value) in accounts.into_iter().chain([("total", flops.total)]) {
        table.add_row([
            name.to_string(),
            units::flops(value),
            ratio(value, flops.total),
            ratio(value, flops.full_equivalent),
        ]);
    }
    align(&mut table, 1);
    format!("{}\n{}\n", lines.join("\n"), trimmed(&table))
}

/// Runs side by side, one line per method and budget: mean and standard deviation over seeds, in the order in
/// which the methods first appear. `vs full` is the difference to the mean of method `full`, in points where
/// the metric is a score.
pub fn comparison_table(rows: &[RunSummary]) -> String {
    let Some(metric) = shared_metric(rows) else {
        return "no runs to compare\n".into();
    };
    let mut groups: Vec<(&str, f64, Vec<&RunSummary>)> = Vec::new();
    for run in rows {
        match groups.iter_mut().find(|(method, budget, _)| *method == run.method && *budget == run.budget) {
            Some((_, _, runs)) => runs.push(run),
            None => groups.push((&run.method, run.budget, vec![run])),
        }
    }
    let on_test = rows.iter().all(|run| run.metrics.test.contains_key(metric));
    let set = if on_test { "test" } else { "validation" };
    let score = |run: &RunSummary| {
        let values: &BTreeMap<_, _> = if on_test { &run.metrics.test } else { &run.metrics.validation };
        values.get(metric).copied().unwrap_or(f64::NAN)
    };
    let factor = if units::larger_is_better(metric)
        && rows.iter().map(score).all(|value| value.is_nan() || (0.0..=1.0).contains(&value))
    {
        100.0
    } else {
        1.0
    };
    let decimals = if factor == 100.0 { 2 } else { 4 };
    let full = groups
        .iter()
        .find(|(method, _, _)| *method == "full")
        .map(|(_, _, runs)| Spread::of(runs.iter().map(|run| factor * score(run))).mean);

    let mut table = plain();
    table.set_header([
        "method".to_string(),
        "budget".into(),
        "seeds".into(),
        format!("{set} {}{}", units::metric_name(metric), if factor == 100.0 { ", %" } else { "" }),
        "vs full".into(),
        "compute".into(),
        "of full".into(),
        "training".into(),
        "peak memory".into(),
    ]);
    for (method, budget, runs) in &groups {
        let mean = |value: &dyn Fn(&RunSummary) -> f64| Spread::of(runs.iter().map(|run| value(run))).mean;
        let scores = Spread::of(runs.iter().map(|run| factor * score(run)));
        let versus = match full {
            Some(full) if *method != "full" && scores.mean.is_finite() => {
                format!("{:+.decimals$}", scores.mean - full)
            }
            _ => String::new(),
        };
        let memory = mean(&|run| run.memory.peak_rss_bytes.map_or(f64::NAN, |peak| peak as f64));
        table.add_row([
            clean(method),
            units::percent_round(*budget),
            runs.len().to_string(),
            scores.words(decimals),
            versus,
            units::flops(mean(&|run| run.flops.total as f64) as u64),
            units::percent(mean(&|run| run.flops.ratio)),
            units::seconds(mean(&|run| run.seconds.train)),
            if memory.is_finite() { units::bytes(memory as u64) } else { "n/a".into() },
        ]);
    }
    align(&mut table, 1);
    format!("{}\n", trimmed(&table))
}

/// The metric that most runs are judged by.
fn shared_metric(rows: &[RunSummary]) -> Option<&str> {
    let judged = rows.iter().map(|run| run.convergence.metric.as_str()).find(|metric| !metric.is_empty());
    judged.or_else(|| {
        rows.iter()
            .find_map(|run| run.metrics.test.keys().chain(run.metrics.validation.keys()).next())
            .map(String::as_str)
    })
}

/// Mean and sample standard deviation; values that are not numbers make both so.
struct Spread {
    mean: f64,
    deviation: Option<f64>,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let deviation = (values.len() > 1)
            .then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt());
        Self { mean, deviation }
    }

    fn words(&self, decimals: usize) -> String {
        match self.deviation {
            _ if !self.mean.is_finite() => "n/a".into(),
            Some(deviation) => format!("{:.decimals$} ± {deviation:.decimals$}", self.mean),
            None => format!("{:.decimals$}", self.mean),
        }
    }
}

pub(crate) fn plain() -> Table {
    let mut table = Table::new();
    let style = TableStyle::new()
        .header_lines(ContentLineStyle::none())
        .header_separator(LineStyle::none().fill('─').junction('─'))
        .content_lines(ContentLineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Numbers to the right.
pub(crate) fn align(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

pub(crate) fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names come from files: control characters (escape sequences among them) and direction
/// overrides must not reach the terminal.
pub(crate) fn clean(text: &str) -> String {
    let hostile = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hostile(c) { '\u{fffd}' } else { c }).collect()
}
