//! Points of some groups on logarithmic axes, with the line where both numbers are equal.

use crate::style;
use crate::svg::{Anchor, Svg};

const SIDE: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 48.0;
/// Colours of the style sheet, by group.
const COLOURS: [usize; 4] = [2, 0, 3, 4];

/// A picture of `(name, points)`; what is not above 0 is left out.
pub fn scatter_svg(
    title: &str,
    x_label: &str,
    y_label: &str,
    groups: &[(String, Vec<(f64, f64)>)],
) -> String {
    let (width, height) = (LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM);
    let mut svg = Svg::new(width, height, title, &format!("{y_label} against {x_label}"));
    svg.style(style::PICTURE);
    svg.rect([0.0, 0.0, width, height], 0.0, "surface", "");
    svg.text(LEFT, 22.0, Anchor::Start, "", title);
    let positive = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite() && *x > 0.0 && *y > 0.0;
    let all = || groups.iter().flat_map(|(_, points)| points).filter(positive);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let logs = all().map(|point| of(point).log10());
        logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)))
    };
    let (xs, ys) = (span(|point| point.0), span(|point| point.1));
    if xs.0 > xs.1 {
        return svg.finish();
    }
    // One scale for both, or the line of equality would lean.
    let low = xs.0.min(ys.0).floor();
    let high = xs.1.max(ys.1).ceil().max(low + 1.0);
    let place = |value: f64| (value.log10() - low) / (high - low) * SIDE;
    let (x, y) = (|value: f64| LEFT + place(value), |value: f64| TOP + SIDE - place(value));
    let stride = ((high - low) / 6.0).ceil().max(1.0);
    let mut power = low;
    while power <= high {
        let value = 10f64.powf(power);
        svg.line([LEFT, y(value)], [LEFT + SIDE, y(value)], "grid");
        svg.text(LEFT - 6.0, y(value) + 3.5, Anchor::End, "tick", &format!("1e{power:.0}"));
        svg.text(x(value), TOP + SIDE + 15.0, Anchor::Middle, "tick", &format!("1e{power:.0}"));
        power += stride;
    }
    svg.line([LEFT, TOP + SIDE], [LEFT + SIDE, TOP], "limit");
    svg.text(LEFT + SIDE / 2.0, height - 12.0, Anchor::Middle, "label", x_label);
    svg.text(LEFT, TOP - 4.0, Anchor::Start, "note", y_label);
    for (i, (name, points)) in groups.iter().enumerate() {
        let class = format!("l{}", COLOURS[i % COLOURS.len()]);
        for point in points.iter().filter(positive) {
            let title = format!("{name}\nx {:.3e}\ny {:.3e}", point.0, point.1);
            svg.circle(x(point.0), y(point.1), 3.5, &class, &title);
        }
        let line = TOP + 14.0 + 18.0 * i as f64;
        svg.circle(LEFT + SIDE + 14.0, line - 4.0, 4.0, &class, "");
        svg.text(LEFT + SIDE + 24.0, line, Anchor::Start, "note", name);
    }
    svg.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_positive_point_is_there_and_nothing_breaks_the_picture() {
        let groups = [
            ("a & b".to_owned(), vec![(1e-3, 2e-3), (1.0, 0.5), (f64::NAN, 1.0), (-1.0, 1.0), (1.0, 0.0)]),
            ("none".to_owned(), Vec::new()),
        ];
        for groups in [&groups[..], &groups[1..], &[]] {
            let svg = scatter_svg("t", "x", "y", groups);
            let document = roxmltree::Document::parse(&svg).unwrap();
            let points = document.descendants().filter(|node| node.has_tag_name("circle"));
            let wanted = if groups.len() == 2 { 2 + 2 } else { 0 };
            assert_eq!(points.count(), wanted);
            assert!(!svg.contains("NaN"));
        }
    }
}
