//! How curved the loss is along its gradient, for the certificate of a run that steps along gradients:
//!
//! ```text
//! L̂ = ‖∇f(x − t·g) − g‖ / ‖t·g‖        g = ∇f(x), over what the plan updates, on one batch
//! ```
//!
//! A secant is L at most (but for the rounding of the products, which is large in bf16), so a step size that is too large for
//! it is too large. It is measured before the first step and at each validation; what is judged is the largest step size in
//! between, by the larger L of the two ends. Nothing of this reaches the training: the weights come back as they were, and
//! what it computes is counted with evaluation.

use std::time::Instant;

use rgft_core::Slices;
use rgft_core::ledger::SGD_FLOPS;
use rgft_data::PackedBatch;
use rgft_nn::{Blind, Mode};

use super::{StepSize, Trainer};
use crate::evaluate;
use crate::optimizer::Optimizer;
use crate::recipe::{OptimizerName, Recipe};

/// ‖t·g‖ over ‖x‖: far above what rounding does to x, and near.
const REACH: f64 = 1e-3;

impl Trainer<'_> {
    /// Tells the guard of the steps up to `step` since L was last measured, and measures it.
    pub(super) fn judge_step_size(&mut self, step: usize) {
        let Some(now) = self.measure_smoothness() else { return };
        let smoothness = self.smoothness.map_or(now, |before| before.max(now));
        if self.largest_rate > 0.0 {
            self.guard.observe_smoothness(step, smoothness, self.largest_rate);
        }
        (self.smoothness, self.largest_rate) = (Some(now), 0.0);
    }

    /// L̂ on the batch that was seen last, or is to come first; `None` where steps do not go along the gradient.
    pub(super) fn measure_smoothness(&mut self) -> Option<f64> {
        if self.recipe.optimizer != OptimizerName::Sgd || self.active.plan.active.is_empty() {
            return None;
        }
        let begun = Instant::now();
        let rows = self.order.seen(1).pop().or_else(|| self.order.first(1).pop())?;
        let batch = self.work.train.pack(&rows, None);
        let changing = |(_, update): &(usize, &Slices)| !update.is_none();
        let changing = self.active.update.iter().enumerate().filter(changing).map(|(i, _)| i);
        let kept: Vec<(usize, Vec<f32>)> =
            changing.map(|i| (i, self.work.model.parameters().data(i).to_vec())).collect();

        self.gradients_on(&batch);
        let norm = self.active.gradients.squared_norm(&self.engine).sqrt();
        let size = kept.iter().flat_map(|(_, data)| data).map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let reach = REACH * size.max(1.0) / norm;
        let mut smoothness = None;
        if reach.is_finite() {
            let plain = Recipe { momentum: 0.0, weight_decay: 0.0, ..self.recipe.clone() };
            let mut stepper = Optimizer::new(&plain, self.work.model.parameters(), &self.work.components);
            self.go(&mut stepper, reach);
            let there = self.distance(&kept);
            self.gradients_on(&batch);
            // From x − t·g along the gradient there: what is left is the difference of the two.
            self.go(&mut stepper, -reach);
            smoothness = Some(self.distance(&kept) / (reach * there));
            let parameters = self.work.model.parameters_mut();
            kept.into_iter().for_each(|(i, data)| parameters[i].data = data);
        }
        self.engine.take_statistics();
        self.ledger.add_evaluation(self.engine.take_flops().total() + 2 * SGD_FLOPS * self.active.scalars);
        self.clock.eval += begun.elapsed();
        smoothness
    }

    /// The gradient of what the plan updates.
    fn gradients_on(&mut self, batch: &PackedBatch) {
        let hidden = (self.active.plan.cut > 0).then(|| self.computed_prefix(batch));
        let model = &self.work.model;
        self.active.gradients.clear();
        // The same seed, so the same function both times.
        self.engine.set_mode(Mode::Train { seed: 0 });
        let kernels = &self.engine.kernels;
        model.forward_backward_from(
            &self.engine,
            &batch.inputs,
            hidden,
            &self.active.needs,
            &mut self.active.gradients,
            &mut Blind,
            |logits| evaluate::loss(&**kernels, logits.data_mut(), &batch.targets, 1.0),
        );
    }

    /// Moves what the plan updates by `−length` times the gradient.
    fn go(&mut self, stepper: &mut Optimizer, length: f64) {
        let mut sizes = vec![StepSize::default(); self.work.components.len()];
        for &i in &self.active.plan.active {
            sizes[i] = StepSize { learning_rate: length, active: true };
        }
        let parameters = self.work.model.parameters_mut();
        stepper.step(&*self.engine.kernels, parameters, &self.active.gradients, &sizes, 1.0);
    }

    fn distance(&self, from: &[(usize, Vec<f32>)]) -> f64 {
        let parameters = self.work.model.parameters();
        let square = |(i, data): &(usize, Vec<f32>)| {
            let now = parameters.data(*i).iter().zip(data);
            now.map(|(now, before)| f64::from(now - before).powi(2)).sum::<f64>()
        };
        from.iter().map(square).sum::<f64>().sqrt()
    }
}
