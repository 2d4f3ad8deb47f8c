//! Bounds beside what they bound, on logarithmic axes, one panel each.

use crate::style;
use crate::svg::{Anchor, Svg, coordinate};

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// In smaller letters below the title.
    pub subtitle: String,
    /// What is bounded.
    pub quantity: String,
    /// What is counted along the axis.
    pub along: String,
    /// `(steps or what else is counted, measured, bound)`, rising.
    pub points: Vec<(usize, f64, f64)>,
}

const COLUMNS: usize = 3;
const LEGEND: f64 = 20.0;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 40.0;
/// More points of a line than this would not be seen.
const POINTS: usize = 150;

/// The panels as one picture.
pub fn bounds_svg(title: &str, panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let (width, height) = (columns as f64 * WIDTH, LEGEND + rows as f64 * HEIGHT);
    let mut svg = Svg::new(width, height, title, "Bounds, and what was measured, against steps");
    svg.style(style::PICTURE);
    svg.rect([0.0, 0.0, width, height], 0.0, "surface", "");
    for (at, class, name) in [(LEFT, "smooth", "bound"), (LEFT + 80.0, "metric", "measured")] {
        svg.path(&format!("M{} 12h22", coordinate(at)), class);
        svg.text(at + 28.0, 16.0, Anchor::Start, "note", name);
    }
    for (i, panel) in panels.iter().enumerate() {
        let corner = [(i % columns) as f64 * WIDTH, LEGEND + (i / columns) as f64 * HEIGHT];
        draw(&mut svg, corner, panel);
    }
    svg.finish()
}

fn draw(svg: &mut Svg, [left, top]: [f64; 2], panel: &Panel) {
    svg.text(left + LEFT, top + 20.0, Anchor::Start, "", &panel.title);
    svg.text(left + LEFT, top + 36.0, Anchor::Start, "note", &panel.subtitle);
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    let values = panel.points.iter().flat_map(|(_, measured, bound)| [*measured, *bound]).filter(positive);
    let (low, high) =
        values.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let last = panel.points.last().map_or(1, |(step, ..)| *step).max(2) as f64;
    if low > high {
        return;
    }
    let (low, high) = (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0));
    let x = |step: f64| left + LEFT + (WIDTH - LEFT - RIGHT) * step.log10() / last.log10();
    let y = |value: f64| {
        top + TOP + (HEIGHT - TOP - BOTTOM) * (high - value.log10().clamp(low, high)) / (high - low)
    };
    // Powers of ten, few enough to be read.
    let stride = ((high - low) / 5.0).ceil().max(1.0);
    let mut power = low;
    while power <= high {
        let at = y(10f64.powf(power));
        svg.line([x(1.0), at], [x(last), at], "grid");
        svg.text(x(1.0) - 6.0, at + 3.5, Anchor::End, "tick", &format!("1e{power:.0}"));
        power += stride;
    }
    let bottom = top + HEIGHT - BOTTOM;
    svg.line([x(1.0), bottom], [x(last), bottom], "axis");
    let mut step = 1.0;
    while step <= last {
        svg.text(x(step), bottom + 15.0, Anchor::Middle, "tick", &format!("{step:.0}"));
        step *= 10.0;
    }
    svg.text(x(last), bottom + 30.0, Anchor::End, "label", &panel.along);
    svg.text(x(1.0), bottom + 30.0, Anchor::Start, "label", &panel.quantity);
    for (class, of) in [("smooth", 1), ("metric", 0)] {
        let mut path = String::new();
        let mut before = f64::NEG_INFINITY;
        for (step, measured, bound) in &panel.points {
            let value = if of == 1 { *bound } else { *measured };
            let at = x((*step).max(1) as f64);
            // Steps crowd on the right of a logarithmic axis.
            if !positive(&value) || at - before < (WIDTH - LEFT - RIGHT) / POINTS as f64 {
                continue;
            }
            before = at;
            path.push_str(if path.is_empty() { "M" } else { "L" });
            path.push_str(&format!("{} {}", coordinate(at), coordinate(y(value))));
        }
        svg.path(&path, class);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_has_both_lines_and_nothing_breaks_the_picture() {
        let points = (1..1000).map(|step| (step, 1.0 / step as f64, 4.0 / step as f64)).collect();
        let panel = |points| Panel {
            title: "T1a & <b>".into(),
            subtitle: "s".into(),
            quantity: "q".into(),
            along: "steps".into(),
            points,
        };
        let broken = vec![(0, f64::NAN, f64::INFINITY), (1, -1.0, 0.0)];
        let svg = bounds_svg("bounds", &[panel(points), panel(broken), panel(Vec::new())]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let paths = document.descendants().filter(|node| node.has_tag_name("path"));
        let classes: Vec<&str> = paths.filter_map(|path| path.attribute("class")).collect();
        assert_eq!(classes, ["smooth", "metric", "smooth", "metric"], "the legend's and the panel's");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
