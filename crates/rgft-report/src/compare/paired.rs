//! Two methods side by side: the mean difference in relative quality, task by task and seed by seed, with its interval.
//!
//! ```text
//! d_ts = r_ts(ours) − r_ts(other)        r: quality relative to full's mean, of task t and seed s
//! mean = mean over t of the mean over s of d_ts
//! ```
//!
//! The interval is the bootstrap's (Efron 1979), by percentiles: seeds are drawn anew within each task, and tasks, which
//! are what they are, stay. With few seeds it is narrower than it should be; the number of seeds stands beside it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Comparison, Row, TaskResults};

const DRAWS: usize = 10_000;

/// A mean difference and the interval that holds it in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// The mean.
    pub mean: f64,
    /// Its interval.
    pub interval: [f64; 2],
    /// Tasks behind it.
    pub tasks: usize,
    /// The fewest seeds of a task.
    pub seeds: usize,
}

impl Paired {
    /// `ours` minus `other` at a budget, over the tasks of `group` where both have all seeds' results.
    pub fn of(
        comparison: &Comparison,
        group: Option<&str>,
        budget: f64,
        ours: &str,
        other: &str,
    ) -> Option<Self> {
        let tasks = comparison.tasks.iter().filter(|task| group.is_none_or(|group| task.group == group));
        let differences: Vec<Vec<f64>> =
            tasks.filter_map(|task| differences(task, budget, ours, other)).collect();
        let mean = mean_of_means(differences.iter().map(|task| mean(task)))?;
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut draws: Vec<f64> = (0..DRAWS)
            .filter_map(|_| {
                mean_of_means(differences.iter().map(|task| {
                    let drawn = task.iter().map(|_| task[random.random_range(0..task.len())]);
                    drawn.sum::<f64>() / task.len() as f64
                }))
            })
            .collect();
        draws.sort_by(f64::total_cmp);
        let at = |part: f64| draws[((DRAWS - 1) as f64 * part).round() as usize];
        let seeds = differences.iter().map(Vec::len).min().unwrap_or_default();
        Some(Self { mean, interval: [at(0.025), at(0.975)], tasks: differences.len(), seeds })
    }

    /// Whether all of the interval lies above 0.
    pub fn is_above(&self) -> bool {
        self.interval[0] > 0.0
    }
}

/// By seed; `None` where something is missing.
fn differences(task: &TaskResults, budget: f64, ours: &str, other: &str) -> Option<Vec<f64>> {
    let full = task.full()?.quality()?.mean;
    let row = |name: &str| {
        let is_it = |row: &&Row| row.name() == name && row.budget == budget && row.missing.is_empty();
        task.rows.iter().find(is_it).filter(|row| !row.points.is_empty())
    };
    let relative = |quality: f64| if task.larger_is_better() { quality / full } else { full / quality };
    let (ours, other) = (row(ours)?, row(other)?);
    let pair = |mine: &super::Point| {
        let theirs = other.points.iter().find(|theirs| theirs.seed == mine.seed)?;
        Some(relative(mine.quality) - relative(theirs.quality))
    };
    ours.points.iter().map(pair).collect::<Option<Vec<f64>>>().filter(|all| all.iter().all(|d| d.is_finite()))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn mean_of_means(means: impl Iterator<Item = f64>) -> Option<f64> {
    let means: Vec<f64> = means.collect();
    (!means.is_empty()).then(|| mean(&means))
}
