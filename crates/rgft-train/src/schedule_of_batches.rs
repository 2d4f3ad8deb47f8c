//! Which examples each step learns from: fixed by seed, so that every method begins with the same ones and the compute of
//! full fine-tuning on them is known beforehand.
//!
//! [`BatchSchedule`] is the run as full fine-tuning makes it. [`Order`] hands out batches one by one for as long as a
//! budget lasts: a first pass in the schedule's order, and then passes over a working set, which is the beginning of that
//! order. With all examples in the working set the two are the same.

use std::collections::VecDeque;

use rgft_core::Sampler;
use rgft_data::{Augmentation, Dataset, batches};
use rgft_kernels::cpu::scalar::hash;

/// The micro-batches of each step; a micro-batch is rows of the training set.
#[derive(Clone, Debug, Default)]
pub struct BatchSchedule {
    steps: Vec<Vec<Vec<usize>>>,
    per_epoch: usize,
}

impl BatchSchedule {
    /// `epochs` passes over `train` in batches of `batch_size`, `accumulation` of them to a step, bucketed by
    /// size. A fraction of an epoch is the first part of its steps.
    pub fn new(train: &dyn Dataset, epochs: f64, batch_size: usize, accumulation: usize, seed: u64) -> Self {
        let sizes: Vec<usize> = (0..train.len()).map(|example| train.size(example)).collect();
        let mut steps = Vec::new();
        let mut per_epoch = 0;
        for epoch in 0..epochs.ceil() as u64 {
            let all = batches(&sizes, batch_size, seed, epoch, true);
            let of_epoch: Vec<Vec<Vec<usize>>> = all.chunks(accumulation).map(<[_]>::to_vec).collect();
            per_epoch = of_epoch.len();
            steps.extend(of_epoch);
        }
        let total = (epochs * per_epoch as f64).round() as usize;
        steps.truncate(total.max(1));
        Self { steps, per_epoch: per_epoch.max(1) }
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Steps of one epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.per_epoch
    }

    /// The micro-batches of a step.
    pub fn step(&self, step: usize) -> &[Vec<usize>] {
        &self.steps[step]
    }
}

/// Batches that can be looked back on.
const REMEMBERED: usize = 8;

/// Hands out micro-batches, pass after pass.
pub struct Order {
    sizes: Vec<usize>,
    batch_size: usize,
    seed: u64,
    /// The first pass.
    first: Vec<Vec<usize>>,
    /// Rows that were looked at instead of being part of it; learnt from in the passes after it.
    held: Vec<Vec<usize>>,
    /// How many batches of the first pass make the working set.
    working: usize,
    /// How many batches of the first pass were handed out.
    taken: usize,
    pass: u64,
    queue: VecDeque<Vec<(usize, f64)>>,
    /// Rows of the batches handed out last, latest first.
    recent: VecDeque<Vec<usize>>,
    sampler: Sampler,
    /// Examples handed out since the working set was set.
    handed_out: usize,
}

impl Order {
    /// All of `train`, in batches of `batch_size`, bucketed by size.
    pub fn new(train: &dyn Dataset, batch_size: usize, seed: u64, sampler: Sampler) -> Self {
        let sizes: Vec<usize> = (0..train.len()).map(|example| train.size(example)).collect();
        let first = batches(&sizes, batch_size, seed, 0, true);
        let working = first.len();
        Self {
            sizes,
            batch_size,
            seed,
            first,
            held: Vec::new(),
            working,
            taken: 0,
            pass: 0,
            queue: VecDeque::new(),
            recent: VecDeque::new(),
            sampler,
            handed_out: 0,
        }
    }

    /// Different examples that there are.
    pub fn examples(&self) -> usize {
        self.sizes.len()
    }

    /// From now on `examples` different examples are learnt from, or more if more were seen: new ones come first.
    pub fn set_working_set(&mut self, examples: usize) {
        let mut batches = 0;
        let mut count = 0;
        while batches < self.first.len() && (count < examples || batches == 0 || batches < self.taken) {
            count += self.first[batches].len();
            batches += 1;
        }
        if batches != self.working {
            self.queue.clear();
        }
        (self.working, self.handed_out) = (batches, 0);
    }

    /// How often the working set was passed since it was set.
    pub fn passes(&self) -> f64 {
        let examples: usize = self.first[..self.working].iter().map(Vec::len).sum();
        self.handed_out as f64 / examples.max(1) as f64
    }

    /// The last batches of the first pass, last first: as many as are wanted, up to half of those that are to come.
    pub fn last(&self, batches: usize) -> Vec<Vec<usize>> {
        let to_come = &self.first[self.taken..];
        to_come.iter().rev().take(batches.min(to_come.len() / 2)).cloned().collect()
    }

    /// Takes rows of batches given by [`Order::last`] out of the first pass, because they are looked at before they are
    /// learnt from: so no plan rests on the data of a step to come. They take part in the passes after it.
    pub fn hold(&mut self, rows: &[Vec<usize>]) {
        for (batch, rows) in self.first.iter_mut().rev().zip(rows) {
            batch.retain(|row| !rows.contains(row));
        }
        self.first.retain(|batch| !batch.is_empty());
        self.working = self.working.min(self.first.len());
        self.held.extend(rows.iter().cloned());
    }

    /// The first batches of the first pass.
    pub fn first(&self, batches: usize) -> Vec<Vec<usize>> {
        self.first.iter().take(batches).cloned().collect()
    }

