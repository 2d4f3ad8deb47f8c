//! Residual-guided sampling: which examples come again, by how large their output residuals were.
//!
//! ```text
//! π_j = clip(κ·r_j, π_min, 1)        κ such that the mean of π is the wanted rate
//! ```
//!
//! r_j is the norm of example j's output residual when it was last seen. An example that was never seen comes with
//! certainty. One that is passed over ages: its residual moves towards the mean of all, because what is known of it grows
//! stale; and after `1/π_min` passes without it, it comes in any case, so that none starves.
//!
//! `focus` learns from what comes as it is. `unbiased` weights it by `π̄/π_j`, with π̄ the mean of π, so that the expected
//! gradient of a pass is that of all examples (Horvitz & Thompson 1952; Katharopoulos & Fleuret 2018) at the scale of an
//! unweighted batch, but by no more than [`LARGEST_WEIGHT`].

use serde::{Deserialize, Serialize};

use crate::words::words;

/// The cap on `π̄/π_j`.
pub const LARGEST_WEIGHT: f64 = 4.0;
/// How far a residual moves towards the mean each time that its example is passed over.
const AGING: f64 = 0.25;

/// What becomes of the examples that were drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every example comes in every pass.
    #[default]
    Off,
    /// Drawn examples weigh π̄/π.
    Unbiased,
    /// Drawn examples weigh 1.
    Focus,
}

words!(Sampling, "sampling", {
    "off" => Sampling::Off,
    "unbiased" => Sampling::Unbiased,
    "focus" => Sampling::Focus,
});

/// What is known of one example.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Example {
    residual: Option<f64>,
    passed_over: u32,
}

/// Draws the examples of a pass.
#[derive(Clone, Debug)]
pub struct Sampler {
    examples: Vec<Example>,
    sampling: Sampling,
    rate: f64,
    least: f64,
}

impl Sampler {
    /// For `examples` examples, of which about `rate` come in each pass, each with probability `least` at least.
    pub fn new(examples: usize, sampling: Sampling, rate: f64, least: f64) -> Self {
        Self { examples: vec![Example::default(); examples], sampling, rate, least: least.min(rate) }
    }

    /// Notes the residual of an example that was just seen.
    pub fn observe(&mut self, example: usize, residual: f64) {
        // What is no number says nothing: as if it had not been seen.
        let residual = residual.is_finite().then_some(residual.max(0.0));
        self.examples[example] = Example { residual, passed_over: 0 };
    }

