//! The content of `run.json`: what a run was, what came out, and what it cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::events::nulls_as_nan;
use crate::ledger::{Account, Ledger};

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Fine-tuning method.
    pub method: String,
    /// Folder or name of the model.
    pub model: String,
    /// File or folder of the training data.
    pub data: String,
    /// Task: `text-classification` …
    pub task: String,
    /// Share of full fine-tuning's compute that was allowed.
    pub budget: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Results.
    pub metrics: Metrics,
    /// Computation.
    pub flops: Flops,
    /// Time.
    pub seconds: Seconds,
    /// Memory.
    pub memory: Memory,
    /// Computation until the result was nearly reached.
    pub convergence: Convergence,
    /// Optimizer steps taken.
    pub steps: usize,
    /// Epochs completed, with fraction.
    pub epochs: f64,
    /// Threads in use.
    pub threads: usize,
    /// Precision of the products: `f32`, `bf16`.
    pub precision: String,
    /// Version of the program.
    pub version: String,
}

/// Metrics by name: `accuracy`, `macro_f1`, `mse`, `mae`, `loss` …
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// On the validation set, of the weights that were kept.
    #[serde(default, deserialize_with = "nulls_as_nan")]
    pub validation: BTreeMap<String, f64>,
    /// On the test set; empty where there is none.
    #[serde(default, deserialize_with = "nulls_as_nan")]
    pub test: BTreeMap<String, f64>,
}

/// FLOPs by account: the ledger, beside what full fine-tuning costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // One field per `Account`, documented there.
pub struct Flops {
    /// Sum of the accounts; evaluation is not part of it.
    pub total: u64,
    pub forward: u64,
    pub dx: u64,
    pub dw: u64,
    pub update: u64,
    pub probe: u64,
    pub cache: u64,
    pub tracking: u64,
    /// Forwards on validation and test data.
    pub evaluation: u64,
    /// What full fine-tuning computes for the same epochs on the same examples.
    pub full_equivalent: u64,
    /// `total / full_equivalent`.
    pub ratio: f64,
}

impl Flops {
    /// The ledger beside `full_equivalent` FLOPs of full fine-tuning.
    pub fn new(ledger: &Ledger, full_equivalent: u64) -> Self {
        let total = ledger.total();
        Self {
            total,
            forward: ledger.get(Account::Forward),
            dx: ledger.get(Account::Dx),
            dw: ledger.get(Account::Dw),
            update: ledger.get(Account::Update),
            probe: ledger.get(Account::Probe),
            cache: ledger.get(Account::Cache),
            tracking: ledger.get(Account::Tracking),
            evaluation: ledger.evaluation(),
            full_equivalent,
            ratio: if full_equivalent == 0 { 0.0 } else { total as f64 / full_equivalent as f64 },
        }
    }
}

/// Wall-clock seconds, except for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// From start to end, loading and saving included.
    pub total: f64,
    /// In training steps, probes included.
    pub train: f64,
    /// What the processor spent on those, over the threads: nearly the same on a quiet and on a busy machine. Time in which
    /// threads wait, for one another or for a file, is not in it. `None` where the system does not tell.
    #[serde(default)]
    pub processor: Option<f64>,
    /// In probes.
    pub probe: f64,
    /// In validation and test.
    pub eval: f64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Peak resident set of the process; `None` where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// FLOPs after which the validation metric first came within 5, 2 and 0 % of its best.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Name of the validation metric.
    pub metric: String,
    /// FLOPs to 95 % of the best; `None` where nothing was validated.
    pub flops_to_95: Option<u64>,
    /// FLOPs to 98 % of the best.
    pub flops_to_98: Option<u64>,
    /// FLOPs to the best.
    pub flops_to_100: Option<u64>,
}

impl Convergence {
    /// Reads the three numbers off a curve of `(FLOPs so far, metric)`, in the order of training.
    ///
    /// q % of the best means no worse than `best − (1 − q)·|best|`, or `best + (1 − q)·|best|` for a metric that
    /// is better when smaller. Points that are not finite are passed over.
    pub fn of(metric: &str, curve: &[(u64, f64)], larger_is_better: bool) -> Self {
        let sign = if larger_is_better { 1.0 } else { -1.0 };
        let finite = || {
            curve.iter().filter(|(_, value)| value.is_finite()).map(|&(flops, value)| (flops, sign * value))
        };
        let best = finite().map(|(_, score)| score).fold(f64::NEG_INFINITY, f64::max);
        let flops_to = |part: f64| {
            finite().find(|(_, score)| *score >= best - (1.0 - part) * best.abs()).map(|(flops, _)| flops)
        };
        Self {
            metric: metric.to_owned(),
            flops_to_95: flops_to(0.95),
            flops_to_98: flops_to(0.98),
            flops_to_100: flops_to(1.0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn convergence_is_read_off_the_curve() {
        let curve = [(10, 0.5), (20, f64::NAN), (30, 0.94), (40, 0.96), (50, 0.99), (60, 1.0), (70, 0.2)];
        let convergence = Convergence::of("accuracy", &curve, true);
        assert_eq!(convergence.flops_to_95, Some(40));
        assert_eq!(convergence.flops_to_98, Some(50));
        assert_eq!(convergence.flops_to_100, Some(60));

        let loss = [(10, 3.0), (20, 2.08), (30, 2.03), (40, 2.0)];
        let convergence = Convergence::of("mse", &loss, false);
        assert_eq!(convergence.flops_to_95, Some(20));
        assert_eq!(convergence.flops_to_98, Some(30));
        assert_eq!(convergence.flops_to_100, Some(40));

        assert_eq!(Convergence::of("mse", &[(1, f64::NAN)], false).flops_to_95, None);
    }

    #[test]
    fn flops_are_the_ledger_beside_full_fine_tuning() {
        let mut ledger = Ledger::new();
        ledger.add(Account::Forward, 20);
        ledger.add(Account::Probe, 5);
        ledger.add_evaluation(7);
        let flops = Flops::new(&ledger, 100);
        assert_eq!((flops.total, flops.forward, flops.probe, flops.evaluation), (25, 20, 5, 7));
        assert_eq!(flops.ratio, 0.25);
        assert_eq!(Flops::new(&ledger, 0).ratio, 0.0);
    }
}
