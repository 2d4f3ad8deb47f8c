//! Naive twins of patches and of the instance norm.

/// See [`crate::cpu::patches::image_patches`].
pub fn image_patches(pixels: &[f64], height: usize, width: usize, channels: usize, patch: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for example in pixels.chunks_exact(height * width * channels) {
        for (i, j) in (0..height / patch).flat_map(|i| (0..width / patch).map(move |j| (i, j))) {
            for (y, x) in (0..patch).flat_map(|y| (0..patch).map(move |x| (y, x))) {
                let pixel = (i * patch + y) * width + j * patch + x;
                out.extend_from_slice(&example[pixel * channels..][..channels]);
            }
        }
    }
    out
}

/// See [`crate::cpu::patches::series_patches`].
pub fn series_patches(x: &[f64], steps: usize, patch: usize, stride: usize) -> Vec<f64> {
    let of_window = |window: &[f64]| {
        // Backwards from the end.
        let ends = (patch..=steps).rev().step_by(stride).collect::<Vec<_>>();
        ends.into_iter().rev().flat_map(|end| window[end - patch..end].to_vec()).collect::<Vec<_>>()
    };
    x.chunks_exact(steps).flat_map(of_window).collect()
}

/// Windows in units of their own, and the units: mean and deviation of each.
pub fn instance_norm(x: &[f64], steps: usize, epsilon: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut normalised, mut units) = (Vec::new(), Vec::new());
    for window in x.chunks_exact(steps) {
        let mean = window.iter().sum::<f64>() / steps as f64;
        let variance = window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / steps as f64;
        let deviation = (variance + epsilon).sqrt();
        normalised.extend(window.iter().map(|x| (x - mean) / deviation));
        units.extend([mean, deviation]);
    }
    (normalised, units)
}