    /// π of each of these examples.
    pub fn probabilities(&self, examples: &[usize]) -> Vec<f64> {
        let longest = (1.0 / self.least).ceil() as u32;
        let certain = |example: &Example| {
            self.sampling == Sampling::Off || example.residual.is_none() || example.passed_over + 1 >= longest
        };
        let residual = |&j: &usize| match &self.examples[j] {
            example if certain(example) => f64::INFINITY,
            example => example.residual.unwrap_or(f64::INFINITY),
        };
        let residuals: Vec<f64> = examples.iter().map(residual).collect();
        let all_zero = residuals.iter().all(|&r| r == 0.0);
        let pi = |kappa: f64, r: f64| if all_zero { self.rate } else { (kappa * r).clamp(self.least, 1.0) };
        let mean =
            |kappa: f64| residuals.iter().map(|&r| pi(kappa, r)).sum::<f64>() / residuals.len().max(1) as f64;
        // The mean rises with κ.
        let (mut low, mut high) = (f64::MIN_POSITIVE, 1.0);
        while mean(high) < self.rate && high < 1e300 {
            high *= 2.0;
        }
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if mean(middle) < self.rate { low = middle } else { high = middle }
        }
        residuals.into_iter().map(|r| pi(high, r)).collect()
    }

    /// Draws from these examples: those that come in this pass, with their weights. `uniform(j)` is a number in [0, 1)
    /// for example j. The others age.
    pub fn draw(&mut self, examples: &[usize], uniform: impl Fn(usize) -> f64) -> Vec<(usize, f64)> {
        let probabilities = self.probabilities(examples);
        let known: Vec<f64> = examples.iter().filter_map(|&j| self.examples[j].residual).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let rate = probabilities.iter().sum::<f64>() / probabilities.len().max(1) as f64;
        let mut drawn = Vec::new();
        for (&j, pi) in examples.iter().zip(probabilities) {
            if uniform(j) < pi {
                let weight =
                    if self.sampling == Sampling::Unbiased { (rate / pi).min(LARGEST_WEIGHT) } else { 1.0 };
                drawn.push((j, weight));
            } else {
                let example = &mut self.examples[j];
                example.passed_over += 1;
                example.residual = example.residual.map(|r| r + AGING * (mean - r));
            }
        }
        drawn
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(residuals: &[f64], sampling: Sampling, rate: f64, least: f64) -> Sampler {
        let mut sampler = Sampler::new(residuals.len(), sampling, rate, least);
        residuals.iter().enumerate().for_each(|(j, &r)| sampler.observe(j, r));
        sampler
    }

    #[test]
    fn probabilities_by_hand() {
        let sampler = sampler(&[0.1, 0.2, 0.3, 4.0], Sampling::Focus, 0.5, 0.1);
        let all = [0, 1, 2, 3];
        // κ = 1/0.6: 1/6 + 1/3 + 1/2 + 1 (clipped) = 2.
        for (found, expected) in sampler.probabilities(&all).into_iter().zip([1.0 / 6.0, 1.0 / 3.0, 0.5, 1.0])
        {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert_eq!(Sampler::new(3, Sampling::Focus, 0.5, 0.1).probabilities(&[0, 1, 2]), [1.0; 3]);
        // What is no number is as if it had not been seen.
        let mut sampler = sampler;
        sampler.observe(0, f64::INFINITY);
        sampler.observe(1, f64::NAN);
        let found = sampler.probabilities(&all);
        assert!(found[..2] == [1.0; 2] && found.iter().all(|p| (0.1..=1.0).contains(p)), "{found:?}");
        assert_eq!(super::Sampler::new(2, Sampling::Off, 0.5, 0.1).probabilities(&[0, 1]), [1.0; 2]);
    }

    #[test]
    fn the_residual_of_an_example_that_is_passed_over_moves_to_the_mean() {
        let mut sampler = sampler(&[0.0, 1.0], Sampling::Focus, 0.5, 0.01);
        assert_eq!(sampler.draw(&[0, 1], |j| if j == 0 { 0.99 } else { 0.0 }), [(1, 1.0)]);
        assert_eq!(sampler.examples[0], Example { residual: Some(0.125), passed_over: 1 });
    }

    proptest! {
        #[test]
        fn the_mean_is_the_rate(
            residuals in proptest::collection::vec(0.001..10.0f64, 1..60), rate in 0.1..1.0f64,
        ) {
            let sampler = sampler(&residuals, Sampling::Unbiased, rate, 0.05);
            let all: Vec<usize> = (0..residuals.len()).collect();
            let pi = sampler.probabilities(&all);
            prop_assert!((pi.iter().sum::<f64>() / pi.len() as f64 - rate).abs() < 1e-6, "{pi:?}");
            prop_assert!(pi.iter().all(|pi| (0.05..=1.0).contains(pi)));
            let ordered = (0..pi.len()).all(|i| (0..i).all(|j| (pi[i] - pi[j]) * (residuals[i] - residuals[j]) >= 0.0));
            prop_assert!(ordered, "a larger residual is no less probable");
        }

        /// Whatever is drawn, every example comes at least once in ⌈1/π_min⌉ passes.
        #[test]
        fn none_starves(
            residuals in proptest::collection::vec(0.0..10.0f64, 2..30), seed: u32, least in 0.05..0.5f64,
        ) {
            let mut sampler = sampler(&residuals, Sampling::Focus, 0.5, least);
            let all: Vec<usize> = (0..residuals.len()).collect();
            let bound = (1.0 / least).ceil() as usize;
            let mut last_seen = vec![0; residuals.len()];
            for pass in 1..60 {
                let unlucky = |j: usize| 1.0 - f64::from((seed ^ (j as u32 * 7919 + pass as u32 * 104_729)) % 64) / 4096.0;
                for (j, _) in sampler.draw(&all, unlucky) {
                    last_seen[j] = pass;
                    sampler.observe(j, residuals[j]);
                }
                prop_assert!(last_seen.iter().all(|seen| pass - seen < bound + 1), "{last_seen:?} in pass {pass}");
            }
        }

        /// Weighted by π̄/π, the expected sum over what is drawn is π̄ times that over all.
        #[test]
        fn weights_make_the_draw_unbiased(residuals in proptest::collection::vec(0.5..2.0f64, 4..12)) {
            let all: Vec<usize> = (0..residuals.len()).collect();
            let (mut sum, draws) = (vec![0.0; residuals.len()], 4096);
            for draw in 0..draws {
                let mut sampler = sampler(&residuals, Sampling::Unbiased, 0.6, 0.3);
                // A low-discrepancy sequence in the place of chance.
                let uniform = |j: usize| (0.618_033_988_749_895 * f64::from(draw) + 0.37 * j as f64).fract();
                sampler.draw(&all, uniform).into_iter().for_each(|(j, weight)| sum[j] += weight);
            }
            prop_assert!(sum.iter().all(|sum| (sum / f64::from(draws) - 0.6).abs() < 0.02), "{sum:?}");
        }
    }
}
