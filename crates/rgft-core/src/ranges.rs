//! Index sets as sorted, disjoint, coalesced half-open ranges, and the slices of a parameter that they select.
//!
//! `{0,1,2, 5,6}` is `[0..3, 5..7]`: two runs, five indices. A partial product works run by run, so neighbours
//! are always coalesced: fewer runs, larger products.

use std::ops::Range;

use crate::CoreError;

/// A set of indices. Invariant: no run is empty, and each run ends *before* the next one starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ranges(Vec<Range<usize>>);

impl Ranges {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The indices of one range.
    pub fn single(range: Range<usize>) -> Self {
        let mut ranges = Self::new();
        ranges.insert(range);
        ranges
    }

    /// The indices `0..n`.
    pub fn full(n: usize) -> Self {
        Self::single(0..n)
    }

    /// Adds `range`, merging every run that it overlaps or touches.
    pub fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|run| run.end < range.start);
        let last = self.0.partition_point(|run| run.start <= range.end);
        let touched = &self.0[first..last];
        let start = touched.first().map_or(range.start, |run| run.start.min(range.start));
        let end = touched.last().map_or(range.end, |run| run.end.max(range.end));
        self.0.splice(first..last, std::iter::once(start..end));
    }

    /// The indices that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// The indices that are in both sets.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut common = Self::new();
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            common.insert(a.start.max(b.start)..a.end.min(b.end));
            // Whichever ends first cannot meet anything further on.
            if a.end < b.end { i += 1 } else { j += 1 }
        }
        common
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: usize) -> bool {
        self.covers(index..index + 1)
    }

    /// Whether every index of `range` is in the set.
    pub fn covers(&self, range: Range<usize>) -> bool {
        let at = self.0.partition_point(|run| run.end < range.end);
        range.is_empty() || self.0.get(at).is_some_and(|run| run.start <= range.start)
    }

    /// Number of indices.
    pub fn len(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether there is no index at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of runs: how many contiguous pieces the set has.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// The runs, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator + '_ {
        self.0.iter().cloned()
    }
}

impl FromIterator<Range<usize>> for Ranges {
    /// The union of ranges in any order, overlapping or not.
    fn from_iter<I: IntoIterator<Item = Range<usize>>>(iter: I) -> Self {
        let mut sorted: Vec<_> = iter.into_iter().collect();
        sorted.sort_unstable_by_key(|range| range.start);
        // In ascending order every insertion touches the last run only.
        sorted.into_iter().fold(Self::new(), |mut ranges, range| {
            ranges.insert(range);
            ranges
        })
    }
}

/// Which part of a parameter is meant, in its `[rows, cols]` view; a vector of n is `[n, 1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Slices {
    /// Nothing.
    #[default]
    None,
    /// Everything.
    All,
    /// These rows, complete.
    Rows(Ranges),
    /// These columns, complete.
    Cols(Ranges),
}

