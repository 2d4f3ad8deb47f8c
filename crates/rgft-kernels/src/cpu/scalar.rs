//! Scalar functions written so that loops over them vectorise: branch-free, no calls. NaN stays NaN.
//!
//! Accuracy, against f64: `exp` 2 ulp, `tanh`, `sigmoid` and `normal` 3e-7 absolute.

use std::f32::consts::LOG2_E;

/// Adding 1.5·2²³ rounds to an integer and leaves that integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// `e^x`, saturating: inputs are clamped to `[-87.3, 88.3]`.
///
/// `e^x = 2^n · e^r` with `n = round(x / ln 2)` and `|r| ≤ ln 2 / 2`; `e^r` by its Taylor polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that n·ln 2 is subtracted exactly.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let p = 1.0 / 120.0 + r * p;
    let p = 1.0 / 24.0 + r * p;
    let p = 1.0 / 6.0 + r * p;
    let p = 0.5 + r * p;
    let e = 1.0 + r * (1.0 + r * p);
    e * power_of_two(shifted)
}

/// `2ⁿ`, 0 for n = −127 and infinite for n = 128, where `shifted` is `n + ROUND`.
#[inline(always)]
fn power_of_two(shifted: f32) -> f32 {
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// `(2^n, 2^f − 1)` with `n = round(y)` and `f = y − n`: `y` in `[-127, 128]`. The polynomial is the minimax one
/// of its degree (own fit, relative error 2e-8 of 2^f − 1).
#[inline(always)]
fn exp2_parts(y: f32) -> (f32, f32) {
    let shifted = y + ROUND;
    let f = y - (shifted - ROUND);
    let p = 1.339_073_5e-3 + f * 1.540_351_2e-4;
    let p = 9.618_238e-3 + f * p;
    let p = 5.550_357_3e-2 + f * p;
    let p = 0.240_226_5 + f * p;
    let p = std::f32::consts::LN_2 + f * p;
    (power_of_two(shifted), f * p)
}

/// `2^y`, with 0 below the smallest normal number and infinity above the largest. What `y` was rounded by counts:
/// as `e^x`, with `y = x·log₂e`, it is less exact than [`exp`] where |x| is large.
#[inline(always)]
fn exp2(y: f32) -> f32 {
    let (scale, rest) = exp2_parts(y.clamp(-127.0, 128.0));
    scale * (1.0 + rest)
}

/// `tanh x = m / (m + 2)` with `m = e^{2x} − 1`, which does not cancel around 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Beyond ±9.01, tanh is ±1 in f32.
    let (scale, rest) = exp2_parts((x * (2.0 * LOG2_E)).clamp(-27.0, 27.0));
    let m = scale * rest + (scale - 1.0);
    m / (m + 2.0)
}

/// The logistic function `1 / (1 + e^{-x})`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp2(x * -LOG2_E))
}

/// `(Φ(x), e^{-x²/2})`, Φ being the normal distribution: what exact GELU and its derivative need, with one exponential.
///
/// `Φ(−|x|) = e^{-x²/2} · t·P(t)` with `t = 1 / (1 + 0.2316419·|x|)` (Abramowitz & Stegun 26.2.17, error 7.5e-8).
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let gauss = exp2(x * x * (-0.5 * LOG2_E));
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let p = 0.530_702_7 * t - 0.726_576;
    let p = p * t + 0.710_706_9;
    let p = p * t - 0.142_248_37;
    let p = p * t + 0.127_414_8;
    let tail = p * t * gauss;
    (if x < 0.0 { tail } else { 1.0 - tail }, gauss)
}

/// A well-mixed 32-bit hash of `index` under `seed` ("lowbias32", C. Wellons): dropout's random numbers, made
/// again in backward instead of being stored.
#[inline(always)]
pub fn hash(seed: u32, index: u32) -> u32 {
    let mut x = index.wrapping_mul(0x9e37_79b9) ^ seed;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// One place where dropout acts, in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Distinguishes step and place.
    pub seed: u32,
    /// Probability of dropping, in `[0, 1)`.
    pub probability: f32,
}

impl Dropout {
    /// `0` where element `index` is dropped, else `1 / (1 − p)`.
    #[inline(always)]
    pub fn factor(self, index: usize) -> f32 {
        let threshold = (self.probability * 4_294_967_296.0) as u32;
        if hash(self.seed, index as u32) < threshold { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::erf;

    fn grid() -> impl Iterator<Item = f32> {
        (-4000..=4000).map(|i| i as f32 * 0.0021)
    }

    #[test]
    fn exponential_is_accurate_and_saturates() {
        for x in grid().map(|x| x * 10.0) {
            let truth = (x as f64).exp();
            assert!(((exp(x) as f64 - truth) / truth).abs() < 4e-7, "{x}");
        }
        assert!(exp(-1e9) < 2e-38 && exp(1e9).is_finite());
    }

    #[test]
    fn normal_distribution_tanh_and_sigmoid_are_accurate() {
        for x in grid() {
            let (phi, gauss) = normal(x);
            let xd = f64::from(x);
            let near = |found: f32, truth: f64, bound: f64, name: &str| {
                assert!((f64::from(found) - truth).abs() < bound, "{name} at {x}: {found} against {truth}");
            };
            near(phi, 0.5 * (1.0 + erf(xd / 2f64.sqrt())), 3e-7, "normal");
            near(gauss, (-xd * xd / 2.0).exp(), 2e-7, "gauss");
            near(tanh(x), xd.tanh(), 3e-7, "tanh");
            near(sigmoid(x), 1.0 / (1.0 + (-xd).exp()), 2e-7, "sigmoid");
            // Small numbers keep their digits.
            let x = x * 1e-3;
            assert!(
                (f64::from(tanh(x)) - f64::from(x).tanh()).abs() <= 4e-7 * f64::from(x.abs()),
                "tanh at {x}"
            );
        }
    }

    #[test]
    fn extremes_saturate_and_nan_stays() {
        for x in [20.0, 88.0, 1e4, 1e30, f32::MAX, f32::INFINITY] {
            assert_eq!((tanh(-x), tanh(x), sigmoid(x), normal(x).0), (-1.0, 1.0, 1.0, 1.0), "{x}");
            let below = sigmoid(-x);
            assert!((0.0..1e-8).contains(&below) && (0.0..1e-20).contains(&normal(-x).0), "{x}: {below}");
        }
        for x in [0.0, -0.0, f32::MIN_POSITIVE, 1e-40] {
            assert_eq!((tanh(x), sigmoid(x), normal(x).1), (x, 0.5, 1.0), "{x}");
        }
        for bits in [0x7fc0_0000, 0xffc0_0000, 0x7fc0_0001, 0x7fff_ffff, 0xff80_0001] {
            let nan = f32::from_bits(bits);
            let (phi, gauss) = normal(nan);
            for y in [exp(nan), tanh(nan), sigmoid(nan), phi, gauss] {
                assert!(y.is_nan(), "{bits:x}");
            }
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let dropout = Dropout { seed: 5, probability: 0.1 };
        let n = 200_000;
        let mean = (0..n).map(|i| dropout.factor(i) as f64).sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        assert_eq!(dropout.factor(17), dropout.factor(17));
        let other = Dropout { seed: 6, probability: 0.1 };
        let both = (0..n).filter(|&i| dropout.factor(i) == 0.0 && other.factor(i) == 0.0).count();
        assert!((both as f64 / n as f64 - 0.01).abs() < 0.002, "seeds must be independent: {both}");
    }
}
