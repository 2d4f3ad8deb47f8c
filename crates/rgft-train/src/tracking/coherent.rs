//! `coherent`: the part of the energy that batches agree on, `E = ‖μ‖⁴ / ‖g‖²`, with μ the mean gradient and g a batch's.
//!
//! With the gradients `g_b` of B ≥ 2 batches, `E[g_b·g_c] = ‖μ‖²` for `b ≠ c`, because what is chance in two batches is
//! independent (Hoeffding's U-statistic, 1948):
//!
//! ```text
//! ‖μ‖² ≈ (‖Σ_b g_b‖² − Σ_b ‖g_b‖²) / (B·(B − 1))        ‖g‖² ≈ Σ_b ‖g_b‖² / B
//! ```
//!
//! An Adam step moves a parameter by η times its gradient over the root of its mean square, so the loss of data that were
//! not in the batch falls by `η·‖μ‖²/‖g‖` per root of a parameter: √E. A component whose batches contradict one another has
//! a large energy and no coherent one; to update it is to fit noise. The ratio `‖μ‖²/‖g‖²` is the gradient's signal-to-noise
//! ratio, which decides how much of a step generalises (Liu et al. 2020, *Understanding why neural networks generalize well
//! through GSNR of parameters*).
//!
//! **Looks add up.** What follows bends an estimate that is mostly chance upwards, so not E is averaged over looks but
//! ‖μ‖² and ‖g‖², which are without bias: an exponential average by examples, of each look in parts of its whole ‖g‖²,
//! because gradients shrink as a model learns and grow where a rate is high. b is averaged likewise.
//!
//! **Shrinkage.** Of few examples the coherence `ρ = ‖μ‖²/‖g‖²` of a small component is mostly chance, with a variance of
//! about `2/(B(B − 1)·n)` for n independent parameters, while ‖g‖² itself is known well. So ρ is drawn towards that of the
//! component's block, and a block's towards that of all blocks, by the part that chance has in their differences (James &
//! Stein 1961). Parameters are far from independent where few examples were seen, so chance is at least what negative
//! estimates show: no true coherence is negative, and with nothing but chance half of the estimates are, `2·Σ_{ρ<0} ρ²` over
//! all of them. What is left of chance has a deviation s, and no coherence is negative, so of an estimate m
//!
//! ```text
//! ρ = (m + √(m² + (8/π)·s²)) / 2        near the mean of a normal distribution cut off at 0: at m = 0 exactly
//! ```
//!
//! and `E = ρ²·‖g‖²`: where nothing is known of the coherence, the energy alone decides.
//!
//! **Batches of one size.** ‖g‖² holds the noise of a batch, so ρ and E of `b` examples a batch are carried over to
//! batches of B = [`BATCH`], or the same data would look the more coherent the larger the batches that a budget pays for:
//!
//! ```text
//! ‖g_B‖² = ‖g_b‖²·f,  ρ_B = ρ_b / f,  f = ρ_b + (1 − ρ_b)·b/B
//! ```
//!
//! Cost: that of dW. In memory: the sum of the gradients, rounded to bf16 at each batch, half as large as the weights that
//! are looked at. Rounding to nearest adds 2⁻¹⁸ of a square to its mean and is independent from scalar to scalar, far below
//! what B batches tell.

use std::collections::BTreeMap;

use half::bf16;
use rgft_core::Component;

use super::exact;
use super::ownership::Ownership;

/// Examples of the batches that ρ and E are those of.
const BATCH: f64 = 32.0;
/// Parameters of a layer are correlated: this many count as one.
const CORRELATED: f64 = 4.0;

/// Sums over batches, and averages over looks.
pub(super) struct Agreement {
    /// What is kept of an average at [`BATCH`] more examples.
    beta: f64,
    looks: Moments,
    /// The whole ‖g‖² of the last look.
    scale: f64,
    /// Batches of [`BATCH`] examples that were seen in all.
    seen: f64,
    /// `Σ_b g_b` of rows from `first` on of a parameter with so many columns, by parameter, `first` and length.
    sums: BTreeMap<(usize, usize, usize), (usize, Vec<bf16>)>,
    /// `Σ_b ‖g_b‖²` by component.
    squares: Vec<f64>,
}

