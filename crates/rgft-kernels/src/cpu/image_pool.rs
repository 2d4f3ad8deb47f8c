//! Pooling of channels-last maps.

use rayon::prelude::*;

use super::{for_row_blocks, rows_per_task};

/// Maps `[examples, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Maps in the batch.
    pub examples: usize,
    /// Rows of a map.
    pub height: usize,
    /// Columns of a map.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl MapShape {
    /// Rows and columns of [`max_pool`]'s result.
    pub fn pooled(self) -> [usize; 2] {
        [self.height.div_ceil(2), self.width.div_ceil(2)]
    }
}

/// The largest of each 3×3 neighbourhood, two pixels apart, padding never winning: `x` → `y`
/// `[examples, ⌈height/2⌉, ⌈width/2⌉, channels]`. `winners` takes, in the shape of y, which of the nine it was.
pub fn max_pool(shape: MapShape, x: &[f32], y: &mut [f32], winners: &mut [f32]) {
    let [height, width] = shape.pooled();
    let channels = shape.channels;
    if y.is_empty() {
        return;
    }
    let line = width * channels;
    let lines = rows_per_task(y.len() / line, line);
    let tasks = y.par_chunks_mut(lines * line).zip(winners.par_chunks_mut(lines * line));
    tasks.enumerate().for_each(|(task, (y, winners))| {
        vectorised!(|| {
            let pixels = y.chunks_exact_mut(channels).zip(winners.chunks_exact_mut(channels));
            for (p, (y, winners)) in pixels.enumerate() {
                let (row, column) = (task * lines + p / width, p % width);
                y.fill(f32::NEG_INFINITY);
                for (tap, at) in taps(shape, row / height, row % height, column) {
                    let x = &x[at * channels..][..channels];
                    for ((y, winner), x) in y.iter_mut().zip(&mut *winners).zip(x) {
                        // The first of equals wins, and NaN stays.
                        let wins = *x > *y || x.is_nan() || *y == f32::NEG_INFINITY;
                        *y = if wins { *x } else { *y };
                        *winner = if wins { tap as f32 } else { *winner };
                    }
                }
            }
        });
    });
}

/// The gradient: `d` in the shape of y → `dx` in the shape of x, all of it written.
pub fn max_pool_backward(shape: MapShape, d: &[f32], winners: &[f32], dx: &mut [f32]) {
    let [height, width] = shape.pooled();
    let channels = shape.channels;
    let image = shape.height * shape.width * channels;
    if dx.is_empty() {
        return;
    }
    dx.par_chunks_mut(image).enumerate().for_each(|(example, dx)| {
        dx.fill(0.0);
        vectorised!(|| {
            for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
                let from = ((example * height + row) * width + column) * channels;
                let (d, winners) = (&d[from..][..channels], &winners[from..][..channels]);
                for (tap, at) in taps(shape, 0, row, column) {
                    let own = dx[at * channels..][..channels].iter_mut().zip(d).zip(winners);
                    own.for_each(|((dx, d), winner)| *dx += if *winner == tap as f32 { *d } else { 0.0 });
                }
            }
        });
    });
}

/// Every second pixel, with zero channels around: `x` → `y` `[examples, ⌈height/2⌉, ⌈width/2⌉, channels_out]`, whose
/// channels `before..before + channels` are the input's and the others 0.
pub fn pad_channels(shape: MapShape, x: &[f32], before: usize, channels_out: usize, y: &mut [f32]) {
    let [height, width] = shape.pooled();
    for_row_blocks(y, channels_out, |first, y| {
        for (p, y) in y.chunks_exact_mut(channels_out).enumerate() {
            let at = source(shape, [height, width], first + p) * shape.channels;
            y[..before].fill(0.0);
            y[before..before + shape.channels].copy_from_slice(&x[at..][..shape.channels]);
            y[before + shape.channels..].fill(0.0);
        }
    });
}

