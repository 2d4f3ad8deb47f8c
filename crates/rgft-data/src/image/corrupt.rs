//! Corruption of pictures, for experiments on shifted inputs.
//!
//! Severities 1 to 5 are those of Hendrycks and Dietterich, *Benchmarking Neural Network Robustness to Common
//! Corruptions and Perturbations* (2019): the constants of CIFAR-10-C for inputs whose shorter side is below 128
//! pixels, of ImageNet-C for larger ones. Values here are rounded to the nearest byte, where the published files
//! round down.
//!
//! | name | what, on values in 0 to 1 |
//! |---|---|
//! | `gaussian-noise:S` | `x + σn`, clipped |
//! | `gaussian-noise:sigma=X` | `x + Xn` on the *normalised* values, not clipped |
//! | `shot-noise:S` | `Poisson(c·x) / c`, clipped |
//! | `gaussian-blur:S`, `:sigma=X` | Gaussian of σ pixels, four σ wide, the border repeated |
//! | `box-blur:N`, `:size=N` | mean of the pixels of N × N that are inside of the picture |
//! | `contrast:S` | `(x − mean)·c + mean`, the mean of each channel |
//! | `pixelate:S` | shrunk to the part *c* of each side, and back, by a box filter |
//! | `invert` | `1 − x` |
//!
//! Pictures are corrupted after they are resized, and before they are varied. The noise of a picture depends on its
//! encoded bytes and on the name alone: not on its row, since a picture of the test set must not share its noise
//! with one of the training set that happens to stand in the same place. A higher severity scales the same noise.

use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::resample::{Filter, Picture};
use super::spec::setting;
use crate::error::DataError;

/// Shorter sides from which ImageNet-C's constants hold, in pixels.
const LARGE: usize = 128;

/// 1, mild, to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severity(u8);

impl Severity {
    /// `None` unless it is in 1 to 5.
    #[must_use]
    pub fn new(severity: u8) -> Option<Self> {
        (1..=5).contains(&severity).then_some(Self(severity))
    }

    fn of<T: Copy>(self, picture: &Picture, small: [T; 5], large: [T; 5]) -> T {
        let constants = if picture.height.min(picture.width) < LARGE { small } else { large };
        constants[usize::from(self.0) - 1]
    }
}

/// How wide a Gaussian blur is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BlurWidth {
    /// By the published constants.
    Severity(Severity),
    /// σ in pixels.
    Sigma(f32),
}

/// What is done to every picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Corruption {
    /// Gaussian noise, clipped.
    GaussianNoise(Severity),
    /// Gaussian noise of deviation `sigma` on the normalised values, not clipped. Stored pictures stay as they are;
    /// the noise is added when a batch is packed.
    NormalisedNoise {
        /// Its deviation.
        sigma: f32,
    },
    /// Photon noise, clipped.
    ShotNoise(Severity),
    /// Gaussian blur.
    GaussianBlur(BlurWidth),
    /// Mean over a square.
    BoxBlur {
        /// Its side in pixels, odd.
        size: usize,
    },
    /// Less contrast.
    Contrast(Severity),
    /// Larger pixels.
    Pixelate(Severity),
    /// Inverted colours.
    Invert,
}

