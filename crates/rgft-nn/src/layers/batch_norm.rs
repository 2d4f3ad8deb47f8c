//! Batch norm with the residual and the activation behind it: `y = clip(γ·ẑ + β + residual)`, `ẑ = (z − μ)/√(σ² + ε)`.
//!
//! **Which statistics.** In a training step, and in a probe, a norm of which anything is needed is normalised by the
//! batch's mean and variance; one below the cut, and every one when evaluating, by its running statistics. So what lies
//! below the cut is a function of its own input, example by example: a prefix can be cached. And what lies above it
//! follows inputs that have shifted, whether it is updated or not. Training steps move the running statistics with
//! momentum (with the unbiased variance); [`Mode::Calibrate`] observes every norm's and updates nothing.
//!
//! Backward, `g` being dy where clipping let through, n the rows: `dβ = Σ g`, `dγ = Σ g·ẑ`,
//! `dz = γ/√(σ² + ε)·(g − (dβ + ẑ·dγ)/n)` with batch statistics, `γ/√(σ² + ε)·g` with running ones.

use rgft_kernels::cpu::batch_norm::{Clip, NormSlopes, ScaleShift, Source};

use super::{Context, Sinks};
use crate::engine::{Mode, Statistic};
use crate::needs::runs;
use crate::probe::Activation;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A batch norm.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Its site.
    pub site: usize,
    /// Parameter index of γ.
    pub weight: usize,
    /// Parameter index of β.
    pub bias: usize,
    /// Parameter index of the running means.
    pub mean: usize,
    /// Parameter index of the running variances.
    pub variance: usize,
    /// Channels.
    pub width: usize,
    /// ε.
    pub epsilon: f32,
    /// The share of the batch in a running statistic's next value.
    pub momentum: f32,
    /// What follows.
    pub clip: Clip,
}

/// Mean and 1/√(σ² + ε) of each channel.
struct Statistics {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl BatchNorm {
    /// Whether the batch's statistics normalise.
    fn uses_batch(&self, cx: Context) -> bool {
        match cx.engine.mode() {
            Mode::Evaluate => false,
            Mode::Calibrate => true,
            Mode::Probe | Mode::Train { .. } => !cx.needs[self.site].is_empty(),
        }
    }

    /// Whether backward reads z.
    fn reads_input(&self, cx: Context) -> bool {
        let needs = &cx.needs[self.site];
        needs.observe || !needs.dw.is_none() || (!needs.dx.is_none() && self.uses_batch(cx))
    }

    /// `z` `[rows, width]` → y. `passes_back`: whether backward will come this way, if only for the residual's sake.
    pub fn forward(
        &self,
        cx: Context,
        mut z: Tensor,
        residual: Option<&[f32]>,
        passes_back: bool,
        tape: &mut Tape,
    ) -> Tensor {
        let (rows, uses_batch) = (z.rows(), self.uses_batch(cx));
        let mut mean = cx.parameters.data(self.mean).to_vec();
        let mut variance = cx.parameters.data(self.variance).to_vec();
        if uses_batch {
            cx.engine.kernels.column_statistics(z.data(), &mut mean, &mut variance);
            self.observe_statistics(cx, rows, &mean, &variance);
        }
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect();
        let (gamma, beta) = (cx.parameters.data(self.weight), cx.parameters.data(self.bias));
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift: Vec<f32> = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        let map = ScaleShift { scale: &scale, shift: &shift, residual, clip: self.clip };

        let masks = passes_back && self.clip != Clip::None;
        let mut mask = masks.then(|| cx.engine.tensor(1, Clip::mask_len(z.data().len())));
        let bits = mask.as_mut().map(Tensor::data_mut);
        let y = if self.reads_input(cx) {
            let mut y = cx.engine.tensor(rows, self.width);
            cx.engine.kernels.scale_shift_clip(map, Source::From(z.data()), y.data_mut(), bits);
            tape.push(z);
            y
        } else {
            cx.engine.kernels.scale_shift_clip(map, Source::InPlace, z.data_mut(), bits);
            z
        };
        if uses_batch && !cx.needs[self.site].is_empty() {
            let mut statistics = cx.engine.tensor(2, self.width);
            let (first, second) = statistics.data_mut().split_at_mut(self.width);
            first.copy_from_slice(&mean);
            second.copy_from_slice(&variance);
            tape.push(statistics);
        }
        if let Some(mask) = mask {
            tape.push(mask);
        }
        y
    }

