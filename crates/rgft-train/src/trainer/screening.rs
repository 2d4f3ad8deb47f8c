//! Screening: a forward pass decides which examples are learnt from, for the method `selective-backprop`.
//!
//! ```text
//! P(learn from example) = (part of the last R residuals that are no larger than its own)^β
//! ```
//!
//! Examples pass forward in the order of full fine-tuning, and those that are drawn are gathered until they make a batch,
//! which is then learnt from. The epochs are those of the examples that passed. What is drawn at the end of a pass may be learnt from in the
//! next one's view of it, where pictures vary.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rgft_core::Account;
use rgft_nn::{Mode, Tape};

use super::{Trainer, residuals};
use crate::evaluate;

/// R.
const REMEMBERED: usize = 1024;

pub(super) struct Screening {
    beta: f64,
    /// The last R residuals, latest first.
    residuals: VecDeque<f64>,
    /// Drawn, and not yet learnt from.
    drawn: Vec<(usize, f64)>,
    /// Examples that have passed.
    pub(super) passed: usize,
    random: ChaCha8Rng,
}

impl Screening {
    pub(super) fn new(beta: f64, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed ^ 0x7365_6c62);
        Self { beta, residuals: VecDeque::new(), drawn: Vec::new(), passed: 0, random }
    }

    /// Takes the residual of an example that passed; returns whether it is drawn.
    fn draws(&mut self, residual: f64) -> bool {
        self.passed += 1;
        self.residuals.truncate(REMEMBERED - 1);
        self.residuals.push_front(residual);
        let smaller = self.residuals.iter().filter(|other| **other <= residual).count();
        let chance = (smaller as f64 / self.residuals.len() as f64).powf(self.beta);
        self.random.random::<f64>() < chance
    }
}

impl Trainer<'_> {
    /// The next batch of examples that were drawn; `None` at the end of the epochs, or where the budget pays for no more.
    pub(super) fn screened(&mut self) -> Option<Vec<Vec<(usize, f64)>>> {
        let mut screening = self.screening.take()?;
        let all = (self.recipe.epochs * self.work.train.len() as f64) as usize;
        let top = self.costs.cut.len() - 1;
        let forward = self.costs.prefix[top] + self.costs.cut[top];
        let step = self.recipe.batch_size * self.recipe.accumulation;
        while screening.drawn.len() < step && screening.passed < all {
            let of_drawn = screening.drawn.len() as f64 * self.costs.full;
            let of_next = self.recipe.batch_size as f64 * forward;
            if self.ledger.total() as f64 + of_drawn + of_next > self.budget {
                break;
            }
            let rows = self.order.next_step(1).concat();
            let residuals = self.pass_forward(&rows);
            let drawn: Vec<bool> = residuals.into_iter().map(|residual| screening.draws(residual)).collect();
            screening.drawn.extend(rows.iter().zip(drawn).filter(|(_, drawn)| *drawn).map(|(row, _)| *row));
        }
        let rest = screening.drawn.split_off(step.min(screening.drawn.len()));
        let rows = std::mem::replace(&mut screening.drawn, rest);
        self.screening = Some(screening);
        let batches = rows.chunks(self.recipe.batch_size).map(<[_]>::to_vec).collect::<Vec<_>>();
        (!batches.is_empty()).then_some(batches)
    }

    /// The output residual of each of these examples, by forward alone.
    fn pass_forward(&mut self, rows: &[(usize, f64)]) -> Vec<f64> {
        let numbers: Vec<usize> = rows.iter().map(|(row, _)| *row).collect();
        let batch = self.work.train.pack(&numbers, Some(self.order.augmentation()));
        self.engine.set_mode(Mode::Evaluate);
        let (model, tape) = (&self.work.model, &mut Tape::default());
        let mut outputs = model.forward(&self.engine, &batch.inputs, &model.no_needs(), tape);
        evaluate::loss(&*self.engine.kernels, outputs.data_mut(), &batch.targets, 1.0);
        self.ledger.add(Account::Forward, self.engine.take_flops().total());
        residuals::weigh(&mut outputs, &batch.inputs.extent(), &batch.targets, rows, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_drawn_by_its_place_among_those_before() {
        let mut screening = Screening::new(2.0, 0);
        // The largest is always drawn, whatever comes.
        assert!((0..100).all(|i| screening.draws(f64::from(i))));
        // At a quarter of them: a sixteenth.
        let mut drawn = 0;
        for _ in 0..4000 {
            screening.residuals = (0..100).map(f64::from).collect();
            drawn += usize::from(screening.draws(24.5));
        }
        let expected = 4000.0 * (26.0f64 / 101.0).powi(2);
        assert!((f64::from(drawn as u32) - expected).abs() < 4.0 * expected.sqrt(), "{drawn} of {expected}");
    }

    #[test]
    fn no_more_than_the_last_are_remembered() {
        let mut screening = Screening::new(1.0, 0);
        let drawn = (0..3000).filter(|_| screening.draws(1.0)).count();
        assert_eq!(drawn, 3000, "equals are all the largest");
        assert_eq!((screening.residuals.len(), screening.passed), (REMEMBERED, 3000));
    }
}
