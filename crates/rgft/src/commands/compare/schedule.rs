//! What is to be run next, and what validation has chosen: functions of the runs that are there.

use std::collections::BTreeMap;

use super::grid::{Cell, Task, search_budget};
use super::records::Record;

/// What is known of a task's runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By identity; those that failed and would fail again among them.
    pub(super) records: BTreeMap<String, Record>,
    /// Runs of this process without a result, by identity, and why.
    pub(super) failed: BTreeMap<String, String>,
}

impl Known {
    /// The result of `cell`, if there is one.
    pub(super) fn result(&self, cell: &Cell) -> Option<&Record> {
        self.records.get(&cell.identity).filter(|record| record.failed.is_none())
    }

    /// Why `cell` has no result; `None` for one that was not run.
    pub(super) fn failure(&self, cell: &Cell) -> Option<&str> {
        let recorded = self.records.get(&cell.identity).and_then(|record| record.failed.as_deref());
        recorded.or_else(|| self.failed.get(&cell.identity).map(String::as_str))
    }

    /// Whether `cell` was run, with whatever result.
    pub(super) fn over(&self, cell: &Cell) -> bool {
        self.result(cell).is_some() || self.failure(cell).is_some()
    }
}

/// The validation metric by which `record` is judged.
pub(super) fn validation(record: &Record) -> Option<f64> {
    record.validation.get(&record.metric).copied().flatten().filter(|value| value.is_finite())
}

/// How a choice at a budget stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    /// Runs that it depends on are missing.
    Open,
    /// The choice.
    Made(usize),
    /// None of the runs has a result.
    Impossible,
}

/// The choice of `arm` for `budget`: the best mean validation metric at the searched budget, the first among equals.
pub(super) fn decide(task: &Task, known: &Known, arm: usize, budget: f64) -> Decision {
    let choices = task.arms[arm].choices.len();
    if choices < 2 {
        return Decision::Made(0);
    }
    let searched = search_budget(budget);
    let cells =
        || task.cells.iter().filter(|cell| cell.arm == arm && cell.searches && cell.budget == searched);
    if !cells().all(|cell| known.over(cell)) {
        return Decision::Open;
    }
    let mut best: Option<(usize, f64)> = None;
    for choice in 0..choices {
        let results: Option<Vec<(f64, &Record)>> = cells()
            .filter(|cell| cell.choice == choice)
            .map(|cell| known.result(cell).and_then(|record| Some((validation(record)?, record))))
            .collect();
        let Some(results) = results.filter(|results| !results.is_empty()) else { continue };
        let sign = if rgft_report::larger_is_better(&results[0].1.metric) { 1.0 } else { -1.0 };
        let score = sign * results.iter().map(|(value, _)| value).sum::<f64>() / results.len() as f64;
        if best.is_none_or(|(_, known)| score > known) {
            best = Some((choice, score));
        }
    }
    best.map_or(Decision::Impossible, |(choice, _)| Decision::Made(choice))
}

/// The runs of `task` that can be made now, in order: searches first, then seed by seed.
pub(super) fn ready<'a>(task: &'a Task, known: &Known) -> Vec<&'a Cell> {
    let missing = || task.cells.iter().filter(|cell| !known.over(cell));
    let mut ready: Vec<&Cell> = missing().filter(|cell| cell.searches).collect();
    let mut decisions = BTreeMap::new();
    let mut chosen = |cell: &Cell| {
        let of = decisions
            .entry((cell.arm, cell.budget.to_bits()))
            .or_insert_with(|| decide(task, known, cell.arm, cell.budget));
        *of == Decision::Made(cell.choice)
    };
    let mut shown: Vec<&Cell> =
        missing().filter(|cell| cell.shown && !cell.searches && chosen(cell)).collect();
    shown.sort_by_key(|cell| cell.seed);
    ready.append(&mut shown);
    ready
}

