//! What a run will hold in memory, and how it is kept below a limit.
//!
//! ```text
//! peak = resident + workspace + packed weights + gradients + optimizer state + kept weights + prefix cache + max(step, evaluation, look)
//! ```
//!
//! `resident` is what the process has when model and data are loaded. What a step holds is not computed from a formula that
//! each architecture would need anew: forward and backward run on a part of the largest batch, and what their buffers took
//! grows with its rows. Nothing is learned from that.

use rgft_core::{Extent, Slices};
use rgft_kernels::Precision;
use rgft_nn::models::{self, Hidden, Site, SiteKind};
use rgft_nn::{Blind, Gradients, Mode, Needs, Tape};
use serde::Serialize;

use crate::methods::Plan;
use crate::recipe::{CacheDtype, MethodName, OptimizerName, Recipe, Recompute};
use crate::schedule_of_batches::BatchSchedule;
use crate::trainer::{caches, priced};
use crate::{TrainError, Workload, evaluate, outlook};

/// Bytes that a run holds at most, by what they are for.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MemoryForecast {
    /// The program, data and weights.
    pub resident_bytes: u64,
    /// Buffers in which products pack their operands, stacks, and what the allocator cannot give back.
    pub workspace_bytes: u64,
    /// Weights that stay packed for bf16 products: all in an evaluation, and what is frozen once more where `δ` passes it.
    pub packed_bytes: u64,
    /// Gradients under the first plan, embedding rows as the largest batch looks them up.
    pub gradient_bytes: u64,
    /// Optimizer state under the first plan.
    pub optimizer_bytes: u64,
    /// The best weights so far, of the parameters that change.
    pub kept_bytes: u64,
    /// Hidden states below the cut, as far as they are in memory.
    pub cache_bytes: u64,
    /// Buffers of a step on the largest batch, of an evaluation or of a look, whichever holds most.
    pub step_bytes: u64,
    /// The sum: the peak of the resident set.
    pub peak_bytes: u64,
}

/// Of each thread and of the process, as runs of models from 5 M to 110 M parameters showed.
const WORKSPACE: u64 = 8 << 20;
/// What a forecast may be wrong by, as a part of the limit.
const MARGIN: f64 = 0.1;
/// The part of a batch that is tried.
const TRIED: usize = 4;

/// What `recipe` will hold in memory with `work`, under its first plan, if a look before it holds `look_bytes`.
pub(crate) fn forecast(recipe: &Recipe, work: &Workload, plan: &Plan, look_bytes: u64) -> MemoryForecast {
    let model = &work.model;
    let update = models::update_of(model.parameters(), &work.components, &plan.active);
    let (gradients, step) = step_bytes(recipe, work, plan, &update);
    let updated: u64 = plan.active.iter().map(|&i| work.components[i].parameters as u64).sum();
    let moments = if recipe.optimizer == OptimizerName::AdamW { 2 } else { 1 };
    let touched = (0..update.len()).filter(|&i| !update[i].is_none());
    let mut forecast = MemoryForecast {
        resident_bytes: work.loaded_bytes,
        workspace_bytes: WORKSPACE * (1 + rayon::current_num_threads() as u64),
        packed_bytes: packed_bytes(recipe, work, plan, &update),
        gradient_bytes: gradients,
        optimizer_bytes: 4 * moments * updated,
        kept_bytes: touched.map(|i| 4 * model.parameters().data(i).len() as u64).sum(),
        cache_bytes: cache_bytes(recipe, work, plan),
        step_bytes: step.max(evaluation_bytes(recipe, work)).max(look_bytes),
        peak_bytes: 0,
    };
    forecast.peak_bytes = forecast.without_cache() + forecast.cache_bytes;
    forecast
}

impl MemoryForecast {
    fn without_cache(&self) -> u64 {
        self.resident_bytes
            + self.workspace_bytes
            + self.packed_bytes
            + self.gradient_bytes
            + self.optimizer_bytes
            + self.kept_bytes
            + self.step_bytes
    }
}

