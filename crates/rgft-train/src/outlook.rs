//! Looking without training: what a run would cost (`plan`), and where the errors come from (`map`).

use rgft_core::{ComponentInfo, ErrorMap, ErrorMapSettings};
use rgft_nn::Tape;
use rgft_nn::models;
use serde::Serialize;

use crate::costs::{self, Costs};
use crate::memory::{self, MemoryForecast};
use crate::methods::{self, Plan, Standing};
use crate::recipe::Recipe;
use crate::schedule_of_batches::BatchSchedule;
use crate::tracking::{self, Tracker};
use crate::trainer::{caches, extent_of, found, priced, probe_batch, rows_to_look_at, update_flops};
use crate::{TrainError, Workload};

/// What a run would compute, save and store.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// The method.
    pub method: String,
    /// Steps of full fine-tuning; a budget pays for fewer of them, or for more that are cheaper.
    pub steps: usize,
    /// What full fine-tuning would compute for the same epochs on the same examples, in FLOPs.
    pub full_equivalent_flops: u64,
    /// What the method may compute, in FLOPs.
    pub budget_flops: u64,
    /// One typical step of full fine-tuning, in FLOPs.
    pub full_step_flops: u64,
    /// What lies below the first plan's cut, in a typical step: computed once per example, or each time without a prefix
    /// cache; in FLOPs.
    pub prefix_flops: u64,
    /// One typical step of the first plan from its cut up, in FLOPs.
    pub step_flops: u64,
    /// The first plan's cut; levels count from 0, the embeddings.
    pub cut: usize,
    /// Number of levels.
    pub levels: usize,
    /// Names of the components that the first plan updates.
    pub active: Vec<String>,
    /// Number of components.
    pub components: usize,
    /// Scalars that the first plan updates.
    pub updated_scalars: usize,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes that forward saves for backward in a typical step.
    pub activation_bytes: u64,
    /// What the run will hold in memory.
    pub memory: MemoryForecast,
    /// Where the plan comes from, in words.
    pub basis: &'static str,
}

/// The run up to its first plan.
struct Ahead {
    batches: BatchSchedule,
    /// FLOPs of each step of full fine-tuning.
    full_costs: Vec<u64>,
    plan: Plan,
    /// Where it comes from, in words.
    basis: &'static str,
    /// Bytes that the look behind it held.
    look_bytes: u64,
}

/// What `recipe` would hold in memory with `work`.
pub(crate) fn memory(recipe: &Recipe, work: &Workload) -> Result<MemoryForecast, TrainError> {
    let ahead = look_ahead(recipe, work)?;
    Ok(memory::forecast(recipe, work, &ahead.plan, ahead.look_bytes))
}

fn look_ahead(recipe: &Recipe, work: &Workload) -> Result<Ahead, TrainError> {
    let model = &work.model;
    let per_scalar = update_flops(recipe);
    let batches =
        BatchSchedule::new(&*work.train, recipe.epochs, recipe.batch_size, recipe.accumulation, recipe.seed);
    let full_costs = costs::full_steps(work, &batches, per_scalar);
    let full_equivalent: u64 = full_costs.iter().sum();
    let mut method = methods::build(recipe, work)?;
    methods::check_budget(recipe, work, full_equivalent, &extent_of(batches.step(0), work))?;
    let costs = Costs::new(model, &work.components, &priced(&batches, work), per_scalar);
    let engine = Workload::engine(recipe);
    let budget = recipe.budget * full_equivalent as f64;
    let nowhere = vec![0; model.levels()];
    let mut tracker =
        Tracker::new(model, &work.components, methods::signal(recipe), recipe.beta, recipe.seed);
    let standing = Standing {
        step: 0,
        costs: &costs,
        left: budget,
        budget,
        look: tracker.forecast_each(model, &priced(&batches, work)),
        examples: work.train.len(),
        passes: f64::INFINITY,
        stored: caches(recipe).then_some(&nowhere[..]),
    };
    // What a new head needs comes first: skipped here.
    while !method.is_planning() {
        method.plan(standing);
    }
    let mut basis = match method.selectivity() {
        Some(_) => {
            "the method's definition; every example passes forward besides, and a part of them make such steps"
        }
        None => "the method's definition",
    };
    let mut look_bytes = 0;
    if let Some(request) = method.probe(standing) {
        basis = "one look at the untrained model";
        let first_pass =
            (0..batches.steps_per_epoch().min(batches.len())).flat_map(|step| batches.step(step));
        let rows = first_pass.take(request.batches).cloned().collect();
        let rows = rows_to_look_at(rows, request, &tracker, work);
        let (mut flops, examples) = (0, rows.iter().map(Vec::len).sum());
        for rows in rows {
            let batch = work.train.pack(&rows, None);
            flops += probe_batch(&engine, work, &batch, &mut tracker).total();
        }
        look_bytes = (engine.arena.peak_bytes() + tracker.bytes()) as u64;
        method.observe(0, &found(&mut tracker, work, examples, flops))?;
    }
    let plan = method.plan(standing).unwrap_or_default();
    Ok(Ahead { batches, full_costs, plan, basis, look_bytes })
}