/// The gradient of [`pad_channels`]: what `d`, in the shape of y, says is added to `dx`, in the shape of x.
pub fn pad_channels_backward(shape: MapShape, d: &[f32], before: usize, channels_out: usize, dx: &mut [f32]) {
    let [height, width] = shape.pooled();
    let image = shape.height * shape.width * shape.channels;
    if dx.is_empty() {
        return;
    }
    dx.par_chunks_mut(image).enumerate().for_each(|(example, dx)| {
        for p in 0..height * width {
            let at = source(shape, [height, width], p) * shape.channels;
            let d = &d[(example * height * width + p) * channels_out + before..][..shape.channels];
            dx[at..][..shape.channels].iter_mut().zip(d).for_each(|(dx, d)| *dx += d);
        }
    });
}

/// The pixel that pixel `p` of maps half as high and wide comes from.
fn source(shape: MapShape, [height, width]: [usize; 2], p: usize) -> usize {
    let (line, column) = (p / width, p % width);
    ((line / height) * shape.height + 2 * (line % height)) * shape.width + 2 * column
}

/// Number and pixel of each tap that lies inside the map.
#[inline(always)]
fn taps(shape: MapShape, example: usize, row: usize, column: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..9).filter_map(move |tap| {
        let y = (2 * row + tap / 3).checked_sub(1).filter(|y| *y < shape.height)?;
        let x = (2 * column + tap % 3).checked_sub(1).filter(|x| *x < shape.width)?;
        Some((tap, (example * shape.height + y) * shape.width + x))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn the_largest_wins_and_takes_the_gradient() {
        for (height, width, channels) in [(8, 8, 16), (5, 7, 3), (1, 2, 4), (112, 9, 8)] {
            let shape = MapShape { examples: 2, height, width, channels };
            let n = 2 * height * width * channels;
            let x: Vec<f32> = (0..n as u32).map(|i| crate::cpu::scalar::hash(1, i) as f32).collect();
            let wide: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let expected = reference::images::max_pool(&wide, 2, [height, width], channels);
            let (mut y, mut winners) = (vec![f32::NAN; expected.len()], vec![f32::NAN; expected.len()]);
            max_pool(shape, &x, &mut y, &mut winners);
            reference::assert_close(&y, &expected, 1e-7);
            let d: Vec<f32> = (0..y.len()).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut dx = vec![f32::NAN; n];
            max_pool_backward(shape, &d, &winners, &mut dx);
            // Every gradient arrives, and only at a pixel that holds the largest value.
            let sum = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>();
            assert!((sum(&d) - sum(&dx)).abs() < 1e-3);
            for i in 0..n {
                assert!(dx[i] == 0.0 || y.contains(&x[i]));
            }
        }
    }

    #[test]
    fn padded_channels_and_their_transpose() {
        let shape = MapShape { examples: 2, height: 3, width: 4, channels: 2 };
        let x: Vec<f32> = (0..48u8).map(f32::from).collect();
        let mut y = vec![f32::NAN; 2 * 2 * 2 * 5];
        pad_channels(shape, &x, 1, 5, &mut y);
        // Example 1, row 1, column 1: pixel (2, 2) of the input.
        assert_eq!(y[35..], [0.0, 44.0, 45.0, 0.0, 0.0]);
        let d: Vec<f32> = (0..40u8).map(|i| f32::from(i) - 17.0).collect();
        let mut dx = vec![1.0; 48];
        pad_channels_backward(shape, &d, 1, 5, &mut dx);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let added: Vec<f32> = dx.iter().map(|dx| dx - 1.0).collect();
        assert_eq!(dot(&y, &d), dot(&x, &added));
    }

    #[test]
    fn the_first_of_equals_wins() {
        let shape = MapShape { examples: 1, height: 2, width: 2, channels: 1 };
        let (mut y, mut winners, mut dx) = ([0.0], [9.0], [9.0; 4]);
        max_pool(shape, &[0.0, 1.0, 1.0, 1.0], &mut y, &mut winners);
        max_pool_backward(shape, &[3.0], &winners, &mut dx);
        assert_eq!((y, dx), ([1.0], [0.0, 3.0, 0.0, 0.0]));
    }
}
