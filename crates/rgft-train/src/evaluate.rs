//! Forward over a data set: loss, metrics and logits.

use std::collections::BTreeMap;

use rgft_data::{Targets, TextDataset, metrics, pack};
use rgft_kernels::Kernels;
use rgft_nn::models::{Model, TokenBatch};
use rgft_nn::{Engine, Needs, Tape};

/// Tokens in one evaluation batch, about: enough for products to be efficient.
const TOKENS_PER_BATCH: usize = 4096;

/// What a model makes of a data set.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Metrics by name, `loss` among them where targets are known.
    pub metrics: BTreeMap<String, f64>,
    /// Logits or values, `[rows, outputs]`, in the order of the data set.
    pub outputs: Vec<f32>,
}

/// The loss of `logits` `[rows, outputs]`, which become the output residual; 0 where targets are unknown.
pub(crate) fn loss(kernels: &dyn Kernels, logits: &mut [f32], targets: &Targets, weight: f64) -> f64 {
    match targets {
        Targets::Classes(classes) => kernels.cross_entropy(logits, classes, weight),
        Targets::MultiHot(labels, _) => kernels.binary_cross_entropy(logits, labels, weight),
        Targets::Values(values) => kernels.squared_error(logits, values, weight),
        Targets::Unknown => 0.0,
    }
}

/// Evaluates `model` on all of `set`, in batches of similar length. The products are counted by the engine.
pub fn evaluate(model: &dyn Model, engine: &Engine, set: &TextDataset) -> Evaluation {
    let needs = vec![Needs::default(); model.sites().len()];
    let mut order: Vec<usize> = (0..set.len()).collect();
    order.sort_by_key(|&row| set.tokens(row));
    engine.set_dropout(None);
    let mut outputs = vec![0.0; set.len() * set.outputs];
    let (mut total_loss, mut start) = (0.0, 0);
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && set.tokens(order[end]) * (end + 1 - start) <= TOKENS_PER_BATCH {
            end += 1;
        }
        let batch = pack(set, &order[start..end]);
        let tokens = TokenBatch { ids: &batch.ids, types: &batch.type_ids, lengths: &batch.lengths };
        let mut logits = model.forward(engine, tokens, &needs, &mut Tape::default());
        for (row, logits) in batch.rows.iter().zip(logits.data().chunks_exact(set.outputs)) {
            outputs[row * set.outputs..][..set.outputs].copy_from_slice(logits);
        }
        let share = (end - start) as f64 / set.len() as f64;
        total_loss += loss(&*engine.kernels, logits.data_mut(), &batch.targets, share);
        start = end;
    }
    let all: Vec<usize> = (0..set.len()).collect();
    let targets = pack(set, &all).targets;
    let mut metrics = metrics::evaluate(&outputs, &targets);
    if !matches!(targets, Targets::Unknown) {
        metrics.insert("loss".into(), total_loss);
    }
    Evaluation { metrics, outputs }
}
