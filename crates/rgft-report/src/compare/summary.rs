//! All tasks together: for each budget, each method's mean relative quality and mean rank.
//!
//! Ranks are among the methods of one budget; `full`, which spends everything, stands outside. A task where one of the
//! methods lacks a seed's result at a budget is left out at that budget, for all methods alike, and named.

use super::{Comparison, Estimate, TaskResults, ranks};

/// A method at a budget, over tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Method and settings.
    pub name: String,
    /// Quality relative to `full`, mean over tasks; its error comes from the seeds. `None` without `full`.
    pub relative: Option<Estimate>,
    /// Rank, mean over tasks; its error comes from the tasks.
    pub rank: Estimate,
    /// Difference to `full` in points of 100, mean over tasks, its error from both; `None` where a metric is no score.
    pub points: Option<Estimate>,
}

/// One budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Share of full fine-tuning's compute.
    pub budget: f64,
    /// Tasks behind it.
    pub tasks: usize,
    /// Tasks left out, because a method lacks a result there.
    pub left_out: Vec<String>,
    /// The methods, in the order of the comparison.
    pub standings: Vec<Standing>,
}

impl Summary {
    /// Sums up all tasks, or those of `group`; no line for a budget at which no task has every method.
    pub fn of(comparison: &Comparison, group: Option<&str>) -> Vec<Self> {
        let tasks: Vec<&TaskResults> =
            comparison.tasks.iter().filter(|task| group.is_none_or(|group| task.group == group)).collect();
        let mut budgets: Vec<f64> = Vec::new();
        for row in tasks.iter().flat_map(|task| &task.rows) {
            if row.name() != "full" && !budgets.contains(&row.budget) {
                budgets.push(row.budget);
            }
        }
        budgets.sort_by(f64::total_cmp);
        let names = comparison.names();
        budgets.into_iter().filter_map(|budget| Self::at(&tasks, budget, &names)).collect()
    }

    fn at(tasks: &[&TaskResults], budget: f64, names: &[String]) -> Option<Self> {
        let has = |name: &str| {
            tasks.iter().any(|task| task.rows.iter().any(|row| row.budget == budget && row.name() == name))
        };
        let names: Vec<&String> = names.iter().filter(|name| has(name)).collect();
        let mut parts: Vec<[Vec<Option<Estimate>>; 2]> = vec![Default::default(); names.len()];
        let mut places: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        let mut left_out = Vec::new();
        for task in tasks {
            let of = |name: &&String| {
                let row = task.rows.iter().find(|row| row.budget == budget && row.name() == **name);
                row.filter(|row| row.missing.is_empty()).and_then(|row| row.quality())
            };
            let Some(qualities) = names.iter().map(of).collect::<Option<Vec<_>>>() else {
                left_out.push(task.name.clone());
                continue;
            };
            let larger = task.larger_is_better();
            let full = task.full().and_then(|row| row.quality());
            let ranks = ranks(&qualities.iter().map(|quality| quality.mean).collect::<Vec<_>>(), larger);
            for (i, quality) in qualities.iter().enumerate() {
                places[i].push(ranks[i]);
                parts[i][0].push(full.and_then(|full| quality.relative_to(full.mean, larger)));
                let points = full.filter(|_| task.percent()).map(|full| quality.minus(full).times(100.0));
                parts[i][1].push(points);
            }
        }
        let mean =
            |parts: Vec<Option<Estimate>>| Estimate::mean_of(&parts.into_iter().collect::<Option<Vec<_>>>()?);
        let standings: Option<Vec<Standing>> = names
            .iter()
            .zip(places)
            .zip(parts)
            .map(|((name, places), [relative, points])| {
                let rank = Estimate::of(&places)?;
                Some(Standing { name: (*name).clone(), relative: mean(relative), rank, points: mean(points) })
            })
            .collect();
        let standings = standings.filter(|standings| !standings.is_empty())?;
        Some(Self { budget, tasks: tasks.len() - left_out.len(), left_out, standings })
    }
}
