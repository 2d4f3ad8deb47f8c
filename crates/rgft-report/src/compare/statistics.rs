//! Means, standard errors, ranks, and quality relative to full fine-tuning.
//!
//! Formulas: `mean = Σx/n`; standard error `= √(Σ(x − mean)²/(n − 1)) / √n`; of a mean of independent means
//! `√(Σ seᵢ²)/n`; rank 1 is best, equal values share the mean of their places; relative quality is `ours/full` where
//! larger is better and `full/ours` where smaller is.

use serde::Serialize;

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Standard error of the mean; `None` where one value cannot tell.
    #[serde(rename = "standard_error")]
    pub error: Option<f64>,
    /// Values behind it.
    pub count: usize,
}

impl Estimate {
    /// Of independent values; `None` without any, or where one is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let error = (values.len() > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1.0)).sqrt() / count.sqrt()
        });
        Some(Self { mean, error, count: values.len() })
    }

    /// The mean of independent estimates; its error is known where all of theirs are.
    pub fn mean_of(parts: &[Estimate]) -> Option<Self> {
        let mean = Estimate::of(&parts.iter().map(|part| part.mean).collect::<Vec<_>>())?.mean;
        let squares: Option<f64> = parts.iter().map(|part| part.error.map(|error| error * error)).sum();
        let error = squares.map(|squares| squares.sqrt() / parts.len() as f64);
        Some(Self { mean, error, count: parts.len() })
    }

    /// `self − other`, of independent estimates.
    pub fn minus(self, other: Estimate) -> Self {
        let error = self.error.zip(other.error).map(|(a, b)| a.hypot(b));
        Self { mean: self.mean - other.mean, error, count: self.count.min(other.count) }
    }

    /// In another unit.
    pub fn times(self, factor: f64) -> Self {
        Self { mean: factor * self.mean, error: self.error.map(|error| factor.abs() * error), ..self }
    }

    /// Quality relative to `full`'s mean, whose own spread is left out: it is the same for every method.
    pub fn relative_to(self, full: f64, larger_is_better: bool) -> Option<Self> {
        let (mean, slope) = if larger_is_better {
            (self.mean / full, 1.0 / full)
        } else {
            // d(full/x) = −full/x²·dx
            (full / self.mean, full / (self.mean * self.mean))
        };
        let error = self.error.map(|error| error * slope.abs());
        mean.is_finite().then_some(Self { mean, error, ..self })
    }
}

/// The rank of each value, 1 for the best; equal values share the mean of their places. Values that are not finite come
/// last.
pub fn ranks(values: &[f64], larger_is_better: bool) -> Vec<f64> {
    let score = |value: f64| match (value.is_finite(), larger_is_better) {
        (false, _) => f64::NEG_INFINITY,
        (true, true) => value,
        (true, false) => -value,
    };
    let scores: Vec<f64> = values.iter().map(|&value| score(value)).collect();
    scores
        .iter()
        .map(|mine| {
            let better = scores.iter().filter(|other| *other > mine).count() as f64;
            let equal = scores.iter().filter(|other| *other == mine).count() as f64;
            better + (equal + 1.0) / 2.0
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_standard_error_by_hand() {
        let of = |values: &[f64]| Estimate::of(values).unwrap();
        // Deviations −2, 0, 2: variance 8/2 = 4, standard error 2/√3.
        let three = of(&[1.0, 3.0, 5.0]);
        assert_eq!((three.mean, three.count), (3.0, 3));
        assert!((three.error.unwrap() - 2.0 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(of(&[4.0]), Estimate { mean: 4.0, error: None, count: 1 });
        assert_eq!((Estimate::of(&[]), Estimate::of(&[1.0, f64::NAN])), (None, None));
    }

    #[test]
    fn errors_of_sums_by_hand() {
        let part = |mean, error| Estimate { mean, error: Some(error), count: 3 };
        let mean = Estimate::mean_of(&[part(1.0, 3.0), part(2.0, 4.0)]).unwrap();
        assert_eq!((mean.mean, mean.error), (1.5, Some(2.5)));
        let difference = part(1.0, 3.0).minus(part(2.0, 4.0));
        assert_eq!((difference.mean, difference.error), (-1.0, Some(5.0)));
        let unknown = Estimate { mean: 1.0, error: None, count: 1 };
        assert_eq!(Estimate::mean_of(&[part(1.0, 3.0), unknown]).unwrap().error, None);
    }

    #[test]
    fn relative_quality_by_hand() {
        let ours = Estimate { mean: 0.9, error: Some(0.01), count: 3 };
        let relative = ours.relative_to(0.6, true).unwrap();
        assert!((relative.mean - 1.5).abs() < 1e-12 && (relative.error.unwrap() - 0.01 / 0.6).abs() < 1e-12);
        // A loss of half of full's is twice its quality.
        let loss = Estimate { mean: 0.5, error: Some(0.1), count: 3 };
        let relative = loss.relative_to(1.0, false).unwrap();
        assert!((relative.mean - 2.0).abs() < 1e-12 && (relative.error.unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(ours.relative_to(0.0, true), None);
    }

    #[test]
    fn ties_share_their_places() {
        assert_eq!(ranks(&[0.9, 0.7, 0.9, 0.5], true), [1.5, 3.0, 1.5, 4.0]);
        assert_eq!(ranks(&[0.9, 0.7, 0.9, 0.5], false), [3.5, 2.0, 3.5, 1.0]);
        assert_eq!(ranks(&[1.0, 1.0, 1.0], true), [2.0, 2.0, 2.0]);
        assert_eq!(ranks(&[f64::NAN, 0.1], false), [2.0, 1.0]);
    }
}
