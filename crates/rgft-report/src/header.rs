//! The head of a page: what was run, its main numbers as tiles, and what the user should know.

use std::fmt::Write as _;

use rgft_core::events::Level;

use crate::run::Run;
use crate::svg::escape;
use crate::units;

/// Appends the header of `run` to `page`.
pub(crate) fn write(page: &mut String, run: &Run<'_>, title: &str) {
    let mut eyebrow = String::from("RGFT run");
    if !run.method.is_empty() {
        let _ = write!(eyebrow, " · {}", run.method);
    }
    let mut sub: Vec<String> = Vec::new();
    if !run.task.is_empty() {
        sub.push(run.task.to_string());
    }
    if let Some(budget) = run.budget {
        sub.push(format!("budget {} of full fine-tuning", units::percent_round(budget)));
    }
    if let Some(summary) = run.summary {
        sub.push(format!("seed {}", summary.seed));
        sub.push(format!("{} steps, {:.2} epochs", units::count(summary.steps), summary.epochs));
    } else if run.steps.is_empty() {
        sub.push("no steps yet".into());
    } else {
        sub.push(format!("not finished: {} steps so far", units::count(run.steps.len())));
    }
    let _ = write!(
        page,
        "<header><p class=\"eyebrow\">{}</p><h1>{}</h1><p class=\"sub\">{}</p>",
        escape(&eyebrow),
        escape(title),
        escape(&sub.join(" · "))
    );
    tiles(page, run);
    if !run.notes.is_empty() {
        page.push_str("<ul class=\"notes\">");
        for (level, message) in &run.notes {
            let (class, lead) = match level {
                Level::Warning => ("warning", "<b>warning</b> "),
                Level::Info => ("info", ""),
            };
            let _ = write!(page, "<li class=\"{class}\">{lead}{}</li>", escape(message));
        }
        page.push_str("</ul>");
    }
    page.push_str("</header>");
}

fn tiles(page: &mut String, run: &Run<'_>) {
    let mut tiles: Vec<(String, String, String, Option<f64>)> = Vec::new();
    if let Some(name) = run.metric() {
        let words = units::metric_name(name);
        let summary = run.summary.map(|summary| &summary.metrics);
        let test = summary.and_then(|metrics| metrics.test.get(name));
        let kept = summary.and_then(|metrics| metrics.validation.get(name));
        let last = run.validations.iter().rev().find_map(|v| v.metrics.get(name));
        let validation = kept.or(last).map(|value| units::metric(name, *value));
        if let Some(test) = test {
            let more = validation.map(|value| format!("validation {value}")).unwrap_or_default();
            tiles.push((format!("test {words}"), units::metric(name, *test), more, None));
        } else if let Some(value) = validation {
            tiles.push((format!("validation {words}"), value, String::new(), None));
        }
    }
    let spent = run.spent();
    if run.full_equivalent > 0 && spent > 0 {
        let ratio = spent as f64 / run.full_equivalent as f64;
        tiles.push((
            "compute, of full fine-tuning".into(),
            units::percent(ratio),
            format!("{} of {}", units::flops(spent), units::flops(run.full_equivalent)),
            Some(ratio),
        ));
    }
    if let Some(summary) = run.summary {
        let seconds = &summary.seconds;
        tiles.push((
            "training time".into(),
            units::seconds(seconds.train),
            format!("{} with probes and evaluation", units::seconds(seconds.total)),
            None,
        ));
        if let Some(peak) = summary.memory.peak_rss_bytes {
            tiles.push(("peak memory".into(), units::bytes(peak), "resident".into(), None));
        }
    } else if let Some(step) = run.steps.last() {
        tiles.push(("training time so far".into(), units::seconds(step.seconds), String::new(), None));
    }
    if let Some(map) = run.maps.last() {
        let effective = 1.0 / map.shares.iter().map(|p| p * p).sum::<f64>();
        if effective.is_finite() {
            tiles.push((
                "effective components".into(),
                units::significant(effective),
                format!("of {}: fewer is more focused", run.components.len()),
                None,
            ));
        }
    }
    if tiles.is_empty() {
        return;
    }
    page.push_str("<div class=\"tiles\">");
    for (name, number, more, meter) in tiles {
        let _ = write!(
            page,
            "<div class=\"tile\"><div class=\"name\">{}</div><div class=\"number\">{}</div><div class=\"more\">{}</div>",
            escape(&name),
            escape(&number),
            escape(&more)
        );
        if let Some(ratio) = meter {
            let width = 100.0 * ratio.clamp(0.0, 1.0);
            let _ = write!(page, "<div class=\"meter\"><i style=\"width:{width:.1}%\"></i></div>");
        }
        page.push_str("</div>");
    }
    page.push_str("</div>");
}
