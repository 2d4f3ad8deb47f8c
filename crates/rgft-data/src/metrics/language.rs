//! Metrics of language models, summed over batches.
//!
//! With `N = Σ −ln p(next token)` over `T` tokens that stand for `B` bytes of text: `loss = N/T` in nats per token,
//! `perplexity = e^loss`, `bits_per_byte = N / (B ln 2)`, which models with different tokenizers share.

use rayon::prelude::*;

use super::{Metrics, argmax, metrics};
use crate::dataset::IGNORED;

/// Sums over the tokens that have a target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LanguageSums {
    /// `Σ −ln p(target)`.
    pub nats: f64,
    /// How many tokens.
    pub tokens: u64,
    /// Of these, whose target has the largest logit.
    pub correct: u64,
}

impl LanguageSums {
    /// Adds the rows of a batch: `logits` are `[rows, vocabulary]`, `targets` `[rows]`; those of [`IGNORED`] do not count.
    ///
    /// # Panics
    /// If the numbers of rows differ, or a target is not below the vocabulary.
    pub fn add(&mut self, logits: &[f32], targets: &[u32]) {
        if targets.is_empty() {
            return;
        }
        let vocabulary = logits.len() / targets.len();
        assert_eq!(logits.len(), vocabulary * targets.len(), "logits are [rows, vocabulary]");
        let of_row = |(row, &target): (&[f32], &u32)| {
            let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
            let nats = largest + sum.ln() - f64::from(row[target as usize]);
            (nats, argmax(row, vocabulary) == [target])
        };
        let rows = logits.par_chunks_exact(vocabulary).zip(targets).filter(|(_, target)| **target != IGNORED);
        // Row by row in parallel, but summed in order: the same bits whatever the threads.
        for (nats, correct) in rows.map(of_row).collect::<Vec<_>>() {
            self.nats += nats;
            self.tokens += 1;
            self.correct += u64::from(correct);
        }
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }

    /// `loss`, `perplexity`, `next_token_accuracy`, and `bits_per_byte` where `text_bytes` is not 0. Empty without
    /// tokens.
    #[must_use]
    pub fn finish(&self, text_bytes: usize) -> Metrics {
        if self.tokens == 0 {
            return Metrics::new();
        }
        let tokens = self.tokens as f64;
        let loss = self.nats / tokens;
        let mut found = metrics([
            ("loss", loss),
            ("perplexity", loss.exp()),
            ("next_token_accuracy", self.correct as f64 / tokens),
        ]);
        if text_bytes > 0 {
            let bits = self.nats / std::f64::consts::LN_2 / text_bytes as f64;
            found.insert("bits_per_byte".to_owned(), bits);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hand() {
        let ln = |x: f32| x.ln();
        // p = (1/2, 1/4, 1/4) three times, shifted by any constant; the second row does not count.
        let row = [ln(2.0), 0.0, 0.0];
        let logits = [row, row.map(|logit| logit + 7.0), row.map(|logit| logit - 300.0)].concat();
        let mut sums = LanguageSums::default();
        sums.add(&logits[..6], &[0, IGNORED]);
        let mut last = LanguageSums::default();
        last.add(&logits[6..], &[2]);
        sums.merge(&last);
        assert_eq!((sums.tokens, sums.correct), (2, 1));
        let found = sums.finish(6);
        let close = |name: &str, expected: f64| assert!((found[name] - expected).abs() < 1e-4, "{name}");
        close("loss", 3.0 * std::f64::consts::LN_2 / 2.0);
        close("perplexity", 8f64.sqrt());
        close("bits_per_byte", 3.0 / 6.0);
        close("next_token_accuracy", 0.5);
        assert!(!sums.finish(0).contains_key("bits_per_byte"));
    }

    #[test]
    fn nothing_gives_nothing() {
        let mut sums = LanguageSums::default();
        sums.add(&[], &[]);
        sums.add(&[1.0, 2.0], &[IGNORED]);
        assert!(sums.finish(3).is_empty());
    }
}
