//! How much compute a method takes to come to full fine-tuning's quality, or near it.
//!
//! ```text
//! r(c)       quality relative to full's mean, at the budgets that were run (c: their mean cost over full's, r: over seeds),
//!            straight lines between them
//! needed     min { c : r(c) ≥ aim }        in FLOPs or in seconds
//! ```
//!
//! The least budget that was run bounds it from above where that is enough already. Over tasks the geometric mean is taken;
//! where a method does not come there with any budget, or for more than full fine-tuning takes, full fine-tuning does, for 1.
//! A method of which a budget lacks a result says nothing yet.

use super::{Comparison, Row, TaskResults};
use crate::units;

/// How near to full fine-tuning's quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    /// This part of it.
    Part(f64),
    /// Within 0.3 points of a score, or 0.3 % of another metric: what it takes is ρ* in FLOPs.
    Near,
}

impl Aim {
    pub(super) const ALL: [Self; 4] = [Self::Part(0.95), Self::Part(0.98), Self::Near, Self::Part(1.0)];

    pub(super) fn name(self) -> String {
        match self {
            Self::Part(part) => units::percent_round(part),
            Self::Near => "within 0.3 points".into(),
        }
    }

    fn relative(self, task: &TaskResults, full: f64) -> f64 {
        match self {
            Self::Part(part) => part,
            Self::Near if task.percent() => 1.0 - 0.003 / full,
            Self::Near => 0.997,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Flops,
    Seconds,
}

/// What a method needs on a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Needed {
    /// This much of full fine-tuning's.
    Exactly(f64),
    /// The least budget that was run is enough.
    AtMost(f64),
    /// No budget that was run is enough.
    NotReached,
}

impl Needed {
    /// As a number: 1 where full fine-tuning has to do it.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Exactly(cost) | Self::AtMost(cost) => cost.min(1.0),
            Self::NotReached => 1.0,
        }
    }

    /// On one task; `None` where a budget lacks a result that may be enough, or where the cost is not known.
    pub(super) fn of(task: &TaskResults, name: &str, aim: Aim, cost: Cost) -> Option<Self> {
        let full = task.full()?;
        let best = full.quality()?.mean;
        let aim = aim.relative(task, best);
        let mut rows: Vec<&Row> = task.rows.iter().filter(|row| row.name() == name).collect();
        rows.sort_by(|a, b| a.budget.total_cmp(&b.budget));
        let mut before: Option<(f64, f64)> = None;
        for row in &rows {
            let quality = row.quality().filter(|_| row.missing.is_empty())?;
            let relative = quality.relative_to(best, task.larger_is_better())?.mean;
            let cost = match cost {
                Cost::Flops => row.flops_ratio()?.mean,
                Cost::Seconds => row.seconds_of(full)?,
            };
            if relative >= aim {
                return Some(match before {
                    None => Self::AtMost(cost),
                    Some((below, low)) => {
                        Self::Exactly(below + (cost - below) * (aim - low) / (relative - low))
                    }
                });
            }
            before = Some((cost, relative));
        }
        before.map(|_| Self::NotReached)
    }
}

