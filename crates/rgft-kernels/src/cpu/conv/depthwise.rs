//! Depthwise convolutions: one filter per channel, so channels are lanes and there is no product of matrices.
//!
//! `y[p, c] = Σ_tap w[c, tap]·x[p + tap, c]`. Each pixel's taps are found once and serve all channels.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::ConvShape;

/// Channels whose sums stay in registers.
const LANES: usize = 32;

thread_local! {
    static WEIGHTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `[channels, taps]` → `[taps, channels]`.
fn transpose(weight: &[f32], taps: usize, out: &mut Vec<f32>) {
    let channels = weight.len() / taps;
    out.clear();
    out.extend((0..taps).flat_map(|tap| (0..channels).map(move |c| weight[c * taps + tap])));
}

/// The pixels of the input, by tap, that a pixel of the output reads.
fn read_by(
    shape: ConvShape,
    example: usize,
    row: usize,
    column: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let k = shape.kernel;
    (0..k * k).filter_map(move |tap| {
        let y = (row * shape.stride + tap / k).checked_sub(shape.padding).filter(|y| *y < shape.height)?;
        let x = (column * shape.stride + tap % k).checked_sub(shape.padding).filter(|x| *x < shape.width)?;
        Some(((example * shape.height + y) * shape.width + x, tap))
    })
}

/// The pixels of the output, by tap, that read a pixel of the input.
fn readers(
    shape: ConvShape,
    example: usize,
    row: usize,
    column: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let (k, [height, width]) = (shape.kernel, shape.places());
    let place = move |at: usize, tap: usize, n: usize| {
        let distance = (at + shape.padding).checked_sub(tap)?;
        let place = distance / shape.stride;
        (distance % shape.stride == 0 && place < n).then_some(place)
    };
    (0..k * k).filter_map(move |tap| {
        let y = place(row, tap / k, height)?;
        let x = place(column, tap % k, width)?;
        Some(((example * height + y) * width + x, tap))
    })
}

/// `out[pixel, c] (+)= Σ w[tap, c]·source[at, c]` over the `(at, tap)` that `taps(example, row, column)` yields.
fn gather<I: Iterator<Item = (usize, usize)>>(
    channels: usize,
    [height, width]: [usize; 2],
    source: &[f32],
    weights: &[f32],
    out: &mut [f32],
    add: bool,
    taps: impl Fn(usize, usize, usize) -> I + Sync,
) {
    let rows = super::super::rows_per_task(out.len() / (width * channels), width * channels);
    out.par_chunks_mut(rows * width * channels).enumerate().for_each(|(task, out)| {
        let mut found = Vec::with_capacity(64);
        for (p, out) in out.chunks_exact_mut(channels).enumerate() {
            let (line, column) = (task * rows + p / width, p % width);
            found.clear();
            found.extend(taps(line / height, line % height, column));
            vectorised!(|| {
                for (block, out) in out.chunks_mut(LANES).enumerate() {
                    let first = block * LANES;
                    if out.len() == LANES {
                        let mut sums = [0.0f32; LANES];
                        for &(at, tap) in &found {
                            let x = &source[at * channels + first..][..LANES];
                            let w = &weights[tap * channels + first..][..LANES];
                            sums.iter_mut().zip(x.iter().zip(w)).for_each(|(s, (x, w))| *s += x * w);
                        }
                        let pairs = out.iter_mut().zip(&sums);
                        pairs.for_each(|(out, s)| *out = if add { *out + s } else { *s });
                    } else {
                        if !add {
                            out.fill(0.0);
                        }
                        for &(at, tap) in &found {
                            let (x, w) =
                                (&source[at * channels + first..], &weights[tap * channels + first..]);
                            out.iter_mut().zip(x.iter().zip(w)).for_each(|(s, (x, w))| *s += x * w);
                        }
                    }
                }
            });
        }
    });
}

pub(super) fn forward(shape: ConvShape, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let mut weights = WEIGHTS.take();
    transpose(weight, shape.kernel * shape.kernel, &mut weights);
    gather(shape.input, shape.places(), x, &weights, y, false, |e, r, c| read_by(shape, e, r, c));
    WEIGHTS.set(weights);
}

pub(super) fn backward_input(shape: ConvShape, weight: &[f32], delta: &[f32], dx: &mut [f32], add: bool) {
    let mut weights = WEIGHTS.take();
    transpose(weight, shape.kernel * shape.kernel, &mut weights);
    let map = [shape.height, shape.width];
    gather(shape.input, map, delta, &weights, dx, add, |e, r, c| readers(shape, e, r, c));
    WEIGHTS.set(weights);
}

pub(super) fn backward_weight(
    shape: ConvShape,
    x: &[f32],
    delta: &[f32],
    rows: &[Range<usize>],
    dw: &mut [f32],
    add: bool,
) {
    let (channels, taps) = (shape.input, shape.kernel * shape.kernel);
    let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
    let [height, width] = shape.places();
    let lines = shape.examples * height;
    if wanted == 0 {
        return;
    }
    let shares = rayon::current_num_threads().min(lines).max(1);
    let mut sums = SUMS.take();
    sums.clear();
    sums.resize(shares * taps * wanted, 0.0);
    sums.par_chunks_mut(taps * wanted).enumerate().for_each(|(share, sums)| {
        for line in share * lines / shares..(share + 1) * lines / shares {
            for column in 0..width {
                let delta = &delta[(line * width + column) * channels..][..channels];
                vectorised!(|| {
                    for (at, tap) in read_by(shape, line / height, line % height, column) {
                        let x = &x[at * channels..][..channels];
                        let mut sums = &mut sums[tap * wanted..][..wanted];
                        for range in rows {
                            let (own, rest) = sums.split_at_mut(range.len());
                            sums = rest;
                            let pairs = x[range.clone()].iter().zip(&delta[range.clone()]);
                            own.iter_mut().zip(pairs).for_each(|(s, (x, d))| *s += x * d);
                        }
                    }
                });
            }
        }
    });
    for (i, dw) in dw.iter_mut().enumerate() {
        let at = (i % taps) * wanted + i / taps;
        let sum: f32 = (0..shares).map(|share| sums[share * taps * wanted + at]).sum();
        *dw = if add { *dw + sum } else { sum };
    }
    SUMS.set(sums);
}
