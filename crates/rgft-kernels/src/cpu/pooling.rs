//! From tokens to one row per sequence.

use rayon::prelude::*;

use super::SERIAL_ELEMENTS;

/// How a sequence becomes one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The mean of its tokens.
    Mean,
    /// Its first token.
    First,
}

/// `x` `[tokens, cols]` packed by `lengths` → `out` `[sequences, cols]`. An empty sequence pools to zero.
pub fn pool(pool: Pool, x: &[f32], cols: usize, lengths: &[usize], out: &mut [f32]) {
    assert_eq!(lengths.iter().sum::<usize>() * cols, x.len(), "tokens of all sequences");
    let mut rest = x;
    let own = lengths.iter().map(|length| rest.split_off(..length * cols).unwrap_or_default());
    let sequences: Vec<_> = own.zip(out.chunks_exact_mut(cols)).collect();
    sequences.into_par_iter().with_min_len(least(x.len(), lengths)).for_each(|(own, out)| {
        let rows = pool.rows(own.len() / cols);
        vectorised!(|| {
            out.fill(0.0);
            for row in own.chunks_exact(cols).take(rows) {
                out.iter_mut().zip(row).for_each(|(o, x)| *o += x / rows as f32);
            }
        });
    });
}

/// The gradient: `d` `[sequences, cols]` → `dx` `[tokens, cols]`, all of it written.
pub fn pool_backward(pool: Pool, d: &[f32], cols: usize, lengths: &[usize], dx: &mut [f32]) {
    assert_eq!(lengths.iter().sum::<usize>() * cols, dx.len(), "tokens of all sequences");
    let (scalars, mut rest) = (dx.len(), dx);
    let own = lengths.iter().map(|length| rest.split_off_mut(..length * cols).unwrap_or_default());
    let sequences: Vec<_> = own.zip(d.chunks_exact(cols)).collect();
    sequences.into_par_iter().with_min_len(least(scalars, lengths)).for_each(|(own, d)| {
        let rows = pool.rows(own.len() / cols);
        vectorised!(|| {
            let (pooled, others) = own.split_at_mut(rows * cols);
            for row in pooled.chunks_exact_mut(cols) {
                row.iter_mut().zip(d).for_each(|(x, d)| *x = d / rows as f32);
            }
            others.fill(0.0);
        });
    });
}

impl Pool {
    /// How many rows of a sequence of `length` are pooled.
    fn rows(self, length: usize) -> usize {
        if self == Self::Mean { length } else { length.min(1) }
    }
}

/// Sequences that one task takes at least.
fn least(scalars: usize, lengths: &[usize]) -> usize {
    (SERIAL_ELEMENTS * lengths.len()).div_ceil(scalars.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_and_its_transpose() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let lengths = [2, 0, 4];
        for (kind, expected) in
            [(Pool::Mean, [1.0, 2.0, 0.0, 0.0, 7.0, 8.0]), (Pool::First, [0.0, 1.0, 0.0, 0.0, 4.0, 5.0])]
        {
            let mut out = [9.0; 6];
            pool(kind, &x, 2, &lengths, &mut out);
            assert_eq!(out, expected);
            let d = [1.0, -2.0, 3.0, 0.5, 4.0, 8.0];
            let mut dx = vec![9.0; 12];
            pool_backward(kind, &d, 2, &lengths, &mut dx);
            let left: f32 = out.iter().zip(&d).map(|(o, d)| o * d).sum();
            let right: f32 = x.iter().zip(&dx).map(|(x, d)| x * d).sum();
            assert!((left - right).abs() < 1e-5);
        }
    }
}
