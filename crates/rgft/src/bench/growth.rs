//! `rgft bench growth`: how the forward pass and the full training step of an encoder grow with its depth, its width, the
//! length of texts, the batch, and its size: in FLOPs, bytes and seconds, beside the floor that the machine sets (see
//! [`super::peak`]).
//!
//! Between neighbours along an axis the exponent is `d log(seconds)/d log(FLOPs)`: 1 where time grows as the FLOPs do,
//! less where something that does not grow is paid once. Well above 1 it is *super-linear*: a surprise, because attention's
//! n² and all other work that grows is in the FLOPs already.

mod shape;
mod table;

use std::time::{Duration, Instant};

use anyhow::Result;
use rgft_kernels::Precision;
use serde::Serialize;
use serde_json::json;

use self::shape::Shape;
use super::Patience;
use super::peak::{Peak, name_of};
use crate::args::{GrowthArgs, GrowthAxis};
use crate::commands::compare::place;
use crate::pool;
use crate::printer::Printer;

/// Times the least exponent that is told as super-linear: as much as times differ from one run to the next.
const SUPER_LINEAR: f64 = 1.15;

/// A forward pass or a step of one shape in one precision.
#[derive(Clone, Debug, Serialize)]
struct Point {
    axis: &'static str,
    /// What is counted along the axis.
    along: &'static str,
    /// How far it is along the axis.
    at: usize,
    #[serde(flatten)]
    shape: Shape,
    parameters: usize,
    what: &'static str,
    precision: &'static str,
    /// Of products and optimizer.
    gflop: f64,
    products_gflop: f64,
    /// What the machine does at most in a second.
    peak_gflops: f64,
    /// That all passes but products read and write.
    megabytes: f64,
    floor_milliseconds: f64,
    /// The median.
    milliseconds: f64,
    /// The least.
    best_milliseconds: f64,
    /// From the point before it along the axis, by the least times.
    exponent: Option<f64>,
    /// Whether time grew faster than FLOPs.
    super_linear: bool,
}

impl Point {
    /// Of which curve it is a point.
    fn series(&self) -> (&'static str, &'static str, &'static str) {
        (self.axis, self.what, self.precision)
    }

    /// Products over the least time, of the peak.
    fn share_of_peak(&self) -> f64 {
        self.products_gflop / self.best_milliseconds * 1e3 / self.peak_gflops
    }

    /// Takes over the times of `again` that are less.
    fn keep_faster(&mut self, again: &Self) {
        self.milliseconds = self.milliseconds.min(again.milliseconds);
        self.best_milliseconds = self.best_milliseconds.min(again.best_milliseconds);
    }
}

/// The point before point `i` in its series.
fn before(points: &[Point], i: usize) -> Option<usize> {
    (0..i).rev().find(|&j| points[j].series() == points[i].series())
}

/// Sets each point's exponent, from the point before it in its series.
fn set_exponents(points: &mut [Point]) {
    for i in 0..points.len() {
        let exponent = before(points, i).map(|before| {
            let (point, before) = (&points[i], &points[before]);
            let grown = |of: fn(&Point) -> f64| (of(point) / of(before)).ln();
            grown(|point| point.best_milliseconds) / grown(|point| point.gflop)
        });
        points[i].exponent = exponent.filter(|exponent| exponent.is_finite());
        points[i].super_linear = points[i].exponent.is_some_and(|exponent| exponent > SUPER_LINEAR);
    }
}

pub(crate) fn run(args: &GrowthArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let (peak, points) =
        pool::run(threads.unwrap_or(0), |say| measure(args, say), |message: String| printer.note(&message))?;
    table::print(&points, peak, printer)?;
    let document = json!({
        "machine": place::machine(), "commit": place::commit(), "peak": peak, "points": points,
    });
    if let Some(folder) = &args.record {
        let (page, picture) = (table::page(&points, peak), table::picture(&points));
        super::record(folder, "growth", &document, &[("md", &page), ("svg", &picture)])?;
    }
    printer.document(&document)?;
    Ok(())
}

