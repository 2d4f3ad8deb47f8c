//! Methods side by side, over budgets, settings, seeds and tasks: what they reached and what it cost.
//!
//! [`Comparison`] is plain data; [`comparison_text`] makes tables of it, [`comparison_page`] one self-contained HTML
//! page. Which runs there are, and how they come about, is not known here.

mod bars;
mod compute_to_quality;
mod page;
mod paired;
mod plots;
mod results;
mod statistics;
mod summary;
mod tables;
#[cfg(test)]
mod tests;

pub use bars::{Bar, Outcome};
pub use page::comparison_page;
pub use paired::Paired;
pub use results::{ResultsPart, results_part};
pub use statistics::{Estimate, ranks};
pub use summary::{Standing, Summary};
pub use tables::comparison_text;

use crate::units;

/// One run of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Its seed.
    pub seed: u64,
    /// The metric that is reported, of the test set, or of the validation set where there is no test.
    pub quality: f64,
    /// Total FLOPs over those of full fine-tuning.
    pub flops_ratio: f64,
    /// Seconds of training, probes included: of the processor where the system tells.
    pub seconds: f64,
    /// Where it ran: seconds of different machines are not compared.
    pub machine: String,
    /// `(FLOPs over those of full fine-tuning, validation metric)`, in the order of training.
    pub curve: Vec<(f64, f64)>,
}

/// Runs that differ in their seed alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Method.
    pub method: String,
    /// Settings that make it another row than the method's plain one, such as `signal=gram`; may be empty.
    pub settings: String,
    /// Share of full fine-tuning's compute that was allowed.
    pub budget: f64,
    /// The learning rate, and what else was chosen by validation: `1e-4`, `2e-4, k 2`.
    pub chosen: String,
    /// The runs that came to an end, by seed.
    pub points: Vec<Point>,
    /// What is missing: seed and why.
    pub missing: Vec<(u64, String)>,
}

impl Row {
    /// Method and settings: what a line of a plot is called.
    pub fn name(&self) -> String {
        [self.method.as_str(), &self.settings].join(" ").trim_end().to_owned()
    }

    /// The reported metric over the seeds.
    pub fn quality(&self) -> Option<Estimate> {
        self.estimate(|point| point.quality)
    }

    /// FLOPs over those of full fine-tuning, over the seeds.
    pub fn flops_ratio(&self) -> Option<Estimate> {
        self.estimate(|point| point.flops_ratio)
    }

    /// Seconds of training, over the seeds.
    pub fn seconds(&self) -> Option<Estimate> {
        self.estimate(|point| point.seconds)
    }

    /// Mean seconds over those of `full`, on the machines where both ran; `None` where there is none.
    pub fn seconds_of(&self, full: &Row) -> Option<f64> {
        let on = |row: &Row, machine: &str| {
            let seconds =
                row.points.iter().filter(|point| point.machine == machine).map(|point| point.seconds);
            Estimate::of(&seconds.collect::<Vec<_>>()).map(|estimate| estimate.mean)
        };
        let ratio = |point: &Point| Some(point.seconds / on(full, &point.machine)?);
        Estimate::of(&self.points.iter().filter_map(ratio).collect::<Vec<_>>()).map(|ratio| ratio.mean)
    }

    fn estimate(&self, value: fn(&Point) -> f64) -> Option<Estimate> {
        Estimate::of(&self.points.iter().map(value).collect::<Vec<_>>())
    }
}

/// One task: its rows in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskResults {
    /// Its name.
    pub name: String,
    /// Tasks of one group are summed up together as well; may be empty.
    pub group: String,
    /// The reported metric.
    pub metric: String,
    /// Whether that is the test set's; else the validation set's.
    pub on_test: bool,
    /// The rows.
    pub rows: Vec<Row>,
}

impl TaskResults {
    /// Whether a larger value of the metric is better.
    pub fn larger_is_better(&self) -> bool {
        units::larger_is_better(&self.metric)
    }

    /// Full fine-tuning, which the others are measured against: the first row of it.
    pub fn full(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.method == "full")
    }

    /// Whether the metric is a score from 0 to 1, shown in percent.
    fn percent(&self) -> bool {
        let mut values = self.rows.iter().flat_map(|row| &row.points).map(|point| point.quality);
        self.larger_is_better()
            && self.metric != "pearson"
            && values.all(|value| value.is_nan() || (0.0..=1.0).contains(&value))
    }

    /// `test accuracy`, as words.
    fn measured(&self) -> String {
        let set = if self.on_test { "test" } else { "validation" };
        format!("{set} {}", units::metric_name(&self.metric))
    }
}

/// Everything that was compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Heading.
    pub title: String,
    /// Processor, threads, version: one line.
    pub conditions: String,
    /// The tasks.
    pub tasks: Vec<TaskResults>,
}

impl Comparison {
    /// The names of all rows but plain `full`, in the order of their first appearance.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for row in self.tasks.iter().flat_map(|task| &task.rows) {
            let name = row.name();
            if name != "full" && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether a method was run with more than one budget.
    fn has_budgets(&self) -> bool {
        let rows = || self.tasks.iter().flat_map(|task| &task.rows).filter(|row| row.name() != "full");
        rows().any(|row| rows().any(|other| other.name() == row.name() && other.budget != row.budget))
    }
}
