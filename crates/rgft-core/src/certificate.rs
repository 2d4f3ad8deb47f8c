//! The convergence certificate: which conditions of the theory held during a run. What does not hold, or was not
//! looked at, is said.

use serde::{Deserialize, Serialize};

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was observed, and held each time.
    Holds,
    /// It was broken at least once.
    DoesNotHold,
    /// The run did not observe it, or the theory says nothing of this case.
    NotCovered,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Its name: `energies finite and non-negative`.
    pub condition: String,
    /// What is known of it.
    pub status: Status,
    /// What was observed, in one sentence.
    pub detail: String,
    /// The number behind it, where there is one.
    pub value: Option<f64>,
}

/// `certificate.json`: the list of conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Certificate {
    /// Every condition, in the order of the theory.
    pub conditions: Vec<Condition>,
}

impl Certificate {
    /// The conditions that were broken.
    pub fn broken(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| condition.status == Status::DoesNotHold)
    }

    /// The condition of that name.
    pub fn get(&self, condition: &str) -> Option<&Condition> {
        self.conditions.iter().find(|entry| entry.condition == condition)
    }
}