fn measure(args: &GrowthArgs, say: &mut dyn FnMut(String)) -> Result<(Peak, Vec<Point>)> {
    let time = Duration::from_secs_f64(if args.quick { 0.05 } else { 0.3 });
    let patience = Patience { time, runs: if args.quick { 7 } else { 4 } };
    let peak = Peak::measure();
    let precisions: Vec<Precision> = args.precision.iter().map(|&name| Precision::from(name)).collect();
    let precisions: Vec<Precision> = precisions.into_iter().filter(|p| p.supported() == *p).collect();
    let shapes = |axis: &GrowthAxis| {
        let axis = *axis;
        axis.shapes(args.quick).into_iter().map(move |shape| (axis, shape))
    };
    let work: Vec<(GrowthAxis, Shape)> = args.axes.iter().flat_map(shapes).collect();
    let estimate = |shape: Shape| shape.seconds(patience, peak) * precisions.len() as f64;
    let mut left: f64 = work.iter().map(|&(_, shape)| estimate(shape)).sum();
    let (begun, all) = (Instant::now(), left);
    let mut points = Vec::new();
    for (i, &(axis, shape)) in work.iter().enumerate() {
        let pace = if left < all { begun.elapsed().as_secs_f64() / (all - left) } else { 1.0 };
        say(format!("{} of {}: {}; {:.0} s left", i + 1, work.len(), shape.in_words(), pace * left));
        points.extend(measure_shape(&precisions, axis, shape, peak, patience)?);
        left -= estimate(shape);
    }
    // A surprise may be somebody else's work on this machine: both of its ends are measured again, and again where
    // what was slow and is not makes another one.
    let of_shape = PASSES * precisions.len();
    for round in 0..=ROUNDS {
        set_exponents(&mut points);
        let surprises = (0..points.len()).filter(|&i| points[i].super_linear);
        let mut again: Vec<usize> = surprises
            .flat_map(|i| before(&points, i).into_iter().chain([i]))
            .map(|point| point / of_shape)
            .collect();
        again.sort_unstable();
        again.dedup();
        for i in again.into_iter().filter(|_| round < ROUNDS) {
            let (axis, shape) = work[i];
            say(format!("again: {}", shape.in_words()));
            let faster = measure_shape(&precisions, axis, shape, peak, patience)?;
            let points = &mut points[i * of_shape..];
            points.iter_mut().zip(&faster).for_each(|(point, again)| point.keep_faster(again));
        }
    }
    Ok((peak, points))
}

/// How often surprises are measured again.
const ROUNDS: usize = 3;

/// Points of one shape in one precision: a forward pass and a step.
const PASSES: usize = 2;

fn measure_shape(
    precisions: &[Precision],
    axis: GrowthAxis,
    shape: Shape,
    peak: Peak,
    patience: Patience,
) -> Result<Vec<Point>> {
    let mut subject = shape.build()?;
    let parameters = subject.model.parameters().scalars();
    let full = subject.full_step();
    let mut points = Vec::new();
    for &precision in precisions {
        subject.set_precision(precision);
        let passes = [("forward", subject.forward(patience)), (full.what, subject.step(&full, patience))];
        points.extend(passes.map(|(what, measured)| Point {
            axis: axis.name(),
            along: axis.along(),
            at: axis.of(shape, parameters),
            shape,
            parameters,
            what,
            precision: name_of(precision),
            gflop: measured.gflop(),
            products_gflop: measured.products_gflop,
            peak_gflops: peak.gflops(precision),
            megabytes: measured.passed_megabytes(),
            floor_milliseconds: measured.floor(peak, precision),
            milliseconds: measured.seconds.median * 1e3,
            best_milliseconds: measured.seconds.best * 1e3,
            exponent: None,
            super_linear: false,
        }));
    }
    Ok(points)
}