/// What `recipe` would do with `work`, from one probe where the method looks first; trains nothing.
///
/// # Errors
/// If the method's settings do not fit the model.
pub fn outlook(recipe: &Recipe, work: &Workload) -> Result<Outlook, TrainError> {
    let Ahead { batches, full_costs, plan, basis, look_bytes } = look_ahead(recipe, work)?;
    let (model, engine, per_scalar) = (&work.model, Workload::engine(recipe), update_flops(recipe));
    let full_equivalent: u64 = full_costs.iter().sum();
    let steps = batches.len();
    // The step in the middle of the run, by cost.
    let mut by_cost: Vec<usize> = (0..steps).collect();
    by_cost.sort_by_key(|&i| full_costs[i]);
    let typical = by_cost[steps / 2];
    let extent = extent_of(batches.step(typical), work);
    let update = models::update_of(model.parameters(), &work.components, &plan.active);
    let needs = model.needs(&update, plan.cut, false);
    let updated_scalars: usize = plan.active.iter().map(|&i| work.components[i].parameters).sum();

    // One forward shows what is saved; nothing is learned from it.
    let batch = work.train.pack(&batches.step(typical)[0], None);
    let mut tape = Tape::default();
    model.forward(&engine, &batch.inputs, &needs, &mut tape);
    Ok(Outlook {
        method: recipe.method.to_string(),
        steps,
        full_equivalent_flops: full_equivalent,
        budget_flops: (recipe.budget * full_equivalent as f64) as u64,
        full_step_flops: full_costs[typical],
        prefix_flops: costs::prefix(model, &extent, plan.cut),
        step_flops: costs::step(model, &extent, &needs, plan.cut) + per_scalar * updated_scalars as u64,
        cut: plan.cut,
        levels: model.levels(),
        active: plan.active.iter().map(|&i| work.components[i].name.clone()).collect(),
        components: work.components.len(),
        updated_scalars,
        weight_bytes: 4 * model.parameters().scalars() as u64,
        activation_bytes: 4 * tape.scalars() as u64,
        memory: memory::forecast(recipe, work, &plan, look_bytes),
        basis,
    })
}

/// An error map with what it cost.
#[derive(Clone, Debug, Serialize)]
pub struct MapOutcome {
    /// The components.
    pub components: Vec<ComponentInfo>,
    /// E_i.
    pub energies: Vec<f64>,
    /// p_i.
    pub shares: Vec<f64>,
    /// Effective number of components, `1/Σp²`.
    pub effective_components: f64,
    /// Batches that were carried back.
    pub batches: usize,
    /// What they computed, in FLOPs.
    pub flops: u64,
    /// Whether the task head is untrained, so that the map shows little but noise.
    pub head_is_fresh: bool,
}

/// The error map of `work`'s model on its training data, from `batches` batches; `progress` hears `(done, of)`.
///
/// # Errors
/// If an energy is no number.
pub fn map(
    recipe: &Recipe,
    work: &Workload,
    batches: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MapOutcome, TrainError> {
    let engine = Workload::engine(recipe);
    let schedule = BatchSchedule::new(&*work.train, 1.0, recipe.batch_size, 1, recipe.seed);
    let of = batches.min(schedule.len());
    let settings =
        ErrorMapSettings { beta: recipe.beta, alpha: recipe.alpha.clone(), max: methods::ENERGY_MAX };
    let mut error_map = ErrorMap::new(&work.components, settings)?;
    let mut tracker = Tracker::new(&work.model, &work.components, recipe.signal, recipe.beta, recipe.seed);
    let norms = tracking::squared_norms(&work.model, &work.components);
    let mut flops = 0;
    for i in 0..of {
        let batch = work.train.pack(&schedule.step(i)[0], None);
        flops += probe_batch(&engine, work, &batch, &mut tracker).total();
        progress(i + 1, of);
    }
    let energies: Vec<Option<f64>> = tracker.take().into_iter().map(Some).collect();
    error_map.observe(&energies, &norms, 1.0)?;
    Ok(MapOutcome {
        components: work.components.iter().map(ComponentInfo::from).collect(),
        energies: error_map.energies(),
        shares: error_map.shares(),
        effective_components: error_map.effective_components(),
        batches: of,
        flops,
        head_is_fresh: work.head_is_fresh(),
    })
}