impl Agreement {
    pub(super) fn new(beta: f64) -> Self {
        let (looks, sums, squares) = (Moments::default(), BTreeMap::new(), Vec::new());
        Self { beta, looks, scale: 0.0, seen: 0.0, sums, squares }
    }

    /// Adds a batch's gradient of rows `first..` of a parameter `[_, cols]`.
    pub(super) fn add(
        &mut self,
        ownership: &Ownership,
        parameter: usize,
        cols: usize,
        gradient: &[f32],
        first: usize,
    ) {
        self.squares.resize(ownership.components(), 0.0);
        for slice in ownership.of(parameter) {
            self.squares[slice.component] += exact::of_slice(slice, cols, gradient, first);
        }
        let key = (parameter, first, gradient.len());
        let (_, sum) = self.sums.entry(key).or_insert_with(|| (cols, vec![bf16::ZERO; gradient.len()]));
        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum = bf16::from_f32(sum.to_f32() + g));
    }

    /// Bytes of the sums.
    pub(super) fn bytes(&self) -> usize {
        self.sums.values().map(|(_, sum)| size_of_val(&sum[..])).sum()
    }

    /// E and ρ of each component, and ρ of all together, after a look at `batches` batches of so many examples each, and the
    /// looks before it. A first batch alone agrees with itself, a later one tells
    /// nothing.
    pub(super) fn take(
        &mut self,
        ownership: &Ownership,
        components: &[Component],
        batches: usize,
        examples: f64,
    ) -> Agreed {
        let squares = std::mem::take(&mut self.squares);
        let mut sums = vec![0.0; components.len()];
        for ((parameter, first, _), (cols, sum)) in std::mem::take(&mut self.sums) {
            let sum: Vec<f32> = sum.into_iter().map(bf16::to_f32).collect();
            for slice in ownership.of(parameter) {
                sums[slice.component] += exact::of_slice(slice, cols, &sum, first);
            }
        }
        if batches >= 2 && !squares.is_empty() {
            self.pool(
                &Moments::of(components, &sums, &squares, batches as f64, examples),
                batches as f64 * examples,
            );
        } else if self.seen == 0.0 {
            return Agreed { energies: sums, coherence: vec![1.0; components.len()], overall: 1.0 };
        }
        self.agreed(components)
    }

    /// Adds a look at so many examples.
    fn pool(&mut self, look: &Moments, examples: f64) {
        let new = examples / BATCH;
        self.scale = self.looks.add(look, self.beta.powf(new));
        self.seen += new;
    }

    fn agreed(&self, components: &[Component]) -> Agreed {
        agreed(components, &self.looks, 1.0 - self.beta.powf(self.seen), self.scale)
    }
}

/// Of each component.
#[derive(Clone, Debug, Default)]
struct Moments {
    /// Estimates of ‖μ‖²; chance may make them negative.
    means: Vec<f64>,
    /// ‖g‖² of a batch.
    energies: Vec<f64>,
    /// Variances of `means`.
    variances: Vec<f64>,
    /// Examples of a batch, in one number.
    examples: Vec<f64>,
}

impl Moments {
    /// From `‖Σ_b g_b‖²` and `Σ_b ‖g_b‖²` over `b` batches of `examples` each.
    fn of(components: &[Component], sums: &[f64], squares: &[f64], b: f64, examples: f64) -> Self {
        let mean = |(sum, square): (&f64, &f64)| (sum - square) / (b * (b - 1.0));
        let variance = |(square, component): (&f64, &Component)| {
            let independent = component.parameters.max(1) as f64 / CORRELATED;
            2.0 / (b * (b - 1.0) * independent) * (square / b).powi(2)
        };
        Self {
            means: sums.iter().zip(squares).map(mean).collect(),
            energies: squares.iter().map(|square| square / b).collect(),
            variances: squares.iter().zip(components).map(variance).collect(),
            examples: vec![examples],
        }
    }

    /// Keeps a part of these and adds the other part of a look's, in parts of its whole ‖g‖², which is returned.
    fn add(&mut self, look: &Self, kept: f64) -> f64 {
        let whole = look.energies.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let average = |averages: &mut Vec<f64>, seen: &[f64], kept: f64, part: f64| {
            averages.resize(seen.len(), 0.0);
            averages
                .iter_mut()
                .zip(seen)
                .for_each(|(average, seen)| *average = kept * *average + part * seen);
        };
        let part = (1.0 - kept) / whole;
        average(&mut self.means, &look.means, kept, part);
        average(&mut self.energies, &look.energies, kept, part);
        average(&mut self.variances, &look.variances, kept * kept, part * part);
        average(&mut self.examples, &look.examples, kept, 1.0 - kept);
        whole
    }
}

