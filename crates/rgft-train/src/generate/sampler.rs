//! Which token comes next.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens; 0 takes all.
    pub top_k: usize,
    /// Only the fewest tokens that hold this much of the probability; 1 takes all.
    pub top_p: f64,
    /// What the draws follow from.
    pub seed: u64,
}

impl Default for Sampling {
    /// The likeliest token.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// At the start of its draws.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, random: ChaCha8Rng::seed_from_u64(sampling.seed) }
    }

    /// The next token, by the logits `[vocabulary]` of all.
    pub fn draw(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        if temperature <= 0.0 || top_k == 1 {
            return likeliest(logits);
        }
        let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
        let logit = |token: u32| logits[token as usize];
        // The likeliest first, and the first of equals, so that one seed gives one text.
        let order = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
        if (1..tokens.len()).contains(&top_k) {
            tokens.select_nth_unstable_by(top_k - 1, order);
            tokens.truncate(top_k);
        }
        tokens.sort_unstable_by(order);
        let largest = f64::from(logit(tokens[0]));
        let mut weights: Vec<f64> =
            tokens.iter().map(|&token| ((f64::from(logit(token)) - largest) / temperature).exp()).collect();
        let mut total: f64 = weights.iter().sum();
        if top_p < 1.0 {
            let (enough, mut held) = (top_p * total, 0.0);
            let last = weights.iter().position(|weight| {
                held += weight;
                held >= enough
            });
            weights.truncate(last.map_or(weights.len(), |last| last + 1));
            total = weights.iter().sum();
        }
        let mut left = self.random.random::<f64>() * total;
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little after the last.
        tokens[chosen.unwrap_or(weights.len() - 1)]
    }
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> u32 {
    let better = |best: (usize, f32), (i, z): (usize, &f32)| if *z > best.1 { (i, *z) } else { best };
    logits.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.5, 0.25, 0.125, 0.125 of tokens 2, 0, 1, 3.
    fn logits() -> Vec<f32> {
        [0.25f32, 0.125, 0.5, 0.125].map(f32::ln).to_vec()
    }

    fn shares(sampling: Sampling) -> [f64; 4] {
        let mut sampler = Sampler::new(sampling);
        let mut counts = [0.0; 4];
        (0..20_000).for_each(|_| counts[sampler.draw(&logits()) as usize] += 1.0 / 20_000.0);
        counts
    }

    fn close(found: [f64; 4], expected: [f64; 4]) {
        assert!(
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 0.015),
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let plain = Sampling { temperature: 1.0, ..Sampling::default() };
        close(shares(plain), [0.25, 0.125, 0.5, 0.125]);
        // At temperature ½ probabilities are squared.
        let cold = Sampling { temperature: 0.5, ..plain };
        close(shares(cold), [0.0625, 0.015625, 0.25, 0.015625].map(|p| p / 0.34375));
        close(shares(Sampling { top_k: 2, ..plain }), [1.0 / 3.0, 0.0, 2.0 / 3.0, 0.0]);
        // Of the two that are equally likely the first stays.
        close(shares(Sampling { top_k: 3, ..plain }), [2.0 / 7.0, 1.0 / 7.0, 4.0 / 7.0, 0.0]);
        close(shares(Sampling { top_p: 0.7, ..plain }), [1.0 / 3.0, 0.0, 2.0 / 3.0, 0.0]);
        close(shares(Sampling { top_p: 0.4, ..plain }), [0.0, 0.0, 1.0, 0.0]);
        close(shares(Sampling { top_p: 0.0, ..plain }), [0.0, 0.0, 1.0, 0.0]);
        close(shares(Sampling::default()), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let draws = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..Sampling::default() });
            (0..50).map(|_| sampler.draw(&logits())).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }

    #[test]
    fn the_first_of_equals_is_the_likeliest() {
        assert_eq!(Sampler::new(Sampling::default()).draw(&[1.0, 3.0, 3.0, f32::NAN]), 1);
    }
}
