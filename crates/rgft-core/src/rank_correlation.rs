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