/// E and ρ of each component from averages that weigh `weight` in all; E at the scale of the last look.
fn agreed(components: &[Component], looks: &Moments, weight: f64, scale: f64) -> Agreed {
    let n = |i: usize| components[i].parameters.max(1) as f64;
    let Moments { means, energies: energy, variances, examples } = looks;
    let estimate = |i: usize| {
        let of_energy = if energy[i] > 0.0 { 1.0 / energy[i] } else { 0.0 };
        Estimate { value: means[i] * of_energy, variance: variances[i] * of_energy * of_energy }
    };
    let mut own: Vec<Estimate> = (0..means.len()).map(estimate).collect();
    let chance = chance(&own, energy);
    own.iter_mut().for_each(|own| own.variance = own.variance.max(chance));
    let mut blocks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    // What has no energy has no coherence either, and says nothing of its neighbours.
    let lively = (0..own.len()).filter(|&i| energy[i] > 0.0);
    lively.for_each(|i| blocks.entry(components[i].depth).or_default().push(i));
    let blocks: Vec<Vec<usize>> = blocks.into_values().collect();
    let of_block = |members: &Vec<usize>| {
        let total: f64 = members.iter().map(|&i| n(i)).sum();
        let mean = |of: &dyn Fn(usize) -> f64| members.iter().map(|&i| n(i) / total * of(i)).sum::<f64>();
        Estimate { value: mean(&|i| own[i].value), variance: mean(&|i| n(i) / total * own[i].variance) }
    };
    let by_block: Vec<Estimate> = blocks.iter().map(of_block).collect();
    let mut coherence = vec![0.0; own.len()];
    for (members, centre) in blocks.iter().zip(shrunk(&by_block)) {
        let members_own: Vec<Estimate> = members.iter().map(|&i| own[i]).collect();
        let middle = members_own.iter().map(|e| e.value).sum::<f64>() / members.len() as f64;
        for (&i, own) in members.iter().zip(shrunk(&members_own)) {
            let value = centre.value + own.value - middle;
            coherence[i] = Estimate { value, variance: centre.variance + own.variance }.not_negative();
        }
    }
    let overall = means.iter().sum::<f64>() / energy.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let overall = overall.clamp(0.0, 1.0);
    // From batches of so many examples to those of BATCH.
    let size = examples.iter().sum::<f64>() / weight / BATCH;
    let factor = |rho: f64| (rho + (1.0 - rho) * size).max(f64::MIN_POSITIVE);
    let energies = coherence.iter().zip(energy);
    let energies = energies.map(|(&rho, energy)| rho * rho * energy / factor(rho) / weight * scale).collect();
    let coherence = coherence.into_iter().map(|rho| rho / factor(rho)).collect();
    Agreed { energies, coherence, overall: overall / factor(overall) }
}

/// What the estimates say of their own chance: where there is nothing but chance, half of them are negative, though no true
/// coherence is.
fn chance(estimates: &[Estimate], energy: &[f64]) -> f64 {
    let lively = estimates.iter().zip(energy).filter(|(_, energy)| **energy > 0.0);
    let (count, squares) = lively.fold((0, 0.0), |(count, squares), (estimate, _)| {
        (count + 1, squares + estimate.value.min(0.0).powi(2))
    });
    2.0 * squares / f64::from(count.max(1))
}

/// What batches agree on.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    /// E.
    pub(super) energies: Vec<f64>,
    /// ρ.
    pub(super) coherence: Vec<f64>,
    /// ρ of the whole gradient.
    pub(super) overall: f64,
}

#[derive(Clone, Copy)]
struct Estimate {
    value: f64,
    variance: f64,
}

impl Estimate {
    /// About the mean of what is not negative in a normal distribution; at most 1.
    fn not_negative(self) -> f64 {
        let Self { value, variance } = self;
        let root = (value * value + 8.0 / std::f64::consts::PI * variance).sqrt();
        (0.5 * (value + root)).clamp(0.0, 1.0)
    }
}

