//! Ways of giving weights to blocks, within what a theorem allows and otherwise as bad as the dice want.

use super::dice::Dice;
use super::problems::Problem;

/// Which blocks take part in a step.
#[derive(Clone, Debug)]
enum Active {
    All,
    /// By step and block: each block once in every window at least.
    Turns(Vec<Vec<bool>>),
    /// The `count` blocks that were largest at the iterate of so many steps before, by step; or others besides the largest.
    Map {
        ages: Vec<usize>,
        count: usize,
        others: Vec<f64>,
    },
}

/// What an active block weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weighing {
    /// Any number in the range.
    Free,
    /// The same in each step.
    Fixed,
    /// As the present gradients are ordered.
    WithErrors,
    /// The other way round.
    AgainstErrors,
}

/// Weights by step, from what was seen up to it.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    active: Active,
    weighing: Weighing,
    /// Numbers in [0, 1) by step and block.
    table: Vec<Vec<f64>>,
    /// w_min.
    pub(super) least: f64,
    /// w_max.
    pub(super) most: f64,
}

impl Policy {
    /// Every block in every step.
    pub(super) fn all(problem: &Problem, steps: usize, dice: &mut Dice) -> Self {
        Self::of(Active::All, problem.blocks.len(), steps, dice)
    }

    /// Windows of `window` steps.
    pub(super) fn windows(problem: &Problem, window: usize, steps: usize, dice: &mut Dice) -> Self {
        let n = problem.blocks.len();
        let again = dice.uniform();
        let mut turns = Vec::with_capacity(steps);
        for _ in 0..steps.div_ceil(window) {
            let first: Vec<usize> = (0..n).map(|_| dice.whole(0, window - 1)).collect();
            for step in 0..window {
                turns.push(
                    (0..n).map(|i| step == first[i] || (step > first[i] && dice.coin(again))).collect(),
                );
            }
        }
        Self::of(Active::Turns(turns), n, steps, dice)
    }

    /// Maps of `age` steps at most.
    pub(super) fn stale(problem: &Problem, age: usize, steps: usize, dice: &mut Dice) -> Self {
        let n = problem.blocks.len();
        let ages = (0..steps).map(|step| dice.whole(0, age.min(step))).collect();
        let (count, worse) = (dice.whole(1, n), dice.coin(0.5));
        let others = (0..n).map(|_| if worse { dice.uniform() } else { 0.0 }).collect();
        Self::of(Active::Map { ages, count, others }, n, steps, dice)
    }

    fn of(active: Active, blocks: usize, steps: usize, dice: &mut Dice) -> Self {
        let most = dice.log_between(0.1, 10.0);
        let least = most / dice.log_between(1.0, 100.0);
        let kinds = [Weighing::Free, Weighing::Fixed, Weighing::WithErrors, Weighing::AgainstErrors];
        let weighing = kinds[dice.whole(0, 3)];
        let table = (0..steps).map(|_| (0..blocks).map(|_| dice.uniform()).collect()).collect();
        Self { active, weighing, table, least, most }
    }

    /// The same, each block's weight being the same whenever it is active.
    pub(super) fn fixed(self) -> Self {
        Self { weighing: Weighing::Fixed, ..self }
    }

    /// Weights of step k = `history.len() − 1`; `history` holds ‖∇_i f‖² at its iterate and those before.
    pub(super) fn weights(&self, history: &[Vec<f64>]) -> Vec<f64> {
        let step = history.len() - 1;
        let squares = &history[step];
        let n = squares.len();
        let active: Vec<bool> = match &self.active {
            Active::All => vec![true; n],
            Active::Turns(turns) => turns[step].clone(),
            Active::Map { ages, count, others } => {
                let map = &history[step - ages[step]];
                let order = descending(map);
                // The largest is always among them, or nothing might be captured.
                let mut rest: Vec<usize> = order[1..].to_vec();
                rest.sort_by(|&a, &b| others[b].total_cmp(&others[a]));
                let mut active = vec![false; n];
                order.iter().take(1).chain(rest.iter().take(count - 1)).for_each(|&i| active[i] = true);
                active
            }
        };
        let order = descending(squares);
        let place = |i: usize| order.iter().position(|&j| j == i).unwrap_or(0) as f64 / (n.max(2) - 1) as f64;
        let part = |i: usize| match self.weighing {
            Weighing::Free => self.table[step][i],
            Weighing::Fixed => self.table[0][i],
            Weighing::WithErrors => 1.0 - place(i),
            Weighing::AgainstErrors => place(i),
        };
        let weight = |i: usize| {
            if active[i] {
                (self.least + (self.most - self.least) * part(i)).clamp(self.least, self.most)
            } else {
                0.0
            }
        };
        (0..n).map(weight).collect()
    }

    /// ϑ: the part of the gradient that the active blocks of the last step had at the map that chose them.
    pub(super) fn captured(&self, history: &[Vec<f64>], weights: &[f64]) -> f64 {
        let step = history.len() - 1;
        let age = if let Active::Map { ages, .. } = &self.active { ages[step] } else { 0 };
        let map = &history[step - age];
        let whole: f64 = map.iter().sum();
        let active = map.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
        if whole > 0.0 { active.map(|(square, _)| square).sum::<f64>() / whole } else { 1.0 }
    }

    /// Of [`Policy::stale`]: how many blocks are active.
    pub(super) fn count(&self, blocks: usize) -> usize {
        if let Active::Map { count, .. } = self.active { count } else { blocks }
    }

    /// Of [`Policy::stale`]: whether the largest blocks are the ones that are chosen.
    pub(super) fn is_greedy(&self) -> bool {
        if let Active::Map { others, .. } = &self.active { others.iter().all(|x| *x == 0.0) } else { false }
    }
}

/// Indices, the largest value first.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}
