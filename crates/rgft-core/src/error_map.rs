//! The error map: how much of the error each component causes, smoothed over what was observed so far.
//!
//! ```text
//! m_i ← β·m_i + (1 − β)·Ê_i          each time component i is seen
//! raw_i = m_i / (1 − β^n_i)          n_i = how often it was seen; 0 while unseen
//! E_i = clip(α_i · raw_i, 0, E_max)
//! p_i = E_i / Σ_j E_j                its share
//! ```
//!
//! Where Ê comes from is a [`Signal`]; the map takes numbers and asks no questions but that they be energies.

use serde::{Deserialize, Serialize};

use crate::alpha::{Alpha, Scaling};
use crate::component::Component;
use crate::error::CoreError;
use crate::words::words;

/// How the energy Ê of a component is read off the activations `a` and the carried-back residuals `δ` of a
/// batch. For a linear site, `a` is `[tokens, in]`, `δ` is `[tokens, out]`, the weight gradient is
/// `dW = δᵀ a`, `[out, in]`; R are the rows (C the columns) that belong to the component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Signal {
    /// `Ê_R = ‖Σ_t (Σ_{r∈R} z_r δ_{t,r}) a_t‖²`, z ∈ {±1}^out drawn once per site and step.
    ///
    /// An unbiased estimate of `‖dW_R‖²` without dW: E[z zᵀ] = I. Cost `O(T·(out + groups·in))` against
    /// `O(T·out·in)` for dW. Source: Hutchinson's estimator (1990) applied to `dW dWᵀ`.
    Sketch,
    /// `Ê_R = Σ_t ‖δ_{t,R}‖² ‖a_t‖²`; for columns `Σ_t ‖δ_t‖² ‖a_{t,C}‖²`.
    ///
    /// The energy that would remain if tokens' gradients were orthogonal: the diagonal of the Gram matrix of
    /// per-token gradients. Cost `O(T·(in + out))`. Source: the norm trick of Goodfellow (2015), per token.
    Gram,
    /// `Ê_R = ‖dW_R‖²`. Free where dW is computed anyway, `O(T·out·in)` where it is not.
    Exact,
    /// `Ê = Σ |dθ|`, what a step by signs promises, as AdamW's first is. Cost as `exact`. Source: GreenTrainer (Huang et
    /// al. 2024), whose importance of a tensor is the sum of gradient times step.
    Absolute,
    /// `Ê = |⟨θ, ∇_θ ℓ⟩|`, with `⟨W_R, dW_R⟩ = Σ_t δ_{t,R}·h_{t,R}` for the output h.
    ///
    /// The first-order change of the loss if the component were zero. Cost `O(T·out·in)`. Source: Molchanov et al.
    /// (2019).
    Taylor,
    /// `Ê_R = Σ_j ‖dW⁽ʲ⁾_R‖²`, the squared gradients of single examples, each sketched where it has several rows.
    ///
    /// The empirical Fisher information's diagonal, summed. Cost as `sketch`. Source: Theis et al. (2018).
    Fisher,
    /// `Ê = sketch / ‖θ‖²`, meant with α `uniform`. Source: Auto-RGN (Lee et al. 2023).
    Relative,
    /// `Ê = ‖AᵀR‖_F / (‖A‖_F·‖R‖_F)`, A a component's output and R the output residual, a row per example.
    ///
    /// Forward only: it sees below the cut without a backward pass. Cost `O(T·(in + out))` besides the forward.
    Covariance,
    /// `sketch` with a backward pass that ends at the cut; in residual blocks below, the `δ` of the cut stands in.
    ///
    /// Cost as `sketch`, with about half of dX below the cut. Source: Veit et al. (2016).
    Depth,
    /// `Ê = ‖μ‖⁴ / ‖g‖²`: the energy of the mean gradient μ, times the part of a batch's energy that it makes.
    ///
    /// What batches agree on: `‖μ‖²` is the mean product of the gradients of two batches. Cost as `exact`. Source:
    /// Hoeffding's U-statistic (1948); the gradient's signal-to-noise ratio of Liu et al. (2020).
    #[default]
    Coherent,
}

words!(Signal, "signal", {
    "sketch" => Signal::Sketch,
    "gram" => Signal::Gram,
    "exact" => Signal::Exact,
    "absolute" => Signal::Absolute,
    "taylor" => Signal::Taylor,
    "fisher" => Signal::Fisher,
    "relative" => Signal::Relative,
    "covariance" => Signal::Covariance,
    "depth" => Signal::Depth,
    "coherent" => Signal::Coherent,
});

/// Settings of the error map.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorMapSettings {
    /// β of the moving average, 0 ≤ β < 1.
    pub beta: f64,
    /// The scaling α.
    pub alpha: Alpha,
    /// E_max, 0 < E_max ≤ 1e100.
    pub max: f64,
}

