//! Keeping a budget: how many steps it pays for, where the learning rate stands, and the batch that still fits.

use std::collections::HashMap;

use rgft_core::Extent;
use rgft_nn::models;

use super::{Trainer, extent_of, update_flops};
use crate::methods::Plan;
use crate::recipe::Recipe;
use crate::schedule_of_batches::BatchSchedule;
use crate::{Workload, costs};

/// A last batch smaller than needed is cut out if this part of the budget would remain without it.
const WORTH_A_STEP: f64 = 0.01;

/// How many steps of the schedule a budget pays for under one plan; `caches`: whether an example below the cut is computed
/// but once.
pub(super) fn affordable_steps(
    recipe: &Recipe,
    work: &Workload,
    batches: &BatchSchedule,
    plan: &Plan,
    caches: bool,
    budget: f64,
) -> usize {
    if recipe.budget >= 1.0 {
        return batches.len();
    }
    let model = &work.model;
    let update = models::update_of(model.parameters(), &work.components, &plan.active);
    let needs = model.needs(&update, plan.cut, false);
    let scalars: usize = plan.active.iter().map(|&i| work.components[i].parameters).sum();
    let mut known: HashMap<(Extent, bool), u64> = HashMap::new();
    let mut spent = 0.0;
    for step in 0..batches.len() {
        let fills = !caches || step < batches.steps_per_epoch();
        let extent = extent_of(batches.step(step), work);
        let flops = *known.entry((extent, fills)).or_insert_with_key(|(extent, fills)| {
            let prefix = if *fills { costs::prefix(model, extent, plan.cut) } else { 0 };
            prefix + costs::step(model, extent, &needs, plan.cut)
        });
        spent += (flops + scalars as u64 * update_flops(recipe)) as f64;
        // The last one is cut to what is left.
        if spent > budget {
            return step + 1;
        }
    }
    batches.len()
}

impl Trainer<'_> {
    /// What a step on these rows will compute under the plan in force, update included.
    pub(super) fn cost(&self, rows: &[Vec<(usize, f64)>]) -> f64 {
        let (model, cut) = (&self.work.model, self.active.plan.cut);
        let price = |rows: &Vec<(usize, f64)>| {
            let rows: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
            let extent = self.work.train.extent(&rows);
            let own = costs::step(model, &extent, &self.active.needs, cut);
            let prefix = match &self.cache {
                _ if cut == 0 => 0,
                Some(cache) => cache.cost(model, &*self.work.train, &rows, cut),
                None => costs::prefix(model, &extent, cut),
            };
            own + prefix
        };
        let update = self.active.scalars * update_flops(self.recipe);
        (rows.iter().map(price).sum::<u64>() + update) as f64
    }

    /// The schedule's factor for a step on these rows, halved by each time that the run went back. A method that plans follows
    /// what is spent of the budget since planning began, in steps like this one, because the budget ends the run, however many
    /// steps that takes; before that only a task head learns, at full rate.
    pub(super) fn rate_factor(&self, step: usize, rows: &[Vec<(usize, f64)>]) -> f64 {
        let halved = self.roll_back.rate_factor();
        let of_steps = |step: usize| (step as f64, self.total_steps as f64);
        if self.method.fixed().is_some() {
            let (step, total) = of_steps(step);
            return halved * self.schedule.factor(step, total);
        }
        let Some(start) = self.planned_at else { return halved };
        let cost = self.cost(rows).max(1.0);
        let spent = (self.ledger.total() - start) as f64;
        let (mut step_of, mut total) = (spent / cost, (self.budget - start as f64) / cost);
        if self.method.ends_with_epochs() {
            let batch = self.recipe.batch_size * self.recipe.accumulation;
            let passed = self.screening.as_ref().map(|screening| screening.passed / batch);
            let (made, all) = of_steps(passed.unwrap_or(step));
            // By steps that are left; where most of what passes is not learnt from, by parts.
            let ends_first = match passed {
                None => all - made <= total - step_of,
                Some(_) => made / all >= step_of / total,
            };
            if ends_first {
                // What was screened for this step has passed already.
                (step_of, total) = (made.min(all - 1.0), all);
            }
        }
        halved * self.schedule.factor(step_of, total)
    }

    /// The next batch, or as much of it as the budget still pays for; `None` at the end of the budget.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Vec<(usize, f64)>>> {
        let mut rows = match self.screening {
            Some(_) => self.screened()?,
            None => self.order.next_step(self.recipe.accumulation),
        };
        let left = self.budget - self.ledger.total() as f64;
        if self.recipe.budget >= 1.0 && self.method.fixed().is_some() || self.cost(&rows) <= left {
            return Some(rows);
        }
        if left < WORTH_A_STEP * self.budget {
            return None;
        }
        while rows.len() > 1 && self.cost(&rows) > left {
            rows.pop();
        }
        // The most rows that fit: costs rise with their number.
        let (mut fits, mut breaks) = (0, rows[0].len() + 1);
        while fits + 1 < breaks {
            let middle = (fits + breaks) / 2;
            let part = vec![rows[0][..middle].to_vec()];
            if self.cost(&part) <= left { fits = middle } else { breaks = middle }
        }
        if rows.len() == 1 {
            rows[0].truncate(fits);
        }
        (fits > 0).then_some(rows)
    }
}

/// Cuts batches that would cost so many FLOPs down to `flops`, all by the same part.
pub(super) fn shrink(batches: &mut Vec<Vec<usize>>, cost: f64, flops: f64) {
    let part = flops / cost.max(f64::MIN_POSITIVE);
    if part < 1.0 {
        batches.iter_mut().for_each(|rows| rows.truncate((rows.len() as f64 * part) as usize));
        batches.retain(|rows| !rows.is_empty());
    }
}
