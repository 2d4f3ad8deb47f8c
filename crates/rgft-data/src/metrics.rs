//! How good the outputs of a model are. Means over all rows; no loss here, which belongs to training.
//!
//! Counts: tp, fp, fn of a class are its true positives, false positives, false negatives, and
//! `F1 = 2 tp / (2 tp + fp + fn)`, 0 where nothing was there and nothing was found (as scikit-learn).

mod language;

use std::collections::BTreeMap;

use crate::dataset::Targets;
pub use language::LanguageSums;

/// Metrics by name.
pub type Metrics = BTreeMap<String, f64>;

/// The metrics of the task that `targets` belong to, from the head's outputs, row-major `[rows, outputs]`:
/// logits of classes or labels, or values. Empty for [`Targets::Unknown`] and for no rows.
///
/// # Panics
/// If outputs and targets have different numbers of rows.
#[must_use]
pub fn evaluate(outputs: &[f32], targets: &Targets) -> Metrics {
    match targets {
        Targets::Classes(truth) if !truth.is_empty() => {
            let classes = outputs.len() / truth.len();
            assert_eq!(outputs.len(), classes * truth.len(), "outputs are [rows, classes]");
            classification(&argmax(outputs, classes), truth, classes)
        }
        Targets::MultiHot(truth, labels) => multi_label(outputs, truth, *labels),
        Targets::Values(truth, _) => regression(outputs, truth),
        Targets::Classes(_) | Targets::Unknown => Metrics::new(),
    }
}

/// The class with the largest logit in each row of `[rows, classes]`; the first of equals, a NaN only where all are.
///
/// # Panics
/// If `classes` is 0.
#[must_use]
pub fn argmax(logits: &[f32], classes: usize) -> Vec<u32> {
    let best = |row: &[f32]| {
        let mut best = 0;
        for (class, logit) in row.iter().enumerate() {
            if *logit > row[best] || (row[best].is_nan() && !logit.is_nan()) {
                best = class;
            }
        }
        best as u32
    };
    logits.chunks_exact(classes).map(best).collect()
}

/// Rows: true classes; columns: predicted classes; counts, row-major `[classes, classes]`.
///
/// # Panics
/// If the numbers of rows differ, or a class is not below `classes`.
#[must_use]
pub fn confusion_matrix(predicted: &[u32], truth: &[u32], classes: usize) -> Vec<u64> {
    assert_eq!(predicted.len(), truth.len(), "one prediction per row");
    let mut counts = vec![0; classes * classes];
    for (&p, &t) in predicted.iter().zip(truth) {
        assert!((p as usize) < classes && (t as usize) < classes, "classes are below {classes}");
        counts[t as usize * classes + p as usize] += 1;
    }
    counts
}

/// `accuracy`, and `macro_f1` over the classes that appear in truth or prediction.
///
/// # Panics
/// As [`confusion_matrix`].
#[must_use]
pub fn classification(predicted: &[u32], truth: &[u32], classes: usize) -> Metrics {
    if truth.is_empty() {
        return Metrics::new();
    }
    let confusion = confusion_matrix(predicted, truth, classes);
    let mut hits = 0;
    let mut f1 = Vec::new();
    for class in 0..classes {
        let true_positives = confusion[class * classes + class];
        let actual: u64 = confusion[class * classes..(class + 1) * classes].iter().sum();
        let found: u64 = confusion.iter().skip(class).step_by(classes).sum();
        hits += true_positives;
        if actual + found > 0 {
            f1.push(2.0 * true_positives as f64 / (actual + found) as f64);
        }
    }
    metrics([
        ("accuracy", hits as f64 / truth.len() as f64),
        ("macro_f1", f1.iter().sum::<f64>() / f1.len() as f64),
    ])
}

/// `accuracy` (all labels of a row right), `micro_f1` (counts of all labels together) and `macro_f1` (mean
/// over all labels). A label is predicted where its logit is positive: probability over one half.
///
/// # Panics
/// If logits and truth, `[rows, labels]`, differ in size.
#[must_use]
pub fn multi_label(logits: &[f32], truth: &[f32], labels: usize) -> Metrics {
    assert_eq!(logits.len(), truth.len(), "one logit per label and row");
    if truth.is_empty() || labels == 0 {
        return Metrics::new();
    }
    let mut right = 0;
    // Per label: true positives, and positives of truth and prediction together.
    let mut counts = vec![(0u64, 0u64); labels];
    for (logits, truth) in logits.chunks_exact(labels).zip(truth.chunks_exact(labels)) {
        let mut all = true;
        for ((logit, truth), count) in logits.iter().zip(truth).zip(&mut counts) {
            let (found, actual) = (*logit > 0.0, *truth > 0.5);
            count.0 += u64::from(found && actual);
            count.1 += u64::from(found) + u64::from(actual);
            all &= found == actual;
        }
        right += u64::from(all);
    }
    let f1 = |(hits, both): (u64, u64)| if both == 0 { 0.0 } else { 2.0 * hits as f64 / both as f64 };
    let total = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    metrics([
        ("accuracy", right as f64 / (truth.len() / labels) as f64),
        ("micro_f1", f1(total)),
        ("macro_f1", counts.iter().map(|count| f1(*count)).sum::<f64>() / labels as f64),
    ])
}

