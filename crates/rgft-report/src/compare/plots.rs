//! The charts of a comparison: quality against compute and against seconds, with error bars, and courses of training.

use super::{Comparison, Estimate, Point, Row, Summary, TaskResults};
use crate::svg::{Anchor, Svg, coordinate};
use crate::units;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 58.0;
/// Room for the names.
const RIGHT: f64 = 142.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Colours of the style sheet, in the order in which lines take them; further lines repeat them, dashed.
const COLOURS: [usize; 6] = [0, 3, 4, 6, 5, 1];
/// The colour that is kept for `rgft`.
const OURS: usize = 2;
/// Of a method's budgets, the course of the one nearest to this is drawn.
const COURSE_BUDGET: f64 = 0.3;

/// One line of a chart.
struct Line {
    name: String,
    /// x, y, standard error of y, tooltip; by x.
    points: Vec<(f64, f64, f64, String)>,
}

/// What a chart's x axis is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Axis {
    Flops,
    Seconds,
}

/// Quality of a task's rows against what they cost; `full` is the dashed line.
pub(super) fn quality(task: &TaskResults, axis: Axis) -> Option<String> {
    let of = |row: &Row| match axis {
        Axis::Flops => row.flops_ratio(),
        Axis::Seconds => row.seconds(),
    };
    let factor = if task.percent() { 100.0 } else { 1.0 };
    let mut names: Vec<String> = Vec::new();
    task.rows.iter().for_each(|row| {
        if !names.contains(&row.name()) {
            names.push(row.name());
        }
    });
    let line = |name: &String| {
        let rows = task.rows.iter().filter(|row| row.name() == *name);
        let points = rows.filter_map(|row| {
            let (cost, quality) = (of(row)?, row.quality()?);
            let title = format!(
                "{name}, budget {}\n{}\n{} of full's FLOPs, {}",
                units::percent_round(row.budget),
                words(&task.measured(), quality, task.percent()),
                units::percent(row.flops_ratio()?.mean),
                units::seconds(row.seconds()?.mean),
            );
            Some((cost.mean, factor * quality.mean, factor * quality.error.unwrap_or(0.0), title))
        });
        Line { name: name.clone(), points: points.collect() }
    };
    let lines = names.iter().map(line).collect();
    let full = task.full().and_then(|row| row.quality()).map(|full| factor * full.mean);
    let (against, label) = match axis {
        Axis::Flops => ("compute", "total FLOPs, of full fine-tuning"),
        Axis::Seconds => ("seconds", "processor seconds of training"),
    };
    let title = format!("{}: {} against {against}", task.name, task.measured());
    chart(&title, label, lines, full, task.percent())
}

/// The validation metric in the course of training: `full`, and of every other method the budget nearest to 0.3.
pub(super) fn courses(task: &TaskResults) -> Option<String> {
    let mut chosen: Vec<&Row> = Vec::new();
    for row in &task.rows {
        let away = |row: &Row| (row.budget - COURSE_BUDGET).abs();
        match chosen.iter_mut().find(|known| known.name() == row.name()) {
            Some(known) if away(row) < away(known) => *known = row,
            Some(_) => {}
            None => chosen.push(row),
        }
    }
    let percent = task.percent();
    let factor = if percent { 100.0 } else { 1.0 };
    let line = |row: &&Row| {
        let points = mean_course(&row.points).into_iter().map(|(x, y)| (x, factor * y, 0.0, String::new()));
        Line { name: row.name(), points: points.collect() }
    };
    let title = format!("{}: validation {} while training", task.name, units::metric_name(&task.metric));
    chart(&title, "total FLOPs so far, of full fine-tuning", chosen.iter().map(line).collect(), None, percent)
}

/// The mean over seeds, at the compute of the first one's validations; between validations a course is a straight line,
/// and after its last one it stays where it was.
fn mean_course(points: &[Point]) -> Vec<(f64, f64)> {
    let curves: Vec<&[(f64, f64)]> =
        points.iter().map(|point| &point.curve[..]).filter(|curve| !curve.is_empty()).collect();
    let Some(first) = curves.first() else {
        return Vec::new();
    };
    let mean = |x: f64| curves.iter().map(|curve| interpolated(curve, x)).sum::<f64>() / curves.len() as f64;
    first.iter().map(|&(x, _)| (x, mean(x))).filter(|(_, y)| y.is_finite()).collect()
}

