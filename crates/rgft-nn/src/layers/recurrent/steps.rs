//! The order in which a recurrent layer walks through packed sequences of different lengths.
//!
//! Sequences are sorted by falling length, so that at time `t` the first `b_t` of them are alive. Time-major order has
//! the rows of time 0 first, `b_0` of them, then those of time 1, and so on: what one step needs lies together. Padding
//! does not exist here either.

use std::cmp::Reverse;

use rgft_kernels::cpu::time_major::Step;

use crate::product::{Pass, Product};

/// The walk through one batch.
#[derive(Debug)]
pub(super) struct Steps {
    /// `b_t`.
    alive: Vec<usize>,
    /// Row of the packed sequences of each time-major row.
    packed: Vec<u32>,
    /// Time-major row of each row of the packed sequences.
    time_major: Vec<u32>,
    /// Place of each sequence when sorted.
    rank: Vec<usize>,
    /// First row of each time.
    first: Vec<usize>,
    lengths: Vec<usize>,
}

impl Steps {
    pub(super) fn new(lengths: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&i| Reverse(lengths[i]));
        let mut rank = vec![0; lengths.len()];
        order.iter().enumerate().for_each(|(place, &i)| rank[i] = place);

        let longest = order.first().map_or(0, |&i| lengths[i]);
        let mut alive = vec![0; longest];
        let mut shorter = order.len();
        for (t, alive) in alive.iter_mut().enumerate() {
            while lengths[order[shorter - 1]] <= t {
                shorter -= 1;
            }
            *alive = shorter;
        }
        let first: Vec<usize> = alive
            .iter()
            .scan(0, |next, &rows| {
                *next += rows;
                Some(*next - rows)
            })
            .collect();

        let rows = lengths.iter().sum();
        let mut time_major = Vec::with_capacity(rows);
        for (&length, &rank) in lengths.iter().zip(&rank) {
            time_major.extend((0..length).map(|t| (first[t] + rank) as u32));
        }
        let mut packed = vec![0; rows];
        time_major.iter().enumerate().for_each(|(row, &at)| packed[at as usize] = row as u32);
        Self { alive, packed, time_major, rank, first, lengths: lengths.into() }
    }

    /// Rows in all.
    pub(super) fn rows(&self) -> usize {
        self.packed.len()
    }

    /// Sequences that have a row at all.
    pub(super) fn width(&self) -> usize {
        self.alive.first().copied().unwrap_or(0)
    }

    /// Row of the packed sequences of each time-major row.
    pub(super) fn packed(&self) -> &[u32] {
        &self.packed
    }

    /// [`Steps::packed`], unless both orders are one.
    pub(super) fn order(&self) -> Option<&[u32]> {
        (!self.is_in_order()).then_some(&self.packed[..])
    }

    /// Time-major row of each row of the packed sequences.
    pub(super) fn time_major(&self) -> &[u32] {
        &self.time_major
    }

    /// Whether both orders are one.
    pub(super) fn is_in_order(&self) -> bool {
        self.width() <= 1
    }

    /// The steps in the order in which they are computed, from the end to the beginning where `reverse`.
    pub(super) fn walk(&self, reverse: bool) -> Vec<Step> {
        let step = |t: usize, before: Option<usize>| Step {
            first: self.first[t],
            rows: self.alive[t],
            carried: before.map_or(0, |before| self.alive[before].min(self.alive[t])),
        };
        let times = 0..self.alive.len();
        if reverse {
            times.rev().map(|t| step(t, (t + 1 < self.alive.len()).then_some(t + 1))).collect()
        } else {
            times.map(|t| step(t, t.checked_sub(1))).collect()
        }
    }

    /// Where the state after each row of the packed sequences stands: in the row of the step after it; or, for the last
    /// step of a sequence, behind all rows, at the place of its sequence.
    pub(super) fn after(&self, reverse: bool) -> Vec<u32> {
        let mut after = Vec::with_capacity(self.rows());
        for (&length, &rank) in self.lengths.iter().zip(&self.rank) {
            let at = |t: usize| (self.first[t] + rank) as u32;
            let last = (self.rows() + rank) as u32;
            if reverse {
                after.extend((0..length).map(|t| if t == 0 { last } else { at(t - 1) }));
            } else {
                after.extend((0..length).map(|t| if t + 1 == length { last } else { at(t + 1) }));
            }
        }
        after
    }
}

/// The products of all steps with a recurrent weight, `[b, k]·[k, n]` each, steps with equally many rows together.
/// They are the same in both directions: a row has one unless its sequence begins there.
pub(super) fn step_products(
    site: usize,
    pass: Pass,
    lengths: &[usize],
    (k, n): (usize, usize),
    mut each: impl FnMut(Product),
) {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by_key(|&length| Reverse(length));
    for (i, &length) in sorted.iter().enumerate() {
        // With `i + 1` rows, from the end of the next shorter sequence on, and not at the first time.
        let from = sorted.get(i + 1).copied().unwrap_or(0).max(1);
        if length > from {
            each(Product { site, pass, batch: length - from, m: i + 1, k, n });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_sequences_in_time_major_order() {
        // Sorted: the third, the first, the second; the fourth has no row.
        let steps = Steps::new(&[2, 1, 4, 0]);
        assert_eq!(steps.packed(), [3, 0, 2, 4, 1, 5, 6]);
        assert_eq!(steps.time_major(), [1, 4, 2, 0, 3, 5, 6]);
        let step = |first, rows, carried| Step { first, rows, carried };
        assert_eq!(steps.walk(false), [step(0, 3, 0), step(3, 2, 2), step(5, 1, 1), step(6, 1, 1)]);
        assert_eq!(steps.walk(true), [step(6, 1, 0), step(5, 1, 1), step(3, 2, 1), step(0, 3, 2)]);
        assert_eq!(steps.after(false), [4, 8, 9, 3, 5, 6, 7]);
        assert_eq!(steps.after(true), [8, 1, 9, 7, 0, 3, 5]);
    }

    #[test]
    fn products_are_those_of_the_walk() {
        for lengths in [&[2, 1, 4, 0][..], &[5, 5, 5], &[7], &[1, 1], &[], &[0], &[3, 3, 6, 6, 6, 1]] {
            let mut counted = Vec::new();
            step_products(0, Pass::Forward, lengths, (2, 3), |product| counted.push(product));
            for reverse in [false, true] {
                let walk = Steps::new(lengths).walk(reverse);
                for rows in 1..=lengths.len() {
                    let steps = walk.iter().filter(|step| step.carried == rows).count();
                    let batch: usize = counted.iter().filter(|p| p.m == rows).map(|p| p.batch).sum();
                    assert_eq!(steps, batch, "{lengths:?}, {rows} rows");
                }
            }
        }
    }
}
