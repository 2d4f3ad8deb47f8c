//! Reversible instance norm without parameters (Kim et al. 2022): each window of a series is seen in units of its own,
//! and a forecast is brought back to the window's.
//!
//! `μ = mean x`, `σ = √(mean (x − μ)² + ε)` per window; in: `x̂ = (x − μ)/σ`; out: `y = σ·ŷ + μ`, so `δ_ŷ = σ·δ_y`.
//! Inputs have no gradient, so μ and σ are constants to backward.

use super::for_row_blocks;
use super::norm::lanes as sum_of;

/// `units` `[windows, 2]` of `x` `[windows, steps]`: μ and σ of each window.
pub fn instance_units(x: &[f32], steps: usize, epsilon: f32, units: &mut [f32]) {
    for_row_blocks(units, 2, |first, units| {
        vectorised!(|| {
            for (x, unit) in x[first * steps..].chunks_exact(steps).zip(units.chunks_exact_mut(2)) {
                let mean = sum_of(steps, |i| x[i]) / steps as f32;
                let squares = sum_of(steps, |i| (x[i] - mean) * (x[i] - mean));
                unit.copy_from_slice(&[mean, (squares / steps as f32 + epsilon).sqrt()]);
            }
        });
    });
}

/// `x` `[windows, steps]` → x̂ in place.
pub fn instance_norm(x: &mut [f32], steps: usize, units: &[f32]) {
    for_row_blocks(x, steps, |first, x| {
        vectorised!(|| {
            for (x, unit) in x.chunks_exact_mut(steps).zip(units[2 * first..].chunks_exact(2)) {
                x.iter_mut().for_each(|x| *x = (*x - unit[0]) / unit[1]);
            }
        });
    });
}

/// ŷ `[windows, horizon]` → `σ·ŷ + μ` in place; where `slopes_only`, `σ·ŷ`: the same for a residual.
pub fn instance_denorm(y: &mut [f32], horizon: usize, units: &[f32], slopes_only: bool) {
    for_row_blocks(y, horizon, |first, y| {
        vectorised!(|| {
            for (y, unit) in y.chunks_exact_mut(horizon).zip(units[2 * first..].chunks_exact(2)) {
                let (mean, deviation) = (if slopes_only { 0.0 } else { unit[0] }, unit[1]);
                y.iter_mut().for_each(|y| *y = *y * deviation + mean);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::reference::patches::instance_norm as twin;

    #[test]
    fn windows_in_their_own_units_and_back() {
        for (windows, steps) in [(1, 1), (3, 7), (5, 96), (700, 50)] {
            let x: Vec<f32> =
                (0..windows * steps).map(|i| ((i * 7919) % 997) as f32 / 30.0 + 100.0).collect();
            let (mut units, mut y) = (vec![f32::NAN; 2 * windows], x.clone());
            instance_units(&x, steps, 1e-3, &mut units);
            instance_norm(&mut y, steps, &units);
            let wide: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let (normalised, expected) = twin(&wide, steps, 1e-3);
            reference::assert_close(&units, &expected, 1e-5);
            reference::assert_close(&y, &normalised, 1e-4);
            let mut d = y.clone();
            instance_denorm(&mut y, steps, &units, false);
            reference::assert_close(&y, &wide, 1e-5);
            instance_denorm(&mut d, steps, &units, true);
            let slopes: Vec<f64> = wide.iter().zip(0..).map(|(x, i)| x - expected[i / steps * 2]).collect();
            reference::assert_close(&d, &slopes, 1e-4);
        }
    }
}
