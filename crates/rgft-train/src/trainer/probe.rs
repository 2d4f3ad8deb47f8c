//! Probes: looks at the whole depth, without dW and without an update.

use rgft_core::{Account, Event, Signal, Slices};
use rgft_data::PackedBatch;
use rgft_nn::{Engine, Flops, Gradients};

use super::{Trainer, extent_of};
use crate::methods::ProbeRequest;
use crate::tracking::{self, Tracker};
use crate::{TrainError, Workload, costs, evaluate};

impl Trainer<'_> {
    /// Looks at the whole depth without updating anything.
    pub(super) fn probe(&mut self, step: usize, request: ProbeRequest) -> Result<(), TrainError> {
        // Only data of steps that are over: the coming step's weights must not depend on its batch.
        let sources = (0..step).rev().take(request.batches);
        let mut rows: Vec<Vec<usize>> = sources
            .map(|i| self.batches.step(i)[0].iter().copied().take(request.examples).collect())
            .collect();
        self.shrink_to_budget(&mut rows);
        if rows.is_empty() {
            return Ok(());
        }
        let examples: usize = rows.iter().map(Vec::len).sum();
        let mut counted = Flops::default();
        for rows in rows {
            self.tracker.begin_batch();
            let batch = self.work.train.pack(&rows, None);
            let flops = probe_batch(&self.engine, self.work, &batch, &mut self.tracker);
            counted.forward += flops.forward;
            counted.dx += flops.dx;
            counted.tracking += flops.tracking;
        }
        self.ledger.add(Account::Probe, counted.forward + counted.dx);
        self.ledger.add(Account::Tracking, counted.tracking);
        let probe_flops = counted.total();
        self.probe_flops_per_example = probe_flops / examples as u64;
        let norms = tracking::squared_norms(&self.work.model, &self.work.components);
        let energies = self.tracker.take();
        if let Some(report) = self.method.observe(step, &energies, &norms)? {
            self.mapped_at.get_or_insert(self.ledger.total());
            self.guard.observe_map(step, &report.energies);
            let all: Vec<usize> = (0..energies.len()).collect();
            self.guard.observe_plan(&all);
            self.emit(&Event::Map {
                step,
                energies: report.energies,
                shares: report.shares,
                probe_flops,
                rank_correlation: report.rank_correlation,
                next_interval: report.next_interval,
            })?;
        }
        Ok(())
    }

    /// Cuts a probe down to at most a tenth of the budget that is left.
    fn shrink_to_budget(&self, batches: &mut Vec<Vec<usize>>) {
        let left = self.recipe.budget * self.full_equivalent as f64 - self.ledger.total() as f64;
        let model = &self.work.model;
        let needs = model.needs(&vec![Slices::None; model.parameters().len()], 0, true);
        // Forward and dX; an exact signal computes dW besides.
        let passes = if self.recipe.signal == Signal::Exact { 1.5 } else { 1.0 };
        let cost = |batches: &[Vec<usize>]| {
            passes * costs::step(model, &extent_of(batches, self.work), &needs) as f64
        };
        while !batches.is_empty() && cost(batches) > left / 10.0 {
            match batches.as_mut_slice() {
                [only] if only.len() > 1 => only.truncate(only.len() / 2),
                _ => drop(batches.pop()),
            }
        }
    }
}

/// Carries one batch back through the whole depth for `tracker`; returns what that computed.
pub(crate) fn probe_batch(
    engine: &Engine,
    work: &Workload,
    batch: &PackedBatch,
    tracker: &mut Tracker,
) -> Flops {
    let model = &work.model;
    let nothing = vec![Slices::None; model.parameters().len()];
    let needs = model.needs(&nothing, 0, true);
    engine.set_dropout(None);
    let kernels = &engine.kernels;
    model.forward_backward(engine, &batch.inputs, &needs, &mut Gradients::default(), tracker, |logits| {
        evaluate::loss(&**kernels, logits.data_mut(), &batch.targets, 1.0)
    });
    engine.take_flops()
}
