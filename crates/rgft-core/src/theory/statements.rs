//! The statements of THEORY.md, each as a case that is drawn and measured: what was found over what is allowed.
//!
//! A quotient above 1 is a violation. Cases whose quantities are no larger than what rounding leaves of a loss say nothing.

use super::dice::Dice;
use super::policy::Policy;
use super::problems::{Class, Problem};
use super::runs::{Extras, Noise, Path, path, tree};
use super::{Smooth, alignment, best_ratio, by_proxy};

/// A statement and how to try it.
#[derive(Clone, Copy)]
pub(super) struct Statement {
    /// As THEORY.md calls it: `T1c`.
    pub(super) name: &'static str,
    /// What it says, in a few words.
    pub(super) says: &'static str,
    /// Draws a case; measured over bound, `None` where the case says nothing.
    pub(super) quotient: fn(&mut Dice) -> Option<f64>,
}

macro_rules! statements {
    ($($name:literal $says:literal $quotient:ident),* $(,)?) => {
        /// All of them, in the order of THEORY.md.
        pub(super) const STATEMENTS: &[Statement] =
            &[$(Statement { name: $name, says: $says, quotient: $quotient }),*];
    };
}

statements! {
    "Lemma 1" "a step lowers the loss by (η/2)·Σw‖∇‖² at least" descends,
    "Lemma 2" "the same by a smoothness for each block" descends_by_block,
    "T1a" "weights above a floor" floor,
    "T1b.1" "weights that add up to 1, by their alignment" aligned,
    "T1b.2" "ordered weights are aligned at least as uniform ones" ordered,
    "T1b.2, above" "no alignment is above n" alignment_is_bounded,
    "T1b.4" "a κ-accurate map keeps 1/κ² of the alignment" proxy_alignment,
    "T1c" "skipping with a coverage window" windows,
    "T1d" "selecting by a stale map" stale,
    "T1d greedy" "the s largest of n blocks capture s/n" greedy,
    "T1d proxy" "a κ-accurate map keeps 1/κ² of the captured share" proxy_share,
    "T2" "noise, weights above a floor" noisy_floor,
    "T2 windows" "noise and a coverage window" noisy_windows,
    "T2 stale" "noise and stale maps" noisy_stale,
    "T3.1" "Polyak–Łojasiewicz, weights above a floor" contracts,
    "T3.2" "Polyak–Łojasiewicz and a coverage window" contracts_in_windows,
    "T3.3" "Polyak–Łojasiewicz and stale maps" contracts_by_stale,
    "T3 noise" "Polyak–Łojasiewicz and noise" ball,
    "T3 noise, windows" "Polyak–Łojasiewicz, noise and a coverage window" noisy_contraction,
    "T4 noise" "T2 with a diagonal preconditioner" preconditioned_noise,
    "T4 a" "T1a with a diagonal preconditioner" preconditioned_floor,
    "T4 c" "T1c with a diagonal preconditioner" preconditioned_windows,
    "T4 d" "T1d with a diagonal preconditioner" preconditioned_stale,
    "Lemma 3" "with momentum the potential falls as the loss does in Lemma 1" potential_falls,
    "T5 a" "T1a with momentum" momentum_floor,
    "T5 c" "T1c with momentum" momentum_windows,
    "T5 d" "T1d with momentum" momentum_stale,
    "T6" "no set has a better ratio of gain to cost than the densest" densest,
    "T6 knapsack" "filling by density gives half of the optimum" knapsack,
}

const MOST_STEPS: usize = 40;
/// 2⁸ paths.
const MOST_NOISY_STEPS: usize = 8;

/// Measured over bound.
fn quotient(measured: f64, bound: f64) -> Option<f64> {
    if bound == f64::INFINITY {
        return None;
    }
    // A bound that is no number, or 0 where something was measured, is a violation.
    let is_met = measured <= 0.0 && bound >= 0.0;
    Some(if is_met {
        0.0
    } else if bound > 0.0 {
        measured / bound
    } else {
        f64::INFINITY
    })
}