impl FromStr for Corruption {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        const NAMES: &str = "gaussian-noise, shot-noise, gaussian-blur, contrast or pixelate with a severity of 1 to 5, as in gaussian-noise:4; box-blur with an odd size below 100, as in box-blur:5; invert; gaussian-noise:sigma=0.6 (normalised units, at most 100); gaussian-blur:sigma=1.5 (pixels, at most 100)";
        let bad = || setting("corrupt", format!("`{text}`"), NAMES);
        let (name, strength) = match text.split_once(':') {
            Some((name, strength)) => (name, Some(strength)),
            None => (text, None),
        };
        let severity = || strength.and_then(|s| s.parse().ok()).and_then(Severity::new).ok_or_else(bad);
        let sigma = strength.and_then(|s| s.strip_prefix("sigma=")).map(|sigma| match sigma.parse::<f32>() {
            Ok(sigma) if sigma > 0.0 && sigma <= 100.0 => Ok(sigma),
            _ => Err(bad()),
        });
        match (name, sigma) {
            ("gaussian-noise", Some(sigma)) => Ok(Self::NormalisedNoise { sigma: sigma? }),
            ("gaussian-noise", None) => severity().map(Self::GaussianNoise),
            ("gaussian-blur", Some(sigma)) => Ok(Self::GaussianBlur(BlurWidth::Sigma(sigma?))),
            ("gaussian-blur", None) => severity().map(BlurWidth::Severity).map(Self::GaussianBlur),
            ("shot-noise", None) => severity().map(Self::ShotNoise),
            ("contrast", None) => severity().map(Self::Contrast),
            ("pixelate", None) => severity().map(Self::Pixelate),
            ("box-blur", None) => {
                let size =
                    strength.map(|s| s.strip_prefix("size=").unwrap_or(s)).and_then(|s| s.parse().ok());
                match size {
                    Some(size) if size % 2 == 1 && size < 100 => Ok(Self::BoxBlur { size }),
                    _ => Err(bad()),
                }
            }
            ("invert", None) if strength.is_none() => Ok(Self::Invert),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaussianNoise(severity) => write!(f, "gaussian-noise:{}", severity.0),
            Self::NormalisedNoise { sigma } => write!(f, "gaussian-noise:sigma={sigma}"),
            Self::ShotNoise(severity) => write!(f, "shot-noise:{}", severity.0),
            Self::GaussianBlur(BlurWidth::Severity(severity)) => write!(f, "gaussian-blur:{}", severity.0),
            Self::GaussianBlur(BlurWidth::Sigma(sigma)) => write!(f, "gaussian-blur:sigma={sigma}"),
            Self::BoxBlur { size } => write!(f, "box-blur:{size}"),
            Self::Contrast(severity) => write!(f, "contrast:{}", severity.0),
            Self::Pixelate(severity) => write!(f, "pixelate:{}", severity.0),
            Self::Invert => f.write_str("invert"),
        }
    }
}

