//! Joining a branch to the residual stream of a pre-norm block: `x ← x + dropout(branch + b)`.

use super::for_row_blocks;
use super::scalar::Dropout;

/// `x += dropout(branch + bias)`: `x`, `branch` `[rows, cols]`, `bias` `[cols]` or empty. Dropout is indexed by element.
pub fn add_branch(x: &mut [f32], cols: usize, branch: &[f32], bias: &[f32], dropout: Option<Dropout>) {
    for_row_blocks(x, cols, |first, x| {
        vectorised!(|| {
            let rows = x.chunks_exact_mut(cols).zip(branch[first * cols..].chunks_exact(cols));
            for (r, (x, branch)) in rows.enumerate() {
                let at = (first + r) * cols;
                let keep = |i: usize| dropout.map_or(1.0, |dropout| dropout.factor(at + i));
                match (bias, dropout) {
                    ([], None) => x.iter_mut().zip(branch).for_each(|(x, b)| *x += b),
                    ([], Some(_)) => {
                        x.iter_mut().zip(branch).enumerate().for_each(|(i, (x, b))| *x += b * keep(i));
                    }
                    _ => {
                        let pairs = x.iter_mut().zip(branch.iter().zip(bias));
                        pairs.enumerate().for_each(|(i, (x, (b, bias)))| *x += (b + bias) * keep(i));
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_with_and_without_bias_and_dropout() {
        for rows in [2, 3000] {
            let cols = 7;
            let numbers = |seed: usize, n: usize| -> Vec<f32> {
                (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 300.0 - 1.5).collect()
            };
            let (x, branch, bias) = (numbers(1, rows * cols), numbers(2, rows * cols), numbers(3, cols));
            for bias in [&bias[..], &[]] {
                for dropout in [None, Some(Dropout { seed: 4, probability: 0.4 })] {
                    let mut y = x.clone();
                    add_branch(&mut y, cols, &branch, bias, dropout);
                    for (i, y) in y.iter().enumerate() {
                        let bias = bias.get(i % cols).copied().unwrap_or(0.0);
                        let keep = dropout.map_or(1.0, |dropout| dropout.factor(i));
                        assert!((y - (x[i] + (branch[i] + bias) * keep)).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
