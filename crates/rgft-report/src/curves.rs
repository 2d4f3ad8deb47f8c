//! Line charts against the total compute: training loss and a validation metric.
//!
//! The compute of full fine-tuning is a mark: a line where it lies on the axis, else an arrow at its end.

use rgft_core::events::Convergence;

use crate::run::{Run, Step};
use crate::svg::{Anchor, Svg, coordinate};
use crate::units::{self, FlopUnit};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
/// Points of the drawn loss curve; more would not be seen.
const BUCKETS: usize = 160;

/// The plane of a chart: data to user units.
struct Plane {
    x: [f64; 2],
    y: [f64; 2],
    unit: FlopUnit,
}

impl Plane {
    fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let fraction = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        [
            LEFT + (WIDTH - LEFT - RIGHT) * fraction(x, self.x),
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * fraction(y, self.y),
        ]
    }

    /// A plane from 0 to a little beyond `flops`, and around `values`.
    fn new(flops: u64, values: impl Iterator<Item = f64>, ceiling: Option<f64>) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if low >= 0.0 && low < 0.35 * high && ceiling.is_none() {
            low = 0.0;
        }
        let room = if high > low { (high - low) * 0.06 } else { high.abs().max(1e-3) * 0.1 };
        let bottom = if low == 0.0 { 0.0 } else { low - room };
        let top = ceiling.map_or(high + room, |ceiling| (high + room).min(ceiling));
        let top = if top > bottom { top } else { bottom + room };
        let end = (flops as f64).max(1.0) * 1.015;
        Some(Self { x: [0.0, end], y: [bottom, top], unit: FlopUnit::for_max(end) })
    }

    fn axes(&self, svg: &mut Svg, percent: bool) {
        let factor = if percent { 100.0 } else { 1.0 };
        let (ticks, decimals) = units::ticks(self.y[0] * factor, self.y[1] * factor, 5);
        for tick in ticks {
            let [_, y] = self.at(0.0, tick / factor);
            svg.line([LEFT, y], [WIDTH - RIGHT, y], "grid");
            let text = format!("{tick:.decimals$}{}", if percent { " %" } else { "" });
            svg.text(LEFT - 8.0, y + 3.5, Anchor::End, "tick", &text);
        }
        let bottom = HEIGHT - BOTTOM;
        svg.line([LEFT, bottom], [WIDTH - RIGHT, bottom], "axis");
        let (ticks, decimals) = units::ticks(0.0, self.x[1] / self.unit.scale, 6);
        for tick in ticks {
            let [x, _] = self.at(tick * self.unit.scale, 0.0);
            svg.line([x, bottom], [x, bottom + 4.0], "axis");
            svg.text(x, bottom + 16.0, Anchor::Middle, "tick", &format!("{tick:.decimals$}"));
        }
        let label = format!("total compute, {}", self.unit.name);
        svg.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, Anchor::Middle, "label", &label);
    }

    /// A vertical line with words at its top; the words turn inwards at the right edge.
    fn mark(&self, svg: &mut Svg, flops: f64, class: &str, words: &str) {
        let [x, _] = self.at(flops, 0.0);
        svg.line([x, TOP - 8.0], [x, HEIGHT - BOTTOM], class);
        let anchor = if x > WIDTH * 0.62 { Anchor::End } else { Anchor::Start };
        svg.text(x.min(WIDTH - RIGHT), TOP - 14.0, anchor, "note", words);
    }

    /// Where full fine-tuning would end.
    fn full(&self, svg: &mut Svg, full_equivalent: u64) {
        let full = full_equivalent as f64;
        if full_equivalent == 0 {
            return;
        }
        if full <= self.x[1] {
            self.mark(svg, full, "limit", "full fine-tuning");
        } else {
            let times = units::significant(full / (self.x[1] / 1.015));
            let words = format!("full fine-tuning: {} ({times} × as far) →", units::flops(full_equivalent));
            svg.text(WIDTH - RIGHT, TOP - 14.0, Anchor::End, "note", &words);
        }
    }

    fn line_path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        let mut broken = true;
        for (x, y) in points {
            if !y.is_finite() {
                broken = true;
                continue;
            }
            let [x, y] = self.at(x, y).map(coordinate);
            path.push_str(&format!("{}{x} {y}", if broken { 'M' } else { 'L' }));
            broken = false;
        }
        path
    }
}

/// Consecutive steps as one point.
struct Bucket {
    last: Step,
    flops: f64,
    mean: f64,
    range: [f64; 2],
    broken: usize,
}

/// The training loss: mean and range of consecutive steps, and their smoothed course.
pub(crate) fn loss(run: &Run<'_>) -> Option<String> {
    let buckets = buckets(&run.steps);
    let plane = Plane::new(run.spent(), buckets.iter().flat_map(|bucket| bucket.range), None)?;
    let mut svg = Svg::new(
        WIDTH,
        HEIGHT,
        "Training loss against total compute",
        "Thin line: mean of consecutive steps; thick line: smoothed; shade: least and greatest",
    );
    plane.axes(&mut svg, false);
    plane.full(&mut svg, run.full_equivalent);

    // Least to greatest, as one closed shape per unbroken stretch.
    for stretch in buckets.split(|bucket| !bucket.mean.is_finite()) {
        let there = plane.line_path(stretch.iter().map(|bucket| (bucket.flops, bucket.range[1])));
        let back = plane.line_path(stretch.iter().rev().map(|bucket| (bucket.flops, bucket.range[0])));
        if !there.is_empty() {
            svg.path(&format!("{there}{}Z", back.replacen('M', "L", 1)), "band");
        }
    }
    svg.path(&plane.line_path(buckets.iter().map(|bucket| (bucket.flops, bucket.mean))), "raw");
    let smooth = smooth(&buckets);
    let points = buckets.iter().zip(&smooth).map(|(bucket, &value)| (bucket.flops, value));
    svg.path(&plane.line_path(points), "smooth");

    let mut left = plane.at(0.0, 0.0)[0];
    for (bucket, smooth) in buckets.iter().zip(&smooth) {
        let right = plane.at(bucket.last.flops as f64, 0.0)[0];
        let Step { step, epoch, flops, seconds, .. } = bucket.last;
        let words = if bucket.mean.is_finite() {
            format!("loss {}, smoothed {}", units::significant(bucket.mean), units::significant(*smooth))
        } else {
            "loss is not a number".into()
        };
        let title = format!(
            "step {step}, epoch {epoch:.2}\n{words}\n{}, {}",
            units::flops(flops),
            units::seconds(seconds)
        );
        svg.rect([left, TOP, right - left, HEIGHT - TOP - BOTTOM], 0.0, "hit", &title);
        if bucket.broken > 0 {
            svg.line([right, HEIGHT - BOTTOM - 8.0], [right, HEIGHT - BOTTOM], "broken");
        }
        left = right;
    }
    Some(svg.finish())
}

