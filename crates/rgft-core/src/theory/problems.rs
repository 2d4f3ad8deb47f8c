//! Losses whose constants are known, in f64.
//!
//! ```text
//! quadratic       ½xᵀAx − bᵀx, A = QΛQᵀ               L = max λ, μ = min λ > 0
//! logistic        mean ln(1 + exp(−zᵢᵀx)) + (μ/2)‖x‖²  L = μ + ‖Z‖_F²/(4N)
//! bounded         mean t²/(1+t²) of t = aᵢᵀx − bᵢ      L = 2‖A‖_F²/N, not convex: second derivatives lie in [−½, 2]
//! sine            Σ sᵢ·(u² + 3 sin²u), u = qᵢᵀx        L = 8·max s, μ = min s/32, not convex (Karimi et al. 2016)
//! factors         ½‖UV − M‖² + (λ/2)(‖U‖² + ‖V‖²)      L on the ball of twice the radius of the first sublevel set
//! ```

use std::ops::Range;

use super::dice::Dice;

/// A loss, where it begins, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    /// L.
    pub(super) smoothness: f64,
    /// μ of the Polyak–Łojasiewicz inequality.
    pub(super) convexity: Option<f64>,
    /// f*, or less.
    pub(super) least: f64,
    /// x⁰.
    pub(super) start: Vec<f64>,
    /// The blocks that x falls into.
    pub(super) blocks: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Rows of A; b.
    Quadratic(Vec<Vec<f64>>, Vec<f64>),
    /// Rows z; the ridge.
    Logistic(Vec<Vec<f64>>, f64),
    /// Rows a; b.
    Bounded(Vec<Vec<f64>>, Vec<f64>),
    /// Rows q, orthonormal; s.
    Sine(Vec<Vec<f64>>, Vec<f64>),
    /// M by rows; the rank; λ.
    Factors(Vec<Vec<f64>>, usize, f64),
}

/// Which losses a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// All of them.
    Smooth,
    /// Smooth everywhere.
    Everywhere,
    /// With a known μ.
    Growing,
}

/// Blocks of [`Problem::faulty`], of two scalars each.
pub(super) const FAULTY_BLOCKS: usize = 24;

impl Problem {
    /// One of a class.
    pub(super) fn draw(class: Class, dice: &mut Dice) -> Self {
        let kinds: &[fn(&mut Dice) -> Self] = match class {
            Class::Smooth => &[quadratic, logistic, sine, bounded, factors],
            Class::Everywhere => &[quadratic, logistic, sine, bounded],
            Class::Growing => &[quadratic, logistic, sine],
        };
        kinds[dice.whole(0, kinds.len() - 1)](dice)
    }

    /// A quadratic to look at: six blocks of two, eigenvalues from 0.1 to 10, the same one each time.
    pub(super) fn example() -> Self {
        let (d, mut dice) = (12, Dice::new(3));
        let rows = orthonormal(d, &mut dice);
        let spectrum: Vec<f64> = (0..d).map(|i| 0.1 * 100f64.powf(i as f64 / (d - 1) as f64)).collect();
        let start = dice.normals(d);
        let blocks = (0..d / 2).map(|i| 2 * i..2 * i + 2).collect();
        quadratic_of(&rows, &spectrum, &vec![0.0; d], start, blocks)
    }

    /// As a pre-trained model may be: most blocks are nearly right. A quadratic with eigenvalues from 1 to 10.
    pub(super) fn faulty() -> Self {
        let (d, mut dice) = (2 * FAULTY_BLOCKS, Dice::new(5));
        let rows = orthonormal(d, &mut dice);
        let spectrum: Vec<f64> = (0..d).map(|i| 10f64.powf(i as f64 / (d - 1) as f64)).collect();
        let mut start = dice.normals(d);
        start[4..].iter_mut().for_each(|x| *x *= 0.05);
        let blocks = (0..FAULTY_BLOCKS).map(|i| 2 * i..2 * i + 2).collect();
        quadratic_of(&rows, &spectrum, &vec![0.0; d], start, blocks)
    }

