//! `bitfit`: the task head and every bias, those of norms among them.
//!
//! No weight gradient is computed but the head's; `δ` goes all the way down. A language model's output map stays frozen.
//!
//! Source: Ben Zaken et al., *BitFit: simple parameter-efficient fine-tuning for transformer-based masked language models*
//! (2022). Convolutional nets without biases have those of their batch norms.

use rgft_core::Component;

use super::fixed::Fixed;
use crate::{TrainError, Workload};

pub(super) fn bitfit(work: &Workload) -> Result<Fixed, TrainError> {
    let biases: Vec<usize> = work.model.sites().iter().filter_map(|site| site.kind.bias()).collect();
    if biases.is_empty() {
        return Err(TrainError::Mismatch {
            problem: "bitfit updates biases, and the model has none".into(),
            hint: "use --method norm, or another one",
        });
    }
    let is_bias = |component: &Component| component.slices.iter().all(|s| biases.contains(&s.parameter));
    Ok(Fixed::with_new_heads(work, |_, component| is_bias(component)))
}