/// η at the limit, or below.
fn rate(limit: f64, dice: &mut Dice) -> f64 {
    if dice.coin(0.5) { limit } else { limit * dice.log_between(1e-2, 1.0) }
}

fn smooth(problem: &Problem, policy: &Policy, momentum: f64) -> Smooth {
    Smooth { smoothness: problem.smoothness, least: policy.least, most: policy.most, momentum }
}

/// What a difference of losses cannot tell from 0.
fn rounding(losses: &[f64], least: f64) -> f64 {
    1e-10 * losses.iter().map(|loss| loss.abs()).fold(least.abs().max(f64::MIN_POSITIVE), f64::max)
}

/// Δ, where it is more than rounding.
fn gap(problem: &Problem) -> Option<f64> {
    let gap = problem.gap();
    (gap > 1e3 * rounding(&[problem.least + gap], problem.least)).then_some(gap)
}

fn falls(path: &Path, values: &[f64], rate: f64) -> Option<f64> {
    let rounding = rounding(&path.losses, 0.0);
    let promised = |step: usize| super::descent(rate, path.weighted[step]);
    let steps = (0..path.weighted.len()).filter(|&step| promised(step) > 1e3 * rounding);
    let of = |step: usize| quotient(promised(step), values[step] - values[step + 1] + rounding);
    steps.filter_map(of).reduce(f64::max)
}

fn descends(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Smooth, dice);
    let steps = dice.whole(1, 5);
    let policy = Policy::windows(&problem, 1 + dice.whole(0, 3), steps, dice);
    let rate = rate(smooth(&problem, &policy, 0.0).rate(), dice);
    let path = path(&problem, &policy, rate, steps, &Extras::default());
    falls(&path, &path.losses, rate)
}

fn descends_by_block(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let smoothness = problem.block_smoothness()?;
    let (before, gradient) = problem.at(&problem.start);
    let sizes: Vec<f64> = smoothness.iter().map(|smoothness| dice.uniform() / smoothness).collect();
    let mut x = problem.start.clone();
    for (block, size) in problem.blocks.iter().zip(&sizes) {
        block.clone().for_each(|c| x[c] -= size * gradient[c]);
    }
    let weighted =
        problem.squares(&gradient).iter().zip(&sizes).map(|(square, size)| square * size).sum::<f64>();
    let rounding = rounding(&[before], problem.least);
    let promised = super::descent(1.0, weighted);
    (promised > 1e3 * rounding).then(|| quotient(promised, before - problem.at(&x).0 + rounding))?
}

fn floor(dice: &mut Dice) -> Option<f64> {
    floor_with(Class::Smooth, |_, _| Extras::default(), dice)
}

fn preconditioned_floor(dice: &mut Dice) -> Option<f64> {
    floor_with(Class::Smooth, preconditioner, dice)
}

fn momentum_floor(dice: &mut Dice) -> Option<f64> {
    floor_with(Class::Everywhere, momentum, dice)
}

/// What else a step does, for a problem.
type Draw = fn(&Problem, &mut Dice) -> Extras;

fn preconditioner(problem: &Problem, dice: &mut Dice) -> Extras {
    let spread = dice.log_between(1.0, 30.0);
    let d = problem.start.len();
    let step = |dice: &mut Dice| (0..d).map(|_| dice.log_between(1.0, spread)).collect();
    Extras { momentum: 0.0, preconditioner: (0..MOST_STEPS).map(|_| step(dice)).collect() }
}

fn momentum(_: &Problem, dice: &mut Dice) -> Extras {
    Extras { momentum: dice.between(0.0, 0.97), preconditioner: Vec::new() }
}

/// Policy and constants as the extras ask for them.
fn fitted(problem: &Problem, policy: Policy, extras: &Extras) -> (Policy, Smooth) {
    let policy = if extras.momentum > 0.0 { policy.fixed() } else { policy };
    let entries = || extras.preconditioner.iter().flatten().copied();
    let plain = smooth(problem, &policy, extras.momentum);
    let least = plain.least * entries().reduce(f64::min).unwrap_or(1.0);
    let most = plain.most * entries().reduce(f64::max).unwrap_or(1.0);
    (policy, Smooth { least, most, ..plain })
}

