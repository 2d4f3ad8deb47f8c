//! The three figures of a map: recall@1, recall@3, rank correlation with the oracle.
//!
//! The planted component's rank is one more than the number of others that are not below it, so that a map which says the
//! same of all finds nothing. It is searched among the candidates: a norm has most energy per parameter in any model, and a
//! table most of all energy, whatever is wrong; its rank among all components is kept beside.

use rgft_core::rank_correlation;
use rgft_report::compare::Estimate;
use serde::Serialize;

/// What one map says of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Answer {
    /// Of the planted component among the candidates, from 1.
    pub(super) rank: usize,
    /// Among all components.
    rank_among_all: usize,
    /// Spearman's, between the map and the oracle's gains.
    pub(super) rank_correlation: f64,
}

impl Answer {
    /// `energies` of all components; `gains` are the oracle's, with its components.
    pub(super) fn of(energies: &[f64], planted: usize, candidates: &[usize], gains: &[(usize, f64)]) -> Self {
        let is_not_below = |i: &usize| *i != planted && energies[*i] >= energies[planted];
        let rank = 1 + candidates.iter().copied().filter(is_not_below).count();
        let rank_among_all = 1 + (0..energies.len()).filter(is_not_below).count();
        let (map, gains): (Vec<f64>, Vec<f64>) = gains.iter().map(|(i, gain)| (energies[*i], *gain)).unzip();
        Self { rank, rank_among_all, rank_correlation: rank_correlation(&map, &gains) }
    }
}

/// Figures of a signal under one α.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) recall_at_1: Estimate,
    pub(super) recall_at_3: Estimate,
    pub(super) rank_correlation: Estimate,
    /// Of the three.
    pub(super) mean: f64,
}

impl Figures {
    /// `None` without any answer.
    pub(super) fn of(answers: impl Iterator<Item = Answer>) -> Option<Self> {
        let answers: Vec<Answer> = answers.collect();
        let figure =
            |of: &dyn Fn(&Answer) -> f64| Estimate::of(&answers.iter().map(of).collect::<Vec<f64>>());
        let recall = |at: usize| figure(&move |answer| f64::from(u8::from(answer.rank <= at)));
        let (recall_at_1, recall_at_3) = (recall(1)?, recall(3)?);
        let rank_correlation = figure(&|answer| answer.rank_correlation)?;
        let mean = (recall_at_1.mean + recall_at_3.mean + rank_correlation.mean) / 3.0;
        Some(Self { recall_at_1, recall_at_3, rank_correlation, mean })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_hand() {
        let energies = [3.0, 7.0, 5.0, 5.0, 0.0];
        let answer =
            |planted| Answer::of(&energies, planted, &[0, 2, 3, 4], &[(0, 0.2), (1, 0.9), (4, -0.1)]);
        let ranks = |planted| (answer(planted).rank, answer(planted).rank_among_all);
        assert_eq!((ranks(0), ranks(2), ranks(3), ranks(4)), ((3, 4), (2, 3), (2, 3), (4, 5)));
        assert_eq!(answer(2).rank_correlation, 1.0);
        // A map that says the same of all finds nothing.
        let blind = Answer::of(&[1.0; 4], 2, &[1, 2, 3], &[(0, 1.0), (1, 2.0)]);
        assert_eq!(blind, Answer { rank: 3, rank_among_all: 4, rank_correlation: 0.0 });
    }

    #[test]
    fn means_and_standard_errors_by_hand() {
        let answer = |rank, rank_correlation| Answer { rank, rank_among_all: rank, rank_correlation };
        let figures =
            Figures::of([answer(1, 0.5), answer(3, 0.5), answer(4, 0.5), answer(1, 0.5)].into_iter())
                .unwrap();
        assert_eq!(figures.recall_at_1.mean, 0.5);
        // Deviation √(4·0.25/3), over √4.
        assert!((figures.recall_at_1.error.unwrap() - (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(figures.recall_at_3.mean, 0.75);
        assert_eq!(figures.rank_correlation, Estimate { mean: 0.5, error: Some(0.0), count: 4 });
        assert!((figures.mean - 1.75 / 3.0).abs() < 1e-12);
    }
}