/// The cost of every run that is still to be made, in runs of full fine-tuning: what can be run and what waits for a
/// choice.
pub(super) fn left(task: &Task, known: &Known) -> (usize, f64) {
    let mut left = (0, 0.0);
    let mut count = |cell: &Cell| {
        left.0 += 1;
        left.1 += cost(cell);
    };
    for cell in &task.cells {
        let undecided = cell.shown && cell.choice == 0 && !cell.searches;
        let open = || decide(task, known, cell.arm, cell.budget) == Decision::Open;
        if undecided && open() {
            count(cell);
        }
    }
    ready(task, known).into_iter().for_each(count);
    left
}

/// What a run costs, in runs of full fine-tuning: its budget, and evaluation and loading, which every run has.
pub(super) fn cost(cell: &Cell) -> f64 {
    cell.budget + 0.1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rgft_train::recipe::{MethodName, RawRecipe};

    use super::super::grid::{Grid, Rates};
    use super::*;

    fn task() -> Task {
        let mut raw = RawRecipe::default();
        ["model=m", "data=d.csv", "task=text-classification"].iter().for_each(|a| raw.assign(a).unwrap());
        let grid = Grid {
            methods: vec![MethodName::Full, MethodName::Rgft],
            budgets: vec![0.1, 0.3],
            seeds: 2,
            search_seeds: 1,
            rates: Some(Rates::List(vec![1e-4, 2e-4])),
            rate_factors: Vec::new(),
            last_ks: vec![1],
            varied: Vec::new(),
            ablated: Vec::new(),
        };
        Task::new("t", &raw, &grid).unwrap()
    }

    fn give(known: &mut Known, cell: &Cell, accuracy: f64) {
        let validation = [("accuracy".to_owned(), Some(accuracy))].into();
        let record = Record { metric: "accuracy".into(), validation, ..Record::default() };
        known.records.insert(cell.identity.clone(), record);
    }

    #[test]
    fn searches_come_first_and_the_best_choice_alone_is_run() {
        let (task, mut known) = (task(), Known::default());
        let searches: Vec<Cell> = ready(&task, &known).into_iter().cloned().collect();
        assert_eq!(searches.len(), 4);
        assert!(searches.iter().all(|cell| cell.searches && cell.seed == 0));
        // 4 searches; of the seed that is not searched, full once and rgft at two budgets; of the other, rgft at 0.1.
        assert_eq!(left(&task, &known).0, 4 + 3 + 1);
        for cell in &searches {
            let best = (cell.arm == 0) == (cell.choice == 0);
            give(&mut known, cell, if best { 0.9 } else { 0.8 });
        }
        let decisions = [(0, 1.0), (1, 0.1)].map(|(arm, budget)| decide(&task, &known, arm, budget));
        assert_eq!(decisions, [Decision::Made(0), Decision::Made(1)]);
        let runs: Vec<_> = ready(&task, &known).iter().map(|c| (c.arm, c.choice, c.budget, c.seed)).collect();
        assert_eq!(runs, [(1, 1, 0.1, 0), (0, 0, 1.0, 1), (1, 1, 0.1, 1), (1, 1, 0.3, 1)]);
        let (runs, cost) = left(&task, &known);
        assert!(runs == 4 && (cost - 1.9).abs() < 1e-9, "{cost}");
    }

    #[test]
    fn a_choice_that_failed_is_not_taken() {
        let (task, mut known) = (task(), Known::default());
        for cell in task.cells.iter().filter(|cell| cell.searches) {
            match (cell.arm, cell.choice) {
                (0, 0) => give(&mut known, cell, f64::NAN),
                (0, 1) => give(&mut known, cell, 0.5),
                _ => drop(known.failed.insert(cell.identity.clone(), "killed".into())),
            }
        }
        assert_eq!(
            [(0, 1.0), (1, 0.3)].map(|(arm, budget)| decide(&task, &known, arm, budget)),
            [Decision::Made(1), Decision::Impossible]
        );
        assert!(ready(&task, &known).iter().all(|cell| cell.arm == 0 && cell.choice == 1));
    }
}
