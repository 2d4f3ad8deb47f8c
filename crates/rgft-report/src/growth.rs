//! How a cost grows: curves on logarithmic axes, one panel for each thing that it grows with, and a dashed floor below
//! each curve.

use crate::style;
use crate::svg::{Anchor, Svg, coordinate};
use crate::units;

/// One panel.
#[derive(Clone, Debug)]
pub struct GrowthPanel {
    /// What stands above it.
    pub title: String,
    /// What is counted along the horizontal axis.
    pub along: String,
    /// The curves, in the order of the legend.
    pub curves: Vec<GrowthCurve>,
}

/// What grows, and what it cannot fall below.
#[derive(Clone, Debug)]
pub struct GrowthCurve {
    /// Its name in the legend: equal names have equal colours.
    pub name: String,
    /// `(along, measured, floor)`, rising in the first.
    pub points: Vec<(f64, f64, f64)>,
}

const COLUMNS: usize = 3;
const LEGEND: f64 = 30.0;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 42.0;
/// Colours of the style sheet, by name.
const COLOURS: [usize; 6] = [2, 3, 0, 5, 4, 6];

/// The panels as one picture; `quantity` is what grows, with its unit. What is not above 0 is left out.
pub fn growth_svg(title: &str, quantity: &str, panels: &[GrowthPanel]) -> String {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let (width, height) = (columns as f64 * WIDTH, LEGEND + rows as f64 * HEIGHT);
    let mut svg = Svg::new(width, height, title, &format!("{quantity}; dashed: the floor of each"));
    svg.style(style::PICTURE);
    svg.style(style::LINES);
    svg.rect([0.0, 0.0, width, height], 0.0, "surface", "");
    let mut names: Vec<&str> = Vec::new();
    for curve in panels.iter().flat_map(|panel| &panel.curves) {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    let colour = |name: &str| {
        let place = names.iter().position(|known| *known == name).unwrap_or(0);
        COLOURS[place % COLOURS.len()]
    };
    let step = (width - LEFT) / (names.len() + 1) as f64;
    for (i, name) in names.iter().chain(&["floor"]).enumerate() {
        let (at, is_floor) = (LEFT + i as f64 * step.min(130.0), i == names.len());
        let class = if is_floor { "limit".to_owned() } else { format!("line s{}", colour(name)) };
        svg.line([at, 16.0], [at + 20.0, 16.0], &class);
        svg.text(at + 26.0, 20.0, Anchor::Start, "note", name);
    }
    for (i, panel) in panels.iter().enumerate() {
        let corner = [(i % columns) as f64 * WIDTH, LEGEND + (i / columns) as f64 * HEIGHT];
        draw(&mut svg, corner, quantity, panel, &colour);
    }
    svg.finish()
}

/// From the power of `base` at or below the least positive value to the one at or above the greatest.
fn span(values: impl Iterator<Item = f64>, base: f64) -> Option<[f64; 2]> {
    let positive = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = positive
        .map(|value| value.ln() / base.ln())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
    let (low, high) = ((low + 1e-9).floor(), (high - 1e-9).ceil());
    low.is_finite().then(|| [low, high.max(low + 1.0)])
}

fn draw(
    svg: &mut Svg,
    [left, top]: [f64; 2],
    quantity: &str,
    panel: &GrowthPanel,
    colour: &dyn Fn(&str) -> usize,
) {
    svg.text(left + LEFT, top + 18.0, Anchor::Start, "", &panel.title);
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    // Few counts are doubled, many are multiplied by ten.
    let most = points().map(|point| point.0).fold(0.0, f64::max);
    let base: f64 = if most > 1e5 { 10.0 } else { 2.0 };
    let Some((xs, ys)) = span(points().map(|p| p.0), base).zip(span(points().flat_map(|p| [p.1, p.2]), 10.0))
    else {
        return;
    };
    let (right, bottom) = (left + WIDTH - RIGHT, top + HEIGHT - BOTTOM);
    let (left, top) = (left + LEFT, top + TOP);
    let x = |value: f64| left + (right - left) * (value.ln() / base.ln() - xs[0]) / (xs[1] - xs[0]);
    let y = |value: f64| bottom - (bottom - top) * (value.log10() - ys[0]) / (ys[1] - ys[0]);
    let stride = ((ys[1] - ys[0]) / 6.0).ceil().max(1.0) as i32;
    for power in (ys[0] as i32..=ys[1] as i32).step_by(stride as usize) {
        let value = 10f64.powi(power);
        svg.line([left, y(value)], [right, y(value)], "grid");
        let text = if (-3..6).contains(&power) { units::rounded(value) } else { format!("1e{power}") };
        svg.text(left - 6.0, y(value) + 3.5, Anchor::End, "tick", &text);
    }
    svg.line([left, bottom], [right, bottom], "axis");
    for power in xs[0] as i32..=xs[1] as i32 {
        let value = base.powi(power);
        svg.line([x(value), bottom], [x(value), bottom + 4.0], "axis");
        let text = if base == 10.0 { format!("1e{power}") } else { units::rounded(value) };
        svg.text(x(value), bottom + 15.0, Anchor::Middle, "tick", &text);
    }
    svg.text(right, bottom + 31.0, Anchor::End, "label", &panel.along);
    svg.text(left, bottom + 31.0, Anchor::Start, "label", quantity);
    for curve in &panel.curves {
        let colour = colour(&curve.name);
        for floor in [true, false] {
            let mut path = String::new();
            for &(along, measured, lowest) in &curve.points {
                let value = if floor { lowest } else { measured };
                if [along, value].iter().any(|number| !number.is_finite() || *number <= 0.0) {
                    continue;
                }
                path.push_str(if path.is_empty() { "M" } else { "L" });
                path.push_str(&format!("{} {}", coordinate(x(along)), coordinate(y(value))));
                if !floor {
                    let title = format!(
                        "{}, {}: {along}\n{} of {quantity}, floor {}",
                        curve.name,
                        panel.along,
                        units::significant(measured),
                        units::significant(lowest)
                    );
                    svg.circle(x(along), y(value), 3.0, &format!("l{colour}"), &title);
                }
            }
            svg.path(&path, &format!("line s{colour}{}", if floor { " again" } else { "" }));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64, f64)>) -> GrowthPanel {
        let curve = |name: &str| GrowthCurve { name: name.into(), points: points.clone() };
        GrowthPanel { title: "a & b".into(), along: "layers".into(), curves: vec![curve("x"), curve("<y>")] }
    }

    #[test]
    fn each_curve_has_its_floor_and_nothing_breaks_the_picture() {
        let few = vec![(1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (4.0, 8.0, 4.0)];
        let many = vec![(3e5, 2.0, 1.0), (3.5e8, 4e3, 2e3)];
        let broken = vec![(0.0, 1.0, 1.0), (1.0, f64::NAN, -1.0), (2.0, 0.0, f64::INFINITY)];
        let panels = [few.clone(), many, broken, vec![(2.0, 5.0, 5.0)], Vec::new()].map(panel);
        for panels in [&panels[..], &panels[2..3], &[]] {
            let svg = growth_svg("growth", "ms", panels);
            roxmltree::Document::parse(&svg).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
        let svg = growth_svg("growth", "ms", &[panel(few)]);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let classes = document.descendants().filter(|node| node.has_tag_name("path"));
        let classes: Vec<_> = classes.filter_map(|path| path.attribute("class")).collect();
        assert_eq!(classes, ["line s2 again", "line s2", "line s3 again", "line s3"]);
        assert_eq!(document.descendants().filter(|node| node.has_tag_name("circle")).count(), 6);
    }
}
