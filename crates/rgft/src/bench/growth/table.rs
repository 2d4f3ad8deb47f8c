//! What was measured as tables and curves: a table for each axis, and in it the curves one after the other.

use std::io;

use rgft_report::{GrowthCurve, GrowthPanel, growth_svg};

use super::super::peak::Peak;
use super::Point;
use crate::bench::{markdown, origin};
use crate::printer::Printer;

const HEADER: [&str; 11] = [
    "what",
    "along",
    "parameters",
    "GFLOP",
    "MB passed",
    "floor",
    "ms",
    "least",
    "of peak",
    "of floor",
    "exponent",
];

/// A point as it is shown.
fn line(point: &Point) -> Vec<String> {
    let mark = if point.super_linear { " super-linear" } else { "" };
    vec![
        format!("{} {}", point.what, point.precision),
        point.at.to_string(),
        format!("{:.2} M", point.parameters as f64 / 1e6),
        format!("{:.2}", point.gflop),
        format!("{:.0}", point.megabytes),
        format!("{:.2}", point.floor_milliseconds),
        format!("{:.2}", point.milliseconds),
        format!("{:.2}", point.best_milliseconds),
        format!("{:.0} %", 100.0 * point.share_of_peak()),
        format!("{:.2}", point.best_milliseconds / point.floor_milliseconds),
        point.exponent.map_or_else(|| "-".into(), |exponent| format!("{exponent:.2}{mark}")),
    ]
}