fn floor_with(class: Class, extras: Draw, dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(class, dice);
    let steps = dice.whole(1, MOST_STEPS);
    let extras = extras(&problem, dice);
    let policy = Policy::all(&problem, steps, dice);
    let (policy, smooth) = fitted(&problem, policy, &extras);
    let rate = rate(smooth.rate(), dice);
    let path = path(&problem, &policy, rate, steps, &extras);
    quotient(path.least_square(0..steps), super::floor(&smooth, gap(&problem)?, rate, steps))
}

/// Shares of energies that a power and a proxy have bent.
fn shares(squares: &[f64], power: f64, bent: &[f64]) -> Vec<f64> {
    let largest = squares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    // A power below 0 has no value at 0.
    let least = if power < 0.0 { 1e-12 } else { 0.0 };
    let energy = |(square, bent): (&f64, &f64)| (square / largest).max(least).powf(power) * bent;
    let energies: Vec<f64> = squares.iter().zip(bent).map(energy).collect();
    let sum: f64 = energies.iter().sum();
    energies.iter().map(|energy| if sum > 0.0 { energy / sum } else { 1.0 / squares.len() as f64 }).collect()
}

/// Factors between 1/κ and κ.
fn bent(count: usize, accuracy: f64, dice: &mut Dice) -> Vec<f64> {
    (0..count).map(|_| dice.log_between(1.0 / accuracy, accuracy)).collect()
}

/// ‖∇_i f‖² at the start of a problem with more than one block.
fn squares_of_blocks(dice: &mut Dice) -> Option<Vec<f64>> {
    let problem = Problem::draw(Class::Smooth, dice);
    let squares = problem.squares(&problem.at(&problem.start).1);
    (squares.iter().sum::<f64>() > 0.0).then_some(squares)
}

fn aligned(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Smooth, dice);
    let (n, steps) = (problem.blocks.len(), dice.whole(1, MOST_STEPS));
    // Any power, negative ones too: weights against the errors are covered by their alignment.
    let (power, accuracy) = (dice.between(-1.0, 3.0), dice.log_between(1.0, 10.0));
    let rate = rate(1.0 / problem.smoothness, dice);
    let mut x = problem.start.clone();
    let (mut least, mut alignments) = (f64::INFINITY, 0.0);
    for _ in 0..steps {
        let (_, gradient) = problem.at(&x);
        let squares = problem.squares(&gradient);
        let weights = shares(&squares, power, &bent(n, accuracy, dice));
        alignments += alignment(&weights, &squares);
        least = least.min(squares.iter().sum());
        for (block, weight) in problem.blocks.iter().zip(&weights) {
            block.clone().for_each(|c| x[c] -= rate * weight * gradient[c]);
        }
    }
    quotient(least, super::aligned(gap(&problem)?, rate, n, alignments))
}

fn ordered(dice: &mut Dice) -> Option<f64> {
    let squares = squares_of_blocks(dice)?;
    let weights = shares(&squares, dice.between(0.0, 3.0), &vec![1.0; squares.len()]);
    quotient(1.0, alignment(&weights, &squares))
}

fn alignment_is_bounded(dice: &mut Dice) -> Option<f64> {
    let squares = squares_of_blocks(dice)?;
    let weights: Vec<f64> = squares.iter().map(|_| dice.uniform()).collect();
    quotient(alignment(&weights, &squares), squares.len() as f64)
}

fn proxy_alignment(dice: &mut Dice) -> Option<f64> {
    let squares = squares_of_blocks(dice)?;
    let accuracy = dice.log_between(1.0, 10.0);
    let exact = shares(&squares, 1.0, &vec![1.0; squares.len()]);
    let weights = shares(&squares, 1.0, &bent(squares.len(), accuracy, dice));
    quotient(by_proxy(alignment(&exact, &squares), accuracy), alignment(&weights, &squares))
}

