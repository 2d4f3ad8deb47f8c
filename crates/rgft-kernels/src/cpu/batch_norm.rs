//! Batch norm over the rows of `[rows, channels]` (Ioffe & Szegedy 2015), fused with the residual and the activation
//! that follow: `y = clip(γ·(z − μ)/√(σ² + ε) + β + residual)`.
//!
//! Which statistics a channel is normalised by is the layer's business; here `γ/√(σ² + ε)` is a scale and the rest a
//! shift. What clipping let through is kept as one bit per element, 1/32 of y, because y itself moves on. Backward with
//! `g = dy·mask`: `dβ = Σ g`, `dγ = Σ g·(z − μ)/√(σ² + ε)`, and dz is affine in `g` and `z`:
//! `dz = a·g + b·(z − μ) + c`.
//!
//! Narrow rows would fill vectors badly, so passes run over several rows at once, against coefficients repeated as often.

use rayon::prelude::*;

use super::SERIAL_ELEMENTS;

/// What bounds activations from below and above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clip {
    /// Nothing.
    #[default]
    None,
    /// `max(y, 0)`.
    Relu,
    /// `min(max(y, 0), 6)`.
    Relu6,
}

impl Clip {
    /// Scalars that hold a mask of `n` bits.
    pub fn mask_len(n: usize) -> usize {
        n.div_ceil(32)
    }

    fn top(self) -> f32 {
        if self == Self::Relu6 { 6.0 } else { f32::INFINITY }
    }
}

/// How many rows a pass takes at once: enough to fill vectors, and whole words of masks.
fn rows_at_once(channels: usize) -> usize {
    let enough = |rows: usize| channels * rows >= 256 && (channels * rows).is_multiple_of(32);
    [1, 2, 4, 8, 16].into_iter().find(|rows| enough(*rows)).unwrap_or(32)
}

/// `x` over and over, for `rows` rows.
fn repeated(x: &[f32], rows: usize) -> Vec<f32> {
    x.repeat(rows)
}

/// Elements that one task takes: whole runs of `run`, a few tasks per thread.
fn task_elements(n: usize, run: usize) -> usize {
    let runs = n.div_ceil(run);
    let tasks = if n < SERIAL_ELEMENTS { 1 } else { 4 * rayon::current_num_threads() };
    runs.div_ceil(tasks).max(1) * run
}

/// Adds `sums` `[repeats · channels]` up to `out` `[channels]`.
fn fold(sums: &[f32], out: &mut [f64]) {
    for sums in sums.chunks_exact(out.len()) {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += f64::from(*sum));
    }
}

/// Mean and variance (its mean square, not the unbiased one) of each column of `z` `[rows, channels]`.
pub fn column_statistics(z: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    let channels = mean.len();
    if z.is_empty() {
        mean.fill(0.0);
        variance.fill(0.0);
        return;
    }
    let rows = rows_at_once(channels);
    let run = rows * channels;
    // Sums are of distances from the first row: nothing cancels where the mean is far from zero.
    let origin = repeated(&z[..channels], rows);
    let task = task_elements(z.len(), run);
    let mut partial = vec![0.0f64; z.len().div_ceil(task) * 2 * channels];
    let tasks = z.par_chunks(task).zip(partial.par_chunks_mut(2 * channels));
    tasks.for_each(|(z, partial)| {
        let (mut sums, mut squares) = (vec![0.0f32; run], vec![0.0f32; run]);
        vectorised!(|| {
            for z in z.chunks(run) {
                let sums = sums.iter_mut().zip(&mut squares);
                for ((z, origin), (sum, square)) in z.iter().zip(&origin).zip(sums) {
                    let distance = z - origin;
                    *sum += distance;
                    *square += distance * distance;
                }
            }
        });
        let (first, second) = partial.split_at_mut(channels);
        fold(&sums, first);
        fold(&squares, second);
    });
    let n = (z.len() / channels) as f64;
    for c in 0..channels {
        let total = |offset: usize| -> f64 { partial.iter().skip(offset + c).step_by(2 * channels).sum() };
        let distance = total(0) / n;
        mean[c] = (f64::from(z[c]) + distance) as f32;
        variance[c] = (total(channels) / n - distance * distance).max(0.0) as f32;
    }
}

