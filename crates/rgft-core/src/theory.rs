//! The bounds of THEORY.md as functions: what a run may do at most, and what it must then reach.
//!
//! A step is `x_i ← x_i − η·w_i·g_i`. Symbols and their names here: L [`Smooth::smoothness`], w_min and w_max
//! [`Smooth::least`] and [`Smooth::most`], β [`Smooth::momentum`], η `rate`, Δ = f(x⁰) − f* `gap`, K `steps`, T `window`,
//! m [`turns`], ϑ `captured`, a `age`, κ `accuracy`, V `variance`, μ `convexity`. Units: f is a loss, x a parameter; η is
//! parameter² / loss, L and μ loss / parameter², a bound on ‖∇f‖² loss² / parameter², V the same.
//!
//! With momentum (β > 0) rates, `floor`, `windows` and `stale` hold; what else is proved without it asserts β = 0 in debug
//! builds. Proofs stand in THEORY.md; `rgft theory verify` measures against these very functions.

pub mod curves;
mod dice;
mod policy;
mod problems;
mod runs;
mod statements;
pub mod verify;

/// What is known of a loss and of the weights of its components.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smooth {
    /// L: `‖∇f(x) − ∇f(y)‖ ≤ L·‖x − y‖`.
    pub smoothness: f64,
    /// w_min: the least weight of an active component.
    pub least: f64,
    /// w_max: the largest weight.
    pub most: f64,
    /// β; 0 for plain steps.
    pub momentum: f64,
}

impl Smooth {
    /// The largest η at which no step raises the loss (Lemma 1; with momentum, the potential of Lemma 3): `(1 − β)/(L·w_max)`.
    pub fn rate(&self) -> f64 {
        (1.0 - self.momentum) / (self.smoothness * self.most)
    }

    /// The largest η of T1c: every one of `blocks` components is active once in each window of so many steps.
    pub fn rate_for_windows(&self, blocks: usize, window: usize) -> f64 {
        let moves = turns(blocks, window) * window.saturating_sub(1) as f64;
        let root = (self.most * self.least * moves).sqrt();
        self.rate().min((1.0 - self.momentum).sqrt() / (self.smoothness * root))
    }

    /// The largest η of T1d: active sets are chosen by maps that are at most `age` steps old.
    pub fn rate_for_stale(&self, age: usize) -> f64 {
        let root = (self.most * self.least).sqrt();
        self.rate().min((1.0 - self.momentum).sqrt() / (2.0 * self.smoothness * age as f64 * root))
    }

    /// `C_T = 1/w_min + m(T − 1)L²η²·w_max/(1 − β)`: by how much more than the decrease of a window the gradient at its beginning
    /// may be, `‖∇f‖² ≤ 2·C_T·D` (T1c).
    pub fn window_factor(&self, rate: f64, blocks: usize, window: usize) -> f64 {
        let moves = turns(blocks, window) * window.saturating_sub(1) as f64;
        let drift = moves * (self.smoothness * rate).powi(2) * self.most / (1.0 - self.momentum);
        1.0 / self.least + drift
    }
}

/// How a run spends its steps, as far as the learning rate is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// Every component in every step (T1a).
    All,
    /// Every one of `blocks` components once in each window of so many steps (T1c).
    Windows {
        /// n.
        blocks: usize,
        /// T.
        window: usize,
    },
    /// What a map that is at most so many steps old says (T1d).
    Map {
        /// a.
        age: usize,
    },
}

/// The largest learning rate for which the theorem about this way of spending holds.
pub fn recommended_learning_rate(smooth: &Smooth, spending: Spending) -> f64 {
    match spending {
        Spending::All => smooth.rate(),
        Spending::Windows { blocks, window } => smooth.rate_for_windows(blocks, window),
        Spending::Map { age } => smooth.rate_for_stale(age),
    }
}

/// m = min(n, T − 1): how many different steps of a window there are, after its first, in which a component has its first turn.
pub fn turns(blocks: usize, window: usize) -> f64 {
    blocks.min(window.saturating_sub(1)) as f64
}

/// Lemma 1: the decrease of the loss that a step guarantees, from `Σ w_i‖∇_i f‖²`.
pub fn descent(rate: f64, weighted: f64) -> f64 {
    0.5 * rate * weighted
}

