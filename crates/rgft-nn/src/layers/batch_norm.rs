//! Batch norm with the residual and the activation behind it: `y = clip(γ·ẑ + β + residual)`, `ẑ = (z − μ)/√(σ² + ε)`.
//!
//! **Which statistics.** In a training step a channel is normalised by the batch's mean and variance if and only if its γ or
//! β is updated in that step; every other channel, and every channel when evaluating, by its running statistics. So what
//! is frozen is a function of its own input, example by example: a prefix below the cut can be cached, and a frozen
//! channel above the cut does not drift. The running statistics move with momentum, by what backward hands to
//! `Gradients::observe_statistic` (with the unbiased variance), and only those of updated channels.
//!
//! Backward, `g` being dy where clipping let through, n the rows: `dβ = Σ g`, `dγ = Σ g·ẑ`,
//! `dz = γ/√(σ² + ε)·(g − (dβ + ẑ·dγ)/n)` for a channel with batch statistics, `γ/√(σ² + ε)·g` for the others.

use std::ops::Range;

use rgft_core::Ranges;
use rgft_kernels::cpu::batch_norm::{Clip, NormSlopes, ScaleShift, Source};

use super::{Context, Sinks};
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
    /// The channels that are normalised by the batch's statistics.
    fn batch_channels(&self, cx: Context) -> Vec<Range<usize>> {
        let needs = &cx.needs[self.site];
        if !cx.engine.is_training() {
            return Vec::new();
        }
        let updated = [&needs.dw, &needs.db].into_iter().flat_map(|part| runs(part, self.width));
        updated.collect::<Ranges>().iter().collect()
    }

    /// Whether backward reads z.
    fn reads_input(&self, cx: Context) -> bool {
        let needs = &cx.needs[self.site];
        let through = !needs.dx.is_none() && !self.batch_channels(cx).is_empty();
        needs.observe || !needs.dw.is_none() || through
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
        let (rows, channels) = (z.rows(), self.batch_channels(cx));
        let mut mean = cx.parameters.data(self.mean).to_vec();
        let mut variance = cx.parameters.data(self.variance).to_vec();
        if !channels.is_empty() {
            let (mut batch_mean, mut batch_variance) = (vec![0.0; self.width], vec![0.0; self.width]);
            cx.engine.kernels.column_statistics(z.data(), &mut batch_mean, &mut batch_variance);
            for range in &channels {
                mean[range.clone()].copy_from_slice(&batch_mean[range.clone()]);
                variance[range.clone()].copy_from_slice(&batch_variance[range.clone()]);
            }
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
        if !channels.is_empty() {
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
        let (needs, channels) = (&cx.needs[self.site], self.batch_channels(cx));
        let mask = (passes_back && self.clip != Clip::None).then(|| tape.pop());
        let saved = (!channels.is_empty()).then(|| tape.pop());
        let z = self.reads_input(cx).then(|| tape.pop());
        let Statistics { mean, inverse } = self.statistics(cx, saved.as_ref());

        let centred = z.as_ref().map(|z| (z.data(), &mean[..]));
        let (mut sums, mut products) = (vec![0.0; self.width], vec![0.0; self.width]);
        let bits = mask.as_ref().map(Tensor::data);
        cx.engine.kernels.clip_backward_sums(dy.data_mut(), bits, centred, &mut sums, &mut products);
        let (g, n) = (dy, cx.extent.rows() as f32);
        // Σ g·ẑ.
        products.iter_mut().zip(&inverse).for_each(|(p, i)| *p *= i);

        if let Some(statistics) = &saved {
            self.observe_statistics(cx, statistics, &channels, sinks);
        }
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
        for channel in channels.iter().cloned().flatten() {
            b[channel] = -a[channel] * inverse[channel] * products[channel] / n;
            c[channel] = -a[channel] * sums[channel] / n;
        }
        let slopes = NormSlopes { a: &a, b: &b, c: &c };
        let centred = if channels.is_empty() { None } else { centred };
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

    fn observe_statistics(
        &self,
        cx: Context,
        statistics: &Tensor,
        channels: &[Range<usize>],
        sinks: &mut Sinks,
    ) {
        let n = cx.extent.rows() as f32;
        let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
        let (mean, variance) = statistics.data().split_at(self.width);
        for (parameter, values, factor) in [(self.mean, mean, 1.0), (self.variance, variance, unbiased)] {
            let mut observed = vec![None; self.width];
            for c in channels.iter().cloned().flatten() {
                observed[c] = Some(values[c] * factor);
            }
            sinks.gradients.observe_statistic(parameter, observed, self.momentum);
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
