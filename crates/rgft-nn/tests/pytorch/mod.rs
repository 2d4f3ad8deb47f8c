//! What every comparison with PyTorch's goldens needs: numbers out of JSON, a tolerance, and its AdamW.

#![allow(dead_code, reason = "no test program uses all of it")]

use rgft_kernels::cpu::optimizer::{AdamW, Block, adamw};
use rgft_nn::Gradients;
use rgft_nn::models::Model;
use serde_json::Value;

/// All numbers of nested lists, in order.
pub(crate) fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// Alike to `tolerance` of the largest.
pub(crate) fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*f) - e).abs() <= tolerance * largest, "{what} at {i}: {f} against {e}");
    }
}

/// `torch.optim.AdamW` with its defaults but for the learning rate, over all of a model.
#[derive(Default)]
pub(crate) struct Optimizer {
    moments: Vec<[Vec<f32>; 2]>,
    steps: u32,
}

impl Optimizer {
    pub(crate) fn step(&mut self, model: &mut Model, gradients: &Gradients, learning_rate: f32) {
        let parameters = model.parameters_mut();
        if self.moments.is_empty() {
            self.moments =
                parameters.iter().map(|p| [vec![0.0; p.data.len()], vec![0.0; p.data.len()]]).collect();
        }
        self.steps += 1;
        let trained =
            parameters.iter_mut().zip(&mut self.moments).enumerate().filter(|(_, (p, _))| !p.buffer);
        for (i, (parameter, [m, v])) in trained {
            let width = parameter.cols();
            let gradient = gradients.dense(i, parameter.rows(), width);
            let block = Block {
                weight: &mut parameter.data,
                weight_stride: width,
                gradient: Some(&gradient),
                gradient_stride: width,
                width,
            };
            let numbers = AdamW {
                learning_rate,
                weight_decay: 0.01,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                step: self.steps,
                gradient_scale: 1.0,
            };
            adamw(block, m, v, numbers);
        }
    }
}