    /// The batches that were handed out last, latest first; eight at most.
    pub fn seen(&self, batches: usize) -> Vec<Vec<usize>> {
        self.recent.iter().take(batches).cloned().collect()
    }

    /// The next `accumulation` micro-batches, fewer at the end of a pass: rows, and the weight of each. Never empty.
    pub fn next_step(&mut self, accumulation: usize) -> Vec<Vec<(usize, f64)>> {
        let mut step = vec![self.next()];
        while step.len() < accumulation && (self.taken < self.working || !self.queue.is_empty()) {
            step.push(self.next());
        }
        step
    }

    fn next(&mut self) -> Vec<(usize, f64)> {
        let batch = if self.taken < self.working {
            self.taken += 1;
            self.first[self.taken - 1].iter().map(|&row| (row, 1.0)).collect()
        } else {
            while self.queue.is_empty() {
                self.begin_pass();
            }
            self.queue.pop_front().unwrap_or_default()
        };
        self.handed_out += batch.len();
        self.recent.truncate(REMEMBERED - 1);
        self.recent.push_front(batch.iter().map(|(row, _)| *row).collect());
        batch
    }

    fn begin_pass(&mut self) {
        self.pass += 1;
        let mut examples = self.first[..self.working].concat();
        if self.working == self.first.len() {
            examples.extend(self.held.concat());
        }
        examples.sort_unstable();
        let pass = hash(self.seed as u32, self.pass as u32);
        let uniform = |row: usize| f64::from(hash(pass, row as u32)) / 2f64.powi(32);
        let drawn = self.sampler.draw(&examples, uniform);
        let sizes: Vec<usize> = drawn.iter().map(|(row, _)| self.sizes[*row]).collect();
        let batches = batches(&sizes, self.batch_size, self.seed, self.pass, true);
        let rows = |batch: Vec<usize>| batch.into_iter().map(|i| drawn[i]).collect();
        self.queue.extend(batches.into_iter().map(rows));
    }

    /// Notes the residual of an example that was just learnt from.
    pub fn observe(&mut self, example: usize, residual: f64) {
        self.sampler.observe(example, residual);
    }

    /// How the examples of the batch handed out last vary.
    pub fn augmentation(&self) -> Augmentation {
        Augmentation { seed: self.seed, epoch: self.pass }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rgft_core::Sampling;
    use rgft_data::{Example, Objective, Target, TextDataset};

    use super::*;

    /// `n` texts of different lengths.
    fn texts(n: usize) -> TextDataset {
        let example = |i: usize| Example {
            ids: vec![1; 1 + i % 5],
            type_ids: vec![0; 1 + i % 5],
            target: Target::Class(0),
        };
        let examples = (0..n).map(example).collect();
        TextDataset { examples, objective: Objective::Classification, outputs: 2, truncated: 0 }
    }

    fn order(n: usize) -> Order {
        Order::new(&texts(n), 4, 3, Sampler::new(n, Sampling::Off, 1.0, 1.0))
    }

    fn rows(order: &mut Order, batches: usize) -> Vec<usize> {
        (0..batches).flat_map(|_| order.next_step(1)).flatten().map(|(row, _)| row).collect()
    }

    #[test]
    fn with_every_example_it_is_the_schedule_and_accumulation_ends_with_the_pass() {
        for accumulation in [1, 2, 3] {
            let schedule = BatchSchedule::new(&texts(22), 3.0, 4, accumulation, 3);
            let mut order = order(22);
            for step in 0..schedule.len() {
                let found = order.next_step(accumulation);
                assert!(found.iter().flatten().all(|(_, weight)| *weight == 1.0));
                let found: Vec<Vec<usize>> =
                    found.iter().map(|batch| batch.iter().map(|(row, _)| *row).collect()).collect();
                assert_eq!(found, schedule.step(step), "step {step} of {accumulation} batches");
            }
        }
    }

    #[test]
    fn what_is_held_leaves_the_first_pass_and_comes_in_the_second() {
        let mut order = order(24);
        let last = order.last(2);
        let held = vec![last[0].clone(), last[1][..1].to_vec()];
        order.hold(&held);
        let held = held.concat();
        // Of the last batch but one three rows are left.
        let mut first = rows(&mut order, 5);
        assert!(held.iter().all(|row| !first.contains(row)));
        first.extend(&held);
        let mut second = rows(&mut order, 6);
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!((first, second), ((0..24).collect(), (0..24).collect()));
    }

    #[test]
    fn a_working_set_is_repeated_never_smaller_than_what_was_seen_and_new_examples_come_first() {
        let mut order = order(24);
        order.set_working_set(8);
        let seen = rows(&mut order, 2);
        let mut again = rows(&mut order, 2);
        assert_eq!(order.passes(), 2.0);
        again.sort_unstable();
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        assert_eq!(again, sorted);
        order.set_working_set(1);
        assert!(rows(&mut order, 2).iter().all(|row| seen.contains(row)));
        order.set_working_set(12);
        assert!(rows(&mut order, 1).iter().all(|row| !seen.contains(row)));
    }

    #[test]
    fn what_was_seen_last_is_looked_back_on_first() {
        let mut order = order(24);
        let all = rows(&mut order, 9);
        assert_eq!(order.seen(2), [all[32..36].to_vec(), all[28..32].to_vec()]);
    }
}
