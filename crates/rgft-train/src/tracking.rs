//! Signals: from what a probe sees to one energy per component.
//!
//! With `a` `[T, in]` a site's input, `δ` `[T, out]` its carried-back residual, so that `dW = δᵀ·a`:
//! * `sketch`: signs `z ∈ {±1}^out`, drawn once per site and probe. Rows `R`: `‖Σ_t (Σ_{r∈R} z_r δ_{t,r}) a_t‖²`,
//!   whose mean over `z` is `‖dW_R‖²`; columns `C`: `‖Σ_t (Σ_r z_r δ_{t,r}) a_{t,C}‖²`, mean `‖dW_{·,C}‖²`.
//! * `gram`: rows `Σ_t ‖δ_{t,R}‖²‖a_t‖²`, columns `Σ_t ‖δ_t‖²‖a_{t,C}‖²`: the diagonal of the Gram form.
//! * `exact`: `‖dW_R‖²` from dW itself.
//!
//! Biases, norms and embeddings are as cheap exactly as approximately, so they are always exact. A component's
//! energy is the sum over its slices; where two sites share a parameter (tied embeddings), over both, without the
//! product of their gradients.

mod conv;

use std::collections::HashMap;
use std::ops::Range;

use rgft_core::{Axis, Component, Signal};
use rgft_nn::models::{Model, Site, SiteKind};
use rgft_nn::{Activation, Engine, Pass, Probe, Tensor};

/// A slice of a parameter, and the component that owns it.
#[derive(Clone, Debug)]
struct Owned {
    component: usize,
    axis: Axis,
    range: Range<usize>,
}

/// A probe that sums energies by component.
pub struct Tracker {
    signal: Signal,
    sites: Vec<Site>,
    /// By parameter.
    slices: Vec<Vec<Owned>>,
    energies: Vec<f64>,
    /// How many batches were seen, which is what the energies are averaged over.
    batches: usize,
    draw: u64,
}

impl Tracker {
    /// Tracks `components` of `model`; `seed` decides the sketches' signs.
    pub fn new(model: &Model, components: &[Component], signal: Signal, seed: u64) -> Self {
        let mut slices = vec![Vec::new(); model.parameters().len()];
        for (component, slice) in
            components.iter().enumerate().flat_map(|(i, c)| c.slices.iter().map(move |s| (i, s)))
        {
            let owned = Owned { component, axis: slice.axis, range: slice.range.clone() };
            slices[slice.parameter].push(owned);
        }
        let energies = vec![0.0; components.len()];
        Self { signal, sites: model.sites().to_vec(), slices, energies, batches: 0, draw: seed }
    }

    /// Call before each batch that is carried back.
    pub fn begin_batch(&mut self) {
        self.batches += 1;
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
    }

    /// The mean energies of the batches since the last call.
    pub fn take(&mut self) -> Vec<f64> {
        let batches = std::mem::take(&mut self.batches).max(1) as f64;
        let n = self.energies.len();
        let energies = std::mem::replace(&mut self.energies, vec![0.0; n]);
        energies.into_iter().map(|energy| energy / batches).collect()
    }

    /// Adds `energy(range)` for each slice of `parameter` along `axis`.
    fn add(&mut self, parameter: usize, axis: Axis, mut energy: impl FnMut(usize) -> f64) {
        let owned = self.slices[parameter].iter().filter(|slice| slice.axis == axis).enumerate();
        for (i, slice) in owned {
            self.energies[slice.component] += energy(i);
        }
    }

    fn ranges(&self, parameter: usize, axis: Axis) -> Vec<Range<usize>> {
        let owned = self.slices[parameter].iter().filter(|slice| slice.axis == axis);
        owned.map(|slice| slice.range.clone()).collect()
    }

    /// Signs of site `site` in this batch, `[out]`.
    fn signs(&self, site: usize, n: usize) -> Vec<f32> {
        let seed = (self.draw ^ (self.draw >> 32)) as u32 ^ (site as u32).wrapping_mul(0x85eb_ca6b);
        let sign = |i| if rgft_kernels::cpu::scalar::hash(seed, i) & 1 == 0 { 1.0 } else { -1.0 };
        (0..n as u32).map(sign).collect()
    }

    /// Slices of a vector parameter: `Σ_{i∈R} sums_i²`.
    fn vector(&mut self, parameter: usize, sums: &[f32]) {
        let ranges = self.ranges(parameter, Axis::Rows);
        self.add(parameter, Axis::Rows, |i| squared(&sums[ranges[i].clone()]));
    }

    fn linear(
        &mut self,
        engine: &Engine,
        site: usize,
        weight: usize,
        bias: Option<usize>,
        a: &Tensor,
        delta: &Tensor,
    ) {
        let mut sums = vec![0.0; delta.cols()];
        let whole = 0..delta.cols();
        engine.kernels.add_column_sums(delta.data(), None, delta.cols(), &[whole], &mut sums);
        if let Some(bias) = bias {
            self.vector(bias, &sums);
        }
        match self.signal {
            Signal::Gram => self.gram(engine, weight, a, delta),
            Signal::Exact => self.exact(engine, site, weight, a, delta),
            _ => self.sketch(engine, site, weight, a, delta),
        }
    }

