//! From pictures and series to tokens: cutting out patches, and adding positions to what became of them.
//!
//! A patch of a channels-last picture is its pixels row by row, `[height, width, channels]`; of a series, its steps.

use super::for_row_blocks;

/// Cuts pictures `[examples, height, width, channels]` into squares of `patch` pixels → `[examples · down · across,
/// patch · patch · channels]`, row by row; `patch` divides `height` and `width`.
pub fn image_patches(
    pixels: &[f32],
    height: usize,
    width: usize,
    channels: usize,
    patch: usize,
    out: &mut [f32],
) {
    let (down, across, line) = (height / patch, width / patch, patch * channels);
    for_row_blocks(out, patch * line, |first, out| {
        for (row, out) in out.chunks_exact_mut(patch * line).enumerate() {
            let place = first + row;
            let (example, i, j) = (place / (down * across), place / across % down, place % across);
            for (y, out) in out.chunks_exact_mut(line).enumerate() {
                let pixel = (example * height + i * patch + y) * width + j * patch;
                out.copy_from_slice(&pixels[pixel * channels..][..line]);
            }
        }
    });
}

/// How many patches of `patch` steps, `stride` apart, a window of `steps` has.
pub fn patches_of(steps: usize, patch: usize, stride: usize) -> usize {
    if steps < patch { 0 } else { (steps - patch) / stride + 1 }
}

/// Cuts windows `[windows, steps]` into patches of `patch` steps, `stride` apart → `[windows · patches, patch]`. The last
/// patch ends with its window; where patches do not cover it, its first steps are in none.
pub fn series_patches(x: &[f32], steps: usize, patch: usize, stride: usize, out: &mut [f32]) {
    let patches = patches_of(steps, patch, stride);
    let skipped = steps - (patch + (patches - 1) * stride);
    for_row_blocks(out, patch, |first, out| {
        for (row, out) in out.chunks_exact_mut(patch).enumerate() {
            let (window, place) = ((first + row) / patches, (first + row) % patches);
            out.copy_from_slice(&x[window * steps + skipped + place * stride..][..patch]);
        }
    });
}

/// The tokens of a batch `[examples · tokens, cols]`: in each example the rows of `class` (one or none), then those of
/// `projected` `[examples · patches, cols]` with `bias` `[cols]`, and `positions` `[tokens, cols]` added to all.
pub fn tokens_of_patches(
    projected: &[f32],
    bias: &[f32],
    class: &[f32],
    positions: &[f32],
    cols: usize,
    out: &mut [f32],
) {
    let (tokens, leading) = (positions.len() / cols, class.len() / cols);
    for_row_blocks(out, cols, |first, out| {
        vectorised!(|| {
            for (row, out) in out.chunks_exact_mut(cols).enumerate() {
                let (example, token) = ((first + row) / tokens, (first + row) % tokens);
                let position = &positions[token * cols..][..cols];
                if token < leading {
                    let class = &class[token * cols..][..cols];
                    out.iter_mut().zip(class).zip(position).for_each(|((o, c), p)| *o = c + p);
                } else {
                    let patch = example * (tokens - leading) + token - leading;
                    let (patch, bias) = (&projected[patch * cols..][..cols], &bias[..cols]);
                    let sums = out.iter_mut().zip(patch).zip(bias).zip(position);
                    sums.for_each(|(((o, x), b), p)| *o = x + b + p);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::patches as twin;

    fn numbers(n: usize) -> (Vec<f32>, Vec<f64>) {
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 8.0 - 60.0).collect();
        let wide = x.iter().map(|&x| x.into()).collect();
        (x, wide)
    }

    fn same(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| f64::from(*f) == *e));
    }

    #[test]
    fn squares_of_pictures() {
        for (examples, height, width, channels, patch) in
            [(1, 2, 2, 1, 2), (2, 4, 6, 3, 2), (3, 6, 3, 2, 3), (30, 32, 32, 3, 4), (2, 3, 3, 2, 1)]
        {
            let (x, wide) = numbers(examples * height * width * channels);
            let mut out = vec![f32::NAN; x.len()];
            image_patches(&x, height, width, channels, patch, &mut out);
            same(&out, &twin::image_patches(&wide, height, width, channels, patch));
        }
    }

    #[test]
    fn patches_of_series_end_with_the_window() {
        for (windows, steps, patch, stride) in
            [(1, 4, 4, 1), (2, 9, 4, 2), (3, 10, 3, 3), (3, 11, 2, 5), (800, 96, 16, 8)]
        {
            let (x, wide) = numbers(windows * steps);
            let patches = patches_of(steps, patch, stride);
            let mut out = vec![f32::NAN; windows * patches * patch];
            series_patches(&x, steps, patch, stride, &mut out);
            same(&out, &twin::series_patches(&wide, steps, patch, stride));
            assert_eq!(out.last(), x.last());
        }
        assert_eq!((patches_of(3, 4, 1), patches_of(96, 16, 8)), (0, 11));
    }

    #[test]
    fn tokens_are_patches_at_their_positions() {
        for (examples, patches, cols, leading) in [(1, 1, 1, 0), (3, 4, 5, 1), (2, 3, 4, 0), (40, 16, 64, 1)]
        {
            let ((x, _), (bias, _)) = (numbers(examples * patches * cols), numbers(cols));
            let ((class, _), (positions, _)) = (numbers(leading * cols), numbers((patches + leading) * cols));
            let mut out = vec![f32::NAN; examples * (patches + leading) * cols];
            tokens_of_patches(&x, &bias, &class, &positions, cols, &mut out);
            let rows = out.chunks_exact(cols).enumerate();
            for (row, found) in rows {
                let (example, token) = (row / (patches + leading), row % (patches + leading));
                for (c, found) in found.iter().enumerate() {
                    let own = match token.checked_sub(leading) {
                        None => class[c],
                        Some(patch) => x[(example * patches + patch) * cols + c] + bias[c],
                    };
                    assert_eq!(*found, own + positions[token * cols + c]);
                }
            }
        }
    }
}
