//! Bars: what a suite promises of `rgft`, and whether its results keep it.

use serde::Deserialize;

use super::compute_to_quality::{Aim, Cost, Needed, over_tasks};
use super::{Comparison, Paired, Row, Summary, TaskResults};
use crate::units;

/// What is promised. Exactly one of `points`, `above`, `first`, `quality`, `seconds`, `compute` and `spent` says of what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bar {
    /// In words.
    pub what: String,
    /// The tasks of this group; absent: all.
    pub group: Option<String>,
    /// At these budgets; absent: at all.
    #[serde(default)]
    pub budgets: Vec<f64>,
    /// The least difference to `full`, in points of 100, mean over the tasks.
    pub points: Option<f64>,
    /// Methods that the mean relative quality is not below.
    #[serde(default)]
    pub above: Vec<String>,
    /// With `above`: and whose paired difference has an interval above 0.
    #[serde(default)]
    pub surely: bool,
    /// That no other method has a better mean rank.
    #[serde(default)]
    pub first: bool,
    /// The least quality on each of the tasks, in points of 100.
    pub quality: Option<f64>,
    /// The most seconds, of `full`'s on the same machine, mean over the tasks.
    pub seconds: Option<f64>,
    /// The most FLOPs, of `full`'s, to come within 0.3 points of it: geometric mean over the tasks.
    pub compute: Option<f64>,
    /// With `compute`: on each of the tasks.
    #[serde(default)]
    pub each: bool,
    /// With `compute`: as a part of what each of these methods takes, not of `full`'s.
    #[serde(default)]
    pub than: Vec<String>,
    /// How far the FLOPs of any run may be from its budget, as a part of it.
    pub spent: Option<f64>,
}

/// How a bar stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was measured, in words.
    pub measured: String,
    /// Whether it is reached; `None` where results are missing.
    pub reached: Option<bool>,
}

impl Outcome {
    /// All of them together: a miss stays a miss, whatever is still to come.
    fn all(parts: Vec<Self>, separator: &str) -> Self {
        let missed = parts.iter().any(|part| part.reached == Some(false));
        let open = parts.is_empty() || parts.iter().any(|part| part.reached.is_none());
        let measured = parts.into_iter().map(|part| part.measured).collect::<Vec<_>>().join(separator);
        Self {
            measured: if measured.is_empty() { "not measured".into() } else { measured },
            reached: (missed || !open).then_some(!missed),
        }
    }
}

