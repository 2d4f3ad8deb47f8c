//! Twins of what runs over maps `[examples, height, width, channels]`.

use crate::cpu::conv::ConvShape;

/// The element of a padded map, and the weight it meets: calls `each(output, input, weight)` with flat indices for
/// every multiplication of the convolution.
pub fn for_each_product(shape: ConvShape, mut each: impl FnMut(usize, usize, usize)) {
    let [height, width] = shape.places();
    let (k, inner, outer) = (shape.kernel, shape.input / shape.groups, shape.output / shape.groups);
    for n in 0..shape.examples {
        for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
            for (r, c) in (0..k).flat_map(|r| (0..k).map(move |c| (r, c))) {
                let (y, x) = (i * shape.stride + r, j * shape.stride + c);
                let (Some(y), Some(x)) = (y.checked_sub(shape.padding), x.checked_sub(shape.padding)) else {
                    continue;
                };
                if y >= shape.height || x >= shape.width {
                    continue;
                }
                for o in 0..shape.output {
                    for c_in in 0..inner {
                        let output = ((n * height + i) * width + j) * shape.output + o;
                        let input = ((n * shape.height + y) * shape.width + x) * shape.input;
                        let weight = ((o * k + r) * k + c) * inner + c_in;
                        each(output, input + o / outer * inner + c_in, weight);
                    }
                }
            }
        }
    }
}

/// The convolution.
pub fn conv(shape: ConvShape, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; shape.rows() * shape.output];
    for_each_product(shape, |o, i, w| y[o] += x[i] * weight[w]);
    y
}

/// Batch norm of `[rows, channels]`; a channel's statistics are the batch's where `batch` says so, else the running
/// ones `(mean, variance)`.
pub fn batch_norm(
    z: &[f64],
    weight: &[f64],
    bias: &[f64],
    running: (&[f64], &[f64]),
    batch: &[bool],
    epsilon: f64,
) -> Vec<f64> {
    let channels = weight.len();
    let rows = z.len() / channels;
    let column = |c: usize| (0..rows).map(move |r| z[r * channels + c]);
    let statistics = |c: usize| {
        if !batch[c] {
            return (running.0[c], running.1[c]);
        }
        let mean = column(c).sum::<f64>() / rows as f64;
        (mean, column(c).map(|z| (z - mean).powi(2)).sum::<f64>() / rows as f64)
    };
    let statistics: Vec<_> = (0..channels).map(statistics).collect();
    let normalise = |(i, z): (usize, &f64)| {
        let (c, (mean, variance)) = (i % channels, statistics[i % channels]);
        (z - mean) / (variance + epsilon).sqrt() * weight[c] + bias[c]
    };
    z.iter().enumerate().map(normalise).collect()
}

/// The largest of each 3×3 neighbourhood, two pixels apart.
pub fn max_pool(x: &[f64], examples: usize, [height, width]: [usize; 2], channels: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for n in 0..examples {
        for (i, j) in (0..height.div_ceil(2)).flat_map(|i| (0..width.div_ceil(2)).map(move |j| (i, j))) {
            y.extend((0..channels).map(|c| {
                let near = |at: usize, n: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(n);
                let pixels = near(i, height).flat_map(|y| near(j, width).map(move |x| (y, x)));
                let values = pixels.map(|(y, x_at)| x[((n * height + y) * width + x_at) * channels + c]);
                values.fold(f64::NEG_INFINITY, f64::max)
            }));
        }
    }
    y
}