/// How many steps had a loss that is not a number.
pub(crate) fn broken_steps(run: &Run<'_>) -> usize {
    run.steps.iter().filter(|step| !step.loss.is_finite()).count()
}

fn buckets(steps: &[Step]) -> Vec<Bucket> {
    let size = steps.len().div_ceil(BUCKETS).max(1);
    steps
        .chunks(size)
        .filter_map(|chunk| {
            let finite = || chunk.iter().map(|step| step.loss).filter(|loss| loss.is_finite());
            let count = finite().count();
            Some(Bucket {
                last: *chunk.last()?,
                flops: chunk.iter().map(|step| step.flops as f64).sum::<f64>() / chunk.len() as f64,
                mean: if count > 0 { finite().sum::<f64>() / count as f64 } else { f64::NAN },
                range: [finite().fold(f64::NAN, f64::min), finite().fold(f64::NAN, f64::max)],
                broken: chunk.len() - count,
            })
        })
        .collect()
}

/// A centred mean over about a twelfth of the run, so that the line does not lag behind the points.
fn smooth(buckets: &[Bucket]) -> Vec<f64> {
    let reach = buckets.len() / 24;
    (0..buckets.len())
        .map(|i| {
            if !buckets[i].mean.is_finite() {
                return f64::NAN;
            }
            // The same reach on both sides, or the ends would be drawn towards the middle.
            let reach = reach.min(i).min(buckets.len() - 1 - i);
            let near = buckets[i - reach..=i + reach].iter().map(|bucket| bucket.mean);
            let (sum, count) = near
                .filter(|mean| mean.is_finite())
                .fold((0.0, 0.0), |(sum, count), mean| (sum + mean, count + 1.0));
            sum / count
        })
        .collect()
}

/// The validation metric by which the run is judged.
pub(crate) fn validation(run: &Run<'_>) -> Option<String> {
    let name = run.metric()?;
    let points: Vec<_> = run
        .validations
        .iter()
        .filter_map(|validation| Some((validation, *validation.metrics.get(name)?)))
        .collect();
    let finite = || points.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
    let percent = units::larger_is_better(name) && finite().all(|value| (0.0..=1.0).contains(&value));
    let plane = Plane::new(run.spent(), finite(), percent.then_some(1.0))?;
    let title = format!("Validation {} against total compute", units::metric_name(name));
    let mut svg = Svg::new(WIDTH, HEIGHT, &title, "A filled dot is the best so far");
    plane.axes(&mut svg, percent);
    plane.full(&mut svg, run.full_equivalent);
    if let Some(convergence) = run.summary.map(|summary| &summary.convergence) {
        reached(&plane, &mut svg, convergence);
    }
    svg.path(
        &plane.line_path(points.iter().map(|(validation, value)| (validation.flops as f64, *value))),
        "metric",
    );
    for (validation, value) in &points {
        if !value.is_finite() {
            continue;
        }
        let [x, y] = plane.at(validation.flops as f64, *value);
        let mut title = format!("step {}, epoch {:.2}", validation.step, validation.epoch);
        for (name, value) in validation.metrics {
            title.push_str(&format!("\n{} {}", units::metric_name(name), units::metric(name, *value)));
        }
        title.push_str(&format!(
            "\n{}, {}",
            units::flops(validation.flops),
            units::seconds(validation.seconds)
        ));
        let class = if validation.best { "dot best" } else { "dot" };
        svg.circle(x, y, 4.0, class, &title);
    }
    Some(svg.finish())
}

/// Where 95, 98 and 100 % of the best value were reached.
fn reached(plane: &Plane, svg: &mut Svg, convergence: &Convergence) {
    let marks = [
        ("95 %", convergence.flops_to_95),
        ("98 %", convergence.flops_to_98),
        ("best", convergence.flops_to_100),
    ];
    let mut last = f64::NEG_INFINITY;
    for (words, flops) in marks {
        let Some(flops) = flops.map(|flops| flops as f64).filter(|flops| *flops <= plane.x[1]) else {
            continue;
        };
        let [x, _] = plane.at(flops, 0.0);
        svg.line([x, TOP], [x, HEIGHT - BOTTOM], "reached");
        // Marks that are reached together would write over each other.
        if x - last > 32.0 {
            let anchor = if x > WIDTH - 40.0 { Anchor::End } else { Anchor::Start };
            let shift = if x > WIDTH - 40.0 { -4.0 } else { 4.0 };
            svg.text(x + shift, HEIGHT - BOTTOM - 8.0, anchor, "tick", words);
            last = x;
        }
    }
}