    fn sketch(&mut self, engine: &Engine, site: usize, weight: usize, a: &Tensor, delta: &Tensor) {
        let signs = self.signs(site, delta.cols());
        let rows = self.ranges(weight, Axis::Rows);
        let columns = self.ranges(weight, Axis::Cols);
        // The sketch of all rows is what column slices read.
        let whole = (!columns.is_empty()).then_some(0..delta.cols());
        let groups: Vec<Range<usize>> = rows.iter().cloned().chain(whole).collect();
        let mut sums = engine.tensor(delta.rows(), groups.len());
        engine.kernels.signed_group_sums(delta.data(), &signs, &groups, sums.data_mut());
        let mut sketch = engine.tensor(groups.len(), a.cols());
        engine.product(site, Pass::Tracking, sums.mat().t(), a.mat(), sketch.mat_mut(), false);
        let row = |i: usize| &sketch.data()[i * a.cols()..][..a.cols()];
        self.add(weight, Axis::Rows, |i| squared(row(i)));
        self.add(weight, Axis::Cols, |i| squared(&row(rows.len())[columns[i].clone()]));
    }

    fn gram(&mut self, engine: &Engine, weight: usize, a: &Tensor, delta: &Tensor) {
        for axis in [Axis::Rows, Axis::Cols] {
            let ranges = self.ranges(weight, axis);
            // What is cut into groups, and what enters whole.
            let (cut, whole) = if axis == Axis::Rows { (delta, a) } else { (a, delta) };
            let mut parts = vec![0.0; cut.rows() * ranges.len()];
            let mut norms = vec![0.0; whole.rows()];
            engine.kernels.squared_group_norms(cut.data(), cut.cols(), &ranges, &mut parts);
            let all = 0..whole.cols();
            engine.kernels.squared_group_norms(whole.data(), whole.cols(), &[all], &mut norms);
            let n = ranges.len();
            self.add(weight, axis, |i| {
                norms.iter().enumerate().map(|(t, norm)| f64::from(*norm) * f64::from(parts[t * n + i])).sum()
            });
        }
    }

    fn exact(&mut self, engine: &Engine, site: usize, weight: usize, a: &Tensor, delta: &Tensor) {
        let mut dw = engine.tensor(delta.cols(), a.cols());
        engine.product(site, Pass::Tracking, delta.mat().t(), a.mat(), dw.mat_mut(), false);
        let cols = a.cols();
        for axis in [Axis::Rows, Axis::Cols] {
            let ranges = self.ranges(weight, axis);
            self.add(weight, axis, |i| match axis {
                Axis::Rows => squared(&dw.data()[ranges[i].start * cols..ranges[i].end * cols]),
                Axis::Cols => dw.data().chunks_exact(cols).map(|row| squared(&row[ranges[i].clone()])).sum(),
            });
        }
    }

    fn embedding(&mut self, engine: &Engine, weight: usize, ids: &[u32], delta: &Tensor) {
        let mut slot_of = HashMap::new();
        let slot = |id: &u32| {
            let next = slot_of.len() as u32;
            *slot_of.entry(*id).or_insert(next)
        };
        let slots: Vec<u32> = ids.iter().map(slot).collect();
        let mut sums = vec![0.0; slot_of.len() * delta.cols()];
        engine.kernels.scatter_add(delta.data(), delta.cols(), &slots, &mut sums);
        self.add(weight, Axis::Rows, |_| engine.kernels.squared_norm(&sums));
    }
}

impl Probe for Tracker {
    fn see(&mut self, engine: &Engine, site: usize, input: Activation, delta: &Tensor) {
        match (self.sites[site].kind, input) {
            (SiteKind::Linear { weight, bias }, Activation::Dense(a)) => {
                self.linear(engine, site, weight, bias, a, delta);
            }
            (SiteKind::Norm { weight, bias }, Activation::Dense(normalised)) => {
                let (cols, whole) = (delta.cols(), 0..delta.cols());
                let whole = std::slice::from_ref(&whole);
                let parameters = [(Some(weight), Some(normalised.data())), (bias, None)];
                for (parameter, factor) in parameters.into_iter().filter_map(|(p, f)| Some((p?, f))) {
                    let mut sums = vec![0.0; cols];
                    engine.kernels.add_column_sums(delta.data(), factor, cols, whole, &mut sums);
                    self.vector(parameter, &sums);
                }
            }
            (SiteKind::Embedding { weight }, Activation::Rows(ids)) => {
                self.embedding(engine, weight, ids, delta);
            }
            (SiteKind::Conv { weight, .. }, Activation::Maps { x, shape }) => {
                self.conv(engine, site, weight, (shape, x), delta);
            }
            // A site is shown what its kind takes in.
            _ => {}
        }
    }
}

fn squared(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// `‖θ_i‖²` of each component, for relative energies.
pub(crate) fn squared_norms(model: &Model, components: &[Component]) -> Vec<f64> {
    let norm = |slice: &rgft_core::Slice| {
        let parameter = &model.parameters()[slice.parameter];
        let cols = parameter.cols();
        match slice.axis {
            Axis::Rows => squared(&parameter.data[slice.range.start * cols..slice.range.end * cols]),
            Axis::Cols => {
                parameter.data.chunks_exact(cols).map(|row| squared(&row[slice.range.clone()])).sum()
            }
        }
    };
    components.iter().map(|component| component.slices.iter().map(norm).sum()).collect()
}