/// What an element passes through: `clip(scale·z + shift + residual)`; `scale`, `shift` `[channels]`.
#[derive(Clone, Copy, Debug)]
pub struct ScaleShift<'a> {
    /// Factor of each channel.
    pub scale: &'a [f32],
    /// Summand of each channel.
    pub shift: &'a [f32],
    /// Summand of each element, as long as z.
    pub residual: Option<&'a [f32]>,
    /// What follows.
    pub clip: Clip,
}

/// Where z is: elsewhere, or where y shall be.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// `[rows, channels]`.
    From(&'a [f32]),
    /// In place.
    InPlace,
}

/// `y = clip(scale·z + shift + residual)`; `mask` takes a bit for each element that clipping let through
/// ([`Clip::mask_len`] scalars), for [`clip_backward_sums`].
pub fn scale_shift_clip(map: ScaleShift, z: Source, y: &mut [f32], mask: Option<&mut [f32]>) {
    let channels = map.scale.len();
    if y.is_empty() {
        return;
    }
    let rows = rows_at_once(channels);
    let run = rows * channels;
    let (scale, shift) = (repeated(map.scale, rows), repeated(map.shift, rows));
    let task = task_elements(y.len(), run);
    let (clips, top) = (map.clip != Clip::None, map.clip.top());
    let pass = |i: usize, y: &mut [f32], mut mask: Option<&mut [f32]>| {
        vectorised!(|| {
            for (r, y) in y.chunks_mut(run).enumerate() {
                let at = i * task + r * run;
                if let Source::From(z) = z {
                    y.copy_from_slice(&z[at..][..y.len()]);
                }
                let factors = scale.iter().zip(&shift);
                match map.residual {
                    None => y.iter_mut().zip(factors).for_each(|(y, (a, b))| *y = *y * a + b),
                    Some(residual) => {
                        let more = residual[at..].iter();
                        y.iter_mut().zip(factors).zip(more).for_each(|((y, (a, b)), r)| *y = *y * a + b + r);
                    }
                }
                if clips {
                    // By comparison, so that what is no number stays none.
                    y.iter_mut().for_each(|y| {
                        *y = if *y < 0.0 {
                            0.0
                        } else if *y > top {
                            top
                        } else {
                            *y
                        }
                    });
                }
                if let Some(mask) = &mut mask {
                    let words = mask[r * run / 32..].iter_mut();
                    words.zip(y.chunks(32)).for_each(|(word, y)| *word = f32::from_bits(bits(y, top)));
                }
            }
        });
    };
    match mask {
        None => y.par_chunks_mut(task).enumerate().for_each(|(i, y)| pass(i, y, None)),
        Some(mask) => {
            // A task is whole words, except the last one.
            let words = mask.par_chunks_mut(task.div_ceil(32));
            y.par_chunks_mut(task).zip(words).enumerate().for_each(|(i, (y, mask))| pass(i, y, Some(mask)));
        }
    }
}

/// Which of up to 32 clipped values lie inside.
#[inline(always)]
fn bits(y: &[f32], top: f32) -> u32 {
    match <&[f32; 32]>::try_from(y) {
        Ok(y) => (0..32).fold(0, |bits, i| bits | u32::from((y[i] > 0.0) & (y[i] < top)) << i),
        Err(_) => {
            let inside = y.iter().enumerate().map(|(i, y)| u32::from((*y > 0.0) & (*y < top)) << i);
            inside.fold(0, |bits, bit| bits | bit)
        }
    }
}

/// Zeroes what the mask says was clipped.
#[inline(always)]
fn apply(mask: u32, d: &mut [f32]) {
    let keep = |i: usize, d: f32| f32::from_bits(d.to_bits() & 0u32.wrapping_sub((mask >> i) & 1));
    match <&mut [f32; 32]>::try_from(&mut *d) {
        Ok(d) => (0..32).for_each(|i| d[i] = keep(i, d[i])),
        Err(_) => d.iter_mut().enumerate().for_each(|(i, d)| *d = keep(i, *d)),
    }
}