impl Signal {
    /// Every signal, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Sketch,
        Self::Gram,
        Self::Exact,
        Self::Absolute,
        Self::Taylor,
        Self::Fisher,
        Self::Relative,
        Self::Covariance,
        Self::Depth,
        Self::Coherent,
    ];
}

impl Default for ErrorMapSettings {
    fn default() -> Self {
        Self { beta: 0.9, alpha: Alpha::default(), max: 1e12 }
    }
}

/// The map. Every list that goes in or out has one entry per component, in the order given to [`Self::new`].
#[derive(Clone, Debug)]
pub struct ErrorMap {
    beta: f64,
    max: f64,
    scaling: Scaling,
    names: Vec<String>,
    averages: Vec<f64>,
    /// Weights of what was seen, in all.
    seen: Vec<f64>,
}

impl ErrorMap {
    /// A map in which nothing was seen yet.
    ///
    /// # Errors
    /// A setting out of range, or a pattern of the α table that is no glob.
    pub fn new(components: &[Component], settings: ErrorMapSettings) -> Result<Self, CoreError> {
        let ErrorMapSettings { beta, alpha, max } = settings;
        if !(0.0..1.0).contains(&beta) {
            return Err(CoreError::OutOfRange { setting: "beta", found: beta, expected: "0 ≤ beta < 1" });
        }
        if !(max > 0.0 && max <= 1e100) {
            let expected = "0 < maximum ≤ 1e100";
            return Err(CoreError::OutOfRange { setting: "energy maximum", found: max, expected });
        }
        Ok(Self {
            beta,
            max,
            scaling: Scaling::new(&alpha, components)?,
            names: components.iter().map(|component| component.name.clone()).collect(),
            averages: vec![0.0; components.len()],
            seen: vec![0.0; components.len()],
        })
    }

    /// Takes in energies that weigh as much as `weight` observations; `None` for a component that was not seen.
    ///
    /// `squared_norms` are `‖θ_i‖²` now; it may be empty unless α is `relative`.
    ///
    /// # Errors
    /// A list of the wrong length, or a value that is not finite or negative, with the component's name. The map
    /// is then unchanged.
    pub fn observe(
        &mut self,
        energy: &[Option<f64>],
        squared_norms: &[f64],
        weight: f64,
    ) -> Result<(), CoreError> {
        let expected = self.names.len();
        if energy.len() != expected {
            return Err(CoreError::Length { what: "energies", found: energy.len(), expected });
        }
        if squared_norms.len() != expected && (self.scaling.needs_norms() || !squared_norms.is_empty()) {
            return Err(CoreError::Length { what: "squared norms", found: squared_norms.len(), expected });
        }
        self.check("energy", energy.iter().copied())?;
        self.check("squared norm", squared_norms.iter().copied().map(Some))?;

        let kept = self.beta.powf(weight);
        for (i, seen) in energy.iter().enumerate() {
            if let Some(energy) = seen {
                self.averages[i] = kept * self.averages[i] + (1.0 - kept) * energy;
                self.seen[i] += weight;
            }
        }
        self.scaling.update_norms(squared_norms);
        Ok(())
    }

    fn check(&self, what: &'static str, values: impl Iterator<Item = Option<f64>>) -> Result<(), CoreError> {
        for (name, value) in self.names.iter().zip(values) {
            if let Some(found) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(CoreError::NotAnEnergy { component: name.clone(), what, found });
            }
        }
        Ok(())
    }

    /// The bias-corrected averages, without α; 0 where nothing was seen.
    pub fn raw(&self) -> Vec<f64> {
        self.averages
            .iter()
            .zip(&self.seen)
            .map(|(average, &n)| if n > 0.0 { average / (1.0 - self.beta.powf(n)) } else { 0.0 })
            .collect()
    }

    /// E: finite, in `[0, E_max]`.
    pub fn energies(&self) -> Vec<f64> {
        let scaled = self.raw().into_iter().enumerate().map(|(i, raw)| self.scaling.alpha(i) * raw);
        scaled.map(|energy| energy.min(self.max)).collect()
    }

    /// p, with sum 1; uniform while all energies are 0.
    pub fn shares(&self) -> Vec<f64> {
        shares(&self.energies())
    }

    /// `1/Σ p_i²`: over how many components the error is spread, between 1 and their number.
    pub fn effective_components(&self) -> f64 {
        effective_components(&self.shares())
    }
}

/// `p_i = E_i / Σ_j E_j`, with sum 1; uniform where all energies are 0.
pub fn shares(energies: &[f64]) -> Vec<f64> {
    let total: f64 = energies.iter().sum();
    let uniform = 1.0 / energies.len() as f64;
    energies.iter().map(|energy| if total > 0.0 { energy / total } else { uniform }).collect()
}

/// `1/Σ p_i²`; 0 for no components.
pub fn effective_components(shares: &[f64]) -> f64 {
    let concentration: f64 = shares.iter().map(|p| p * p).sum();
    if concentration > 0.0 { 1.0 / concentration } else { 0.0 }
}

#[cfg(test)]
mod tests;
