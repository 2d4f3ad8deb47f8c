//! Element-wise activations and their derivatives, over whole rows or over ranges of columns.
//!
//! `gelu(x) = x·Φ(x)`, `gelu_tanh(x) = x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))`, `silu(x) = x·σ(x)`.

use std::ops::Range;

use super::for_row_blocks;
use super::scalar::{normal, sigmoid, tanh};

/// A scalar non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU (Hendrycks & Gimpel 2016).
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// SiLU, also called swish.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// `(f(x), f'(x))`.
    #[inline(always)]
    fn value_and_slope(self, x: f32) -> (f32, f32) {
        match self {
            Self::Gelu => {
                let (phi, gauss) = normal(x);
                (x * phi, phi + x * gauss * 0.398_942_3)
            }
            Self::GeluTanh => {
                let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
                let t = tanh(inner);
                let slope = 0.797_884_6 * (1.0 + 0.134_145 * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
            }
            Self::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Self::Relu => (if x < 0.0 { 0.0 } else { x }, if x > 0.0 { 1.0 } else { 0.0 }),
            Self::Tanh => {
                let t = tanh(x);
                (t, 1.0 - t * t)
            }
        }
    }
}

/// Calls `$body` with `$f` a closure for one activation, so that the loop inside is compiled per activation.
macro_rules! with_activation {
    ($activation:expr, $f:ident => $body:expr) => {
        match $activation {
            Activation::Gelu => {
                let $f = |x| Activation::Gelu.value_and_slope(x);
                $body
            }
            Activation::GeluTanh => {
                let $f = |x| Activation::GeluTanh.value_and_slope(x);
                $body
            }
            Activation::Silu => {
                let $f = |x| Activation::Silu.value_and_slope(x);
                $body
            }
            Activation::Relu => {
                let $f = |x| Activation::Relu.value_and_slope(x);
                $body
            }
            Activation::Tanh => {
                let $f = |x| Activation::Tanh.value_and_slope(x);
                $body
            }
        }
    };
}

/// `y = f(x + bias)`, and `x` becomes the slope `f'(x + bias)`, which is all that backward reads and costs next to
/// nothing here: `x`, `y` `[rows, cols]`, `bias` `[cols]`.
pub fn bias_activation(activation: Activation, x: &mut [f32], bias: &[f32], y: &mut [f32]) {
    use rayon::prelude::*;
    let cols = bias.len();
    if x.is_empty() {
        return;
    }
    let block = super::rows_per_task(x.len() / cols, cols) * cols;
    with_activation!(activation, f => x.par_chunks_mut(block).zip(y.par_chunks_mut(block)).for_each(|(x, y)| {
        vectorised!(|| {
            for (x, y) in x.chunks_exact_mut(cols).zip(y.chunks_exact_mut(cols)) {
                for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
                    (*y, *x) = f(*x + b);
                }
            }
        });
    }));
}

/// `x = f(x + bias)` in place, for forwards without a backward.
pub fn bias_activation_in_place(activation: Activation, x: &mut [f32], bias: &[f32]) {
    let cols = bias.len();
    with_activation!(activation, f => for_row_blocks(x, cols, |_, x| {
        vectorised!(|| {
            for x in x.chunks_exact_mut(cols) {
                for (x, b) in x.iter_mut().zip(bias) {
                    *x = f(*x + b).0;
                }
            }
        });
    }));
}

/// `dy ← dy · slope` over the columns `ranges` of `[rows, cols]`; other columns are left alone.
pub fn activation_backward(slope: &[f32], dy: &mut [f32], cols: usize, ranges: &[Range<usize>]) {
    for_row_blocks(dy, cols, |first, dy| {
        vectorised!(|| {
            for (slope, dy) in slope[first * cols..].chunks_exact(cols).zip(dy.chunks_exact_mut(cols)) {
                for range in ranges {
                    let pairs = slope[range.clone()].iter().zip(&mut dy[range.clone()]);
                    pairs.for_each(|(slope, dy)| *dy *= slope);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    const ALL: [Activation; 5] =
        [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu, Activation::Tanh];

    #[test]
    fn values_and_slopes_match_the_reference() {
        let x: Vec<f32> = (0..40 * 30).map(|i| (i as f32 - 600.0) * 0.01 + 0.003).collect();
        let bias: Vec<f32> = (0..30).map(|i| i as f32 * 0.02 - 0.3).collect();
        for activation in ALL {
            let (mut slopes, mut y, mut in_place) = (x.clone(), vec![0.0; x.len()], x.clone());
            bias_activation(activation, &mut slopes, &bias, &mut y);
            bias_activation_in_place(activation, &mut in_place, &bias);
            assert_eq!(y, in_place);
            let mut slope = vec![1.0; x.len()];
            activation_backward(&slopes, &mut slope, 30, &[2..10, 20..30]);
            for i in 0..x.len() {
                let at = x[i] as f64 + bias[i % 30] as f64;
                assert!((y[i] as f64 - reference::activation(activation, at)).abs() < 2e-6);
                let h = 1e-5;
                let difference = (reference::activation(activation, at + h)
                    - reference::activation(activation, at - h))
                    / (2.0 * h);
                let expected = if matches!(i % 30, 2..10 | 20..30) { difference } else { 1.0 };
                assert!((slope[i] as f64 - expected).abs() < 5e-6, "{activation:?} at {at}");
            }
        }
    }
}
