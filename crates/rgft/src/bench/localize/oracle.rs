//! The oracle: what training one component alone would give, `(loss before − loss after) / FLOPs`, on training batches that
//! are held out from it and from the maps. It is what a map should foretell, at many times the cost.

use anyhow::{Result, ensure};
use rgft_core::ComponentKind;
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::models;
use rgft_nn::{Blind, Engine, Flops, Gradients, Tape};
use rgft_train::recipe::{OptimizerName, Recipe};
use rgft_train::{Optimizer, StepSize, Workload, batch_loss};

/// Trains the components `active` alone on `batches`, a step each, with the recipe's optimizer and learning rate; returns
/// what that computed, in FLOPs, the update included.
///
/// # Errors
/// If the loss is no number any more.
pub(super) fn train(
    recipe: &Recipe,
    engine: &Engine,
    work: &mut Workload,
    active: &[usize],
    batches: &[&[usize]],
) -> Result<u64> {
    let Workload { model, components, train, .. } = work;
    let update = models::update_of(model.parameters(), components, active);
    let cut = active.iter().map(|&i| components[i].depth).min().unwrap_or(0);
    let needs = model.needs(&update, cut, false);
    let mut gradients = Gradients::new(engine, model.parameters(), &update, &model.tables());
    let mut optimizer = Optimizer::new(recipe, model.parameters(), components);
    let mut sizes = vec![StepSize::default(); components.len()];
    for &i in active {
        let learning_rate = match components[i].kind {
            ComponentKind::TaskHead => recipe.head_learning_rate(components[i].fresh),
            _ => recipe.learning_rate,
        };
        sizes[i] = StepSize { learning_rate, active: true };
    }
    engine.take_flops();
    for (step, rows) in batches.iter().enumerate() {
        let batch = train.pack(rows, None);
        gradients.clear();
        engine.set_dropout(Some(hash(recipe.seed as u32, step as u32)));
        let kernels = &engine.kernels;
        let loss =
            model.forward_backward(engine, &batch.inputs, &needs, &mut gradients, &mut Blind, |outputs| {
                batch_loss(&**kernels, outputs.data_mut(), &batch.targets, 1.0)
            });
        let norm = gradients.squared_norm(engine).sqrt();
        ensure!(
            loss.is_finite() && norm.is_finite(),
            "the loss is {loss} at learning rate {}",
            recipe.learning_rate
        );
        let scale = if recipe.clip > 0.0 { (recipe.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        optimizer.step(&**kernels, model.parameters_mut(), &gradients, &sizes, scale as f32);
        model.parameters_mut().move_statistics(&engine.take_statistics());
    }
    let scalars: usize = active.iter().map(|&i| components[i].parameters).sum();
    Ok(engine.take_flops().total() + update_flops(recipe) * (scalars * batches.len()) as u64)
}

/// What the batches `batches` cost in full fine-tuning, in FLOPs.
pub(super) fn full_flops(recipe: &Recipe, work: &Workload, batches: &[&[usize]]) -> u64 {
    let parameters = work.model.parameters();
    let needs = work.model.needs(&parameters.everything(), 0, false);
    let step = |rows: &&[usize]| {
        let products = work.model.products(&work.train.extent(rows), &needs);
        products.iter().collect::<Flops>().total() + update_flops(recipe) * parameters.scalars() as u64
    };
    batches.iter().map(step).sum()
}

fn update_flops(recipe: &Recipe) -> u64 {
    match recipe.optimizer {
        OptimizerName::AdamW => rgft_core::ledger::ADAMW_FLOPS,
        OptimizerName::Sgd => rgft_core::ledger::SGD_FLOPS,
    }
}

/// The mean loss on some batches, each counting by its targets.
pub(super) fn loss(engine: &Engine, work: &Workload, batches: &[&[usize]]) -> f64 {
    let (mut sum, mut targets) = (0.0, 0);
    engine.set_dropout(None);
    for rows in batches {
        let batch = work.train.pack(rows, None);
        let needs = work.model.no_needs();
        let mut outputs = work.model.forward(engine, &batch.inputs, &needs, &mut Tape::default());
        let count = batch.targets.count();
        sum += batch_loss(&*engine.kernels, outputs.data_mut(), &batch.targets, count as f64);
        targets += count;
    }
    sum / targets.max(1) as f64
}

/// At most `most` of `n` components, evenly spread over the depth of the model, `planted` among them.
pub(super) fn subset(n: usize, planted: usize, most: usize) -> Vec<usize> {
    let most = most.clamp(1, n);
    // The one nearest to the planted component gives way to it.
    let mut subset: Vec<usize> = (0..most).map(|i| (2 * i + 1) * n / (2 * most)).collect();
    if let Some(nearest) = subset.iter_mut().min_by_key(|i| i.abs_diff(planted)) {
        *nearest = planted;
    }
    subset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_spread_and_holds_the_planted_component() {
        assert_eq!(subset(5, 3, 100), [0, 1, 2, 3, 4]);
        assert_eq!(subset(100, 42, 4), [12, 42, 62, 87]);
        assert_eq!(subset(7, 6, 1), [6]);
        for (n, most) in [(1, 1), (9, 9), (50, 12), (13, 7)] {
            for planted in 0..n {
                let found = subset(n, planted, most);
                assert!(
                    found.contains(&planted) && found.windows(2).all(|pair| pair[0] < pair[1]),
                    "{found:?}"
                );
            }
        }
    }
}
