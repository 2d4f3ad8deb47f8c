//! The trial: fault after fault is planted, looked for by every signal, and taken back.

use anyhow::{Result, bail, ensure};
use rgft_core::{Alpha, ComponentKind, ErrorMap, ErrorMapSettings, Signal};
use rgft_kernels::cpu::scalar::hash;
use rgft_nn::{Engine, Parameters};
use rgft_train::recipe::Recipe;
use rgft_train::schedule_of_batches::BatchSchedule;
use rgft_train::{TrainError, Workload, map, squared_norms};
use serde::Serialize;

use super::fault::Twin;
use super::figures::Answer;
use super::oracle;

/// How the trial is made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// Faults of each seed, at most.
    pub(crate) faults: usize,
    /// By how much a fault must raise the loss to count, as a part of what the loss was: what changes nothing is no fault.
    pub(crate) rise: f64,
    pub(crate) seeds: u64,
    /// Kinds of the components that faults are planted in; empty: all but norms, embeddings and the task head.
    pub(crate) kinds: Vec<ComponentKind>,
    /// Steps that the oracle trains each component.
    pub(crate) steps: usize,
    /// Components that the oracle trains.
    pub(crate) oracle: usize,
    /// Batches of a map.
    pub(crate) batches: usize,
    /// Steps of full fine-tuning before the first fault.
    pub(crate) tune: usize,
}

/// One planted fault, and what every signal says of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    seed: u64,
    component: String,
    /// Of held-out training batches.
    loss_before: f64,
    loss_after: f64,
    /// By signal, by α, in the order of the rows; last those of a map without a signal.
    pub(super) answers: Vec<Vec<Answer>>,
}

/// Batches of a seed, as rows of the training set: for maps, for the oracle, and to measure it by.
struct Batches {
    schedule: BatchSchedule,
    of_map: usize,
    held_out: usize,
}

impl Batches {
    fn new(recipe: &Recipe, work: &Workload, seed: u64, of_map: usize) -> Self {
        // As `map` takes them.
        let schedule = BatchSchedule::new(&*work.train, 1.0, recipe.batch_size, 1, seed);
        let third = (schedule.len() / 3).max(1);
        // A mean gradient is what two batches agree on.
        let of_map = of_map.min(third.max(2)).min(schedule.len());
        Self { of_map, held_out: of_map.min(third), schedule }
    }

    /// `n` batches from the one at `first` on, going round in the `all`.
    fn some(&self, first: usize, all: usize, n: usize) -> Vec<&[usize]> {
        (0..n).map(|i| &self.schedule.step((first + i % all.max(1)) % self.schedule.len())[0][..]).collect()
    }

    fn held_out(&self) -> Vec<&[usize]> {
        self.some(self.schedule.len() - self.held_out, self.held_out, self.held_out)
    }

    /// Neither of the maps nor held out, while there are enough.
    fn training(&self, n: usize) -> Vec<&[usize]> {
        let rest = self.schedule.len().saturating_sub(self.of_map + self.held_out);
        self.some(self.of_map, rest, n)
    }
}