/// The geometric mean over the tasks of `group` where the cost is known, on how many of them the method comes there, and how
/// many they are; `None` without any, and while a budget lacks a result.
pub(super) fn over_tasks(
    comparison: &Comparison,
    group: Option<&str>,
    name: &str,
    aim: Aim,
    cost: Cost,
) -> Option<(f64, usize, usize)> {
    let of_group = |task: &&TaskResults| group.is_none_or(|group| task.group == group);
    let tasks = || comparison.tasks.iter().filter(of_group);
    let lacks = |row: &Row| row.name() == name && (row.points.is_empty() || !row.missing.is_empty());
    if tasks().any(|task| task.rows.iter().any(lacks)) {
        return None;
    }
    let needed: Vec<Needed> = tasks().filter_map(|task| Needed::of(task, name, aim, cost)).collect();
    let logs: f64 = needed.iter().map(|needed| needed.value().ln()).sum();
    let reached = needed.iter().filter(|needed| **needed != Needed::NotReached).count();
    (!needed.is_empty()).then(|| ((logs / needed.len() as f64).exp(), reached, needed.len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Point;
    use super::*;

    /// A task on which full gives 0.8 (or a loss of 2), and a method these qualities at these budgets.
    fn task(metric: &str, full: f64, qualities: &[(f64, f64)]) -> TaskResults {
        let row = |method: &str, budget: f64, quality: f64| Row {
            method: method.into(),
            budget,
            points: vec![Point {
                quality,
                flops_ratio: budget,
                seconds: 20.0 * budget,
                machine: "one".into(),
                ..Point::default()
            }],
            ..Row::default()
        };
        let mut rows = vec![row("full", 1.0, full)];
        rows.extend(qualities.iter().map(|&(budget, quality)| row("rgft", budget, quality)));
        TaskResults { metric: metric.into(), rows, ..TaskResults::default() }
    }

    #[test]
    fn what_is_needed_by_hand() {
        let score = task("accuracy", 0.8, &[(0.1, 0.7), (0.3, 0.78), (0.5, 0.81)]);
        let of = |aim, cost| Needed::of(&score, "rgft", aim, cost).unwrap();
        let near = |needed: Needed, expected: f64| match needed {
            Needed::Exactly(cost) => assert!((cost - expected).abs() < 1e-12, "{cost} {expected}"),
            other => panic!("{other:?}"),
        };
        // 95 % of 0.8 is 0.76, three quarters of the way from 0.7 to 0.78.
        near(of(Aim::Part(0.95), Cost::Flops), 0.1 + 0.2 * 0.75);
        // 0.3 points below 0.8.
        near(of(Aim::Near, Cost::Flops), 0.3 + 0.2 * 0.017 / 0.03);
        near(of(Aim::Part(1.0), Cost::Seconds), 0.3 + 0.2 * 0.02 / 0.03);
        assert_eq!(of(Aim::Part(0.8), Cost::Flops), Needed::AtMost(0.1));
        assert_eq!(of(Aim::Part(1.1), Cost::Flops), Needed::NotReached);
        // A loss: 2 of 2.5 is 80 %, 2 of 2 all of it.
        let loss = task("mse", 2.0, &[(0.2, 2.5), (0.4, 2.0)]);
        near(Needed::of(&loss, "rgft", Aim::Part(0.9), Cost::Flops).unwrap(), 0.3);
        near(Needed::of(&loss, "rgft", Aim::Near, Cost::Flops).unwrap(), 0.2 + 0.2 * 0.197 / 0.2);
        assert_eq!(Needed::of(&loss, "lora", Aim::Near, Cost::Flops), None);
    }

    #[test]
    fn over_tasks_the_mean_is_geometric_and_what_does_not_come_there_costs_one() {
        let tasks = vec![
            task("accuracy", 0.8, &[(0.25, 0.9)]),
            task("accuracy", 0.8, &[(0.25, 0.1)]),
            task("accuracy", 0.8, &[]),
        ];
        let mut comparison = Comparison { tasks, ..Comparison::default() };
        let of = |comparison: &Comparison| {
            over_tasks(comparison, None, "rgft", Aim::Part(1.0), Cost::Flops).unwrap()
        };
        let (mean, reached, tasks) = of(&comparison);
        assert!((mean - 0.5).abs() < 1e-12);
        assert_eq!((reached, tasks), (1, 2));
        let open = |comparison: &Comparison| {
            over_tasks(comparison, None, "rgft", Aim::Part(1.0), Cost::Flops).is_none()
                && Needed::of(&comparison.tasks[1], "rgft", Aim::Part(1.0), Cost::Flops).is_none()
        };
        comparison.tasks[1].rows.push(Row { method: "rgft".into(), budget: 0.5, ..Row::default() });
        assert!(open(&comparison), "a budget that was not run may be enough");
        comparison.tasks[1].rows.pop();
        comparison.tasks[1].rows[1].missing.push((1, "failed".into()));
        assert!(open(&comparison), "so may one that lacks a seed");
    }
}