    /// Loss and gradient at `x`.
    pub(super) fn at(&self, x: &[f64]) -> (f64, Vec<f64>) {
        match &self.kind {
            Kind::Quadratic(a, b) => {
                let ax: Vec<f64> = a.iter().map(|row| dot(row, x)).collect();
                (0.5 * dot(&ax, x) - dot(b, x), ax.iter().zip(b).map(|(ax, b)| ax - b).collect())
            }
            Kind::Logistic(rows, ridge) => {
                let n = rows.len() as f64;
                let mut gradient: Vec<f64> = x.iter().map(|x| ridge * x).collect();
                let mut loss = 0.5 * ridge * dot(x, x);
                for row in rows {
                    let t = dot(row, x);
                    loss += ((-t.abs()).exp().ln_1p() + (-t).max(0.0)) / n;
                    add(&mut gradient, row, -1.0 / (1.0 + t.exp()) / n);
                }
                (loss, gradient)
            }
            Kind::Bounded(rows, b) => {
                let n = rows.len() as f64;
                let (mut loss, mut gradient) = (0.0, vec![0.0; x.len()]);
                for (row, b) in rows.iter().zip(b) {
                    let t = dot(row, x) - b;
                    loss += t * t / (1.0 + t * t) / n;
                    add(&mut gradient, row, 2.0 * t / (1.0 + t * t).powi(2) / n);
                }
                (loss, gradient)
            }
            Kind::Sine(rows, scales) => {
                let (mut loss, mut gradient) = (0.0, vec![0.0; x.len()]);
                for (row, scale) in rows.iter().zip(scales) {
                    let u = dot(row, x);
                    loss += scale * (u * u + 3.0 * u.sin().powi(2));
                    add(&mut gradient, row, scale * (2.0 * u + 3.0 * (2.0 * u).sin()));
                }
                (loss, gradient)
            }
            Kind::Factors(m, rank, ridge) => {
                let (rows, cols) = (m.len(), m[0].len());
                let (u, v) = x.split_at(rows * rank);
                let mut gradient: Vec<f64> = x.iter().map(|x| ridge * x).collect();
                let mut loss = 0.5 * ridge * dot(x, x);
                for i in 0..rows {
                    for j in 0..cols {
                        let product: f64 = (0..*rank).map(|r| u[i * rank + r] * v[r * cols + j]).sum();
                        let error = product - m[i][j];
                        loss += 0.5 * error * error;
                        for r in 0..*rank {
                            gradient[i * rank + r] += error * v[r * cols + j];
                            gradient[rows * rank + r * cols + j] += error * u[i * rank + r];
                        }
                    }
                }
                (loss, gradient)
            }
        }
    }

    /// ‖·‖² of each block of a vector.
    pub(super) fn squares(&self, vector: &[f64]) -> Vec<f64> {
        self.blocks.iter().map(|block| dot(&vector[block.clone()], &vector[block.clone()])).collect()
    }

    /// For a quadratic, `L_i ≥ Σ_c |A_rc|` for every row of block i: then diag(L) − A is diagonally dominant, so positive
    /// semidefinite, and f is smooth block by block.
    pub(super) fn block_smoothness(&self) -> Option<Vec<f64>> {
        let Kind::Quadratic(a, _) = &self.kind else { return None };
        let row = |r: usize| a[r].iter().map(|entry| entry.abs()).sum::<f64>();
        Some(self.blocks.iter().map(|block| block.clone().map(row).fold(0.0, f64::max)).collect())
    }

    /// Δ.
    pub(super) fn gap(&self) -> f64 {
        self.at(&self.start).0 - self.least
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], vector: &[f64], factor: f64) {
    sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += factor * x);
}

/// Some of `d` numbers each, side by side.
fn blocks(d: usize, dice: &mut Dice) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut start = 0;
    for end in 1..=d {
        if end == d || dice.coin(0.6) {
            blocks.push(start..end);
            start = end;
        }
    }
    blocks
}

/// d orthonormal rows (Gram & Schmidt); the unit vectors in one case of four, so that blocks do not interact.
fn orthonormal(d: usize, dice: &mut Dice) -> Vec<Vec<f64>> {
    let unit = |i: usize| (0..d).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
    if dice.coin(0.25) {
        return (0..d).map(unit).collect();
    }
    let mut rows: Vec<Vec<f64>> = Vec::new();
    while rows.len() < d {
        let mut row = dice.direction(d);
        // Twice, because once leaves rounding errors.
        for _ in 0..2 {
            for before in &rows {
                let along = dot(before, &row);
                add(&mut row, before, -along);
            }
        }
        let norm = dot(&row, &row).sqrt();
        // Numbers that a search has bent may repeat a direction.
        let Some(row) = (norm > 1e-6).then(|| row.iter().map(|x| x / norm).collect()) else {
            return (0..d).map(unit).collect();
        };
        rows.push(row);
    }
    rows
}