fn interpolated(curve: &[(f64, f64)], x: f64) -> f64 {
    let after = curve.partition_point(|&(at, _)| at < x);
    match (after.checked_sub(1).and_then(|before| curve.get(before)), curve.get(after)) {
        (Some(&(x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some(&(_, y)), None) | (None, Some(&(_, y))) => y,
        (None, None) => f64::NAN,
    }
}

/// Mean relative quality over all tasks, against the budget.
pub(super) fn summary(comparison: &Comparison) -> Option<String> {
    let summaries = Summary::of(comparison, None);
    let line = |name: String| {
        let points = summaries.iter().filter_map(|summary| {
            let relative = summary.standings.iter().find(|line| line.name == name)?.relative?;
            let title = format!(
                "{name}, budget {}\n{}",
                units::percent_round(summary.budget),
                words("of full's quality", relative, true)
            );
            Some((summary.budget, 100.0 * relative.mean, 100.0 * relative.error.unwrap_or(0.0), title))
        });
        Line { name: name.clone(), points: points.collect() }
    };
    let lines = comparison.names().into_iter().map(line).collect();
    chart("All tasks: mean quality relative to full fine-tuning", "budget", lines, Some(100.0), true)
}

fn words(what: &str, estimate: Estimate, percent: bool) -> String {
    let (factor, unit) = if percent { (100.0, " %") } else { (1.0, "") };
    let error = estimate.error.map(|error| format!(" ± {}", units::significant(factor * error)));
    let decimals = if percent { 2 } else { 4 };
    format!("{what} {:.decimals$}{}{unit}", factor * estimate.mean, error.unwrap_or_default())
}

fn chart(title: &str, x_label: &str, lines: Vec<Line>, level: Option<f64>, percent: bool) -> Option<String> {
    let points =
        || lines.iter().flat_map(|line| &line.points).filter(|(x, y, ..)| x.is_finite() && y.is_finite());
    let (mut low, mut high, mut end) = (f64::INFINITY, f64::NEG_INFINITY, 0f64);
    for (x, y, error, _) in points() {
        (low, high, end) = (low.min(y - error), high.max(y + error), end.max(*x));
    }
    if low > high {
        return None;
    }
    if let Some(level) = level.filter(|level| level.is_finite()) {
        (low, high) = (low.min(level), high.max(level));
    }
    let room = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-3) };
    let (low, high, end) = (low - room, high + room, if end > 0.0 { 1.04 * end } else { 1.0 });
    let at = |x: f64, y: f64| {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        [LEFT + (right - LEFT) * x / end, bottom - (bottom - TOP) * (y - low) / (high - low)]
    };
    let mut svg = Svg::new(WIDTH, HEIGHT, title, "Bars are standard errors over seeds");
    let (ticks, decimals) = units::ticks(low, high, 5);
    for tick in ticks {
        let [_, y] = at(0.0, tick);
        svg.line([LEFT, y], [WIDTH - RIGHT, y], "grid");
        let text = format!("{tick:.decimals$}{}", if percent { " %" } else { "" });
        svg.text(LEFT - 8.0, y + 3.5, Anchor::End, "tick", &text);
    }
    let bottom = HEIGHT - BOTTOM;
    svg.line([LEFT, bottom], [WIDTH - RIGHT, bottom], "axis");
    let (ticks, decimals) = units::ticks(0.0, end, 6);
    for tick in ticks {
        let [x, _] = at(tick, low);
        svg.line([x, bottom], [x, bottom + 4.0], "axis");
        svg.text(x, bottom + 16.0, Anchor::Middle, "tick", &format!("{tick:.decimals$}"));
    }
    svg.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, Anchor::Middle, "label", x_label);
    if let Some(level) = level.filter(|level| level.is_finite()) {
        svg.line(at(0.0, level), [WIDTH - RIGHT, at(0.0, level)[1]], "limit");
    }
    let mut others = 0;
    for (i, line) in lines.iter().enumerate() {
        let ours = line.name == "rgft";
        let (colour, round) =
            if ours { (OURS, 0) } else { (COLOURS[others % COLOURS.len()], others / COLOURS.len()) };
        others += usize::from(!ours);
        draw(&mut svg, line, i, (colour, round > 0), &at);
    }
    Some(svg.finish())
}

/// Draws the line in its colour, and its name at `place` of the legend.
fn draw(
    svg: &mut Svg,
    line: &Line,
    place: usize,
    (colour, dashed): (usize, bool),
    at: &dyn Fn(f64, f64) -> [f64; 2],
) {
    let mut points: Vec<_> = line.points.iter().filter(|(x, y, ..)| x.is_finite() && y.is_finite()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let class = format!("line s{colour}{}", if dashed { " again" } else { "" });
    let mut path = String::new();
    for (j, (x, y, error, _)) in points.iter().enumerate() {
        let [px, py] = at(*x, *y);
        path.push_str(&format!("{}{} {}", if j == 0 { 'M' } else { 'L' }, coordinate(px), coordinate(py)));
        if *error > 0.0 {
            svg.line(at(*x, y - error), at(*x, y + error), &format!("error s{colour}"));
        }
    }
    svg.path(&path, &class);
    for (x, y, _, title) in &points {
        let [x, y] = at(*x, *y);
        svg.circle(x, y, 3.5, &format!("l{colour}"), title);
    }
    let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 8.0 + 17.0 * place as f64);
    if y < HEIGHT - 6.0 && !points.is_empty() {
        svg.line([x, y], [x + 16.0, y], &class);
        let mut name: String = line.name.chars().take(18).collect();
        name.push_str(if name.len() < line.name.len() { "…" } else { "" });
        svg.text(x + 22.0, y + 3.5, Anchor::Start, "tick", &name);
    }
}
