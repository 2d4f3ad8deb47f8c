//! Which examples each step learns from: fixed by seed, so that every method sees the same ones and the compute of
//! full fine-tuning on them is known beforehand.

use rgft_data::{Augmentation, Dataset, batches};

/// The micro-batches of each step; a micro-batch is rows of the training set.
#[derive(Clone, Debug, Default)]
pub struct BatchSchedule {
    steps: Vec<Vec<Vec<usize>>>,
    per_epoch: usize,
    seed: u64,
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
        Self { steps, per_epoch: per_epoch.max(1), seed }
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

    /// How the examples of a step vary.
    pub fn augmentation(&self, step: usize) -> Augmentation {
        Augmentation { seed: self.seed, epoch: (step / self.per_epoch) as u64 }
    }
}
