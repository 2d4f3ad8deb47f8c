//! The page of a comparison: one self-contained HTML file, readable without script, in light and dark.

use std::fmt::Write as _;

use super::plots::{self, Axis};
use super::tables::{self, Cells};
use super::{Comparison, TaskResults};
use crate::style;
use crate::svg::escape;

/// The comparison as one HTML page. Any comparison gives a page, an empty one too.
pub fn comparison_page(comparison: &Comparison) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let title = escape(&comparison.title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} – RGFT</title>\
         <style>{}{}{}</style></head>\n<body><main><header><p class=\"eyebrow\">RGFT comparison</p>\
         <h1>{title}</h1><p class=\"sub\">{}</p></header>",
        style::PICTURE,
        style::PAGE,
        style::LINES,
        escape(&comparison.conditions)
    );
    if comparison.tasks.len() > 1 {
        together(&mut page, comparison);
    }
    comparison.tasks.iter().for_each(|task| of_task(&mut page, task));
    let _ = writeln!(
        page,
        "<footer>FLOPs are the whole run's, probes and cache included, over those of full fine-tuning for the same \
         epochs on the same examples. What was chosen was chosen by the validation metric.</footer></main>\
         <script>{}</script></body></html>",
        style::SCRIPT
    );
    page
}

fn together(page: &mut String, comparison: &Comparison) {
    page.push_str("<section><h2>All tasks</h2>");
    if let Some(chart) = plots::summary(comparison) {
        let _ = write!(page, "<figure class=\"wide\">{chart}</figure>");
    }
    let groups = tables::groups(comparison).into_iter().map(Some);
    let cells = [None].into_iter().chain(groups).filter_map(|group| tables::of_all(comparison, group));
    let to_quality = tables::compute_to_quality(comparison);
    cells.chain(tables::lead(comparison)).chain(to_quality).for_each(|cells| table(page, &cells));
    page.push_str("</section>");
}

fn of_task(page: &mut String, task: &TaskResults) {
    let _ = write!(page, "<section><h2>{}</h2>", escape(&task.name));
    table(page, &tables::of_task(task));
    page.push_str("<div class=\"charts\">");
    let charts = [
        ("Quality against compute", plots::quality(task, Axis::Flops)),
        ("Quality against seconds", plots::quality(task, Axis::Seconds)),
        ("In the course of training, at the budget nearest to 30 %", plots::courses(task)),
    ];
    for (heading, chart) in charts {
        if let Some(chart) = chart {
            let _ = write!(page, "<div><h3>{heading}</h3><figure>{chart}</figure></div>");
        }
    }
    page.push_str("</div></section>");
}

fn table(page: &mut String, cells: &Cells) {
    let class = |column: usize| if column < cells.text { "" } else { " class=\"n\"" };
    let _ = write!(page, "<h3>{}</h3><div class=\"wide\"><table><thead><tr>", escape(&cells.heading));
    for (column, name) in cells.header.iter().enumerate() {
        let _ = write!(page, "<th{}>{}</th>", class(column), escape(name));
    }
    page.push_str("</tr></thead><tbody>");
    for row in &cells.rows {
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(page, "<td{}>{}</td>", class(column), escape(cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    if !cells.notes.is_empty() {
        page.push_str("<ul class=\"notes\">");
        for note in &cells.notes {
            let _ = write!(page, "<li>{}</li>", escape(note));
        }
        page.push_str("</ul>");
    }
}