/// T1a: the least `‖∇f‖²` of K steps, all weights being at least w_min.
pub fn floor(smooth: &Smooth, gap: f64, rate: f64, steps: usize) -> f64 {
    2.0 * gap / (rate * smooth.least * steps as f64)
}

/// T1b: the least `‖∇f‖²` of steps whose weights add up to 1, from the sum of their alignments A_k. Smoothness L alone
/// bounds η, by 1/L.
pub fn aligned(gap: f64, rate: f64, blocks: usize, alignments: f64) -> f64 {
    2.0 * blocks as f64 * gap / (rate * alignments)
}

/// T1b: `A = n·Σ w_i‖∇_i f‖² / (Σ w_i · ‖∇f‖²)`, from 0 to n; 1 for uniform weights and at least that for ordered ones. 1 where
/// there is no gradient or no weight.
pub fn alignment(weights: &[f64], squares: &[f64]) -> f64 {
    let weighted: f64 = weights.iter().zip(squares).map(|(weight, square)| weight * square).sum();
    let apart = weights.iter().sum::<f64>() * squares.iter().sum::<f64>();
    if apart > 0.0 && apart.is_finite() { weights.len() as f64 * weighted / apart } else { 1.0 }
}

/// T1c: the least `‖∇f‖²` at the beginnings of so many windows.
pub fn windows(smooth: &Smooth, gap: f64, rate: f64, windows: usize) -> f64 {
    8.0 * gap / (rate * smooth.least * windows as f64)
}

/// T1d: the least `‖∇f‖²` of K steps whose maps captured a share of at least `captured`.
pub fn stale(smooth: &Smooth, gap: f64, rate: f64, captured: f64, steps: usize) -> f64 {
    8.0 * gap / (captured * rate * smooth.least * steps as f64)
}

/// T1b, T1d: what is left of an alignment or a captured share that a κ-accurate map claims.
pub fn by_proxy(claimed: f64, accuracy: f64) -> f64 {
    claimed / accuracy.powi(2)
}

/// T2: the mean of `𝔼‖∇f‖²` over K steps, all weights being at least w_min; V bounds `Σ w_i²σ_i²`.
pub fn noisy_floor(smooth: &Smooth, gap: f64, rate: f64, variance: f64, steps: usize) -> f64 {
    debug_assert_eq!(smooth.momentum, 0.0);
    let noise = rate * smooth.smoothness * variance;
    (2.0 * gap / (rate * steps as f64) + noise) / smooth.least
}

/// T2: the mean of `𝔼‖∇f‖²` over the beginnings of so many windows.
pub fn noisy_windows(
    smooth: &Smooth,
    gap: f64,
    rate: f64,
    variance: f64,
    blocks: usize,
    window: usize,
    windows: usize,
) -> f64 {
    let moves = turns(blocks, window) * window.saturating_sub(1) as f64;
    debug_assert_eq!(smooth.momentum, 0.0);
    let factor = 4.0 / smooth.least + 2.0 * (moves / (smooth.most * smooth.least)).sqrt();
    let noise = rate * smooth.smoothness * window as f64 * variance;
    8.0 * gap / (rate * smooth.least * windows as f64) + noise * factor
}

/// T2: the mean of `𝔼‖∇f‖²` over K steps chosen by maps at most `age` steps old.
pub fn noisy_stale(
    smooth: &Smooth,
    gap: f64,
    rate: f64,
    variance: f64,
    captured: f64,
    age: usize,
    steps: usize,
) -> f64 {
    debug_assert_eq!(smooth.momentum, 0.0);
    let factor = 1.0 / smooth.least + age as f64 / (smooth.most * smooth.least).sqrt();
    let noise = 4.0 * rate * smooth.smoothness * variance;
    (8.0 * gap / (rate * smooth.least * steps as f64) + noise * factor) / captured
}

/// T3: what is left of `f − f*` after a step, all weights being at least w_min.
pub fn contraction_floor(smooth: &Smooth, rate: f64, convexity: f64) -> f64 {
    debug_assert_eq!(smooth.momentum, 0.0);
    1.0 - rate * convexity * smooth.least
}

/// T3: what is left of `f − f*` after a window.
pub fn contraction_windows(smooth: &Smooth, rate: f64, convexity: f64, blocks: usize, window: usize) -> f64 {
    debug_assert_eq!(smooth.momentum, 0.0);
    1.0 - rate * convexity / (2.0 * smooth.window_factor(rate, blocks, window))
}

