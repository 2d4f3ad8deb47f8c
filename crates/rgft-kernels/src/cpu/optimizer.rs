//! Optimizer steps over blocks of a parameter, in one pass each.
//!
//! AdamW (Loshchilov & Hutter 2019, in PyTorch's order of operations):
//! `w ← w(1 − ηλ)`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
//! `w ← w − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`.
//! SGD with momentum: `w ← w(1 − ηλ)`, `m ← μm + g`, `w ← w − ηm`.

use rayon::prelude::*;

use super::SERIAL_ELEMENTS;

/// AdamW's numbers for one step of one block.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// η, the learning-rate weight included.
    pub learning_rate: f32,
    /// λ, decoupled; multiplied by η.
    pub weight_decay: f32,
    /// β₁.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// t ≥ 1: how often this block was updated, this step included.
    pub step: u32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
}

/// SGD's numbers for one step of one block.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// η, the learning-rate weight included.
    pub learning_rate: f32,
    /// λ, decoupled; multiplied by η.
    pub weight_decay: f32,
    /// μ.
    pub momentum: f32,
    /// Factor on the gradient (clipping).
    pub gradient_scale: f32,
}

/// A block of rows of a parameter with its gradient: `rows` runs of `width` scalars, in the parameter
/// `weight_stride` apart and in the gradient `gradient_stride`; the moments are dense `[rows, width]`.
#[derive(Debug)]
pub struct Block<'a> {
    /// The parameter, from the block's first scalar.
    pub weight: &'a mut [f32],
    /// Scalars between the starts of two rows in `weight`.
    pub weight_stride: usize,
    /// The gradient, from the block's first scalar; `None` where it is zero.
    pub gradient: Option<&'a [f32]>,
    /// Scalars between the starts of two rows in `gradient`.
    pub gradient_stride: usize,
    /// Scalars in a row.
    pub width: usize,
}

impl Block<'_> {
    /// Calls `pass(weights, gradient, first moment, second moment)` row by row, in parallel.
    fn for_rows(
        self,
        m: &mut [f32],
        v: &mut [f32],
        pass: impl Fn(&mut [f32], Option<&[f32]>, &mut [f32], &mut [f32]) + Sync,
    ) {
        let Self { weight, weight_stride, gradient, gradient_stride, width } = self;
        if width == 0 || m.is_empty() {
            return;
        }
        let dense = weight_stride == width && gradient_stride == width;
        // Dense blocks are cut into runs of any length, strided ones into rows.
        let run = if dense { SERIAL_ELEMENTS.min(m.len()) } else { width };
        let (weight_stride, gradient_stride) =
            if dense { (run, run) } else { (weight_stride, gradient_stride) };
        let rows_per_task = (SERIAL_ELEMENTS / run).max(1);
        let second = if v.is_empty() { 0 } else { run };
        let task = |(i, (weight, m)): (usize, (&mut [f32], &mut [f32])), v: &mut [f32]| {
            vectorised!(|| {
                for (r, m) in m.chunks_mut(run).enumerate() {
                    let n = m.len();
                    let g = gradient.map(|g| &g[(i * rows_per_task + r) * gradient_stride..][..n]);
                    let v = if second == 0 { &mut [][..] } else { &mut v[r * run..][..n] };
                    pass(&mut weight[r * weight_stride..][..n], g, m, v);
                }
            });
        };
        let pairs = weight
            .par_chunks_mut(rows_per_task * weight_stride)
            .zip(m.par_chunks_mut(rows_per_task * run))
            .enumerate();
        if second == 0 {
            pairs.for_each(|pair| task(pair, &mut []));
        } else {
            pairs.zip(v.par_chunks_mut(rows_per_task * run)).for_each(|(pair, v)| task(pair, v));
        }
    }
}