fn quadratic(dice: &mut Dice) -> Problem {
    let d = dice.whole(1, 8);
    let rows = orthonormal(d, dice);
    let condition = dice.log_between(1.0, 1e4);
    let smoothness = dice.log_between(1e-2, 1e2);
    let mut spectrum: Vec<f64> = (0..d).map(|_| smoothness / dice.log_between(1.0, condition)).collect();
    spectrum[0] = smoothness;
    let minimum = dice.normals(d);
    let scale = dice.log_between(0.1, 10.0);
    let start = minimum.iter().zip(dice.direction(d)).map(|(x, u)| x + scale * u).collect();
    let blocks = blocks(d, dice);
    quadratic_of(&rows, &spectrum, &minimum, start, blocks)
}

/// A = Σ λ·qqᵀ.
fn quadratic_of(
    rows: &[Vec<f64>],
    spectrum: &[f64],
    minimum: &[f64],
    start: Vec<f64>,
    blocks: Vec<Range<usize>>,
) -> Problem {
    let d = start.len();
    let entry = |i: usize, j: usize| rows.iter().zip(spectrum).map(|(q, l)| q[i] * l * q[j]).sum::<f64>();
    let a: Vec<Vec<f64>> = (0..d).map(|i| (0..d).map(|j| entry(i, j)).collect()).collect();
    let b: Vec<f64> = a.iter().map(|row| dot(row, minimum)).collect();
    let least = -0.5 * dot(&b, minimum);
    let largest = spectrum.iter().copied().fold(0.0, f64::max);
    let smallest = spectrum.iter().copied().fold(f64::INFINITY, f64::min);
    // The sums of products above round.
    let (smoothness, convexity) = (largest * (1.0 + 1e-12), smallest * (1.0 - 1e-9));
    Problem { kind: Kind::Quadratic(a, b), smoothness, convexity: Some(convexity), least, start, blocks }
}

fn logistic(dice: &mut Dice) -> Problem {
    let (d, n) = (dice.whole(1, 6), dice.whole(2, 10));
    let rows: Vec<Vec<f64>> = (0..n).map(|_| dice.normals(d)).collect();
    let ridge = dice.log_between(1e-3, 1.0);
    let squares: f64 = rows.iter().map(|row| dot(row, row)).sum();
    let smoothness = ridge + squares / (4.0 * n as f64);
    let start = dice.normals(d);
    let blocks = blocks(d, dice);
    let mut problem = Problem {
        kind: Kind::Logistic(rows, ridge),
        smoothness,
        convexity: Some(ridge),
        least: 0.0,
        start,
        blocks,
    };
    problem.least = strongly_convex_minimum(&problem, ridge);
    problem
}

/// `f* ≥ f(x) − ‖∇f(x)‖²/(2μ)` at a point where the second term is small, by Nesterov's accelerated gradient.
fn strongly_convex_minimum(problem: &Problem, convexity: f64) -> f64 {
    let root = (convexity / problem.smoothness).sqrt();
    let momentum = (1.0 - root) / (1.0 + root);
    let (mut x, mut before) = (problem.start.clone(), problem.start.clone());
    for _ in 0..((20.0 / root) as usize).min(4000) {
        let ahead: Vec<f64> = x.iter().zip(&before).map(|(x, before)| x + momentum * (x - before)).collect();
        let (_, gradient) = problem.at(&ahead);
        before = std::mem::replace(&mut x, ahead);
        add(&mut x, &gradient, -1.0 / problem.smoothness);
    }
    let (loss, gradient) = problem.at(&x);
    loss - dot(&gradient, &gradient) / (2.0 * convexity)
}

fn bounded(dice: &mut Dice) -> Problem {
    let (d, n) = (dice.whole(1, 6), dice.whole(1, 8));
    let rows: Vec<Vec<f64>> = (0..n).map(|_| dice.normals(d)).collect();
    let b = dice.normals(n);
    let squares: f64 = rows.iter().map(|row| dot(row, row)).sum();
    let smoothness = (2.0 * squares / n as f64).max(1e-9);
    let start = dice.normals(d);
    let blocks = blocks(d, dice);
    Problem { kind: Kind::Bounded(rows, b), smoothness, convexity: None, least: 0.0, start, blocks }
}

