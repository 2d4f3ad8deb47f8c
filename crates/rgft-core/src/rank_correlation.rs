//! Spearman's rank correlation: how well two maps agree on the order of components.

/// Pearson's correlation of the ranks of `a` and `b`, tied values sharing their mean rank. In `[−1, 1]`.
///
/// Where all values of a list are equal there is no order to agree with: 1 if that is so in both, else 0.
///
/// # Panics
/// If the lists differ in length.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "both lists hold one value per component");
    // Ranks have mean (n + 1)/2, whatever the ties.
    let middle = (a.len() as f64 + 1.0) / 2.0;
    let (a, b) = (ranks(a), ranks(b));
    let product =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>();
    match (product(&a, &a), product(&b, &b)) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        (aa, bb) => product(&a, &b) / (aa * bb).sqrt(),
    }
}

/// Rank of each value from 1, tied values sharing their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| ranks[i] = mean);
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 7.0]), [2.5, 1.0, 2.5, 4.0]);
        // By hand: deviations (0, −1.5, 0, 1.5) and (−1.5, −0.5, 0.5, 1.5): 3 / √(4.5 · 5).
        let found = rank_correlation(&[5.0, 1.0, 5.0, 7.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!((found - 3.0 / 22.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn order_is_all_that_counts() {
        let a = [0.1, 7.0, 2.0, 1e9];
        assert_eq!(rank_correlation(&a, &a.map(f64::ln)), 1.0);
        assert_eq!(rank_correlation(&a, &a.map(|x| -x)), -1.0);
        assert_eq!(rank_correlation(&a, &[3.0; 4]), 0.0);
        assert_eq!(rank_correlation(&[1.0; 4], &[3.0; 4]), 1.0);
        assert_eq!(rank_correlation(&[], &[]), 1.0);
    }

    proptest! {
        /// Without ties: ρ = 1 − 6 Σ d² / (n (n² − 1)).
        #[test]
        fn agrees_with_the_textbook_formula(b in Just((0..9).collect::<Vec<i32>>()).prop_shuffle()) {
            let a: Vec<f64> = (0..9).map(f64::from).collect();
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let d: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
            prop_assert!((rank_correlation(&a, &b) - (1.0 - 6.0 * d / (9.0 * 80.0))).abs() < 1e-12);
        }
    }
}