/// One AdamW step; `m`, `v` dense `[rows, width]`.
pub fn adamw(block: Block, m: &mut [f32], v: &mut [f32], step: AdamW) {
    let AdamW { learning_rate, beta1, beta2, epsilon, gradient_scale, .. } = step;
    let keep = 1.0 - learning_rate * step.weight_decay;
    let size = learning_rate / (1.0 - beta1.powi(step.step as i32));
    let inverse = 1.0 / (1.0 - beta2.powi(step.step as i32)).sqrt();
    block.for_rows(m, v, |w, g, m, v| match g {
        Some(g) => {
            for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * gradient_scale;
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w = *w * keep - size * *m / (v.sqrt() * inverse + epsilon);
            }
        }
        None => {
            for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
                *m *= beta1;
                *v *= beta2;
                *w = *w * keep - size * *m / (v.sqrt() * inverse + epsilon);
            }
        }
    });
}

/// One SGD step; `m` dense `[rows, width]`.
pub fn sgd(block: Block, m: &mut [f32], step: Sgd) {
    let Sgd { learning_rate, momentum, gradient_scale, .. } = step;
    let keep = 1.0 - learning_rate * step.weight_decay;
    block.for_rows(m, &mut [], |w, g, m, _| {
        for (i, (w, m)) in w.iter_mut().zip(m).enumerate() {
            *m = momentum * *m + g.map_or(0.0, |g| g[i] * gradient_scale);
            *w = *w * keep - learning_rate * *m;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// The update as the formula has it, in f64, for one scalar over several steps.
    fn adamw_scalar(mut w: f64, gradients: &[f64], s: AdamW) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        let (b1, b2) = (s.beta1 as f64, s.beta2 as f64);
        for (t, g) in gradients.iter().enumerate() {
            let g = g * s.gradient_scale as f64;
            w *= 1.0 - s.learning_rate as f64 * s.weight_decay as f64;
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            let m_hat = m / (1.0 - b1.powi(t as i32 + 1));
            let v_hat = v / (1.0 - b2.powi(t as i32 + 1));
            w -= s.learning_rate as f64 * m_hat / (v_hat.sqrt() + s.epsilon as f64);
        }
        w
    }

    #[test]
    fn adamw_matches_its_formula_on_strided_blocks() {
        for (rows, width, stride) in [(5, 3, 7), (300, 32, 100), (400, 100, 100)] {
            let w0 = numbers(rows * stride, 1);
            let mut w = w0.clone();
            let gradients = [numbers(rows * width, 2), numbers(rows * width, 3)];
            let (mut m, mut v) = (vec![0.0; rows * width], vec![0.0; rows * width]);
            let step = AdamW {
                learning_rate: 0.01,
                weight_decay: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                step: 1,
                gradient_scale: 0.5,
            };
            for (t, g) in [Some(&gradients[0]), Some(&gradients[1]), None].into_iter().enumerate() {
                let block = Block {
                    weight: &mut w,
                    weight_stride: stride,
                    gradient: g.map(|g| &g[..]),
                    gradient_stride: width,
                    width,
                };
                adamw(block, &mut m, &mut v, AdamW { step: t as u32 + 1, ..step });
            }
            for r in 0..rows {
                for c in 0..stride {
                    let i = r * stride + c;
                    if c < width {
                        let g = gradients.each_ref().map(|g| g[r * width + c] as f64);
                        let expected = adamw_scalar(w0[i] as f64, &[g[0], g[1], 0.0], step);
                        assert!((w[i] as f64 - expected).abs() < 1e-6, "{} against {expected}", w[i]);
                    } else {
                        assert_eq!(w[i], w0[i], "outside the block");
                    }
                }
            }
        }
    }

    #[test]
    fn sgd_matches_its_formula() {
        let (mut w, g) = (numbers(40, 1), numbers(40, 2));
        let w0 = w.clone();
        let mut m = vec![0.0; 40];
        let step = Sgd { learning_rate: 0.1, weight_decay: 0.01, momentum: 0.9, gradient_scale: 2.0 };
        for _ in 0..2 {
            let block = Block {
                weight: &mut w,
                weight_stride: 40,
                gradient: Some(&g),
                gradient_stride: 40,
                width: 40,
            };
            sgd(block, &mut m, step);
        }
        for i in 0..40 {
            let expected = (w0[i] * 0.999 - 0.1 * 2.0 * g[i]) * 0.999 - 0.1 * (0.9 * 2.0 * g[i] + 2.0 * g[i]);
            assert!((w[i] - expected).abs() < 1e-5);
        }
    }
}
