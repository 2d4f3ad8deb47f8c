//! Bounds beside what they bound, in the course of steps on a quadratic: to be looked at.

use serde::Serialize;

use super::dice::Dice;
use super::problems::{FAULTY_BLOCKS, Problem};
use super::{Smooth, alignment};

/// A bound and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// As THEORY.md calls it.
    pub statement: &'static str,
    /// How the steps were spent.
    pub steps: &'static str,
    /// What is bounded.
    pub quantity: &'static str,
    /// What is counted along it: `steps`, or `compute` in units of a block's update.
    pub along: &'static str,
    /// `(steps or compute, measured, bound)`.
    pub points: Vec<(usize, f64, f64)>,
}

const STEPS: usize = 600;
const AGE: usize = 10;
/// σ of each block's noise.
const DEVIATION: f64 = 0.5;
const PATHS: u64 = 200;
const LEAST_SQUARE: &str = "least ‖∇f‖² so far";
/// What a step of [`per_compute`] costs without any block, where a block costs 1.
const BASE: f64 = 4.0;
/// What all its steps cost.
const COMPUTE: f64 = 600.0;

/// One curve for each of the convergence theorems, and three ways to spend the same compute (T6).
pub fn curves() -> Vec<Curve> {
    let problem = Problem::example();
    vec![
        floor(&problem),
        aligned(&problem),
        windows(&problem),
        stale(&problem),
        noise(&problem),
        contraction(&problem),
        per_compute("the densest blocks", |densest, _| densest.to_vec()),
        per_compute("as many blocks at random", |densest, dice| {
            let mut blocks: Vec<usize> = (0..FAULTY_BLOCKS).collect();
            for i in 0..densest.len() {
                blocks.swap(i, dice.whole(i, FAULTY_BLOCKS - 1));
            }
            blocks.truncate(densest.len());
            blocks
        }),
        per_compute("all blocks", |_, _| (0..FAULTY_BLOCKS).collect()),
    ]
}

fn smooth(problem: &Problem) -> Smooth {
    Smooth { smoothness: problem.smoothness, least: 1.0, most: 1.0, momentum: 0.0 }
}

/// Steps with weights that `weigh` gives for step and ‖∇_i f‖²; `see` hears of loss and ‖∇_i f‖² before each, and of the end.
fn walk(
    problem: &Problem,
    rate: f64,
    mut noise: impl FnMut() -> f64,
    mut weigh: impl FnMut(usize, &[f64]) -> Vec<f64>,
    mut see: impl FnMut(usize, f64, &[f64]),
) {
    let mut x = problem.start.clone();
    for step in 0..=STEPS {
        let (loss, gradient) = problem.at(&x);
        let squares = problem.squares(&gradient);
        see(step, loss, &squares);
        let weights = weigh(step, &squares);
        for (block, weight) in problem.blocks.iter().zip(&weights) {
            block.clone().for_each(|c| x[c] -= rate * weight * (gradient[c] + noise()));
        }
    }
}

fn floor(problem: &Problem) -> Curve {
    let (smooth, gap) = (smooth(problem), problem.gap());
    let (rate, mut least, mut points) = (smooth.rate(), f64::INFINITY, Vec::new());
    walk(
        problem,
        rate,
        || 0.0,
        |_, squares| vec![1.0; squares.len()],
        |step, _, squares| {
            least = least.min(squares.iter().sum());
            points.push((step + 1, least, super::floor(&smooth, gap, rate, step + 1)));
        },
    );
    Curve {
        statement: "T1a",
        steps: "all blocks alike, η = 1/L",
        quantity: LEAST_SQUARE,
        along: "steps",
        points,
    }
}

fn aligned(problem: &Problem) -> Curve {
    let (gap, n) = (problem.gap(), problem.blocks.len());
    let rate = 1.0 / problem.smoothness;
    let (mut least, mut alignments, mut points) = (f64::INFINITY, 0.0, Vec::new());
    let shares = |squares: &[f64]| {
        squares.iter().map(|square| square / squares.iter().sum::<f64>()).collect::<Vec<_>>()
    };
    walk(
        problem,
        rate,
        || 0.0,
        |_, squares| shares(squares),
        |step, _, squares| {
            least = least.min(squares.iter().sum());
            alignments += alignment(&shares(squares), squares);
            points.push((step + 1, least, super::aligned(gap, rate, n, alignments)));
        },
    );
    Curve {
        statement: "T1b",
        steps: "weights are shares of the error, η = 1/L",
        quantity: LEAST_SQUARE,
        along: "steps",
        points,
    }
}

fn windows(problem: &Problem) -> Curve {
    let (smooth, gap, window) = (smooth(problem), problem.gap(), problem.blocks.len());
    let rate = smooth.rate_for_windows(window, window);
    let (mut least, mut points) = (f64::INFINITY, Vec::new());
    walk(
        problem,
        rate,
        || 0.0,
        |step, squares| (0..squares.len()).map(|i| f64::from(u8::from(i == step % window))).collect(),
        |step, _, squares| {
            if step % window == 0 {
                least = least.min(squares.iter().sum());
                points.push((step + window, least, super::windows(&smooth, gap, rate, step / window + 1)));
            }
        },
    );
    Curve {
        statement: "T1c",
        steps: "one block of six a step, in turns",
        quantity: "least ‖∇f‖² of windows",
        along: "steps",
        points,
    }
}