fn windows(dice: &mut Dice) -> Option<f64> {
    windows_with(Class::Smooth, |_, _| Extras::default(), dice)
}

fn preconditioned_windows(dice: &mut Dice) -> Option<f64> {
    windows_with(Class::Smooth, preconditioner, dice)
}

fn momentum_windows(dice: &mut Dice) -> Option<f64> {
    windows_with(Class::Everywhere, momentum, dice)
}

fn windows_with(class: Class, extras: Draw, dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(class, dice);
    let window = dice.whole(1, 6);
    let count = dice.whole(1, MOST_STEPS / window);
    let steps = window * count;
    let extras = extras(&problem, dice);
    let policy = Policy::windows(&problem, window, steps, dice);
    let (policy, smooth) = fitted(&problem, policy, &extras);
    let rate = rate(smooth.rate_for_windows(problem.blocks.len(), window), dice);
    let path = path(&problem, &policy, rate, steps, &extras);
    let measured = path.least_square((0..steps).step_by(window));
    quotient(measured, super::windows(&smooth, gap(&problem)?, rate, count))
}

fn stale(dice: &mut Dice) -> Option<f64> {
    stale_with(Class::Smooth, |_, _| Extras::default(), dice)
}

fn preconditioned_stale(dice: &mut Dice) -> Option<f64> {
    stale_with(Class::Smooth, preconditioner, dice)
}

fn momentum_stale(dice: &mut Dice) -> Option<f64> {
    stale_with(Class::Everywhere, momentum, dice)
}

fn stale_with(class: Class, extras: Draw, dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(class, dice);
    let (age, steps) = (dice.whole(0, 10), dice.whole(1, MOST_STEPS));
    let extras = extras(&problem, dice);
    let policy = Policy::stale(&problem, age, steps, dice);
    let (policy, smooth) = fitted(&problem, policy, &extras);
    let rate = rate(smooth.rate_for_stale(age), dice);
    let path = path(&problem, &policy, rate, steps, &extras);
    let bound = super::stale(&smooth, gap(&problem)?, rate, path.captured, steps);
    quotient(path.least_square(0..steps), bound)
}

fn greedy(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Smooth, dice);
    let policy = Policy::stale(&problem, 0, 1, dice);
    if !policy.is_greedy() {
        return None;
    }
    let history = vec![problem.squares(&problem.at(&problem.start).1)];
    let n = problem.blocks.len();
    let captured = policy.captured(&history, &policy.weights(&history));
    quotient(policy.count(n) as f64 / n as f64, captured)
}

fn proxy_share(dice: &mut Dice) -> Option<f64> {
    let squares = squares_of_blocks(dice)?;
    let accuracy = dice.log_between(1.0, 10.0);
    let seen = shares(&squares, 1.0, &bent(squares.len(), accuracy, dice));
    let chosen: Vec<bool> = squares.iter().map(|_| dice.coin(0.5)).collect();
    let share = |of: &[f64]| {
        let parts = of.iter().zip(&chosen).filter(|(_, chosen)| **chosen);
        parts.map(|(part, _)| part).sum::<f64>() / of.iter().sum::<f64>()
    };
    quotient(by_proxy(share(&seen), accuracy), share(&squares))
}

fn noisy_floor(dice: &mut Dice) -> Option<f64> {
    noisy_floor_with(|_, _| Extras::default(), dice)
}

fn preconditioned_noise(dice: &mut Dice) -> Option<f64> {
    noisy_floor_with(preconditioner, dice)
}

fn noisy_floor_with(extras: Draw, dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Everywhere, dice);
    let steps = dice.whole(1, MOST_NOISY_STEPS);
    let extras = extras(&problem, dice);
    let policy = Policy::all(&problem, steps, dice);
    let (policy, smooth) = fitted(&problem, policy, &extras);
    let rate = rate(smooth.rate(), dice);
    let noise = Noise::draw(&problem, steps, dice).preconditioned(extras);
    let tree = tree(&problem, &policy, &noise, rate, steps);
    let mean = tree.squares[..steps].iter().sum::<f64>() / steps as f64;
    // V·p_max², by the part of the preconditioner that is used.
    let scale = (smooth.most / policy.most).powi(2);
    quotient(mean, super::noisy_floor(&smooth, gap(&problem)?, rate, scale * tree.variance, steps))
}