fn sine(dice: &mut Dice) -> Problem {
    let d = dice.whole(1, 6);
    let rows = orthonormal(d, dice);
    let scales: Vec<f64> = (0..d).map(|_| dice.log_between(0.01, 1.0)).collect();
    let largest = scales.iter().copied().fold(0.0, f64::max);
    let smallest = scales.iter().copied().fold(f64::INFINITY, f64::min);
    let start = dice.normals(d).into_iter().map(|x| 3.0 * x).collect();
    let blocks = blocks(d, dice);
    Problem {
        kind: Kind::Sine(rows, scales),
        smoothness: 8.0 * largest * (1.0 + 1e-12),
        convexity: Some(smallest / 32.0),
        least: 0.0,
        start,
        blocks,
    }
}

fn factors(dice: &mut Dice) -> Problem {
    let (rows, cols, rank) = (dice.whole(1, 3), dice.whole(1, 3), dice.whole(1, 2));
    let m: Vec<Vec<f64>> = (0..rows).map(|_| dice.normals(cols)).collect();
    let ridge = dice.log_between(0.1, 1.0);
    let d = rank * (rows + cols);
    let start = dice.normals(d).into_iter().map(|x| 0.5 * x).collect();
    let blocks = blocks(d, dice);
    let norm = m.iter().map(|row| dot(row, row)).sum::<f64>().sqrt();
    let kind = Kind::Factors(m, rank, ridge);
    let mut problem = Problem { kind, smoothness: 0.0, convexity: None, least: 0.0, start, blocks };
    // No step raises the loss, so iterates stay in {(λ/2)‖x‖² ≤ f(x⁰)}, a ball of radius R. There ∇f(0) = 0 makes
    // ‖∇f(x)‖ ≤ L·R, so a step is no longer than R and what lies between two iterates is within 2R. In a direction (P, Q)
    // the second derivative is at most (‖U‖² + ‖V‖² + ‖UV − M‖)(‖P‖² + ‖Q‖²), and λ.
    let square = 4.0 * 2.0 * problem.at(&problem.start).0 / ridge;
    problem.smoothness = square + (square / 2.0 + norm) + ridge;
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradient is that of the loss, and differences of gradients keep to L and growth to μ, wherever it is tried.
    #[test]
    fn constants_are_what_they_claim() {
        for seed in 0..400 {
            let mut dice = Dice::new(seed);
            let problem = Problem::draw(Class::Smooth, &mut dice);
            let d = problem.start.len();
            let near = |dice: &mut Dice| -> Vec<f64> {
                let scale = dice.log_between(1e-4, 0.1);
                problem.start.iter().zip(dice.normals(d)).map(|(x, n)| x + scale * n).collect()
            };
            let (x, direction) = (near(&mut dice), dice.direction(d));
            let step = 1e-6;
            let moved = |sign: f64| -> Vec<f64> {
                x.iter().zip(&direction).map(|(x, u)| x + sign * step * u).collect()
            };
            let (loss, gradient) = problem.at(&x);
            let slope = (problem.at(&moved(1.0)).0 - problem.at(&moved(-1.0)).0) / (2.0 * step);
            let scale = problem.smoothness.max(1.0) * (1.0 + loss.abs());
            assert!((slope - dot(&gradient, &direction)).abs() < 1e-5 * scale, "{problem:?}");
            assert!(problem.blocks.first().is_some_and(|block| block.start == 0));
            assert!(problem.blocks.last().is_some_and(|block| block.end == d));
            assert!(loss >= problem.least - 1e-9 * scale, "{loss} below {problem:?}");
            if let Some(convexity) = problem.convexity {
                let grown = 2.0 * convexity * (loss - problem.least);
                assert!(dot(&gradient, &gradient) >= grown * (1.0 - 1e-6) - 1e-12 * scale, "{problem:?}");
            }
            // Between points of the ball where L holds for factors too.
            let y: Vec<f64> = x.iter().map(|x| 0.7 * x).collect();
            let difference: Vec<f64> = gradient.iter().zip(problem.at(&y).1).map(|(a, b)| a - b).collect();
            let distance: Vec<f64> = x.iter().zip(&y).map(|(a, b)| a - b).collect();
            let bound = problem.smoothness * dot(&distance, &distance).sqrt();
            assert!(dot(&difference, &difference).sqrt() <= bound * (1.0 + 1e-9) + 1e-12, "{problem:?}");
        }
    }
}
