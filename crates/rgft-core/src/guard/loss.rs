//! Loss spikes: a loss far above what the losses before it make likely.
//!
//! ```text
//! z = (ℓ − μ) / σ > 6        μ, σ²: exponential moving mean and variance over about 50 steps
//! ```

const DECAY: f64 = 0.02;
/// Losses seen before any is judged.
const SETTLING: usize = 20;
const THRESHOLD: f64 = 6.0;
/// Least σ relative to μ: a loss that has become constant must not make rounding noise a spike.
const LEAST_DEVIATION: f64 = 1e-3;

/// Moving mean and variance of a loss.
#[derive(Clone, Debug, Default)]
pub(super) struct SpikeDetector {
    seen: usize,
    mean: f64,
    variance: f64,
}

impl SpikeDetector {
    /// Takes in a finite loss; its z-score if it is a spike.
    pub(super) fn observe(&mut self, loss: f64) -> Option<f64> {
        let distance = loss - self.mean;
        let deviation = self.variance.sqrt().max(LEAST_DEVIATION * self.mean.abs()).max(f64::MIN_POSITIVE);
        let z = distance / deviation;
        let spike = (self.seen >= SETTLING && z > THRESHOLD).then_some(z);

        // At first a plain mean, so that the first loss does not weigh on.
        self.seen += 1;
        let rate = DECAY.max(1.0 / self.seen as f64);
        self.mean += rate * distance;
        self.variance = (1.0 - rate) * (self.variance + rate * distance * distance);
        spike
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_a_spike_and_noise_is_not() {
        let mut detector = SpikeDetector::default();
        for step in 0..200 {
            // A falling loss with noise of a fixed pattern.
            let loss = 3.0 * (-0.01 * f64::from(step)).exp() + 0.2 * f64::from(step * 7 % 11) / 11.0;
            assert_eq!(detector.observe(loss), None, "step {step}");
        }
        assert!(detector.observe(5.0).unwrap() > THRESHOLD);
    }

    #[test]
    fn rounding_noise_on_a_constant_loss_is_no_spike() {
        let mut detector = SpikeDetector::default();
        (0..100).for_each(|_| assert_eq!(detector.observe(0.5), None));
        assert_eq!(detector.observe(0.5 + 1e-6), None);
        assert!(detector.observe(0.6).is_some());
    }
}