fn noisy_windows(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Everywhere, dice);
    let n = problem.blocks.len();
    let window = dice.whole(1, 4);
    let count = dice.whole(1, MOST_NOISY_STEPS / window);
    let steps = window * count;
    let policy = Policy::windows(&problem, window, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate_for_windows(n, window), dice);
    let noise = Noise::draw(&problem, steps, dice);
    let tree = tree(&problem, &policy, &noise, rate, steps);
    let mean = tree.squares[..steps].iter().step_by(window).sum::<f64>() / count as f64;
    let bound = super::noisy_windows(&smooth, gap(&problem)?, rate, tree.variance, n, window, count);
    quotient(mean, bound)
}

fn noisy_stale(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Everywhere, dice);
    let (age, steps) = (dice.whole(0, 5), dice.whole(1, MOST_NOISY_STEPS));
    let policy = Policy::stale(&problem, age, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate_for_stale(age), dice);
    let noise = Noise::draw(&problem, steps, dice);
    let tree = tree(&problem, &policy, &noise, rate, steps);
    let mean = tree.squares[..steps].iter().sum::<f64>() / steps as f64;
    quotient(
        mean,
        super::noisy_stale(&smooth, gap(&problem)?, rate, tree.variance, tree.captured, age, steps),
    )
}

/// The largest quotient of what `f − f*` must lose in `stride` steps and what it lost. `may` says what may be left of it.
fn loses(problem: &Problem, losses: &[f64], stride: usize, may: impl Fn(f64) -> f64) -> Option<f64> {
    let rounding = 10.0 * rounding(losses, problem.least);
    let gaps: Vec<f64> = losses.iter().step_by(stride).map(|loss| loss - problem.least).collect();
    let promised = |gap: f64| gap - may(gap);
    let pairs = gaps.windows(2).filter(|pair| promised(pair[0]) > 1e3 * rounding);
    let of = |pair: &[f64]| quotient(promised(pair[0]), pair[0] - pair[1] + rounding);
    pairs.filter_map(of).reduce(f64::max)
}

fn contracts(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let steps = dice.whole(1, MOST_STEPS);
    let policy = Policy::all(&problem, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate(), dice);
    let path = path(&problem, &policy, rate, steps, &Extras::default());
    let factor = super::contraction_floor(&smooth, rate, problem.convexity?);
    loses(&problem, &path.losses, 1, |gap| factor * gap)
}

fn contracts_in_windows(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let (n, window) = (problem.blocks.len(), dice.whole(1, 6));
    let steps = window * dice.whole(1, MOST_STEPS / window);
    let policy = Policy::windows(&problem, window, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate(), dice);
    let path = path(&problem, &policy, rate, steps, &Extras::default());
    let factor = super::contraction_windows(&smooth, rate, problem.convexity?, n, window);
    loses(&problem, &path.losses, window, |gap| factor * gap)
}

fn contracts_by_stale(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let (age, steps) = (dice.whole(0, 6), dice.whole(1, MOST_STEPS));
    let policy = Policy::stale(&problem, age, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate() / (1.0 + 4.0 * age as f64), dice);
    let path = path(&problem, &policy, rate, steps, &Extras::default());
    let factor = super::contraction_stale(&smooth, rate, problem.convexity?, path.captured, age)?;
    loses(&problem, &path.losses, 1, |gap| factor * gap)
}