    /// Accumulates dγ and dβ. Returns `g` `[rows, width]`, which the residual receives, and dz where it is needed.
    pub fn backward(
        &self,
        cx: Context,
        mut dy: Tensor,
        passes_back: bool,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) -> (Tensor, Option<Tensor>) {
        let (needs, uses_batch) = (&cx.needs[self.site], self.uses_batch(cx));
        let mask = (passes_back && self.clip != Clip::None).then(|| tape.pop());
        let saved = uses_batch.then(|| tape.pop());
        let z = self.reads_input(cx).then(|| tape.pop());
        let Statistics { mean, inverse } = self.statistics(cx, saved.as_ref());

        let centred = z.as_ref().map(|z| (z.data(), &mean[..]));
        let (mut sums, mut products) = (vec![0.0; self.width], vec![0.0; self.width]);
        let bits = mask.as_ref().map(Tensor::data);
        cx.engine.kernels.clip_backward_sums(dy.data_mut(), bits, centred, &mut sums, &mut products);
        let (g, n) = (dy, cx.extent.rows() as f32);
        // Σ g·ẑ.
        products.iter_mut().zip(&inverse).for_each(|(p, i)| *p *= i);

        if let (true, Some(z)) = (needs.observe, &z) {
            self.show(cx, z, &g, &mean, &inverse, sinks);
        }
        for (parameter, part, sums) in [(self.weight, &needs.dw, &products), (self.bias, &needs.db, &sums)] {
            if part.is_none() {
                continue;
            }
            let out = sinks.gradients.accumulate_cleared(parameter).data_mut();
            let wanted = runs(part, self.width).into_iter().flatten();
            out.iter_mut().zip(wanted).for_each(|(out, c)| *out += sums[c]);
        }
        if needs.dx.is_none() {
            return (g, None);
        }
        let gamma = cx.parameters.data(self.weight);
        let a: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let (mut b, mut c) = (vec![0.0; self.width], vec![0.0; self.width]);
        if uses_batch {
            for channel in 0..self.width {
                b[channel] = -a[channel] * inverse[channel] * products[channel] / n;
                c[channel] = -a[channel] * sums[channel] / n;
            }
        }
        let slopes = NormSlopes { a: &a, b: &b, c: &c };
        let centred = centred.filter(|_| uses_batch);
        let mut dz = cx.engine.tensor(g.rows(), self.width);
        cx.engine.kernels.batch_norm_backward(slopes, g.data(), centred, dz.data_mut());
        (g, Some(dz))
    }

    fn statistics(&self, cx: Context, saved: Option<&Tensor>) -> Statistics {
        let running = [self.mean, self.variance].map(|parameter| cx.parameters.data(parameter));
        let [mean, variance] = match saved {
            Some(saved) => [&saved.data()[..self.width], &saved.data()[self.width..]],
            None => running,
        };
        let inverse = variance.iter().map(|v| 1.0 / (v + self.epsilon).sqrt()).collect();
        Statistics { mean: mean.to_vec(), inverse }
    }

    fn observe_statistics(&self, cx: Context, rows: usize, mean: &[f32], variance: &[f32]) {
        if cx.engine.mode() == Mode::Probe {
            return;
        }
        let unbiased = if rows > 1 { rows as f32 / (rows - 1) as f32 } else { 1.0 };
        for (parameter, values, factor) in [(self.mean, mean, 1.0), (self.variance, variance, unbiased)] {
            let values = values.iter().map(|value| value * factor).collect();
            cx.engine.observe_statistic(Statistic { parameter, values, momentum: self.momentum });
        }
    }

    /// Shows ẑ and its `δ` to the probe.
    fn show(&self, cx: Context, z: &Tensor, g: &Tensor, mean: &[f32], inverse: &[f32], sinks: &mut Sinks) {
        let mut normalised = cx.engine.tensor(z.rows(), self.width);
        let shift: Vec<f32> = mean.iter().zip(inverse).map(|(m, i)| -m * i).collect();
        let map = ScaleShift { scale: inverse, shift: &shift, residual: None, clip: Clip::None };
        cx.engine.kernels.scale_shift_clip(map, Source::From(z.data()), normalised.data_mut(), None);
        sinks.probe.see(cx.engine, self.site, Activation::Dense(&normalised), g);
    }
}