/// `mse`, `mae`, and `pearson` where both sides vary.
///
/// # Panics
/// If the numbers of rows differ.
#[must_use]
pub fn regression(predicted: &[f32], truth: &[f32]) -> Metrics {
    assert_eq!(predicted.len(), truth.len(), "one prediction per row");
    if truth.is_empty() {
        return Metrics::new();
    }
    let n = truth.len() as f64;
    let pairs = || predicted.iter().zip(truth).map(|(p, t)| (f64::from(*p), f64::from(*t)));
    let mean = |f: &dyn Fn(f64, f64) -> f64| pairs().map(|(p, t)| f(p, t)).sum::<f64>() / n;
    let mut found = metrics([("mse", mean(&|p, t| (p - t) * (p - t))), ("mae", mean(&|p, t| (p - t).abs()))]);
    let (mean_p, mean_t) = (mean(&|p, _| p), mean(&|_, t| t));
    let covariance = mean(&|p, t| (p - mean_p) * (t - mean_t));
    let variances = mean(&|p, _| (p - mean_p).powi(2)) * mean(&|_, t| (t - mean_t).powi(2));
    if variances > 0.0 {
        found.insert("pearson".to_owned(), covariance / variances.sqrt());
    }
    found
}

/// A forecast's errors against those of naive forecasts on the same data
/// ([`Dataset::baselines`](crate::Dataset::baselines)): `mse_ratio_last_value`, `mse_ratio_seasonal`, and likewise for
/// `mae`. Below 1 is better than naive. Left out where the naive forecast is perfect.
#[must_use]
pub fn forecast_ratios(found: &Metrics, baselines: &Metrics) -> Metrics {
    let mut ratios = Metrics::new();
    for error in ["mse", "mae"] {
        for rule in ["last_value", "seasonal"] {
            let naive = baselines.get(&format!("{error}_{rule}")).filter(|naive| **naive > 0.0);
            if let (Some(own), Some(naive)) = (found.get(error), naive) {
                ratios.insert(format!("{error}_ratio_{rule}"), own / naive);
            }
        }
    }
    ratios
}

fn metrics<const N: usize>(values: [(&str, f64); N]) -> Metrics {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn close(metrics: &Metrics, name: &str, expected: f64) {
        assert!((metrics[name] - expected).abs() < 1e-9, "{name} is {}, expected {expected}", metrics[name]);
    }

    #[test]
    fn classification_by_hand() {
        // Class 3 appears nowhere and is left out of the mean; class 2 is only predicted and counts as 0.
        let (predicted, truth) = ([0, 0, 1, 2, 1], [0, 1, 1, 1, 1]);
        let found = classification(&predicted, &truth, 4);
        close(&found, "accuracy", 3.0 / 5.0);
        close(&found, "macro_f1", (2.0 / 3.0 + 2.0 * 2.0 / 6.0 + 0.0) / 3.0);
        let confusion = confusion_matrix(&predicted, &truth, 3);
        assert_eq!(confusion, [1, 0, 0, 1, 2, 1, 0, 0, 0]);
    }

    #[test]
    fn logits_choose_the_first_largest_and_no_nan() {
        let nan = f32::NAN;
        assert_eq!(
            argmax(&[1.0, 3.0, 3.0, nan, -1.0, -2.0, nan, nan, nan, -5.0, nan, -4.0], 3),
            [1, 1, 0, 2]
        );
        let found = evaluate(&[0.0, 1.0, 2.0, -1.0], &Targets::Classes(vec![1, 1]));
        close(&found, "accuracy", 0.5);
    }

    #[test]
    fn multi_label_by_hand() {
        // Label 0: tp 1, fp 1. Label 1: tp 1, fn 1. Label 2: nothing there, nothing found.
        let logits = [1.0, 2.0, -1.0, 0.5, -0.5, -2.0];
        let truth = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let found = evaluate(&logits, &Targets::MultiHot(truth.to_vec(), 3));
        close(&found, "accuracy", 0.5);
        close(&found, "micro_f1", 4.0 / 6.0);
        close(&found, "macro_f1", (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0);
    }

    #[test]
    fn regression_by_hand() {
        let found = evaluate(&[1.0, 2.0, 4.0], &Targets::Values(vec![1.0, 3.0, 5.0], 1));
        close(&found, "mse", 2.0 / 3.0);
        close(&found, "mae", 2.0 / 3.0);
        // Deviations (-4/3, -1/3, 5/3) and (-2, 0, 2): 6 / √(42/9 · 8).
        close(&found, "pearson", 6.0 / (42.0f64 / 9.0 * 8.0).sqrt());
        assert!(!regression(&[1.0, 1.0], &[1.0, 2.0]).contains_key("pearson"));
    }

    #[test]
    fn ratios_to_naive_forecasts() {
        let found = metrics([("mse", 0.5), ("mae", 0.3), ("pearson", 0.9)]);
        let naive = metrics([("mse_last_value", 2.0), ("mae_last_value", 0.6), ("mse_seasonal", 0.0)]);
        let ratios = forecast_ratios(&found, &naive);
        close(&ratios, "mse_ratio_last_value", 0.25);
        close(&ratios, "mae_ratio_last_value", 0.5);
        assert_eq!(ratios.len(), 2);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(evaluate(&[], &Targets::Classes(Vec::new())).is_empty());
        assert!(evaluate(&[], &Targets::MultiHot(Vec::new(), 3)).is_empty());
        assert!(evaluate(&[], &Targets::Values(Vec::new(), 1)).is_empty());
        assert!(evaluate(&[1.0], &Targets::Unknown).is_empty());
    }
}
