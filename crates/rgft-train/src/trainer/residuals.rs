//! Output residuals by example: what sampling goes by.

use rgft_core::Extent;
use rgft_nn::Tensor;

/// The norm of each example's output residual `[rows, outputs]`, as if the example were alone; and the residuals are
/// multiplied by the examples' weights. `share` is what the loss was weighted with.
pub(super) fn weigh(residual: &mut Tensor, extent: &Extent, rows: &[(usize, f64)], share: f64) -> Vec<f64> {
    let (columns, all) = (residual.cols().max(1), residual.rows());
    // A row for each example, or one for each of its tokens.
    let lengths: Vec<usize> = match extent {
        Extent::Sequences(lengths) if lengths.iter().sum::<usize>() == all => lengths.clone(),
        _ => vec![all / rows.len().max(1); rows.len()],
    };
    let mut left = residual.data_mut();
    let scale = all as f64 / share.max(f64::MIN_POSITIVE);
    let mut norms = Vec::with_capacity(rows.len());
    for ((_, weight), length) in rows.iter().zip(lengths) {
        let (own, rest) = left.split_at_mut(length * columns);
        let square: f64 = own.iter().map(|&r| f64::from(r) * f64::from(r)).sum();
        norms.push(scale * (square / length.max(1) as f64).sqrt());
        if *weight != 1.0 {
            own.iter_mut().for_each(|r| *r *= *weight as f32);
        }
        left = rest;
    }
    norms
}
