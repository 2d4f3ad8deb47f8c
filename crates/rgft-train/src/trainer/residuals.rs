//! Output residuals by example: what sampling goes by.

use std::ops::Range;

use rgft_core::Extent;
use rgft_data::{IGNORED, Targets};
use rgft_nn::Tensor;

/// The norm of each example's output residual `[rows, outputs]`, as if the example were alone: the root mean square of
/// those of its rows that have a target. And the residuals are multiplied by the examples' weights. `share` is what the
/// loss was weighted with.
pub(super) fn weigh(
    residual: &mut Tensor,
    extent: &Extent,
    targets: &Targets,
    rows: &[(usize, f64)],
    share: f64,
) -> Vec<f64> {
    let (columns, all) = (residual.cols().max(1), residual.rows());
    // A row for each example, or one for each of its tokens.
    let lengths: Vec<usize> = match extent {
        Extent::Sequences(lengths) if lengths.iter().sum::<usize>() == all => lengths.clone(),
        _ => vec![all / rows.len().max(1); rows.len()],
    };
    let has_target = |row: usize| match targets {
        Targets::Classes(classes) if classes.len() == all => classes[row] != IGNORED,
        _ => true,
    };
    let count = |rows: Range<usize>| rows.filter(|&row| has_target(row)).count();
    let (mut left, mut first) = (residual.data_mut(), 0);
    let scale = count(0..all) as f64 / share.max(f64::MIN_POSITIVE);
    let mut norms = Vec::with_capacity(rows.len());
    for ((_, weight), length) in rows.iter().zip(lengths) {
        let (own, rest) = left.split_at_mut(length * columns);
        let square: f64 = own.iter().map(|&r| f64::from(r) * f64::from(r)).sum();
        norms.push(scale * (square / count(first..first + length).max(1) as f64).sqrt());
        first += length;
        if *weight != 1.0 {
            own.iter_mut().for_each(|r| *r *= *weight as f32);
        }
        left = rest;
    }
    norms
}

#[cfg(test)]
mod tests {
    use rgft_kernels::Precision;
    use rgft_nn::Engine;

    use super::*;

    /// Residuals of a mean over two rows, in a micro-batch that makes half of the loss.
    fn residual() -> Tensor {
        let mut residual = Engine::new(Precision::F32).tensor(2, 2);
        residual.data_mut().copy_from_slice(&[0.75, 1.0, 0.0, -0.25]);
        residual
    }

    #[test]
    fn norms_are_those_of_examples_alone_and_weights_multiply_what_is_carried_back() {
        let (mut residual, rows) = (residual(), [(7, 2.0), (3, 1.0)]);
        let targets = Targets::Classes(vec![0, 1]);
        let norms = weigh(&mut residual, &Extent::Sequences(vec![5, 6]), &targets, &rows, 0.5);
        assert_eq!(norms, [4.0 * 1.25, 4.0 * 0.25]);
        assert_eq!(residual.data(), [1.5, 2.0, 0.0, -0.25]);
    }

    #[test]
    fn an_example_of_several_tokens_has_the_root_mean_square_of_theirs() {
        let mut residual = residual();
        let targets = Targets::Classes(vec![0, 1]);
        let norms = weigh(&mut residual, &Extent::Sequences(vec![2]), &targets, &[(0, 1.0)], 1.0);
        let expected = 2.0 * ((0.75f64.powi(2) + 1.0 + 0.25f64.powi(2)) / 2.0).sqrt();
        assert!((norms[0] - expected).abs() < 1e-12, "{norms:?}");
    }

    #[test]
    fn rows_without_a_target_do_not_count() {
        let mut residual = Engine::new(Precision::F32).tensor(4, 2);
        // A mean over two rows: the prompt of the first example has two without a target.
        residual.data_mut().copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 0.75, 1.0, 0.0, 0.25]);
        let targets = Targets::Classes(vec![IGNORED, IGNORED, 0, 1]);
        let norms =
            weigh(&mut residual, &Extent::Sequences(vec![3, 1]), &targets, &[(0, 1.0), (1, 1.0)], 1.0);
        assert_eq!(norms, [2.0 * 1.25, 2.0 * 0.25]);
    }
}
