//! From tokens to one row per sequence.

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
    let mut rest = x;
    for (&length, out) in lengths.iter().zip(out.chunks_exact_mut(cols)) {
        let (own, tail) = rest.split_at(length * cols);
        rest = tail;
        out.fill(0.0);
        let rows = if pool == Pool::Mean { length } else { length.min(1) };
        for row in own.chunks_exact(cols).take(rows) {
            out.iter_mut().zip(row).for_each(|(o, x)| *o += x / rows as f32);
        }
    }
}

/// The gradient: `d` `[sequences, cols]` → `dx` `[tokens, cols]`, all of it written.
pub fn pool_backward(pool: Pool, d: &[f32], cols: usize, lengths: &[usize], dx: &mut [f32]) {
    let mut rest = dx;
    for (&length, d) in lengths.iter().zip(d.chunks_exact(cols)) {
        let (own, tail) = std::mem::take(&mut rest).split_at_mut(length * cols);
        rest = tail;
        let rows = if pool == Pool::Mean { length } else { length.min(1) };
        for (r, row) in own.chunks_exact_mut(cols).enumerate() {
            if r < rows {
                row.iter_mut().zip(d).for_each(|(x, d)| *x = d / rows as f32);
            } else {
                row.fill(0.0);
            }
        }
    }
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
