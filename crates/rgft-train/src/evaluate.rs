//! Forward over a data set: loss, metrics and logits.

use std::collections::BTreeMap;

use rgft_core::Extent;
use rgft_data::{Dataset, Objective, Targets, metrics};
use rgft_kernels::Kernels;
use rgft_nn::models::Model;
use rgft_nn::{Engine, Tape};

/// What a model makes of a data set.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Metrics by name, `loss` among them where targets are known.
    pub metrics: BTreeMap<String, f64>,
    /// Logits or values, `[examples, outputs]`, in the order of the data set. Empty for language models, whose
    /// outputs are as many as all tokens times the vocabulary.
    pub outputs: Vec<f32>,
    /// Of classification: rows are true classes, columns predicted ones, `[classes, classes]`.
    pub confusion: Vec<u64>,
}

/// The loss of `outputs` `[rows, outputs]`, which become the output residual; 0 where targets are unknown.
pub fn loss(kernels: &dyn Kernels, outputs: &mut [f32], targets: &Targets, weight: f64) -> f64 {
    match targets {
        Targets::Classes(classes) => kernels.cross_entropy(outputs, classes, weight),
        Targets::MultiHot(labels, _) => kernels.binary_cross_entropy(outputs, labels, weight),
        Targets::Values(values, _) => kernels.squared_error(outputs, values, weight),
        Targets::Unknown => 0.0,
    }
}

/// Rows of hidden state in one evaluation batch, about: enough for products to be efficient, no more than a training
/// step has.
pub(crate) fn rows_per_batch(set: &dyn Dataset) -> usize {
    match set.extent(&[0]) {
        Extent::Sequences(_) => 1024,
        Extent::Maps { .. } => 1 << 16,
    }
}

/// Evaluates `model` on all of `set`, in batches of similar size. The products are counted by the engine.
pub fn evaluate(model: &Model, engine: &Engine, set: &dyn Dataset, objective: Objective) -> Evaluation {
    if set.is_empty() {
        return Evaluation::default();
    }
    let needs = model.no_needs();
    let mut order: Vec<usize> = (0..set.len()).collect();
    order.sort_by_key(|&row| set.size(row));
    engine.set_dropout(None);
    let keeps_outputs = objective != Objective::NextToken;
    let (columns, rows) = (set.outputs(), rows_per_batch(set));
    let mut outputs = vec![0.0; if keeps_outputs { set.len() * columns } else { 0 }];
    let (mut language, mut truth) = (metrics::LanguageSums::default(), Targets::Unknown);
    let (mut total_loss, mut counted, mut start) = (0.0, 0, 0);
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && set.size(order[end]) * (end + 1 - start) <= rows {
            end += 1;
        }
        let batch = set.pack(&order[start..end], None);
        let mut found = model.forward(engine, &batch.inputs, &needs, &mut Tape::default());
        if keeps_outputs {
            for (row, values) in batch.rows.iter().zip(found.data().chunks_exact(columns)) {
                outputs[row * columns..][..columns].copy_from_slice(values);
            }
            place(&mut truth, set.len(), &batch.rows, &batch.targets);
        } else if let Targets::Classes(classes) = &batch.targets {
            language.add(found.data(), classes);
        }
        let count = batch.targets.count();
        total_loss += loss(&*engine.kernels, found.data_mut(), &batch.targets, count as f64);
        counted += count;
        start = end;
    }
    let mut confusion = Vec::new();
    let mut metrics = match &truth {
        _ if !keeps_outputs => language.finish(set.text_bytes()),
        Targets::Classes(classes) => {
            let predicted = metrics::argmax(&outputs, columns);
            confusion = metrics::confusion_matrix(&predicted, classes, columns);
            metrics::classification(&predicted, classes, columns)
        }
        truth => metrics::evaluate(&outputs, truth),
    };
    if counted > 0 {
        metrics.insert("loss".into(), total_loss / counted as f64);
    }
    let baselines = set.baselines();
    metrics.extend(metrics::forecast_ratios(&metrics, &baselines));
    metrics.extend(baselines);
    Evaluation { metrics, outputs, confusion }
}

/// Puts the targets of a batch of `rows` where they belong among those of all `n` examples.
fn place(all: &mut Targets, n: usize, rows: &[usize], targets: &Targets) {
    fn put<T: Copy + Default>(all: &mut Vec<T>, n: usize, rows: &[usize], values: &[T], width: usize) {
        all.resize(n * width, T::default());
        for (row, values) in rows.iter().zip(values.chunks_exact(width.max(1))) {
            all[row * width..][..width].copy_from_slice(values);
        }
    }
    if let Targets::Unknown = all {
        *all = match targets {
            Targets::Classes(_) => Targets::Classes(Vec::new()),
            Targets::MultiHot(_, width) => Targets::MultiHot(Vec::new(), *width),
            Targets::Values(_, width) => Targets::Values(Vec::new(), *width),
            Targets::Unknown => return,
        };
    }
    match (all, targets) {
        (Targets::Classes(all), Targets::Classes(values)) => put(all, n, rows, values, 1),
        (Targets::MultiHot(all, width), Targets::MultiHot(values, _))
        | (Targets::Values(all, width), Targets::Values(values, _)) => put(all, n, rows, values, *width),
        (all, _) => *all = Targets::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn data_and_losses_mean_the_same_by_ignored() {
        assert_eq!(rgft_data::IGNORED, rgft_kernels::cpu::loss::IGNORED);
    }
}