/// The different values of `of`, in the order in which they come.
fn different<T: PartialEq>(points: &[Point], of: impl Fn(&Point) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for value in points.iter().map(of) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// For each axis what it is, what is counted along it, and its lines.
fn tables(points: &[Point]) -> Vec<(String, Vec<Vec<String>>)> {
    let of_axis = |axis: &str| {
        let of: Vec<Point> = points.iter().filter(|point| point.axis == axis).cloned().collect();
        let lines = different(&of, Point::series).into_iter().flat_map(|series| {
            of.iter().filter(move |point| point.series() == series).map(line).collect::<Vec<_>>()
        });
        (title(&of), lines.collect())
    };
    different(points, |point| point.axis).into_iter().map(of_axis).collect()
}

/// `depth: 256 hidden units, 8 texts of 64 tokens`, of what does not grow.
fn title(of_axis: &[Point]) -> String {
    let Some(first) = of_axis.first() else {
        return String::new();
    };
    let fixed = |of: fn(&Point) -> usize| {
        let values = different(of_axis, of);
        if values.len() == 1 { values[0].to_string() } else { "…".into() }
    };
    format!(
        "{}: {} layers, {} hidden units, {} texts of {} tokens",
        first.axis,
        fixed(|point| point.shape.layers),
        fixed(|point| point.shape.hidden),
        fixed(|point| point.shape.batch),
        fixed(|point| point.shape.length),
    )
}

/// Which points grew faster than their FLOPs, in one sentence.
fn findings(points: &[Point]) -> String {
    let surprises: Vec<String> = points
        .iter()
        .filter(|point| point.super_linear)
        .map(|p| {
            format!("{} {} at {} {} ({:.2})", p.what, p.precision, p.axis, p.at, p.exponent.unwrap_or(0.0))
        })
        .collect();
    if surprises.is_empty() {
        format!("no exponent above {}: nowhere does time grow faster than FLOPs", super::SUPER_LINEAR)
    } else {
        format!("super-linear: {}", surprises.join(", "))
    }
}

pub(super) fn print(points: &[Point], peak: Peak, printer: &mut Printer) -> io::Result<()> {
    printer.text(&format!("peak: {}", peak.in_words()))?;
    for (title, lines) in tables(points) {
        printer.text(&format!("\n{title}"))?;
        printer.table(&HEADER, &lines)?;
    }
    printer.text(&format!("\n{}", findings(points)))
}

/// All tables as a page of Markdown.
pub(super) fn page(points: &[Point], peak: Peak) -> String {
    let mut page = format!("# Growth\n\n{}\n\n", origin());
    page += &format!(
        "A BERT encoder with random weights. Peak in registers: {}. Milliseconds: the median and the least; the floor is what it takes at the peak, and memory's rate for all other passes, *of floor* the least over it, *of peak* the products over the least time. The exponent is d log(least time)/d log(FLOPs) from the line above.\n\n![Curves](growth.svg)\n\n{}.\n",
        peak.in_words(),
        findings(points),
    );
    for (title, lines) in tables(points) {
        page += &format!("\n## {title}\n\n{}", markdown(&HEADER, &lines));
    }
    page
}

/// Curves over each axis, and their floors.
pub(super) fn picture(points: &[Point]) -> String {
    let curve = |of: &[Point], series| GrowthCurve {
        name: {
            let (_, what, precision) = series;
            format!("{what} {precision}")
        },
        points: of
            .iter()
            .filter(|point| point.series() == series)
            .map(|point| (point.at as f64, point.best_milliseconds, point.floor_milliseconds))
            .collect(),
    };
    let panel = |axis: &str| {
        let of: Vec<Point> = points.iter().filter(|point| point.axis == axis).cloned().collect();
        let curves = different(&of, Point::series).into_iter().map(|series| curve(&of, series)).collect();
        let along = of.first().map_or("", |point| point.along).to_owned();
        GrowthPanel { title: axis.to_owned(), along, curves }
    };
    let panels: Vec<_> = different(points, |point| point.axis).into_iter().map(panel).collect();
    growth_svg("How steps grow", "ms", &panels)
}

#[cfg(test)]
mod tests {
    use super::super::{Shape, set_exponents};
    use super::*;

    fn point(what: &'static str, at: usize, gflop: f64, milliseconds: f64) -> Point {
        Point {
            axis: "depth",
            along: "layers",
            at,
            shape: Shape { layers: at, hidden: 256, length: 64, batch: 8 },
            parameters: 1_000_000 * at,
            what,
            precision: "f32",
            gflop,
            products_gflop: gflop,
            peak_gflops: 300.0,
            megabytes: 1.0,
            floor_milliseconds: milliseconds / 2.0,
            milliseconds: milliseconds * 1.1,
            best_milliseconds: milliseconds,
            exponent: None,
            super_linear: false,
        }
    }

    const PEAK: Peak = Peak { f32_gflops: 300.0, bf16_gflops: None, gigabytes_per_second: 30.0 };

    #[test]
    fn exponents_are_of_neighbours_in_one_curve() {
        let mut points = vec![
            point("forward", 1, 1.0, 4.0),
            point("full step", 1, 3.0, 9.0),
            point("forward", 2, 2.0, 8.0),
            point("full step", 2, 6.0, 22.5),
            point("forward", 4, 4.0, 8.0),
            point("forward", 8, 8.0, f64::NAN),
        ];
        set_exponents(&mut points);
        let exponents: Vec<_> = points.iter().map(|p| p.exponent.map(|e| (1e3 * e).round())).collect();
        assert_eq!(exponents, [None, None, Some(1000.0), Some(1322.0), Some(0.0), None]);
        let surprises: Vec<_> = points.iter().filter(|point| point.super_linear).map(|p| p.at).collect();
        assert_eq!(surprises, [2]);
        assert_eq!(findings(&points), "super-linear: full step f32 at depth 2 (1.32)");
        let tables = tables(&points);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].0, "depth: … layers, 256 hidden units, 8 texts of 64 tokens");
        let ats: Vec<&str> = tables[0].1.iter().map(|line| line[1].as_str()).collect();
        assert_eq!(ats, ["1", "2", "4", "8", "1", "2"]);
        assert!(tables[0].1.iter().all(|line| line.len() == HEADER.len()));
        assert!(page(&points, PEAK).contains("| 1.32 super-linear |\n"));
    }

    #[test]
    fn one_point_or_none_is_enough() {
        for mut points in [Vec::new(), vec![point("forward", 1, 1.0, 4.0)]] {
            set_exponents(&mut points);
            assert!(points.iter().all(|point| point.exponent.is_none()));
            assert!(page(&points, PEAK).contains("no exponent above 1.15"));
            assert!(picture(&points).ends_with("</svg>"));
        }
    }
}