/// T3: what is left of `f − f*` after a step chosen by a map at most `age` steps old; `None` where it is too old for the rate.
pub fn contraction_stale(
    smooth: &Smooth,
    rate: f64,
    convexity: f64,
    captured: f64,
    age: usize,
) -> Option<f64> {
    debug_assert_eq!(smooth.momentum, 0.0);
    let drift = (1.0 + rate * smooth.smoothness * smooth.most).powi(age as i32) - 1.0;
    let kept = (captured.sqrt() - drift) / (1.0 + drift);
    (kept > 0.0).then_some(1.0 - rate * convexity * smooth.least * kept * kept)
}

/// T3: what bounds `𝔼f − f*` after ever so many steps with noise: `ηLV/(2μ·w_min)`.
pub fn noise_ball(smooth: &Smooth, rate: f64, convexity: f64, variance: f64) -> f64 {
    debug_assert_eq!(smooth.momentum, 0.0);
    rate * smooth.smoothness * variance / (2.0 * convexity * smooth.least)
}

/// T3: what noise adds to `𝔼f − f*` in a window at most, beside [`contraction_windows`].
pub fn window_noise(smooth: &Smooth, rate: f64, variance: f64, blocks: usize, window: usize) -> f64 {
    let moves = turns(blocks, window) * window.saturating_sub(1) as f64;
    debug_assert_eq!(smooth.momentum, 0.0);
    let drift = moves * smooth.smoothness * rate / smooth.window_factor(rate, blocks, window);
    0.5 * smooth.smoothness * window as f64 * rate * rate * variance * (1.0 + drift)
}

/// T6: the components, ascending, whose update makes the guaranteed decrease per FLOP largest, and that ratio: `gains` are
/// w_i‖∇_i f‖² ≥ 0, `costs` FLOPs > 0, `base` > 0 what a step costs without any.
///
/// # Panics
/// If the lists differ in length.
pub fn best_ratio(gains: &[f64], costs: &[f64], base: f64) -> (Vec<usize>, f64) {
    assert_eq!(gains.len(), costs.len(), "a gain and a cost for each component");
    let mut order: Vec<usize> = (0..gains.len()).collect();
    order.sort_by(|&a, &b| (gains[b] / costs[b]).total_cmp(&(gains[a] / costs[a])));
    let (mut gain, mut cost, mut chosen) = (0.0, base, Vec::new());
    for i in order {
        // As long as the next density is above the ratio so far, it raises it.
        if gains[i] * cost <= gain * costs[i] {
            break;
        }
        (gain, cost) = (gain + gains[i], cost + costs[i]);
        chosen.push(i);
    }
    chosen.sort_unstable();
    (chosen, gain / cost)
}