pub(super) struct Trial<'a> {
    recipe: &'a Recipe,
    settings: &'a Settings,
    alphas: &'a [(String, Alpha)],
    candidates: &'a [usize],
    engine: Engine,
    /// FLOPs of each signal's maps, and of as many full steps.
    flops: Vec<u64>,
    full_flops: u64,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        settings: &'a Settings,
        alphas: &'a [(String, Alpha)],
        candidates: &'a [usize],
    ) -> Self {
        let (engine, flops) = (Workload::engine(recipe), vec![0; Signal::ALL.len()]);
        Self { recipe, settings, alphas, candidates, engine, flops, full_flops: 0 }
    }

    /// FLOPs of signal `s`'s maps, as a part of as many full steps; 0 behind the last signal.
    pub(super) fn cost(&self, s: usize) -> f64 {
        self.flops.get(s).copied().unwrap_or(0) as f64 / self.full_flops.max(1) as f64
    }

    /// Plants all faults of all seeds. The model is afterwards what it was before.
    ///
    /// # Errors
    /// An untrained task head; a loss that is no number.
    pub(super) fn run(&mut self, work: &mut Workload, say: &mut dyn FnMut(String)) -> Result<Vec<Found>> {
        let Settings { faults, seeds, tune, .. } = *self.settings;
        if work.head_is_fresh() && tune == 0 {
            return Err(TrainError::Mismatch {
                problem: "the task head is untrained".into(),
                hint: "give a fine-tuned model, or steps of full fine-tuning to --tune",
            }
            .into());
        }
        let loaded = work.model.parameters().clone();
        let mut found = Vec::new();
        for seed in (0..seeds).map(|i| self.recipe.seed.wrapping_add(i)) {
            let batches = Batches::new(self.recipe, work, seed, self.settings.batches);
            if tune > 0 {
                let all: Vec<usize> = (0..work.components.len()).collect();
                let rows = batches.training(tune);
                oracle::train(self.recipe, &self.engine, work, &all, &rows)?;
                say(format!("seed {seed}: {tune} steps of full fine-tuning"));
            }
            let whole = work.model.parameters().clone();
            let loss_before = oracle::loss(&self.engine, work, &batches.held_out());
            let mut of_seed = 0;
            for n in 0..faults.max(self.candidates.len()) {
                if of_seed == faults {
                    break;
                }
                let fault = self.fault(work, &batches, seed, n, loss_before)?;
                reset(work, &whole);
                let Some(fault) = fault else { continue };
                of_seed += 1;
                say(format!(
                    "seed {seed}, fault {of_seed} of {faults}: {}, loss {:.4}, before {loss_before:.4}",
                    fault.component, fault.loss_after
                ));
                found.push(fault);
            }
            if of_seed < faults {
                say(format!("seed {seed}: no more than {of_seed} faults raise the loss enough"));
            }
            reset(work, &loaded);
        }
        let rise = self.settings.rise;
        ensure!(!found.is_empty(), "no re-initialised component raises the loss by {rise} of itself");
        Ok(found)
    }

    /// Plants fault `n` and asks for it; leaves it in the model. `None` where the loss does not rise enough.
    fn fault(
        &mut self,
        work: &mut Workload,
        batches: &Batches,
        seed: u64,
        n: usize,
        loss_before: f64,
    ) -> Result<Option<Found>> {
        let planted = self.candidate(seed, n);
        let held_out = batches.held_out();
        // The same fault in a component, whatever others there are.
        let round = hash(seed as u32 ^ 0x6c62_272e, (n / self.candidates.len()) as u32);
        let twin_seed = u64::from(hash(round, planted as u32));
        let twin = Twin::new(self.recipe, &work.model, work.train.outputs(), twin_seed)?;
        twin.plant(&mut work.model, &work.components[planted]);
        let loss_after = oracle::loss(&self.engine, work, &held_out);
        if !loss_after.is_finite() {
            bail!("the loss is {loss_after} with {} re-initialised", work.components[planted].name);
        }
        if loss_after < (1.0 + self.settings.rise) * loss_before {
            return Ok(None);
        }

        let subset = oracle::subset(work.components.len(), planted, self.settings.oracle);
        let faulty = work.model.parameters().clone();
        let training = batches.training(self.settings.steps);
        let mut gains = Vec::with_capacity(subset.len());
        for &component in &subset {
            let flops = oracle::train(self.recipe, &self.engine, work, &[component], &training)?;
            let drop = loss_after - oracle::loss(&self.engine, work, &held_out);
            gains.push((component, drop / flops.max(1) as f64));
            reset(work, &faulty);
        }

        let mut maps = Vec::new();
        let norms = squared_norms(&work.model, &work.components);
        for (s, signal) in Signal::ALL.into_iter().enumerate() {
            let mut recipe = self.recipe.clone();
            (recipe.signal, recipe.alpha, recipe.seed) = (signal, Alpha::Uniform, seed);
            let outcome = map(&recipe, work, batches.of_map, &mut |_, _| {})?;
            self.flops[s] += outcome.flops;
            maps.push(outcome.energies);
        }
        maps.push(vec![1.0; work.components.len()]);
        let mut answers = Vec::new();
        for energies in maps {
            let energies: Vec<Option<f64>> = energies.into_iter().map(Some).collect();
            let under = |(_, alpha): &(String, Alpha)| -> Result<Answer> {
                let settings = ErrorMapSettings { alpha: alpha.clone(), ..ErrorMapSettings::default() };
                let mut map = ErrorMap::new(&work.components, settings)?;
                map.observe(&energies, &norms, 1.0)?;
                Ok(Answer::of(&map.energies(), planted, self.candidates, &gains))
            };
            answers.push(self.alphas.iter().map(under).collect::<Result<_>>()?);
        }
        let of_map = batches.some(0, batches.of_map, batches.of_map);
        self.full_flops += oracle::full_flops(self.recipe, work, &of_map);
        let component = work.components[planted].name.clone();
        Ok(Some(Found { seed, component, loss_before, loss_after, answers }))
    }

    /// Where fault `n` of a seed is planted: each candidate once before one is planted in again.
    fn candidate(&self, seed: u64, n: usize) -> usize {
        let mut order: Vec<usize> = self.candidates.to_vec();
        let round = hash(seed as u32, (n / order.len()) as u32);
        order.sort_by_key(|&i| hash(round, i as u32));
        order[n % order.len()]
    }
}

/// Gives the model the numbers that it had.
fn reset(work: &mut Workload, numbers: &Parameters) {
    for (own, number) in work.model.parameters_mut().iter_mut().zip(numbers.iter()) {
        own.data.copy_from_slice(&number.data);
    }
}

#[cfg(test)]
mod tests;
