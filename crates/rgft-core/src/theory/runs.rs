//! Steps on a problem: one path where gradients are exact, all of them where a coin a step decides the noise, so that
//! expectations are exact too.

use super::dice::Dice;
use super::policy::Policy;
use super::problems::Problem;

/// One path.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    /// f(xᵏ), k = 0 … K.
    pub(super) losses: Vec<f64>,
    /// Φᵏ, which is f without momentum.
    pub(super) potentials: Vec<f64>,
    /// ‖∇_i f(xᵏ)‖², k = 0 … K − 1.
    pub(super) squares: Vec<Vec<f64>>,
    /// wᵏ.
    pub(super) weights: Vec<Vec<f64>>,
    /// Σ w_i·‖∇_i f‖², by a preconditioner's norm if there is one.
    pub(super) weighted: Vec<f64>,
    /// The least captured share.
    pub(super) captured: f64,
}

impl Path {
    /// ‖∇f(xᵏ)‖².
    pub(super) fn square(&self, step: usize) -> f64 {
        self.squares[step].iter().sum()
    }

    /// The least of these.
    pub(super) fn least_square(&self, steps: impl Iterator<Item = usize>) -> f64 {
        steps.map(|step| self.square(step)).fold(f64::INFINITY, f64::min)
    }
}

/// What else a step does.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    /// β.
    pub(super) momentum: f64,
    /// P by step and coordinate; empty: 1.
    pub(super) preconditioner: Vec<Vec<f64>>,
}

/// `steps` steps with exact gradients.
pub(super) fn path(problem: &Problem, policy: &Policy, rate: f64, steps: usize, extras: &Extras) -> Path {
    let mut x = problem.start.clone();
    let mut moment = vec![0.0; x.len()];
    // The weight that a block had last; with momentum it is the one that it has.
    let mut last = vec![0.0; problem.blocks.len()];
    let mut path = Path { captured: 1.0, ..Path::default() };
    let potential = |loss: f64, moment: &[f64], last: &[f64]| {
        let waiting =
            problem.squares(moment).iter().zip(last).map(|(square, weight)| weight * square).sum::<f64>();
        loss + 0.5 * rate * extras.momentum * waiting
    };
    for step in 0..steps {
        let (loss, gradient) = problem.at(&x);
        path.potentials.push(potential(loss, &moment, &last));
        path.losses.push(loss);
        path.squares.push(problem.squares(&gradient));
        let weights = policy.weights(&path.squares);
        path.captured = path.captured.min(policy.captured(&path.squares, &weights));
        let mut weighted = 0.0;
        for ((block, &weight), last) in problem.blocks.iter().zip(&weights).zip(&mut last) {
            if weight == 0.0 {
                continue;
            }
            *last = weight;
            for c in block.clone() {
                let p = extras.preconditioner.get(step).map_or(1.0, |p| p[c]);
                weighted += weight * p * gradient[c] * gradient[c];
                moment[c] = extras.momentum * moment[c] + gradient[c];
                x[c] -= rate * weight * p * moment[c];
            }
        }
        path.weighted.push(weighted);
        path.weights.push(weights);
    }
    let (loss, _) = problem.at(&x);
    path.potentials.push(potential(loss, &moment, &last));
    path.losses.push(loss);
    path
}

/// Noise of a batch: block i's gradient is off by ±σ_i along a direction that step k fixes, the sign being a fair coin's.
#[derive(Clone, Debug)]
pub(super) struct Noise {
    /// σ_i.
    deviations: Vec<f64>,
    /// By step and block, each of length 1.
    directions: Vec<Vec<Vec<f64>>>,
    /// What else a step does; no momentum.
    extras: Extras,
}

impl Noise {
    pub(super) fn draw(problem: &Problem, steps: usize, dice: &mut Dice) -> Self {
        let scale = problem.squares(&problem.at(&problem.start).1).iter().sum::<f64>().sqrt();
        let deviations = problem.blocks.iter().map(|_| scale * dice.log_between(1e-2, 3.0)).collect();
        let step = |dice: &mut Dice| problem.blocks.iter().map(|block| dice.direction(block.len())).collect();
        Self { deviations, directions: (0..steps).map(|_| step(dice)).collect(), extras: Extras::default() }
    }

    /// The same with a preconditioner.
    pub(super) fn preconditioned(self, extras: Extras) -> Self {
        Self { extras, ..self }
    }
}

/// Expectations over all paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// 𝔼f(xᵏ), k = 0 … K.
    pub(super) losses: Vec<f64>,
    /// 𝔼‖∇f(xᵏ)‖², k = 0 … K.
    pub(super) squares: Vec<f64>,
    /// V: the largest Σ w_i²σ_i² anywhere.
    pub(super) variance: f64,
    /// The least captured share anywhere.
    pub(super) captured: f64,
}

/// `steps` steps; 2^steps paths.
pub(super) fn tree(problem: &Problem, policy: &Policy, noise: &Noise, rate: f64, steps: usize) -> Tree {
    let zeros = vec![0.0; steps + 1];
    let mut tree = Tree { losses: zeros.clone(), squares: zeros, variance: 0.0, captured: 1.0 };
    grow(problem, policy, noise, rate, &problem.start, &mut Vec::new(), steps, &mut tree);
    tree
}

fn grow(
    problem: &Problem,
    policy: &Policy,
    noise: &Noise,
    rate: f64,
    x: &[f64],
    history: &mut Vec<Vec<f64>>,
    steps: usize,
    tree: &mut Tree,
) {
    let step = history.len();
    let chance = 0.5f64.powi(step as i32);
    let (loss, gradient) = problem.at(x);
    let squares = problem.squares(&gradient);
    tree.losses[step] += chance * loss;
    tree.squares[step] += chance * squares.iter().sum::<f64>();
    if step == steps {
        return;
    }
    history.push(squares);
    let weights = policy.weights(history);
    tree.captured = tree.captured.min(policy.captured(history, &weights));
    let variance = weights.iter().zip(&noise.deviations).map(|(w, sigma)| (w * sigma).powi(2)).sum::<f64>();
    tree.variance = tree.variance.max(variance);
    for sign in [1.0, -1.0] {
        let mut next = x.to_vec();
        for (i, block) in problem.blocks.iter().enumerate() {
            for (c, direction) in block.clone().zip(&noise.directions[step][i]) {
                let p = noise.extras.preconditioner.get(step).map_or(1.0, |p| p[c]);
                next[c] -= rate * weights[i] * p * (gradient[c] + sign * noise.deviations[i] * direction);
            }
        }
        grow(problem, policy, noise, rate, &next, history, steps, tree);
    }
    history.pop();
}
