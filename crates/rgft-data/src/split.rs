//! Validation rows out of the training rows, where there is no validation file, and parts of large files. Both depend on
//! the rows alone, never on the seed, so that runs with different seeds are judged on the same examples.

use std::cmp::Ordering;

use crate::label::Target;

/// Row numbers of the two parts, each in ascending order; together every row once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to choose the best checkpoint by.
    pub validation: Vec<usize>,
}

/// Systematic sampling: the rows sorted by target (equal targets in the order of the file), of which those at
/// even distances are for validation. So each class, set of labels or range of values has its share, within
/// one row, on both sides, and rare classes together are represented as well.
///
/// With `fraction` ≤ 0.5 no class is taken out of training: a class of a single row stays there.
#[must_use]
pub fn split_stratified(targets: &[Target], fraction: f64) -> Split {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by(|&a, &b| compare(&targets[a], &targets[b]));
    let k = share(order.len(), fraction);
    let sorted: Vec<usize> = order
        .chunk_by(|&a, &b| compare(&targets[a], &targets[b]).is_eq())
        .filter(|same| same.len() > 1 || !matches!(targets[same[0]], Target::Class(_)))
        .flatten()
        .copied()
        .collect();
    let k = k.min(sorted.len().div_ceil(2));
    let mut validation: Vec<usize> = (1..=k).map(|i| sorted[i * sorted.len() / k - 1]).collect();
    validation.sort_unstable();
    let train = (0..targets.len()).filter(|row| validation.binary_search(row).is_err()).collect();
    Split { train, validation }
}

/// `limit` rows, or all, ascending: each class, set of labels or range of values in its share, as in
/// [`split_stratified`]. A file that is sorted by label would else lose its last classes.
#[must_use]
pub fn sample_stratified(targets: &[Target], limit: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by(|&a, &b| compare(&targets[a], &targets[b]));
    at_even_distances(&order, limit)
}

/// `limit` of the rows in `order`, or all, ascending.
pub(crate) fn at_even_distances(order: &[usize], limit: usize) -> Vec<usize> {
    let limit = limit.min(order.len());
    let mut kept: Vec<usize> = (0..limit).map(|i| order[i * order.len() / limit]).collect();
    kept.sort_unstable();
    kept
}

/// Rounded, and never all.
fn share(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction.clamp(0.0, 1.0)).round() as usize).min(n.saturating_sub(1))
}

fn compare(a: &Target, b: &Target) -> Ordering {
    match (a, b) {
        (Target::Class(a), Target::Class(b)) => a.cmp(b),
        (Target::Value(a), Target::Value(b)) => a.total_cmp(b),
        (Target::Classes(a), Target::Classes(b)) => {
            let unequal = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
            unequal.unwrap_or(Ordering::Equal)
        }
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_in_order_of_the_file_are_on_both_sides() {
        let targets: Vec<Target> = (0..600).map(|row| Target::Class(row / 30)).collect();
        let split = split_stratified(&targets, 0.1);
        for class in 0..20 {
            let of = |rows: &[usize]| rows.iter().filter(|r| **r / 30 == class).count();
            assert_eq!((of(&split.train), of(&split.validation)), (27, 3));
        }
    }

    #[test]
    fn rare_classes_still_give_validation_rows() {
        let targets: Vec<Target> = (0..400).map(|row| Target::Class(row % 200)).collect();
        assert_eq!(split_stratified(&targets, 0.1).validation.len(), 40);
        let single = [Target::Class(0), Target::Class(1)];
        assert_eq!(split_stratified(&single, 0.5).validation, Vec::<usize>::new());
    }

    #[test]
    fn a_sample_of_a_sorted_file_has_every_class() {
        let targets: Vec<Target> = (0..60).map(|row| Target::Class(row / 20)).collect();
        assert_eq!(sample_stratified(&targets, 6), [0, 10, 20, 30, 40, 50]);
        assert_eq!(sample_stratified(&targets, 99), (0..60).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn a_stratified_split_is_a_partition_that_keeps_each_class(
            classes in prop::collection::vec(0u32..6, 1..200),
            fraction in 0.0..=0.5f64,
        ) {
            let targets: Vec<Target> = classes.iter().map(|c| Target::Class(*c)).collect();
            let split = split_stratified(&targets, fraction);
            let mut all = [split.train.clone(), split.validation.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..classes.len()).collect::<Vec<_>>());
            for class in &classes {
                prop_assert!(split.train.iter().any(|row| classes[*row] == *class));
                let n = classes.iter().filter(|c| *c == class).count() as f64;
                let k = split.validation.iter().filter(|row| classes[**row] == *class).count() as f64;
                prop_assert!(k < n * fraction + 2.0, "{} of {} at {}", k, n, fraction);
            }
        }
    }
}
