//! Numbers, engines, folders.

use std::path::{Path, PathBuf};

use rgft_core::{Images, Inputs};
use rgft_kernels::Precision;
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::models::{self, HeadRequest, Model};
use rgft_nn::{Engine, Parameter, Parameters};
use serde_json::Value;

/// `n` numbers in `[-1, 1]`, the same for the same seed.
pub fn numbers(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| hash(seed as u32, i as u32) as f32 / 2f32.powi(31) - 1.0).collect()
}

/// An engine whose arena holds nothing but NaN: whoever reads what was not written is found out.
pub fn engine(training: bool) -> Engine {
    let engine = Engine::new(Precision::F32);
    engine.set_dropout(training.then_some(7));
    let sizes = [30, 200, 600, 2000, 6000];
    let mut buffers: Vec<_> = sizes.iter().flat_map(|n| (0..12).map(|_| engine.tensor(*n, 1))).collect();
    buffers.iter_mut().for_each(|buffer| buffer.data_mut().fill(f32::NAN));
    engine
}

pub fn images(seed: usize, examples: usize, [height, width]: [usize; 2], channels: usize) -> Inputs {
    let pixels = numbers(seed, examples * height * width * channels);
    Inputs::Images(Images { pixels, height, width, channels })
}

/// A model of this config with random numbers, norms and statistics among them.
pub fn random_model(config: Value) -> Model {
    let request = HeadRequest { random: true, seed: 3, dropout: Some(0.0), ..HeadRequest::default() };
    let mut model = models::build(Path::new("."), config, &request).unwrap();
    scatter(model.parameters_mut());
    model
}

/// As initialised, norms are 1 and 0 and statistics too: mistakes would hide there.
pub fn scatter(parameters: &mut Parameters) {
    for (i, Parameter { name, data, .. }) in parameters.iter_mut().enumerate() {
        if data.len() < 200 && !name.contains("conv") && !name.contains("fc") && !name.contains("linear") {
            let noise = numbers(500 + i, data.len());
            data.iter_mut().zip(noise).for_each(|(x, noise)| *x += 0.3 * noise);
        }
    }
}

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rgft/tests/goldens/cnn")
}
