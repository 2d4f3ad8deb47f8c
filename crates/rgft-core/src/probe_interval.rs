//! How many steps lie between two probes: probes are rare while the map stands still.
//!
//! ```text
//! K ← 2K     if the rank correlation of the last two maps ≥ threshold
//! K ← K/2    otherwise                                                   least ≤ K ≤ most
//! ```

/// The adaptive interval K, in steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeInterval {
    /// K now.
    pub steps: usize,
    /// Least K, at least 1.
    pub least: usize,
    /// Largest K.
    pub most: usize,
    /// The correlation from which two maps count as the same.
    pub threshold: f64,
}

impl ProbeInterval {
    /// Starts at `initial` steps and stays between a quarter and 16 times of that.
    pub fn new(initial: usize) -> Self {
        let initial = initial.max(1);
        Self { steps: initial, least: initial.div_ceil(4), most: initial.saturating_mul(16), threshold: 0.8 }
    }

    /// Adapts K to the correlation of the newest map with the one before (`None` for the first map, which tells
    /// nothing), and returns it.
    pub fn adapt(&mut self, rank_correlation: Option<f64>) -> usize {
        self.steps = match rank_correlation {
            None => self.steps,
            Some(correlation) if correlation >= self.threshold => self.steps.saturating_mul(2).min(self.most),
            Some(_) => (self.steps / 2).max(self.least),
        };
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_while_the_map_stands_still_and_halves_when_it_moves() {
        let mut interval = ProbeInterval::new(20);
        assert_eq!(interval.adapt(None), 20);
        assert_eq!([0.8, 0.9].map(|correlation| interval.adapt(Some(correlation))), [40, 80]);
        assert_eq!([0.79, f64::NAN].map(|correlation| interval.adapt(Some(correlation))), [40, 20]);
        assert_eq!([-1.0; 3].map(|correlation| interval.adapt(Some(correlation))), [10, 5, 5]);
        assert_eq!([1.0; 8].map(|correlation| interval.adapt(Some(correlation)))[7], 320);
        assert_eq!(ProbeInterval::new(0).adapt(Some(0.0)), 1);
    }
}
