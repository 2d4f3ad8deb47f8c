//! What the guard keeps of its observations: a count of breaches with the first one, and the extent of a number.

use crate::certificate::{Condition, Status};

/// How often a condition was observed and broken.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    observed: u64,
    broken: u64,
    first: String,
}

impl Record {
    /// One observation, and how it broke the condition if it did.
    pub(super) fn see(&mut self, breach: Option<String>) {
        self.observed += 1;
        if let Some(breach) = breach {
            if self.broken == 0 {
                self.first = breach;
            }
            self.broken += 1;
        }
    }

    /// The condition called `name`, which promises that `promise`.
    pub(super) fn condition(&self, name: &str, promise: &str) -> Condition {
        let Self { observed, broken, first } = self;
        let (status, detail) = match (observed, broken) {
            (0, _) => (Status::NotCovered, "never observed".to_owned()),
            (_, 0) => (Status::Holds, format!("{promise} in all of {observed} observations")),
            _ => (
                Status::DoesNotHold,
                format!("{promise}: broken in {broken} of {observed} observations, first at {first}"),
            ),
        };
        let value = (*observed > 0).then_some(*broken as f64);
        Condition { condition: name.to_owned(), status, detail, value }
    }
}

/// Least, mean and largest of a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Extent {
    count: u64,
    sum: f64,
    bounds: Option<(f64, f64)>,
}

impl Extent {
    pub(super) fn add(&mut self, value: f64) {
        let (min, max) = self.bounds.unwrap_or((value, value));
        self.bounds = Some((min.min(value), max.max(value)));
        self.count += 1;
        self.sum += value;
    }

    /// `(min, mean, max)`; `None` before the first value.
    pub(super) fn summary(&self) -> Option<(f64, f64, f64)> {
        self.bounds.map(|(min, max)| (min, self.sum / self.count as f64, max))
    }
}
