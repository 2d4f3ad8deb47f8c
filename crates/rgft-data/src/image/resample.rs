//! Resizing as Pillow does it: a separable filter in integers, columns first.
//!
//! Output pixel *i* of *n* lies at `c = (i + ½)·s` of the input, with `s = inputs / n`. Its taps are the input
//! pixels within `r·max(s, 1)` of *c*, weighted by the filter of their distance over `max(s, 1)`; weights sum to 1,
//! have 22 binary places, and each pass rounds to 8 bits.
//! Source: Pillow, `src/libImaging/Resample.c`.

use std::ops::Range;

/// Binary places of a weight: 32 bits less 8 of the pixel, less 2 to spare.
const PLACES: u32 = 22;

/// How far an input pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// 1 within half a pixel.
    Box,
    /// Falls from 1 to 0 at a distance of a pixel: bilinear.
    Triangle,
}

/// A picture of bytes, channels last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// The weights of one output pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Picture {
    /// The picture in `height` × `width`, of which only `rows` × `columns` are made.
    pub(super) fn resample(
        &self,
        (height, width): (usize, usize),
        (rows, columns): (Range<usize>, Range<usize>),
        filter: Filter,
    ) -> Self {
        let c = self.channels;
        let across = taps(self.width, width, columns, filter);
        let down = taps(self.height, height, rows, filter);
        let first = down.first().map_or(0, |taps| taps.first);
        let last = down.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);

        let mut narrow = Vec::with_capacity((last - first) * across.len() * c);
        for row in self.pixels.chunks_exact(self.width * c).take(last).skip(first) {
            for taps in &across {
                let under = &row[taps.first * c..(taps.first + taps.weights.len()) * c];
                for channel in 0..c {
                    let values = under[channel..].iter().step_by(c);
                    narrow.push(weighted(values.zip(&taps.weights)));
                }
            }
        }
        let stride = across.len() * c;
        let mut pixels = Vec::with_capacity(down.len() * stride);
        for taps in &down {
            let under = &narrow[(taps.first - first) * stride..];
            for column in 0..stride {
                let values = under[column..].iter().step_by(stride);
                pixels.push(weighted(values.zip(&taps.weights)));
            }
        }
        Self { pixels, height: down.len(), width: across.len(), channels: c }
    }
}

fn weighted<'a>(taps: impl Iterator<Item = (&'a u8, &'a i32)>) -> u8 {
    let sum = taps.fold(1 << (PLACES - 1), |sum, (value, weight)| sum + i32::from(*value) * weight);
    (sum >> PLACES).clamp(0, 255) as u8
}

/// The taps of outputs `window` of `outputs`.
fn taps(inputs: usize, outputs: usize, window: Range<usize>, filter: Filter) -> Vec<Taps> {
    let scale = inputs as f64 / outputs as f64;
    let stretch = scale.max(1.0);
    let reach = stretch
        * match filter {
            Filter::Box => 0.5,
            Filter::Triangle => 1.0,
        };
    let weight = |distance: f64| match filter {
        Filter::Box => f64::from(u8::from(distance > -0.5 && distance <= 0.5)),
        Filter::Triangle => (1.0 - distance.abs()).max(0.0),
    };
    window
        .map(|output| {
            let centre = (output as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(inputs);
            let weights: Vec<f64> =
                (first..end).map(|i| weight((i as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << PLACES) + 0.5) as i32;
            Taps { first, weights: weights.iter().map(fixed).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(height: usize, width: usize, channels: usize) -> Picture {
        let pixels = (0..height * width * channels).map(|i| ((i * 37 + i * i * 11) % 256) as u8).collect();
        Picture { pixels, height, width, channels }
    }

    fn resized(picture: &Picture, height: usize, width: usize, filter: Filter) -> Vec<u8> {
        picture.resample((height, width), (0..height, 0..width), filter).pixels
    }

    // Expected: numpy.asarray(PIL.Image.fromarray(x).resize((width, height), filter)).ravel() by Pillow 13.0, with
    // x[i] = (37 i + 11 i²) mod 256.
    #[test]
    fn pillow_gives_the_same_bytes() {
        let expected = [90, 113, 163, 178, 162, 112, 137, 175, 72, 118, 147, 134];
        assert_eq!(resized(&picture(7, 5, 1), 4, 3, Filter::Triangle), expected);
        let expected = [
            0, 17, 45, 83, 125, 177, 210, 27, 57, 105, 112, 115, 129, 138, 68, 117, 194, 155, 101, 57, 30,
            166, 179, 199, 179, 155, 142, 133, 232, 221, 202, 195, 191, 198, 202,
        ];
        assert_eq!(resized(&picture(3, 4, 1), 5, 7, Filter::Triangle), expected);
        let expected =
            [92, 134, 160, 161, 137, 129, 173, 139, 130, 142, 117, 170, 167, 129, 116, 122, 139, 148];
        assert_eq!(resized(&picture(6, 8, 3), 2, 3, Filter::Triangle), expected);
        let expected = [
            120, 154, 179, 120, 116, 152, 134, 43, 252, 132, 120, 178, 163, 64, 148, 88, 222, 155, 132, 164,
            184, 202, 83, 136, 116,
        ];
        assert_eq!(resized(&picture(8, 8, 1), 5, 5, Filter::Box), expected);
        let expected = [
            0, 0, 48, 118, 118, 210, 68, 68, 0, 0, 48, 118, 118, 210, 68, 68, 204, 204, 106, 30, 30, 232,
            200, 200, 190, 190, 202, 236, 236, 36, 114, 114, 190, 190, 202, 236, 236, 36, 114, 114, 214, 214,
            80, 224, 224, 134, 66, 66, 20, 20, 252, 250, 250, 14, 56, 56, 20, 20, 252, 250, 250, 14, 56, 56,
        ];
        assert_eq!(resized(&picture(5, 5, 1), 8, 8, Filter::Box), expected);
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let from = picture(50, 70, 3);
        let whole = from.resample((20, 28), (0..20, 0..28), Filter::Triangle);
        let part = from.resample((20, 28), (3..17, 4..24), Filter::Triangle);
        let expected: Vec<u8> = whole
            .pixels
            .chunks(28 * 3)
            .take(17)
            .skip(3)
            .flat_map(|row| &row[4 * 3..24 * 3])
            .copied()
            .collect();
        assert_eq!(part.pixels, expected);
        assert_eq!((part.height, part.width), (14, 20));
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let from = picture(9, 7, 3);
        assert_eq!(resized(&from, 9, 7, Filter::Triangle), from.pixels);
        assert_eq!(resized(&from, 9, 7, Filter::Box), from.pixels);
    }
}