fn ball(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let steps = dice.whole(1, MOST_NOISY_STEPS);
    let policy = Policy::all(&problem, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate(), dice);
    let noise = Noise::draw(&problem, steps, dice);
    let tree = tree(&problem, &policy, &noise, rate, steps);
    let convexity = problem.convexity?;
    let kept = super::contraction_floor(&smooth, rate, convexity).powi(steps as i32) * gap(&problem)?;
    let bound = kept + super::noise_ball(&smooth, rate, convexity, tree.variance);
    let rounding = rounding(&tree.losses, problem.least);
    (bound > 1e3 * rounding).then(|| (tree.losses[steps] - problem.least - rounding) / bound)
}

fn noisy_contraction(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Growing, dice);
    let (n, window) = (problem.blocks.len(), dice.whole(1, 4));
    let steps = window * dice.whole(1, MOST_NOISY_STEPS / window);
    let policy = Policy::windows(&problem, window, steps, dice);
    let smooth = smooth(&problem, &policy, 0.0);
    let rate = rate(smooth.rate(), dice);
    let noise = Noise::draw(&problem, steps, dice);
    let tree = tree(&problem, &policy, &noise, rate, steps);
    let factor = super::contraction_windows(&smooth, rate, problem.convexity?, n, window);
    let more = super::window_noise(&smooth, rate, tree.variance, n, window);
    loses(&problem, &tree.losses, window, |gap| factor * gap + more)
}

fn potential_falls(dice: &mut Dice) -> Option<f64> {
    let problem = Problem::draw(Class::Everywhere, dice);
    let (window, steps) = (dice.whole(1, 6), dice.whole(1, MOST_STEPS));
    let extras = momentum(&problem, dice);
    let policy = Policy::windows(&problem, window, steps, dice);
    let (policy, smooth) = fitted(&problem, policy.fixed(), &extras);
    let rate = rate(smooth.rate(), dice);
    let path = path(&problem, &policy, rate, steps, &extras);
    falls(&path, &path.potentials, rate)
}

/// Gains and costs of some components, and what a step costs without any.
fn purses(dice: &mut Dice) -> (Vec<f64>, Vec<f64>, f64) {
    let n = dice.whole(1, 10);
    let gains = (0..n).map(|_| dice.log_between(1e-3, 1.0)).collect();
    let costs = (0..n).map(|_| dice.log_between(1e-2, 1.0)).collect();
    (gains, costs, dice.log_between(1e-2, 10.0))
}

/// The largest of a quantity over all sets of `n`.
fn over_sets(n: usize, of: impl Fn(&dyn Fn(&[f64]) -> f64) -> f64) -> f64 {
    let one = |set: u32| {
        let sum = |parts: &[f64]| (0..n).filter(|i| set >> i & 1 == 1).map(|i| parts[i]).sum::<f64>();
        of(&sum)
    };
    (0..1u32 << n).map(one).fold(f64::NEG_INFINITY, f64::max)
}

fn densest(dice: &mut Dice) -> Option<f64> {
    let (gains, costs, base) = purses(dice);
    let (_, found) = best_ratio(&gains, &costs, base);
    quotient(over_sets(gains.len(), |sum| sum(&gains) / (base + sum(&costs))), found)
}

fn knapsack(dice: &mut Dice) -> Option<f64> {
    let (gains, costs, _) = purses(dice);
    let money = dice.between(0.0, costs.iter().sum());
    let best = over_sets(gains.len(), |sum| if sum(&costs) <= money { sum(&gains) } else { 0.0 });
    let mut order: Vec<usize> = (0..gains.len()).filter(|&i| costs[i] <= money).collect();
    order.sort_by(|&a, &b| (gains[b] / costs[b]).total_cmp(&(gains[a] / costs[a])));
    let (mut spent, mut filled, mut next) = (0.0, 0.0, 0.0);
    for i in order {
        if spent + costs[i] > money {
            next = gains[i];
            break;
        }
        (spent, filled) = (spent + costs[i], filled + gains[i]);
    }
    quotient(best, 2.0 * f64::max(filled, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unlike() {
        let names: std::collections::BTreeSet<&str> =
            STATEMENTS.iter().map(|statement| statement.name).collect();
        assert_eq!(names.len(), STATEMENTS.len());
    }
}
