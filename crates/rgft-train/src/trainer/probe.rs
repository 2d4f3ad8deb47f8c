//! Probes: looks at the whole depth, without dW and without an update.

use rgft_core::{Account, Event};
use rgft_data::PackedBatch;
use rgft_nn::{Engine, Flops, Mode};

use super::budget::shrink;
use super::{Trainer, extent_of};
use crate::methods::{Found, ProbeRequest};
use crate::tracking::{self, Tracker};
use crate::{TrainError, Workload, evaluate};

impl Trainer<'_> {
    /// Looks at the whole depth without updating anything.
    pub(super) fn probe(&mut self, step: usize, request: ProbeRequest) -> Result<(), TrainError> {
        // Never the data of the step to come: its weights must not depend on its batch.
        let to_come = if self.mapped { Vec::new() } else { self.order.last(request.batches) };
        let holds = !to_come.is_empty();
        let rows = if holds { to_come } else { self.order.seen(request.batches) };
        let rows = rows_to_look_at(rows, request, &self.tracker, self.work);
        if rows.is_empty() {
            return Ok(());
        }
        if holds {
            self.order.hold(&rows);
        }
        let examples = rows.iter().map(Vec::len).sum();
        // A look goes deeper than the steps around it: neither keeps its buffers for the other.
        self.engine.arena.release();
        let mut counted = Flops::default();
        for rows in rows {
            let batch = self.work.train.pack(&rows, None);
            let flops = probe_batch(&self.engine, self.work, &batch, &mut self.tracker);
            counted.forward += flops.forward;
            counted.dx += flops.dx;
            counted.tracking += flops.tracking;
        }
        self.engine.arena.release();
        self.ledger.add(Account::Probe, counted.forward + counted.dx);
        self.ledger.add(Account::Tracking, counted.tracking);
        let probe_flops = counted.total();
        let found = found(&mut self.tracker, self.work, examples, probe_flops);
        if let Some(report) = self.method.observe(step, &found)? {
            self.mapped = true;
            self.guard.observe_map(step, &report.energies);
            let all: Vec<usize> = (0..found.energies.len()).collect();
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
}

/// As much of these batches as was asked for.
pub(crate) fn rows_to_look_at(
    mut rows: Vec<Vec<usize>>,
    request: ProbeRequest,
    tracker: &Tracker,
    work: &Workload,
) -> Vec<Vec<usize>> {
    rows.iter_mut().for_each(|rows| rows.truncate(request.examples));
    let cost = tracker.forecast(&work.model, &extent_of(&rows, work)) as f64;
    shrink(&mut rows, cost, request.flops);
    // A mean gradient is what two batches agree on.
    if let ([only], true) = (rows.as_mut_slice(), tracker.compares_batches()) {
        let half = only.split_off(only.len() / 2);
        rows.push(half);
    }
    rows.retain(|rows| !rows.is_empty());
    rows
}

/// Lets `tracker` look at one batch; returns what that computed.
pub(crate) fn probe_batch(
    engine: &Engine,
    work: &Workload,
    batch: &PackedBatch,
    tracker: &mut Tracker,
) -> Flops {
    engine.set_mode(Mode::Probe);
    let kernels = &engine.kernels;
    tracker.look(engine, &work.model, &batch.inputs, |logits| {
        evaluate::loss(&**kernels, logits.data_mut(), &batch.targets, 1.0)
    })
}

/// What `tracker` found in looks at so many examples, which cost `flops`.
pub(crate) fn found(tracker: &mut Tracker, work: &Workload, examples: usize, flops: u64) -> Found {
    let norms = tracking::squared_norms(&work.model, &work.components);
    let energies = tracker.take();
    let (coherence, overall_coherence) = tracker.coherence();
    Found { energies, norms, coherence, overall_coherence, examples, flops }
}