#[cfg(test)]
#[allow(missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Smooth = Smooth { smoothness: 4.0, least: 0.5, most: 2.0, momentum: 0.0 };

    #[test]
    fn rates_by_hand() {
        assert_eq!((turns(3, 9), turns(9, 3), turns(9, 1)), (3.0, 2.0, 0.0));
        assert_eq!(PLAIN.rate(), 0.125);
        // m = min(3, 4) = 3, m(T − 1) = 12 > w_max/w_min.
        assert_eq!(PLAIN.rate_for_windows(3, 5), 1.0 / (4.0 * 12f64.sqrt()));
        assert_eq!(PLAIN.rate_for_windows(3, 1), PLAIN.rate());
        assert_eq!(PLAIN.rate_for_stale(4), 1.0 / 32.0);
        assert_eq!(PLAIN.rate_for_stale(0), PLAIN.rate());
        let heavy = Smooth { momentum: 0.75, ..PLAIN };
        assert_eq!((heavy.rate(), heavy.rate_for_stale(4)), (0.03125, 1.0 / 64.0));
        let spending = [Spending::All, Spending::Windows { blocks: 3, window: 5 }, Spending::Map { age: 4 }];
        let rates = spending.map(|spending| recommended_learning_rate(&PLAIN, spending));
        assert_eq!(rates, [0.125, PLAIN.rate_for_windows(3, 5), 1.0 / 32.0]);
    }

    #[test]
    fn bounds_by_hand() {
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        near(descent(0.1, 3.0), 0.15);
        near(floor(&PLAIN, 3.0, 0.1, 10), 12.0);
        near(aligned(3.0, 0.1, 4, 20.0), 12.0);
        near(windows(&PLAIN, 3.0, 0.1, 2), 240.0);
        near(stale(&PLAIN, 3.0, 0.1, 0.25, 10), 192.0);
        near(by_proxy(0.9, 3.0), 0.1);
        near(noisy_floor(&PLAIN, 3.0, 0.1, 2.0, 10), 13.6);
        // ηLTV = 0.1·4·5·2 = 4, 4/w_min + 2·√12 = 8 + 6.928…
        near(noisy_windows(&PLAIN, 3.0, 0.1, 2.0, 3, 5, 2), 240.0 + 4.0 * (8.0 + 2.0 * 12f64.sqrt()));
        near(noisy_stale(&PLAIN, 3.0, 0.1, 2.0, 0.25, 4, 10), 4.0 * (48.0 + 3.2 * 6.0));
        near(PLAIN.window_factor(0.1, 3, 5), 2.0 + 12.0 * 0.16 * 2.0);
        near(contraction_floor(&PLAIN, 0.1, 0.4), 0.98);
        near(contraction_windows(&PLAIN, 0.1, 0.4, 3, 5), 1.0 - 0.04 / (2.0 * 5.84));
        near(noise_ball(&PLAIN, 0.1, 0.4, 2.0), 2.0);
        near(window_noise(&PLAIN, 0.1, 2.0, 3, 5), 0.2 * (1.0 + 4.8 / 5.84));
        // (1 + ηLw_max) = 1.8 is too far for one step, 1.08 is not.
        assert_eq!(contraction_stale(&PLAIN, 0.1, 0.4, 0.49, 1), None);
        let kept = (0.7 - 0.08) / 1.08;
        near(contraction_stale(&PLAIN, 0.01, 0.4, 0.49, 1).unwrap_or(0.0), 1.0 - 0.002 * kept * kept);
    }

    #[test]
    fn alignment_of_shares_is_the_inverse_participation_ratio() {
        let squares = [1.0, 2.0, 5.0];
        let shares = squares.map(|square| square / 8.0);
        let participation: f64 = shares.iter().map(|share| share * share).sum();
        assert!((alignment(&shares, &squares) - 3.0 * participation).abs() < 1e-12);
        assert!((alignment(&[0.1; 3], &squares) - 1.0).abs() < 1e-12);
        assert_eq!(alignment(&[0.0; 3], &squares), 1.0);
    }

    /// THEORY.md, *Weights must be predictable*: shares of a batch's own energies turn the expected step around.
    #[test]
    fn weights_from_their_own_batch_turn_a_step_around() {
        let outcomes = [(0.85, 0.5), (0.15, -2.0)];
        let expected = |of: &dyn Fn(f64) -> f64| outcomes.iter().map(|(p, g)| p * of(*g)).sum::<f64>();
        let own_share = |g: f64| g * g / (g * g + 1.0);
        assert!((expected(&|g| g) - 0.125).abs() < 1e-12);
        assert!((expected(&|g| own_share(g) * g) + 0.155).abs() < 1e-12);
        // The other block's gradient is ±1 by a coin of its own: its expected step is 0, and its true gradient too.
        // By the share that is expected, known before the batch, the step goes the right way.
        assert!(expected(&own_share) * expected(&|g| g) > 0.0);
    }

    proptest! {
        #[test]
        fn no_other_set_has_a_better_ratio(
            parts in proptest::collection::vec((0.0..10.0f64, 0.1..10.0f64), 0..9),
            base in 0.1..20.0f64,
        ) {
            let (gains, costs): (Vec<f64>, Vec<f64>) = parts.into_iter().unzip();
            let ratio = |is_in: &dyn Fn(usize) -> bool| {
                let sum = |of: &[f64]| (0..of.len()).filter(|&i| is_in(i)).map(|i| of[i]).sum::<f64>();
                sum(&gains) / (base + sum(&costs))
            };
            let (chosen, best) = best_ratio(&gains, &costs, base);
            prop_assert!((ratio(&|i| chosen.contains(&i)) - best).abs() <= 1e-12 * best.max(1.0));
            for set in 0..1u32 << gains.len() {
                prop_assert!(ratio(&|i| set >> i & 1 == 1) <= best * (1.0 + 1e-12));
            }
        }
    }
}
