//! Random numbers that can be replayed and bent: a case is made from a list of them, so a search over cases is a search over
//! lists.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers in [0, 1), drawn once and remembered.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    numbers: Vec<f64>,
    at: usize,
    random: ChaCha8Rng,
}

impl Dice {
    /// Nothing drawn yet.
    pub(super) fn new(seed: u64) -> Self {
        Self { numbers: Vec::new(), at: 0, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// What is drawn from now on comes from another stream.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.random = ChaCha8Rng::seed_from_u64(seed);
    }

    /// From the first number again.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// A few numbers are others or a little different, and it begins again.
    pub(super) fn bend(&mut self) {
        self.rewind();
        let count = self.numbers.len();
        for _ in 0..1 + self.random.random_range(0..4usize) {
            let Some(number) = (count > 0).then(|| self.random.random_range(0..count)) else { return };
            let new: f64 = self.random.random();
            let old = self.numbers[number];
            self.numbers[number] = match self.random.random_range(0..3u8) {
                0 => new,
                1 => (old + 0.1 * (new - 0.5)).clamp(0.0, 1.0 - f64::EPSILON),
                // Extremes are where bounds are met.
                _ if new < 0.5 => 0.0,
                _ => 1.0 - f64::EPSILON,
            };
        }
    }

    pub(super) fn uniform(&mut self) -> f64 {
        if self.at == self.numbers.len() {
            self.numbers.push(self.random.random());
        }
        self.at += 1;
        self.numbers[self.at - 1]
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Between `low` and `high`, evenly in the logarithm.
    pub(super) fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// One of `low..=high`.
    pub(super) fn whole(&mut self, low: usize, high: usize) -> usize {
        low + ((high - low + 1) as f64 * self.uniform()) as usize
    }

    pub(super) fn coin(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// Standard normal (Box & Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }

    /// A vector of length 1.
    pub(super) fn direction(&mut self, count: usize) -> Vec<f64> {
        let vector = self.normals(count);
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            vector.iter().map(|x| x / norm).collect()
        } else {
            vec![1.0 / (count as f64).sqrt(); count]
        }
    }
}
