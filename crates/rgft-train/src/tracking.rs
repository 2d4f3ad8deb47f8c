//! Signals: from a look at a batch to one energy per component. A look never changes a number of the run.
//!
//! With `a` `[T, in]` a site's input, `δ` `[T, out]` its carried-back residual and `dW = δᵀ·a` `[out, in]`, each signal
//! has a file with its formula, shapes, cost and source:
//!
//! | signal | energy of a component | file |
//! |---|---|---|
//! | `sketch` | `‖dθ‖²`, estimated without dW and without bias | `sketch.rs` |
//! | `gram` | the part of it that would remain if rows' gradients were orthogonal | `gram.rs` |
//! | `exact` | `‖dθ‖²` | `exact.rs` |
//! | `absolute` | `Σ |dθ|` | `absolute.rs` |
//! | `taylor` | `|⟨θ, dθ⟩|` | `taylor.rs` |
//! | `fisher` | `Σ_j ‖dθ⁽ʲ⁾‖²` over examples | `fisher.rs` |
//! | `relative` | `sketch / ‖θ‖²` | `relative.rs` |
//! | `covariance` | alignment of outputs and output residual, forward only | `covariance.rs` |
//! | `coherent` | the part of it that batches agree on | `coherent.rs` |
//! | `depth` | `sketch` with the `δ` of the cut standing in below it | `depth.rs` |
//!
//! A component's energy is the sum over its slices. Gradients of biases, norms and embeddings are as cheap exactly as
//! approximately, so no signal estimates them. Where two sites share a parameter (tied embeddings), squares are summed
//! over both, without the product of their gradients.

mod absolute;
mod coherent;
mod conv;
mod covariance;
mod depth;
mod exact;
mod fisher;
mod forecast;
mod gram;
mod look;
mod ownership;
mod relative;
mod rows_of_examples;
mod sketch;
mod taylor;

use rgft_core::{Component, Inputs, Signal, Slices};
use rgft_nn::models::Model;
use rgft_nn::{Engine, Flops, Gradients, Tensor};

use coherent::{Agreed, Agreement};
use look::Look;
use ownership::Ownership;
pub use relative::squared_norms;

/// Looks at batches and sums energies by component.
pub struct Tracker {
    signal: Signal,
    components: Vec<Component>,
    ownership: Ownership,
    energies: Vec<f64>,
    agreement: Agreement,
    agreed: Agreed,
    /// How many batches were seen, which is what the energies are averaged over.
    batches: usize,
    /// Examples in them.
    examples: usize,
    draw: u64,
    /// The level below which `depth` lets `δ` stand in.
    cut: usize,
}

impl Tracker {
    /// Tracks `components` of `model`; `beta` is what `coherent` keeps of its averages, `seed` decides the sketches' signs.
    pub fn new(model: &Model, components: &[Component], signal: Signal, beta: f64, seed: u64) -> Self {
        Self {
            signal,
            components: components.to_vec(),
            ownership: Ownership::new(model, components),
            energies: vec![0.0; components.len()],
            agreement: Agreement::new(beta),
            agreed: Agreed::default(),
            batches: 0,
            examples: 0,
            draw: seed,
            cut: model.levels() - 1,
        }
    }

    /// `‖μ‖²/‖g‖²` of each component and of the whole gradient, as last taken; 0 where the signal does not tell.
    pub fn coherence(&self) -> (Vec<f64>, f64) {
        match self.signal {
            Signal::Coherent => (self.agreed.coherence.clone(), self.agreed.overall),
            _ => (vec![0.0; self.components.len()], 0.0),
        }
    }

    /// Whether the signal is what batches agree on, so that it takes two.
    pub fn compares_batches(&self) -> bool {
        self.signal == Signal::Coherent
    }

    /// Where the signal `depth` ends its backward pass: the cut of the plan. Until told, the task head.
    pub fn set_cut(&mut self, cut: usize) {
        self.cut = cut;
    }

    /// Looks at one batch without an update, in the engine's mode; returns what that computed. `loss` turns the outputs
    /// into the output residual in place and returns the loss.
    pub fn look(
        &mut self,
        engine: &Engine,
        model: &Model,
        inputs: &Inputs,
        loss: impl FnOnce(&mut Tensor) -> f64,
    ) -> Flops {
        self.batches += 1;
        self.examples += model.rows_at(&inputs.extent(), 0).len();
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        engine.take_flops();
        let mut energies = if self.signal == Signal::Covariance {
            covariance::energies(&self.components, &self.ownership, engine, model, inputs, loss)
        } else {
            let mut look =
                Look::new(self.signal, &self.ownership, model, inputs, self.draw, &mut self.agreement);
            if self.signal == Signal::Depth {
                model.look_standing_in(engine, inputs, self.cut, &mut look, loss);
            } else {
                let nothing = vec![Slices::None; model.parameters().len()];
                let needs = model.needs(&nothing, 0, true);
                let gradients = &mut Gradients::default();
                model.forward_backward(engine, inputs, &needs, gradients, &mut look, loss);
            }
            look.energies
        };
        match self.signal {
            Signal::Taylor => energies.iter_mut().for_each(|sum| *sum = sum.abs()),
            Signal::Relative => relative::divide(&mut energies, model, &self.components),
            _ => {}
        }
        self.energies.iter_mut().zip(energies).for_each(|(sum, energy)| *sum += energy);
        engine.take_flops()
    }

    /// Bytes that it holds between batches of a look.
    pub(crate) fn bytes(&self) -> usize {
        self.agreement.bytes()
    }

    /// The mean energies of the batches since the last call.
    pub fn take(&mut self) -> Vec<f64> {
        let batches = std::mem::take(&mut self.batches);
        let examples = std::mem::take(&mut self.examples) as f64 / batches.max(1) as f64;
        let n = self.energies.len();
        if self.signal == Signal::Coherent {
            self.agreed = self.agreement.take(&self.ownership, &self.components, batches, examples);
            return self.agreed.energies.clone();
        }
        let batches = batches.max(1) as f64;
        let energies = std::mem::replace(&mut self.energies, vec![0.0; n]);
        energies.into_iter().map(|energy| energy / batches).collect()
    }
}

/// Whether the signal is read off dW itself.
fn reads_dw(signal: Signal) -> bool {
    matches!(signal, Signal::Exact | Signal::Absolute | Signal::Taylor | Signal::Coherent)
}

fn squared(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}