/// `d ← g = d·mask` in place (`mask = None`: nothing was clipped), `sums[c] = Σ g` and, where `z` and the means are
/// given, `products[c] = Σ g·(z − μ_c)`, else zeros.
pub fn clip_backward_sums(
    d: &mut [f32],
    mask: Option<&[f32]>,
    z: Option<(&[f32], &[f32])>,
    sums: &mut [f32],
    products: &mut [f32],
) {
    let channels = sums.len();
    sums.fill(0.0);
    products.fill(0.0);
    if d.is_empty() {
        return;
    }
    let rows = rows_at_once(channels);
    let run = rows * channels;
    let means = z.map(|(_, mean)| repeated(mean, rows));
    let task = task_elements(d.len(), run);
    let mut partial = vec![0.0f64; d.len().div_ceil(task) * 2 * channels];
    let tasks = d.par_chunks_mut(task).zip(partial.par_chunks_mut(2 * channels)).enumerate();
    tasks.for_each(|(i, (d, partial))| {
        let (mut first, mut second) = (vec![0.0f32; run], vec![0.0f32; run]);
        vectorised!(|| {
            for (r, d) in d.chunks_mut(run).enumerate() {
                let at = i * task + r * run;
                if let Some(mask) = mask {
                    let words = mask[at / 32..].iter();
                    words.zip(d.chunks_mut(32)).for_each(|(word, d)| apply(word.to_bits(), d));
                }
                match (z, &means) {
                    (Some((z, _)), Some(means)) => {
                        let centred = z[at..].iter().zip(means);
                        let own = first.iter_mut().zip(&mut second);
                        for ((g, (z, mean)), (sum, product)) in d.iter().zip(centred).zip(own) {
                            *sum += g;
                            *product += g * (z - mean);
                        }
                    }
                    _ => first.iter_mut().zip(&*d).for_each(|(sum, g)| *sum += g),
                }
            }
        });
        let (a, b) = partial.split_at_mut(channels);
        fold(&first, a);
        fold(&second, b);
    });
    for c in 0..channels {
        let total = |offset: usize| partial.iter().skip(offset + c).step_by(2 * channels).sum::<f64>() as f32;
        (sums[c], products[c]) = (total(0), total(channels));
    }
}

/// The coefficients of dz, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct NormSlopes<'a> {
    /// Factor of `g`.
    pub a: &'a [f32],
    /// Factor of `z − μ`; zero where the statistics are not the batch's.
    pub b: &'a [f32],
    /// Summand; zero there too.
    pub c: &'a [f32],
}

