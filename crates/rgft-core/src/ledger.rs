//! The ledger: every FLOP of a run, on the account that it was spent for.
//!
//! One convention for all methods, so that their totals can be compared:
//!
//! * a product `[m, k] × [k, n]` is `2·m·k·n`; so a linear map forward, its dX and its dW cost the same;
//! * the update costs [`ADAMW_FLOPS`] or [`SGD_FLOPS`] per scalar that is updated;
//! * elementwise passes, softmax and norms are not counted: they are the same for every method and under 2 % at
//!   the shapes of real models;
//! * padding is not counted, because it is never computed; an embedding look-up is no product;
//! * evaluation on validation and test data is kept apart and is not part of the total.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// FLOPs of AdamW per updated scalar: two moments, bias corrections, root, quotient, decay, step.
pub const ADAMW_FLOPS: u64 = 12;
/// FLOPs of SGD with momentum per updated scalar: momentum, decay, step.
pub const SGD_FLOPS: u64 = 4;

/// What a FLOP was spent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// Forward passes of training steps.
    Forward,
    /// Gradients with respect to activations in training steps.
    Dx,
    /// Gradients with respect to weights in training steps.
    Dw,
    /// Optimizer updates.
    Update,
    /// Probes: their forwards and dX.
    Probe,
    /// Forwards that fill or advance the prefix cache.
    Cache,
    /// Signals: the products that turn what a probe sees into energies.
    Tracking,
}

impl Account {
    /// Every account, in the order of the ledger.
    pub const ALL: [Self; 7] =
        [Self::Forward, Self::Dx, Self::Dw, Self::Update, Self::Probe, Self::Cache, Self::Tracking];

    /// Name in `run.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Dx => "dx",
            Self::Dw => "dw",
            Self::Update => "update",
            Self::Probe => "probe",
            Self::Cache => "cache",
            Self::Tracking => "tracking",
        }
    }
}

/// FLOPs per account. Serialises as `{total, forward, dx, dw, update, probe, cache, tracking}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    accounts: [u64; Account::ALL.len()],
    evaluation: u64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Books `flops` on `account`.
    pub fn add(&mut self, account: Account, flops: u64) {
        self.accounts[account as usize] += flops;
    }

    /// Books `flops` of evaluation, outside of the total.
    pub fn add_evaluation(&mut self, flops: u64) {
        self.evaluation += flops;
    }

    /// FLOPs on `account` so far.
    pub fn get(&self, account: Account) -> u64 {
        self.accounts[account as usize]
    }

    /// FLOPs of evaluation so far.
    pub fn evaluation(&self) -> u64 {
        self.evaluation
    }

    /// FLOPs on all accounts so far, without evaluation.
    pub fn total(&self) -> u64 {
        self.accounts.iter().sum()
    }
}

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + Account::ALL.len()))?;
        map.serialize_entry("total", &self.total())?;
        for account in Account::ALL {
            map.serialize_entry(account.name(), &self.get(account))?;
        }
        map.end()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn sums_its_accounts_and_keeps_evaluation_apart() {
        let mut ledger = Ledger::new();
        for (i, account) in Account::ALL.into_iter().enumerate() {
            ledger.add(account, 10u64.pow(i as u32));
        }
        ledger.add(Account::Dw, 200);
        ledger.add_evaluation(5_000_000_000);
        assert_eq!(ledger.get(Account::Dw), 300);
        assert_eq!(ledger.total(), 1_111_311);
        assert_eq!(ledger.evaluation(), 5_000_000_000);
        assert_eq!(
            serde_json::to_string(&ledger).unwrap(),
            r#"{"total":1111311,"forward":1,"dx":10,"dw":300,"update":1000,"probe":10000,"cache":100000,"tracking":1000000}"#
        );
    }

    /// A linear map [4 → 3] on 5 tokens: forward, dX and dW are one product each, AdamW updates 12 weights.
    #[test]
    fn a_step_counted_by_hand() {
        let (tokens, inputs, outputs) = (5, 4, 3);
        let product = 2 * tokens * inputs * outputs;
        let mut ledger = Ledger::new();
        ledger.add(Account::Forward, product);
        ledger.add(Account::Dx, product);
        ledger.add(Account::Dw, product);
        ledger.add(Account::Update, ADAMW_FLOPS * inputs * outputs);
        assert_eq!(ledger.total(), 3 * 120 + 144);
    }
}