/// The number that a picture's noise is drawn from: FNV-1a of its encoded bytes.
pub(super) fn key(encoded: &[u8]) -> u64 {
    encoded.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Adds noise to the normalised values of the picture of this key, in the order of its pixels.
pub(super) fn add_noise(values: &mut [f32], sigma: f32, key: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(key);
    for value in values {
        let noise: f32 = StandardNormal.sample(&mut rng);
        *value += sigma * noise;
    }
}

impl Corruption {
    /// The deviation of the noise that packing must add.
    pub(super) fn sigma(self) -> Option<f32> {
        match self {
            Self::NormalisedNoise { sigma } => Some(sigma),
            _ => None,
        }
    }

    /// Corrupts the picture of this key.
    pub(super) fn apply(self, picture: Picture, key: u64) -> Picture {
        match self {
            Self::NormalisedNoise { .. } => picture,
            Self::Invert => each(picture, |value| 255.0 - value),
            Self::GaussianNoise(severity) => {
                let sigma =
                    severity.of(&picture, [0.04, 0.06, 0.08, 0.09, 0.10], [0.08, 0.12, 0.18, 0.26, 0.38]);
                let mut rng = ChaCha8Rng::seed_from_u64(key);
                let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
                each(picture, |value| value + 255.0 * sigma * normal(&mut rng))
            }
            Self::ShotNoise(severity) => {
                let photons =
                    severity.of(&picture, [500.0, 250.0, 100.0, 75.0, 50.0], [60.0, 25.0, 12.0, 5.0, 3.0]);
                let mut rng = ChaCha8Rng::seed_from_u64(key);
                each(picture, |value| match Poisson::new(value / 255.0 * photons) {
                    Ok(poisson) => poisson.sample(&mut rng) / photons * 255.0,
                    // A mean of 0: no light, no noise.
                    Err(_) => 0.0,
                })
            }
            Self::GaussianBlur(width) => {
                let sigma = match width {
                    BlurWidth::Sigma(sigma) => f64::from(sigma),
                    BlurWidth::Severity(s) => {
                        s.of(&picture, [0.4, 0.6, 0.7, 0.8, 1.0], [1.0, 2.0, 3.0, 4.0, 6.0])
                    }
                };
                let reach = (4.0 * sigma + 0.5) as isize;
                let bell = (-reach..=reach).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
                blur(&picture, bell, Border::Repeated)
            }
            Self::BoxBlur { size } => blur(&picture, vec![1.0; size], Border::Absent),
            Self::Contrast(severity) => {
                let c = severity.of(&picture, [0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]);
                contrast(picture, c)
            }
            Self::Pixelate(severity) => {
                let c = severity.of(&picture, [0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]);
                let (height, width) = (picture.height, picture.width);
                let part = |side: usize| ((side as f64 * c) as usize).max(1);
                let (h, w) = (part(height), part(width));
                let small = picture.resample((h, w), (0..h, 0..w), Filter::Box);
                small.resample((height, width), (0..height, 0..width), Filter::Box)
            }
        }
    }
}

fn byte(value: f64) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn each(mut picture: Picture, mut change: impl FnMut(f64) -> f64) -> Picture {
    for pixel in &mut picture.pixels {
        *pixel = byte(change(f64::from(*pixel)));
    }
    picture
}

fn contrast(mut picture: Picture, c: f64) -> Picture {
    let channels = picture.channels;
    let area = (picture.height * picture.width) as f64;
    for channel in 0..channels {
        let values = || picture.pixels[channel..].iter().step_by(channels);
        let mean = values().map(|value| f64::from(*value)).sum::<f64>() / area;
        for value in picture.pixels[channel..].iter_mut().step_by(channels) {
            *value = byte((f64::from(*value) - mean) * c + mean);
        }
    }
    picture
}

/// What a filter finds outside of the picture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Border {
    /// The nearest pixel inside.
    Repeated,
    /// Nothing: the weights inside are taken for all.
    Absent,
}

/// A filter of odd length along the rows, then along the columns; its weights are normalised.
fn blur(picture: &Picture, weights: Vec<f64>, border: Border) -> Picture {
    let (h, w, c) = (picture.height, picture.width, picture.channels);
    let source: Vec<f64> = picture.pixels.iter().map(|value| f64::from(*value)).collect();
    let rows = pass(&source, &weights, border, (h, w * c), (w, c));
    let both = pass(&rows, &weights, border, (1, h * w * c), (h, w * c));
    Picture { pixels: both.into_iter().map(byte).collect(), ..*picture }
}

/// The filter along `length` values `stride` apart, in each of `lines` runs of `run` values.
fn pass(
    values: &[f64],
    weights: &[f64],
    border: Border,
    (lines, run): (usize, usize),
    (length, stride): (usize, usize),
) -> Vec<f64> {
    let reach = (weights.len() / 2) as isize;
    let last = length as isize - 1;
    let taps_of = |at: isize| -> Vec<(usize, f64)> {
        let places = (at - reach..).zip(weights);
        let inside = places.filter(|(place, _)| border == Border::Repeated || (0..=last).contains(place));
        let mut taps: Vec<_> =
            inside.map(|(place, weight)| (place.clamp(0, last) as usize * stride, *weight)).collect();
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        taps
    };
    let taps: Vec<_> = (0..=last).map(taps_of).collect();
    let mut filtered = Vec::with_capacity(values.len());
    for line in 0..lines {
        let line = &values[line * run..(line + 1) * run];
        for taps in &taps {
            filtered.extend(
                (0..stride).map(|offset| {
                    taps.iter().map(|(place, weight)| line[place + offset] * weight).sum::<f64>()
                }),
            );
        }
    }
    filtered
}
