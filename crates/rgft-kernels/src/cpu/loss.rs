//! Losses with their output residual `r = ∂ℓ/∂ẑ`: means over the batch, `weight` scaling both (for gradient
//! accumulation, where each micro-batch counts by its share of the examples).

use rayon::prelude::*;

/// A target that stands for none: its row has no loss and no residual.
pub const IGNORED: u32 = u32::MAX;

/// `ℓ = −log softmax(z)_y`, `r = (softmax(z) − onehot(y))·weight/rows`, the mean being over rows whose target is not
/// [`IGNORED`]. `logits` `[rows, classes]` becomes `r`.
///
/// # Panics
/// If a target is no class.
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], weight: f64) -> f64 {
    let Some(classes) = logits.len().checked_div(targets.len()) else { return 0.0 };
    let counted = targets.iter().filter(|target| **target != IGNORED).count();
    let scale = weight / counted.max(1) as f64;
    let of_row = |(row, &target): (&mut [f32], &u32)| {
        if target == IGNORED {
            row.fill(0.0);
            return 0.0;
        }
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = row.iter().map(|&z| (z as f64 - largest).exp()).sum();
        let loss = sum.ln() + largest - row[target as usize] as f64;
        for (c, z) in row.iter_mut().enumerate() {
            let hot = if c == target as usize { 1.0 } else { 0.0 };
            *z = (((*z as f64 - largest).exp() / sum - hot) * scale) as f32;
        }
        loss
    };
    let losses: Vec<f64> =
        logits.par_chunks_exact_mut(classes.max(1)).zip(targets).with_min_len(16).map(of_row).collect();
    // Summed in order, so that no thread's pace changes a bit.
    losses.iter().sum::<f64>() * scale
}

/// `ℓ = mean over rows and labels of −[y log σ(z) + (1−y) log(1−σ(z))]`, `r = (σ(z) − y)·weight/(rows·labels)`.
pub fn binary_cross_entropy(logits: &mut [f32], targets: &[f32], weight: f64) -> f64 {
    let scale = weight / targets.len().max(1) as f64;
    let mut loss = 0.0;
    for (z, &y) in logits.iter_mut().zip(targets) {
        let (x, y) = (*z as f64, y as f64);
        loss += x.max(0.0) - x * y + (-x.abs()).exp().ln_1p();
        *z = ((1.0 / (1.0 + (-x).exp()) - y) * scale) as f32;
    }
    loss * scale
}

/// `ℓ = mean (ŷ − y)²`, `r = 2(ŷ − y)·weight/n`.
pub fn squared_error(outputs: &mut [f32], targets: &[f32], weight: f64) -> f64 {
    let scale = weight / targets.len().max(1) as f64;
    let mut loss = 0.0;
    for (z, &y) in outputs.iter_mut().zip(targets) {
        let error = *z as f64 - y as f64;
        loss += error * error;
        *z = (2.0 * error * scale) as f32;
    }
    loss * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loss: impl Fn(&mut [f32]) -> f64, z: &[f32]) {
        let mut residual = z.to_vec();
        loss(&mut residual);
        for i in 0..z.len() {
            let at = |h: f32| {
                let mut z = z.to_vec();
                z[i] += h;
                loss(&mut z)
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((residual[i] as f64 - difference).abs() < 1e-4, "{i}: {} {difference}", residual[i]);
        }
    }

    #[test]
    fn residuals_are_the_losses_gradients() {
        let z = [0.3, -1.2, 2.0, 0.1, 0.7, -0.4];
        check(|z| cross_entropy(z, &[2, 0], 0.7), &z);
        check(|z| binary_cross_entropy(z, &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 1.0), &z);
        check(|z| squared_error(z, &[1.0, 0.5, 0.0, 1.0, 1.0, -3.0], 0.5), &z);
    }

    #[test]
    fn ignored_rows_count_for_nothing() {
        let mut both = [0.3, -1.2, 2.0, 9.0, 9.0, 9.0];
        let loss = cross_entropy(&mut both, &[2, IGNORED], 1.0);
        let mut one = [0.3, -1.2, 2.0];
        assert_eq!(loss, cross_entropy(&mut one, &[2], 1.0));
        assert_eq!(both, [one, [0.0; 3]].concat()[..]);
        assert_eq!(cross_entropy(&mut [1.0, 2.0], &[IGNORED], 1.0), 0.0);
    }

    #[test]
    fn large_logits_stay_finite() {
        let mut z = [1000.0, -1000.0];
        assert!((cross_entropy(&mut z, &[1], 1.0) - 2000.0).abs() < 1e-9);
        let mut z = [1000.0, -1000.0];
        assert!((binary_cross_entropy(&mut z, &[0.0, 1.0], 1.0) - 1000.0).abs() < 1e-9);
        assert!(z.iter().all(|z| z.is_finite()));
    }

    #[test]
    fn uniform_logits_cost_the_logarithm_of_the_classes() {
        assert!((cross_entropy(&mut [0.0; 12], &[0, 1, 3], 1.0) - 4f64.ln()).abs() < 1e-12);
    }
}