/// Bytes of gradients, and of all other buffers of a step on the largest batch.
fn step_bytes(recipe: &Recipe, work: &Workload, plan: &Plan, update: &[Slices]) -> (u64, u64) {
    let (model, engine) = (&work.model, Workload::engine(recipe));
    let batches =
        BatchSchedule::new(&*work.train, recipe.epochs, recipe.batch_size, recipe.accumulation, recipe.seed);
    let first = batches.steps_per_epoch().min(batches.len());
    let all = (0..first).flat_map(|step| batches.step(step));
    let Some(largest) = all.max_by_key(|rows| work.train.extent(rows).rows()) else { return (0, 0) };
    let part = &largest[..largest.len().div_ceil(TRIED)];
    let batch = work.train.pack(part, None);
    let of = |rows: &[usize]| work.train.extent(rows).rows() as f64;
    let needs = model.needs(update, plan.cut, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    let fixed = engine.arena.peak_bytes();
    engine.set_mode(Mode::Train { seed: 0 });
    model.forward_backward(&engine, &batch.inputs, &needs, &mut gradients, &mut Blind, |outputs| {
        evaluate::loss(&*engine.kernels, outputs.data_mut(), &batch.targets, 1.0)
    });
    let buffers = engine.arena.peak_bytes() - fixed;
    let looked_up = (0..update.len()).filter(|&i| model.is_table(i) && update[i] == Slices::All).map(|i| {
        let table = &model.parameters()[i];
        table.cols() * table.rows().min(of(largest) as usize)
    });
    let gradients = fixed as u64 + 4 * looked_up.sum::<usize>() as u64;
    (gradients, (buffers as f64 * of(largest) / of(part)) as u64)
}

/// Bytes of weights that stay packed, where products are packed for tiles; elsewhere they are fewer.
fn packed_bytes(recipe: &Recipe, work: &Workload, plan: &Plan, update: &[Slices]) -> u64 {
    if Workload::engine(recipe).precision == Precision::F32 {
        return 0;
    }
    let model = &work.model;
    let needs = model.needs(update, plan.cut, false);
    let forms = |(site, needs): (&Site, &Needs)| match site.kind {
        SiteKind::Linear { weight, .. } => {
            // The second micro-batch of a step meets unchanged what is trained, too.
            let stays = update[weight].is_none() || recipe.accumulation > 1;
            let carries = stays && !needs.dx.is_none();
            2 * model.parameters().data(weight).len() as u64 * (1 + u64::from(carries))
        }
        _ => 0,
    };
    model.sites().iter().zip(&needs).map(forms).sum()
}

/// Bytes of all buffers of an evaluation.
fn evaluation_bytes(recipe: &Recipe, work: &Workload) -> u64 {
    let (set, model, engine) = (&*work.validation, &work.model, Workload::engine(recipe));
    let one = set.pack(&[0], None);
    let rows = one.inputs.extent().rows();
    let examples = (evaluate::rows_per_batch(set) / rows.max(1)).clamp(1, set.len());
    model.forward(&engine, &one.inputs, &model.no_needs(), &mut Tape::default());
    (engine.arena.peak_bytes() * examples) as u64
}

/// Bytes of hidden states that the prefix cache will hold in memory under the first plan and before it.
fn cache_bytes(recipe: &Recipe, work: &Workload, plan: &Plan) -> u64 {
    let top = work.model.levels() - 1;
    let plans = recipe.method.plans() && recipe.method != MethodName::FullShort;
    let begins_with_head = plans && work.head_is_fresh();
    if !caches(recipe) || (plan.cut == 0 && !begins_with_head) {
        return 0;
    }
    let scalars = state_scalars(recipe, work, if begins_with_head { top } else { plan.cut });
    let bytes = match recipe.cache_dtype {
        CacheDtype::Bf16 => 2.0,
        CacheDtype::F32 => 4.0,
    };
    let examples = work.train.len() as f64;
    let of_head =
        if begins_with_head { recipe.head_first * examples * scalars.iter().sum::<f64>() } else { 0.0 };
    let of_plan = match plan.cut.checked_sub(1) {
        None => 0.0,
        Some(level) => plan.examples.map_or(examples, |n| n as f64) * scalars[level],
    };
    let limit = (recipe.cache_memory as u64) << 20;
    ((bytes * of_head.max(of_plan)) as u64).min(limit)
}

/// Scalars of the hidden state that enters each level from 1 to `top`, of one example.
fn state_scalars(recipe: &Recipe, work: &Workload, top: usize) -> Vec<f64> {
    let (model, engine) = (&work.model, Workload::engine(recipe));
    let batches = BatchSchedule::new(&*work.train, 1.0, recipe.batch_size, 1, recipe.seed);
    let batch = work.train.pack(&[batches.step(0)[0][0]], None);
    let extents = priced(&batches, work);
    let all =
        extents.into_iter().reduce(|all, more| all.joined(&more)).unwrap_or(Extent::Sequences(Vec::new()));
    let (needs, mut from) = (model.no_needs(), None);
    let scalars = |level: usize| {
        let state =
            model.forward_between(&engine, &batch.inputs, from.take(), level, &needs, &mut Tape::default());
        let rows = model.rows_at(&all, level);
        let scalars = state.cols() as f64 * rows.iter().sum::<usize>() as f64 / rows.len().max(1) as f64;
        from = Some(Hidden { level, state });
        scalars
    };
    (1..=top).map(scalars).collect()
}

/// `recipe` so that it keeps its `memory-limit`, if it has one, and `work` with it: what it takes to do so is told in
/// `work.notes`.
///
/// The prefix cache goes to disk, which costs nothing but reading; then batches are cut into smaller ones whose gradients
/// are summed, as far as no layer looks at a batch as a whole (steps have as many examples as before, though not the same); then blocks are recomputed.
///
/// # Errors
/// [`TrainError::MemoryLimit`] where all of that is not enough.
pub fn within_limit(recipe: &Recipe, work: &mut Workload) -> Result<Recipe, TrainError> {
    let mut recipe = recipe.clone();
    let Some(mebibytes) = recipe.memory_limit else { return Ok(recipe) };
    let limit = ((1.0 - MARGIN) * ((mebibytes as u64) << 20) as f64) as u64;
    let whole_batches = work.model.parameters().iter().any(|parameter| parameter.buffer);
    let needed = loop {
        let forecast = outlook::memory(&recipe, work)?;
        if forecast.peak_bytes <= limit {
            return Ok(recipe);
        }
        if let Some(room) = limit.checked_sub(forecast.without_cache()) {
            let mebibytes = (room >> 20) as usize;
            work.notes.push(format!(
                "memory-limit: {mebibytes} MiB of the prefix cache in memory, the rest on disk"
            ));
            recipe.cache_memory = mebibytes;
            return Ok(recipe);
        }
        if recipe.batch_size / 2 >= LEAST_BATCH && !whole_batches && recipe.batch_size.is_multiple_of(2) {
            recipe.batch_size /= 2;
            recipe.accumulation *= 2;
            let (batch, parts) = (recipe.batch_size, recipe.accumulation);
            work.notes.retain(|note| !note.starts_with(PARTS));
            work.notes.push(format!("{PARTS} of {batch} examples, {parts} to a step"));
        } else if recipe.recompute == Recompute::Off {
            recipe.recompute = Recompute::Blocks;
            work.model.set_recompute(true);
            work.notes.push("memory-limit: blocks are recomputed".into());
        } else {
            break forecast.without_cache();
        }
    };
    Err(TrainError::MemoryLimit { needed: (needed as f64 / (1.0 - MARGIN)) as u64, mebibytes })
}

/// How the note begins that says into what batches are cut.
const PARTS: &str = "memory-limit: batches";
/// The smallest part into which a batch is cut: below it, products are too small to be fast.
const LEAST_BATCH: usize = 4;