/// `dz = a·g + b·(z − μ) + c`; without `z` and the means `dz = a·g`. `g`, `z`, `dz` `[rows, channels]`.
pub fn batch_norm_backward(slopes: NormSlopes, g: &[f32], z: Option<(&[f32], &[f32])>, dz: &mut [f32]) {
    let channels = slopes.a.len();
    if dz.is_empty() {
        return;
    }
    let rows = rows_at_once(channels);
    let run = rows * channels;
    let a = repeated(slopes.a, rows);
    // b·(z − μ) + c as b·z + (c − b·μ) would lose digits where the mean is large.
    let rest =
        z.map(|(z, mean)| (z, repeated(mean, rows), repeated(slopes.b, rows), repeated(slopes.c, rows)));
    let task = task_elements(dz.len(), run);
    dz.par_chunks_mut(task).enumerate().for_each(|(i, dz)| {
        vectorised!(|| {
            for (r, dz) in dz.chunks_mut(run).enumerate() {
                let at = i * task + r * run;
                let g = g[at..].iter();
                match &rest {
                    None => dz.iter_mut().zip(g).zip(&a).for_each(|((dz, g), a)| *dz = a * g),
                    Some((z, mean, b, c)) => {
                        let of_z = z[at..].iter().zip(mean).zip(b).zip(c);
                        for (((dz, g), a), (((z, mean), b), c)) in dz.iter_mut().zip(g).zip(&a).zip(of_z) {
                            *dz = a * g + (b * (z - mean) + c);
                        }
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn numbers(seed: u32, n: usize) -> Vec<f32> {
        (0..n as u32).map(|i| crate::cpu::scalar::hash(seed, i) as f32 / 2f32.powi(31) - 1.0).collect()
    }

    const SHAPES: [(usize, usize); 6] = [(7, 3), (1000, 16), (40, 24), (333, 64), (9, 700), (1, 5)];

    #[test]
    fn statistics_are_those_of_the_columns_even_far_from_zero() {
        for (rows, channels) in SHAPES {
            let z: Vec<f32> = numbers(1, rows * channels).iter().map(|z| z + 100.0).collect();
            let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
            column_statistics(&z, &mut mean, &mut variance);
            for c in 0..channels {
                let column = || (0..rows).map(|r| f64::from(z[r * channels + c]));
                let m = column().sum::<f64>() / rows as f64;
                let v = column().map(|z| (z - m).powi(2)).sum::<f64>() / rows as f64;
                assert!((f64::from(mean[c]) - m).abs() < 1e-4 && (f64::from(variance[c]) - v).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn clipped_and_masked_in_place_or_not() {
        for ((rows, channels), clip) in
            SHAPES.into_iter().flat_map(|s| [Clip::None, Clip::Relu, Clip::Relu6].map(|clip| (s, clip)))
        {
            let n = rows * channels;
            let z: Vec<f32> = numbers(2, n).iter().map(|z| z * 12.0).collect();
            let (scale, shift, residual) = (numbers(3, channels), numbers(4, channels), numbers(5, n));
            for residual in [None, Some(&residual[..])] {
                let map = ScaleShift { scale: &scale, shift: &shift, residual, clip };
                let (mut y, mut same) = (vec![f32::NAN; n], z.clone());
                let mut mask = vec![f32::NAN; Clip::mask_len(n)];
                scale_shift_clip(map, Source::From(&z), &mut y, Some(&mut mask));
                scale_shift_clip(map, Source::InPlace, &mut same, None);
                assert_eq!(y, same);
                let mut d = numbers(6, n);
                let (before, mut sums, mut products) = (d.clone(), vec![9.0; channels], vec![9.0; channels]);
                let masked = (clip != Clip::None).then_some(&mask[..]);
                let means = numbers(7, channels);
                clip_backward_sums(&mut d, masked, Some((&z, &means)), &mut sums, &mut products);
                let mut expected = vec![(0.0f64, 0.0f64); channels];
                for i in 0..n {
                    let c = i % channels;
                    let raw = z[i] * scale[c] + shift[c] + residual.map_or(0.0, |r| r[i]);
                    let inside = match clip {
                        Clip::None => true,
                        Clip::Relu => raw > 0.0,
                        Clip::Relu6 => raw > 0.0 && raw < 6.0,
                    };
                    let clipped = match clip {
                        Clip::None => raw,
                        Clip::Relu => raw.max(0.0),
                        Clip::Relu6 => raw.clamp(0.0, 6.0),
                    };
                    assert!((y[i] - clipped).abs() < 1e-5);
                    assert_eq!(d[i], if inside { before[i] } else { 0.0 });
                    expected[c].0 += f64::from(d[i]);
                    expected[c].1 += f64::from(d[i]) * f64::from(z[i] - means[c]);
                }
                let (a, b): (Vec<f64>, Vec<f64>) = expected.into_iter().unzip();
                reference::assert_close(&sums, &a, 1e-4);
                reference::assert_close(&products, &b, 1e-4);
                clip_backward_sums(&mut d, None, None, &mut sums, &mut products);
                reference::assert_close(&sums, &a, 1e-4);
                assert!(products.iter().all(|product| *product == 0.0));
            }
        }
    }

    #[test]
    fn dz_is_affine() {
        for (rows, channels) in SHAPES {
            let n = rows * channels;
            let (g, z, mean) = (numbers(1, n), numbers(2, n), numbers(3, channels));
            let (a, b, c) = (numbers(4, channels), numbers(5, channels), numbers(6, channels));
            let slopes = NormSlopes { a: &a, b: &b, c: &c };
            let (mut dz, mut plain) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            batch_norm_backward(slopes, &g, Some((&z, &mean)), &mut dz);
            batch_norm_backward(slopes, &g, None, &mut plain);
            for i in 0..n {
                let k = i % channels;
                assert!((plain[i] - a[k] * g[i]).abs() < 1e-6);
                assert!((dz[i] - (a[k] * g[i] + b[k] * (z[i] - mean[k]) + c[k])).abs() < 1e-5);
            }
        }
    }
}