/// The values, drawn towards their mean by the part that chance has in their differences; and what is left of chance.
fn shrunk(estimates: &[Estimate]) -> Vec<Estimate> {
    let count = estimates.len().max(1) as f64;
    let mean = |of: &dyn Fn(&Estimate) -> f64| estimates.iter().map(of).sum::<f64>() / count;
    let centre = mean(&|e| e.value);
    let spread = mean(&|e| (e.value - centre).powi(2));
    let true_spread = (spread - mean(&|e| e.variance)).max(0.0);
    let drawn = |e: &Estimate| {
        let own = if true_spread > 0.0 { true_spread / (true_spread + e.variance) } else { 0.0 };
        let of_centre = (1.0 - own).powi(2) * mean(&|e| e.variance) / count;
        Estimate { value: centre + own * (e.value - centre), variance: own * e.variance + of_centre }
    };
    estimates.iter().map(drawn).collect()
}

#[cfg(test)]
mod tests {
    use rgft_core::ComponentKind;

    use super::*;

    /// Two blocks of a thousand parameters.
    fn components() -> Vec<Component> {
        let component = |depth: usize| Component {
            name: depth.to_string(),
            kind: ComponentKind::FeedForward,
            layer: None,
            slices: Vec::new(),
            parameters: 1000,
            depth,
            fresh: false,
        };
        (0..2).map(component).collect()
    }

    /// Four batches of `examples` with ‖g‖² = `energies`, which agree on these parts of them.
    fn look(energies: [f64; 2], coherence: [f64; 2], examples: f64) -> Moments {
        let squares = energies.map(|energy| 4.0 * energy);
        // ‖Σ g‖² = Σ ‖g‖² + B(B − 1)·‖μ‖²
        let sum = |i: usize| squares[i] + 12.0 * coherence[i] * energies[i];
        Moments::of(&components(), &[sum(0), sum(1)], &squares, 4.0, examples)
    }

    fn after(looks: &[(Moments, f64)]) -> Agreed {
        let mut agreement = Agreement::new(0.9);
        looks.iter().for_each(|(look, examples)| agreement.pool(look, *examples));
        agreement.agreed(&components())
    }

    #[test]
    fn batches_of_32_keep_their_coherence_and_others_are_carried_over() {
        let found = after(&[(look([3.0, 5.0], [0.5, 0.5], 32.0), 128.0)]);
        assert!((found.overall - 0.5).abs() < 1e-9, "{found:?}");
        assert!((found.energies[1] / found.energies[0] - 5.0 / 3.0).abs() < 1e-6, "{found:?}");
        // Half the examples, the same mean: of ‖g‖² = 1 the mean is 1/3, the noise of 32 examples another third.
        let found = after(&[(look([1.0, 1.0], [1.0 / 3.0; 2], 16.0), 64.0)]);
        assert!((found.overall - 0.5).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_look_repeated_at_another_scale_is_the_same_look_with_less_chance() {
        let [one, ten] = [1.0, 10.0].map(|scale| (look([scale, 2.0 * scale], [0.02, 0.3], 32.0), 128.0));
        let (once, twice) = (after(std::slice::from_ref(&one)), after(&[one.clone(), ten]));
        assert!((once.overall - twice.overall).abs() < 1e-9);
        assert!(twice.coherence[1] > once.coherence[1] && twice.coherence[0] < once.coherence[0]);
        assert!(
            (twice.energies[1] / once.energies[1] / 10.0 - 1.0).abs() < 0.1,
            "at the scale of the last look"
        );
    }

    #[test]
    fn where_estimates_are_chance_the_energy_alone_decides() {
        // As many parameters seem to tell them apart; but one of two is negative by as much as the other is positive.
        let found = after(&[(look([1.0, 4.0], [-0.3, 0.3], 8.0), 32.0)]);
        assert!((found.energies[1] / found.energies[0] - 4.0).abs() < 1e-6, "{found:?}");
        let found = after(&[(look([1.0, 4.0], [0.02, 0.3], 8.0), 32.0)]);
        assert!(found.energies[1] / found.energies[0] > 20.0, "{found:?}");
    }

    #[test]
    fn a_small_look_does_not_outweigh_a_large_one() {
        let large = (look([1.0, 1.0], [0.3, 0.0], 32.0), 128.0);
        let small = (look([1.0, 1.0], [-0.1, 0.5], 4.0), 16.0);
        let found = after(&[large, small]);
        assert!(found.energies[0] > found.energies[1], "{found:?}");
    }
}