fn stale(problem: &Problem) -> Curve {
    let (smooth, gap) = (smooth(problem), problem.gap());
    let rate = smooth.rate_for_stale(AGE);
    let (mut least, mut captured, mut points) = (f64::INFINITY, 1.0f64, Vec::new());
    let mut map = Vec::new();
    // Of the map at its own step; that is what the theorem asks for.
    let mut shares = Vec::new();
    walk(
        problem,
        rate,
        || 0.0,
        |step, squares| {
            if step % (AGE + 1) == 0 {
                let mut order: Vec<usize> = (0..squares.len()).collect();
                order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
                map = (0..squares.len()).map(|i| f64::from(u8::from(order[..2].contains(&i)))).collect();
                shares.push(
                    map.iter().zip(squares).map(|(m, s)| m * s).sum::<f64>() / squares.iter().sum::<f64>(),
                );
            }
            map.clone()
        },
        |step, _, squares| {
            least = least.min(squares.iter().sum());
            points.push((step + 1, least, 0.0));
        },
    );
    for (step, _, bound) in &mut points {
        captured = captured.min(shares[(*step - 1) / (AGE + 1)]);
        *bound = super::stale(&smooth, gap, rate, captured, *step);
    }
    Curve {
        statement: "T1d",
        steps: "the two largest blocks of six, by maps up to 10 steps old",
        quantity: LEAST_SQUARE,
        along: "steps",
        points,
    }
}

fn noise(problem: &Problem) -> Curve {
    let (smooth, gap) = (smooth(problem), problem.gap());
    let rate = 0.05 * smooth.rate();
    let variance = problem.blocks.len() as f64 * DEVIATION * DEVIATION;
    let mut sums = vec![0.0; STEPS + 1];
    for path in 0..PATHS {
        let mut dice = Dice::new(path);
        // Two coordinates a block.
        let mut each = || DEVIATION / 2f64.sqrt() * if dice.coin(0.5) { 1.0 } else { -1.0 };
        walk(
            problem,
            rate,
            &mut each,
            |_, squares| vec![1.0; squares.len()],
            |step, _, squares| sums[step] += squares.iter().sum::<f64>() / PATHS as f64,
        );
    }
    let mut total = 0.0;
    let point = |(step, square): (usize, &f64)| {
        total += square;
        let bound = super::noisy_floor(&smooth, gap, rate, variance, step + 1);
        (step + 1, total / (step + 1) as f64, bound)
    };
    let points = sums.iter().enumerate().map(point).collect();
    Curve {
        statement: "T2",
        steps: "noise, η = 0.05/L, mean of 200 paths",
        quantity: "mean of 𝔼‖∇f‖² so far",
        along: "steps",
        points,
    }
}

fn contraction(problem: &Problem) -> Curve {
    let (smooth, gap) = (smooth(problem), problem.gap());
    let (rate, mut points) = (smooth.rate(), Vec::new());
    let factor = super::contraction_floor(&smooth, rate, problem.convexity.unwrap_or(0.0));
    walk(
        problem,
        rate,
        || 0.0,
        |_, squares| vec![1.0; squares.len()],
        |step, loss, _| points.push((step, loss - problem.least, gap * factor.powi(step as i32))),
    );
    points.remove(0);
    Curve {
        statement: "T3", steps: "all blocks alike, η = 1/L", quantity: "f − f*", along: "steps", points
    }
}

/// What is left of `f − f*` where few blocks are wrong: measured, and by what Lemma 1 promises of each step. `choose` hears
/// which blocks have the best ratio of promise to cost (T6); what looking for them costs is not counted.
fn per_compute(steps: &'static str, mut choose: impl FnMut(&[usize], &mut Dice) -> Vec<usize>) -> Curve {
    let problem = Problem::faulty();
    let (rate, mut dice) = (smooth(&problem).rate(), Dice::new(0));
    let costs = vec![1.0; problem.blocks.len()];
    let (mut x, mut left, mut spent, mut points) = (problem.start.clone(), problem.gap(), 0.0, Vec::new());
    while spent < COMPUTE {
        let (_, gradient) = problem.at(&x);
        let squares = problem.squares(&gradient);
        let chosen = choose(&super::best_ratio(&squares, &costs, BASE).0, &mut dice);
        left -= super::descent(rate, chosen.iter().map(|&i| squares[i]).sum());
        chosen.iter().flat_map(|&i| problem.blocks[i].clone()).for_each(|c| x[c] -= rate * gradient[c]);
        spent += BASE + chosen.len() as f64;
        points.push((spent as usize, problem.at(&x).0 - problem.least, left));
    }
    Curve { statement: "T6", steps, quantity: "f − f*, promised and measured", along: "compute", points }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_lies_below_its_bound() {
        for curve in curves() {
            let least = if curve.along == "steps" { STEPS / 6 } else { 20 };
            assert!(curve.points.len() >= least, "{}: {}", curve.statement, curve.steps);
            for (step, measured, bound) in curve.points {
                assert!(
                    measured <= bound * (1.0 + 1e-9),
                    "{} at {step}: {measured} of {bound}",
                    curve.statement
                );
            }
        }
    }

    /// Where few blocks are wrong, the densest get farther than others with the same compute, in promise and in fact.
    #[test]
    fn the_densest_blocks_get_farthest() {
        let ends: Vec<(f64, f64)> = curves()
            .iter()
            .filter(|curve| curve.statement == "T6")
            .filter_map(|curve| curve.points.last().map(|(_, measured, promised)| (*measured, *promised)))
            .collect();
        let [densest, random, all] = ends[..] else { panic!("{ends:?}") };
        for other in [random, all] {
            assert!(densest.0 < 0.1 * other.0 && densest.1 < other.1, "{ends:?}");
        }
    }
}