impl Bar {
    /// Whether it says what is measured, once.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let numbers = [self.points, self.quality, self.seconds, self.compute, self.spent];
        let said =
            numbers.iter().flatten().count() + usize::from(!self.above.is_empty()) + usize::from(self.first);
        match said {
            1 if self.surely && self.above.is_empty() => {
                Err(format!("bar {:?}: surely goes with above", self.what))
            }
            1 if self.compute.is_none() && (self.each || !self.than.is_empty()) => {
                Err(format!("bar {:?}: each and than go with compute", self.what))
            }
            1 if self.compute.is_some() && !self.budgets.is_empty() => {
                Err(format!("bar {:?}: compute is over all budgets", self.what))
            }
            1 if self.each && !self.than.is_empty() => {
                Err(format!("bar {:?}: one of each and than", self.what))
            }
            1 => Ok(()),
            _ => Err(format!(
                "bar {:?}: expected one of points, above, first, quality, seconds, compute and spent",
                self.what
            )),
        }
    }

    /// How it stands.
    pub fn outcome(&self, comparison: &Comparison) -> Outcome {
        if let Some(spent) = self.spent {
            return self.spent(comparison, spent);
        }
        if let Some(most) = self.compute {
            return self.compute(comparison, most);
        }
        let mut budgets = self.budgets.clone();
        if budgets.is_empty() {
            budgets = self.rows(comparison).map(|(_, row)| row.budget).collect();
            budgets.sort_by(f64::total_cmp);
            budgets.dedup();
        }
        Outcome::all(budgets.into_iter().map(|budget| self.at(comparison, budget)).collect(), "; ")
    }

    fn tasks<'a>(&'a self, comparison: &'a Comparison) -> impl Iterator<Item = &'a TaskResults> {
        comparison.tasks.iter().filter(|task| self.group.as_ref().is_none_or(|group| task.group == *group))
    }

    /// The plain rows of `rgft`.
    fn rows<'a>(&'a self, comparison: &'a Comparison) -> impl Iterator<Item = (&'a TaskResults, &'a Row)> {
        self.tasks(comparison)
            .flat_map(|task| task.rows.iter().filter(|row| row.name() == "rgft").map(move |row| (task, row)))
    }

    fn at(&self, comparison: &Comparison, budget: f64) -> Outcome {
        let at = format!("at {}", units::percent_round(budget));
        let missing = Outcome { measured: format!("{at}: not measured"), reached: None };
        if self.quality.is_some() || self.seconds.is_some() {
            return self.each(comparison, budget).unwrap_or(missing);
        }
        let summaries = Summary::of(comparison, self.group.as_deref());
        let Some(summary) = summaries.iter().find(|summary| summary.budget == budget) else { return missing };
        let Some(ours) = summary.standings.iter().find(|line| line.name == "rgft") else { return missing };
        let whole = summary.left_out.is_empty();
        let without =
            if whole { String::new() } else { format!(", without {}", summary.left_out.join(" and ")) };
        if let Some(least) = self.points {
            let Some(points) = ours.points else { return missing };
            let error = points.error.map(|error| format!(" ± {error:.2}")).unwrap_or_default();
            let measured = format!("{at}: {:+.2}{error} points{without}", points.mean);
            return Outcome { measured, reached: whole.then_some(points.mean >= least) };
        }
        if self.first {
            let others = summary.standings.iter().filter(|line| line.name != "rgft");
            let Some(best) = others.min_by(|a, b| a.rank.mean.total_cmp(&b.rank.mean)) else {
                return missing;
            };
            let [mine, best_rank] = [ours.rank.mean, best.rank.mean];
            let measured = format!("{at}: {mine:.2}, {} {best_rank:.2}{without}", best.name);
            return Outcome { measured, reached: whole.then_some(mine <= best_rank) };
        }
        let against = |other: &String| {
            let Some(paired) = Paired::of(comparison, self.group.as_deref(), budget, "rgft", other) else {
                return Outcome { measured: format!("{other} not measured"), reached: None };
            };
            let [low, high] = paired.interval.map(|end| 100.0 * end);
            let measured = format!("{:+.2} % [{low:+.2}, {high:+.2}] over {other}", 100.0 * paired.mean);
            let reached = if self.surely { paired.is_above() } else { paired.mean >= 0.0 };
            Outcome { measured, reached: whole.then_some(reached) }
        };
        let all = Outcome::all(self.above.iter().map(against).collect(), ", ");
        Outcome { measured: format!("{at}: {}{without}", all.measured), ..all }
    }

    /// Task by task.
    fn each(&self, comparison: &Comparison, budget: f64) -> Option<Outcome> {
        let at = format!("at {}", units::percent_round(budget));
        let rows: Vec<_> = self.rows(comparison).filter(|(_, row)| row.budget == budget).collect();
        let whole = rows.len() == self.tasks(comparison).count()
            && rows.iter().all(|(_, row)| row.missing.is_empty() && !row.points.is_empty());
        if let Some(most) = self.seconds {
            let ratios: Vec<f64> =
                rows.iter().filter_map(|(task, row)| row.seconds_of(task.full()?)).collect();
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            let measured = format!("{at}: {mean:.3} on {} of {} tasks", ratios.len(), rows.len());
            let all = whole && ratios.len() == rows.len();
            return (!ratios.is_empty()).then(|| Outcome { measured, reached: all.then_some(mean <= most) });
        }
        let least = self.quality?;
        let of_task = |(task, row): &(&TaskResults, &Row)| {
            let quality =
                row.quality().filter(|_| row.missing.is_empty()).map(|quality| 100.0 * quality.mean);
            let measured = quality.map_or("not measured".into(), |quality| format!("{quality:.2}"));
            let reached = quality.map(|quality| quality >= least);
            Outcome { measured: format!("{} {measured}", task.name), reached }
        };
        let all = Outcome::all(rows.iter().map(of_task).collect(), ", ");
        Some(Outcome { measured: format!("{at}: {}", all.measured), ..all })
    }

    /// To full's quality, or near it.
    fn compute(&self, comparison: &Comparison, most: f64) -> Outcome {
        let missing = || Outcome { measured: "not measured".into(), reached: None };
        let tasks = self.tasks(comparison).count();
        if self.each {
            let of_task = |task| Some((task, Needed::of(task, "rgft", Aim::Near, Cost::Flops)?));
            let needed: Vec<(&TaskResults, Needed)> = self.tasks(comparison).filter_map(of_task).collect();
            let Some((task, worst)) = needed.iter().max_by(|a, b| a.1.value().total_cmp(&b.1.value())) else {
                return missing();
            };
            let within = needed.iter().filter(|(_, needed)| needed.value() <= most).count();
            let measured = format!(
                "on {within} of {tasks} tasks, of {} known; {:.3} at most ({})",
                needed.len(),
                worst.value(),
                task.name
            );
            // The least budget that was run bounds from above alone: a smaller one may be enough.
            let is_open = |needed: &Needed| matches!(needed, Needed::AtMost(cost) if *cost > most);
            let open = needed.iter().filter(|(_, needed)| is_open(needed)).count();
            let missed = within + open < needed.len();
            let reached = (missed || (open == 0 && needed.len() == tasks)).then_some(!missed);
            return Outcome { measured, reached };
        }
        let of = |name: &str| {
            let (mean, _, known) =
                over_tasks(comparison, self.group.as_deref(), name, Aim::Near, Cost::Flops)?;
            Some((mean, known == tasks))
        };
        let Some((ours, whole)) = of("rgft") else { return missing() };
        if self.than.is_empty() {
            return Outcome { measured: format!("{ours:.3}"), reached: whole.then_some(ours <= most) };
        }
        let against = |other: &String| {
            let Some((theirs, known)) = of(other) else {
                return Outcome { measured: format!("{other} not measured"), reached: None };
            };
            let measured = format!("{ours:.3} of {other}'s {theirs:.3}");
            Outcome { measured, reached: (whole && known).then_some(ours <= most * theirs) }
        };
        Outcome::all(self.than.iter().map(against).collect(), ", ")
    }

    fn spent(&self, comparison: &Comparison, within: f64) -> Outcome {
        let is_meant = |row: &Row| self.budgets.is_empty() || self.budgets.contains(&row.budget);
        let rows: Vec<_> = self.rows(comparison).filter(|(_, row)| is_meant(row)).collect();
        let whole = rows.iter().all(|(_, row)| row.missing.is_empty() && !row.points.is_empty());
        let runs = rows.iter().flat_map(|(task, row)| {
            row.points.iter().map(move |point| (task, row.budget, point.flops_ratio / row.budget - 1.0))
        });
        let worst = runs.max_by(|a, b| a.2.abs().total_cmp(&b.2.abs()));
        match worst {
            None => Outcome { measured: "not measured".into(), reached: None },
            Some((task, budget, off)) => Outcome {
                measured: format!(
                    "{:+.2} % at most ({} at {})",
                    100.0 * off,
                    task.name,
                    units::percent_round(budget)
                ),
                reached: Some(off.abs() <= within).filter(|within| whole || !within),
            },
        }
    }
}