impl Slices {
    /// Whether nothing is selected.
    pub fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::All => false,
            Self::Rows(ranges) | Self::Cols(ranges) => ranges.is_empty(),
        }
    }

    /// The same part in its one canonical form: full cover is `All`, no index is `None`.
    #[must_use]
    pub fn normalised(self, rows: usize, cols: usize) -> Self {
        match self {
            _ if rows == 0 || cols == 0 || self.is_none() => Self::None,
            Self::Rows(ranges) if ranges.covers(0..rows) => Self::All,
            Self::Cols(ranges) if ranges.covers(0..cols) => Self::All,
            other => other,
        }
    }

    /// Both parts together, normalised.
    ///
    /// # Errors
    /// [`CoreError::MixedSlices`] where one is some of the rows and the other some of the columns: that is no
    /// union of rectangles a single product could compute, and no model asks for it.
    pub fn union(self, other: &Self, rows: usize, cols: usize) -> Result<Self, CoreError> {
        match (self.normalised(rows, cols), other.clone().normalised(rows, cols)) {
            (Self::None, part) | (part, Self::None) => Ok(part),
            (Self::All, _) | (_, Self::All) => Ok(Self::All),
            (Self::Rows(a), Self::Rows(b)) => Ok(Self::Rows(a.union(&b)).normalised(rows, cols)),
            (Self::Cols(a), Self::Cols(b)) => Ok(Self::Cols(a.union(&b)).normalised(rows, cols)),
            (Self::Rows(_), Self::Cols(_)) | (Self::Cols(_), Self::Rows(_)) => {
                Err(CoreError::MixedSlices { rows, cols })
            }
        }
    }

    /// Number of scalars selected.
    pub fn elements(&self, rows: usize, cols: usize) -> usize {
        match self {
            Self::None => 0,
            Self::All => rows * cols,
            Self::Rows(ranges) => ranges.len() * cols,
            Self::Cols(ranges) => rows * ranges.len(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const N: usize = 24;

    type Bits = [bool; N];

    /// A few ranges, some empty or the wrong way round, with the naive set they stand for.
    fn ranges_and_bits() -> impl Strategy<Value = (Ranges, Bits)> {
        proptest::collection::vec((0..=N, 0..=N), 0..8).prop_map(|pairs| {
            let mut bits = [false; N];
            let mut ranges = Ranges::new();
            for (start, end) in pairs {
                (start..end).for_each(|i| bits[i] = true);
                ranges.insert(start..end);
            }
            (ranges, bits)
        })
    }

    fn bits(ranges: &Ranges) -> Bits {
        let mut bits = [false; N];
        ranges.iter().flatten().for_each(|i| bits[i] = true);
        bits
    }

    fn is_canonical(ranges: &Ranges) -> bool {
        let runs: Vec<_> = ranges.iter().collect();
        runs.iter().all(|run| run.start < run.end) && runs.windows(2).all(|pair| pair[0].end < pair[1].start)
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_bit_set((a, naive) in ranges_and_bits(), start in 0..=N, end in 0..=N) {
            prop_assert!(is_canonical(&a));
            prop_assert_eq!(bits(&a), naive);
            prop_assert_eq!(a.len(), naive.iter().filter(|bit| **bit).count());
            prop_assert_eq!(a.is_empty(), naive.iter().all(|bit| !bit));
            prop_assert_eq!(a.runs(), (0..N).filter(|&i| naive[i] && (i == 0 || !naive[i - 1])).count());
            prop_assert!((0..N).all(|i| a.contains(i) == naive[i]));
            prop_assert_eq!(a.covers(start..end), (start..end).all(|i| naive[i]));
            prop_assert_eq!(a.iter().rev().collect::<Ranges>(), a);
        }

        #[test]
        fn union_and_intersection_agree_with_bits((a, x) in ranges_and_bits(), (b, y) in ranges_and_bits()) {
            let (union, common) = (a.union(&b), a.intersect(&b));
            prop_assert!(is_canonical(&union) && is_canonical(&common));
            prop_assert_eq!(bits(&union), std::array::from_fn(|i| x[i] || y[i]));
            prop_assert_eq!(bits(&common), std::array::from_fn(|i| x[i] && y[i]));
        }

        #[test]
        fn the_elements_of_a_union_are_counted_once((a, x) in ranges_and_bits(), (b, y) in ranges_and_bits()) {
            let union = Slices::Rows(a).union(&Slices::Rows(b), N, 3).unwrap();
            prop_assert_eq!(union.elements(N, 3), 3 * (0..N).filter(|&i| x[i] || y[i]).count());
            prop_assert_eq!(union == Slices::All, (0..N).all(|i| x[i] || y[i]));
            prop_assert_eq!(union.is_none(), union == Slices::None);
        }
    }

    #[test]
    fn neighbours_become_one_run() {
        let ranges: Ranges = [4..6, 0..2, 2..4, 8..9].into_iter().collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [0..6, 8..9]);
    }

    #[test]
    fn rows_and_columns_mix_only_where_one_is_everything() {
        let some = || Ranges::single(0..2);
        let mixed = Slices::Rows(some()).union(&Slices::Cols(some()), 4, 4);
        assert!(matches!(mixed, Err(CoreError::MixedSlices { rows: 4, cols: 4 })));
        assert_eq!(Slices::Rows(some()).union(&Slices::Cols(some()), 2, 4).unwrap(), Slices::All);
        assert_eq!(Slices::All.union(&Slices::Cols(some()), 4, 4).unwrap(), Slices::All);
        let nothing = Slices::Rows(Ranges::new());
        assert_eq!(nothing.union(&Slices::Cols(some()), 4, 4).unwrap(), Slices::Cols(some()));
    }
}
