//! A comparison as a part of a Markdown page: its bars, its tables, and its pictures as files beside the page.

use std::fmt::Write as _;

use super::Comparison;
use super::bars::Bar;
use super::plots::{self, Axis};
use super::tables::{self, Cells};
use crate::style;
use crate::svg::styled;

/// A part of a page, and the pictures that it shows.
#[derive(Clone, Debug, Default)]
pub struct ResultsPart {
    /// From its second-level heading on.
    pub markdown: String,
    /// File name and content.
    pub pictures: Vec<(String, String)>,
}

/// The part of `comparison`; `lines` stand below its heading, its pictures are found in `folder`, and their names begin with
/// `stem`.
pub fn results_part(
    comparison: &Comparison,
    bars: &[Bar],
    lines: &[String],
    folder: &str,
    stem: &str,
) -> ResultsPart {
    let mut part = ResultsPart::default();
    let _ = writeln!(part.markdown, "## {}\n", cell(&comparison.title));
    lines.iter().for_each(|line| part.markdown.push_str(&format!("{line}\n\n")));
    part.bars(comparison, bars);
    if comparison.tasks.len() > 1 {
        part.markdown.push_str("### All tasks\n\n");
        let summary = plots::summary(comparison);
        part.picture(summary, folder, format!("{stem}.svg"), "Mean quality relative to full fine-tuning");
        let groups = tables::groups(comparison).into_iter().map(Some);
        let cells = [None].into_iter().chain(groups).filter_map(|group| tables::of_all(comparison, group));
        cells.for_each(|cells| part.table(&cells));
        if let Some(cells) = tables::lead(comparison) {
            part.table(&cells);
        }
        tables::compute_to_quality(comparison).iter().for_each(|cells| part.table(cells));
    }
    for task in &comparison.tasks {
        let _ = writeln!(part.markdown, "### {}\n", cell(&task.name));
        let pictures = [("flops", plots::quality(task, Axis::Flops)), ("course", plots::courses(task))];
        for (what, picture) in pictures {
            let alt = format!("{}: {what}", task.name);
            part.picture(picture, folder, format!("{stem}-{}-{what}.svg", file_name(&task.name)), &alt);
        }
        part.table(&tables::of_task(task));
    }
    part
}

impl ResultsPart {
    fn bars(&mut self, comparison: &Comparison, bars: &[Bar]) {
        if bars.is_empty() {
            return;
        }
        self.markdown.push_str("### Bars\n\n| bar | measured | |\n|---|---|---|\n");
        for bar in bars {
            let outcome = bar.outcome(comparison);
            let verdict = match outcome.reached {
                Some(true) => "reached",
                Some(false) => "**missed**",
                None => "open",
            };
            let _ =
                writeln!(self.markdown, "| {} | {} | {verdict} |", cell(&bar.what), cell(&outcome.measured));
        }
        self.markdown.push('\n');
    }

    fn picture(&mut self, picture: Option<String>, folder: &str, name: String, alt: &str) {
        let Some(picture) = picture else { return };
        let _ = writeln!(self.markdown, "![{}]({folder}/{name})\n", cell(alt));
        self.pictures.push((name, styled(&picture, &format!("{}{}", style::PICTURE, style::LINES))));
    }

    fn table(&mut self, cells: &Cells) {
        let _ = writeln!(self.markdown, "{}:\n", cell(&cells.heading));
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        self.markdown.push_str(&line(&cells.header));
        let rule = |column: usize| if column < cells.text { "---" } else { "---:" };
        let rules: Vec<&str> = (0..cells.header.len()).map(rule).collect();
        let _ = writeln!(self.markdown, "|{}|", rules.join("|"));
        cells.rows.iter().for_each(|row| self.markdown.push_str(&line(row)));
        self.markdown.push('\n');
        cells.notes.iter().for_each(|note| self.markdown.push_str(&format!("* {}\n", cell(note))));
        if !cells.notes.is_empty() {
            self.markdown.push('\n');
        }
    }
}

/// A task's name as part of a file's.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// As text of a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}
