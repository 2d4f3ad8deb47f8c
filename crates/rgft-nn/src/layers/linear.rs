//! `y = x·Wᵀ + b`: `x` `[rows, in]`, `W` `[out, in]`, `b` `[out, 1]` or none, `y` `[rows, out]`.
//!
//! Backward, with `δ = ∂ℓ/∂y`: `dx = δ·W`, `dW = δᵀ·x`, `db = Σ_rows δ`, each whole or in part:
//! * columns `C` of dx: `δ·W[:, C]`, one product per run of columns;
//! * rows `R` of dW: `δ[:, R]ᵀ·x`; several runs are gathered into one panel, so that it is one product;
//! * columns `C` of dW: `δᵀ·x[:, C]`; forward saves `x[:, C]` alone.

use rgft_core::Slices;
use rgft_kernels::Mat;
use rgft_kernels::gemm::{Factor, Packed, Start};

use super::{Context, Sinks};
use crate::adapter::Adapter;
use crate::needs::{Needs, runs};
use crate::packed_weights::Form;
use crate::probe::{Activation, Passed};
use crate::product::{Pass, Product};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// A linear map.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Its site.
    pub site: usize,
    /// Parameter index of `W`.
    pub weight: usize,
    /// Parameter index of `b`, if there is one.
    pub bias: Option<usize>,
    /// `in`.
    pub input: usize,
    /// `out`.
    pub output: usize,
}

impl Linear {
    fn needs<'a>(&self, cx: Context<'a>) -> &'a Needs {
        &cx.needs[self.site]
    }

    /// `W`, and `b` if there is one.
    pub fn parameters(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.weight).chain(self.bias)
    }

    /// `b`, empty where there is none.
    pub fn bias<'a>(&self, cx: Context<'a>) -> &'a [f32] {
        self.bias.map_or(&[], |bias| cx.parameters.data(bias))
    }

    /// `x·Wᵀ`: for callers whose next pass adds the bias.
    pub fn forward_without_bias(&self, cx: Context, x: &Tensor) -> Tensor {
        self.forward_from(cx, x, None, Start::Zero)
    }

    /// `x·Wᵀ + b`.
    pub fn forward(&self, cx: Context, x: &Tensor) -> Tensor {
        self.forward_shared(cx, x, None)
    }

    /// `x·Wᵀ + b`, where several maps share `x`, which [`Engine::pack_shared`](crate::Engine) has packed for them.
    pub(crate) fn forward_shared(&self, cx: Context, x: &Tensor, packed: Option<&Packed>) -> Tensor {
        let start = if self.bias.is_some() { Start::Bias(self.bias(cx)) } else { Start::Zero };
        self.forward_from(cx, x, packed, start)
    }

    fn forward_from(&self, cx: Context, x: &Tensor, packed: Option<&Packed>, start: Start) -> Tensor {
        let mut y = cx.engine.tensor(x.rows(), self.output);
        self.add_product(cx, x, packed, &mut y, start);
        y
    }

    /// `y += x·Wᵀ`: for callers whose y holds biases already.
    pub fn add_forward(&self, cx: Context, x: &Tensor, y: &mut Tensor) {
        self.add_product(cx, x, None, y, Start::Add);
    }

    fn add_product(&self, cx: Context, x: &Tensor, packed: Option<&Packed>, y: &mut Tensor, start: Start) {
        let w = Mat::new(cx.parameters.data(self.weight), self.output, self.input);
        let (place, x_factor) = ((self.site, Pass::Forward), Factor::packed(x.mat(), packed));
        let form = (Form::Transposed, w.t());
        cx.engine.product_with_weight(
            place,
            x_factor,
            (cx.parameters, self.weight),
            form,
            y.mat_mut(),
            start,
        );
        self.add_adapter(cx, x, y);
        cx.engine.pass(self.site, Passed::Input(x));
    }

    /// `y += s·(x·Aᵀ)·Bᵀ`, where an adapter stands beside the weight.
    fn add_adapter(&self, cx: Context, x: &Tensor, y: &mut Tensor) {
        if let Some(adapter) = self.needs(cx).adapter {
            let u = self.reduced(cx, adapter, x, Pass::Forward);
            adapter.add_expanded(cx, self.site, &u, y);
        }
    }

    /// For callers who multiply themselves: counts the products of [`Linear::add_forward`], and makes `u` where an adapter
    /// stands beside the weight.
    pub(crate) fn counted_reduction(&self, cx: Context, x: &Tensor) -> Option<Tensor> {
        let product =
            |k| Product { site: self.site, pass: Pass::Forward, batch: 1, m: x.rows(), k, n: self.output };
        cx.engine.count(product(self.input));
        let adapter = self.needs(cx).adapter?;
        let u = self.reduced(cx, adapter, x, Pass::Forward);
        cx.engine.count(product(adapter.rank));
        Some(u)
    }

    /// What `x·Wᵀ + u·Bᵀ` is the sum of, where `u` is what [`Linear::counted_reduction`] made: pairs of factors.
    pub(crate) fn terms<'a>(
        &self,
        cx: Context<'a>,
        x: &'a Tensor,
        u: Option<&'a Tensor>,
    ) -> Vec<(Mat<'a>, Mat<'a>)> {
        let beside = self.needs(cx).adapter.zip(u).map(|(adapter, u)| {
            (u.mat(), Mat::new(cx.parameters.data(adapter.b), self.output, adapter.rank).t())
        });
        std::iter::once((x.mat(), self.matrix(cx, None).t())).chain(beside).collect()
    }

    /// `u = s·x·Aᵀ` `[rows, rank]`.
    fn reduced(&self, cx: Context, adapter: Adapter, x: &Tensor, pass: Pass) -> Tensor {
        let mut u = cx.engine.tensor(x.rows(), adapter.rank);
        let a = Mat::new(cx.parameters.data(adapter.a), adapter.rank, self.input);
        cx.engine.product(self.site, pass, x.mat(), a.t(), u.mat_mut(), false);
        adapter.scale(u)
    }

    /// `W` `[out, in]`, or what [`Linear::with_adapter`] made of it.
    pub fn matrix<'a>(&self, cx: Context<'a>, merged: Option<&'a Tensor>) -> Mat<'a> {
        merged.map_or_else(|| Mat::new(cx.parameters.data(self.weight), self.output, self.input), Tensor::mat)
    }

    /// `W + s·B·A`, where an adapter stands beside the weight: for callers who apply the map many times.
    pub fn with_adapter(&self, cx: Context, pass: Pass) -> Option<Tensor> {
        let weight = cx.parameters.data(self.weight);
        self.needs(cx).adapter.map(|adapter| adapter.beside(cx, self.site, weight, self.input, pass))
    }

    /// `dB (+)= δᵀ·u` and `dA (+)= vᵀ·x`.
    fn add_adapter_gradients(
        &self,
        cx: Context,
        adapter: Adapter,
        x: &Tensor,
        delta: &Tensor,
        sinks: &mut Sinks,
    ) {
        let u = self.reduced(cx, adapter, x, Pass::Dw);
        adapter.add_db(cx, self.site, delta, &u, sinks);
        let v = adapter.reduced_delta(cx, self.site, delta, Pass::Dw);
        let (da, written) = sinks.gradients.accumulate(adapter.a);
        cx.engine.product(self.site, Pass::Dw, v.mat().t(), x.mat(), da.mat_mut(), written);
    }

    /// Puts on the tape what [`Linear::backward_parameters`] will read of an input that nobody else needs.
    pub fn save_input(&self, cx: Context, x: Tensor, tape: &mut Tape) {
        let needs = self.needs(cx);
        if needs.reads_input() {
            tape.push(x);
        } else if let Slices::Cols(_) = needs.dw {
            tape.push(self.gather_input(cx, &x));
        }
    }

    /// The tensor that [`Linear::save_input`] put on the tape, if it put one.
    pub fn saved_input(&self, cx: Context, tape: &mut Tape) -> Option<Tensor> {
        let needs = self.needs(cx);
        needs.reads_some_input().then(|| tape.pop())
    }

    fn gather_input(&self, cx: Context, x: &Tensor) -> Tensor {
        let columns = runs(&self.needs(cx).dw, self.input);
        let mut panel = cx.engine.tensor(x.rows(), columns.iter().map(ExactSizeIterator::len).sum());
        cx.engine.kernels.gather_columns(x.data(), self.input, &columns, panel.data_mut());
        panel
    }

    /// Shows `δ` to the probe and accumulates dW and db. `x` is the input as saved.
    pub fn backward_parameters(&self, cx: Context, x: Option<&Tensor>, delta: &Tensor, sinks: &mut Sinks) {
        let needs = self.needs(cx);
        if let (true, Some(x)) = (needs.observe, x) {
            sinks.probe.see(cx.engine, self.site, Activation::Dense(x), delta);
        }
        if let (Some(bias), false) = (self.bias, needs.db.is_none()) {
            let sums = sinks.gradients.accumulate_cleared(bias);
            let rows = runs(&needs.db, self.output);
            cx.engine.kernels.add_column_sums(delta.data(), None, self.output, &rows, sums.data_mut());
        }
        let Some(x) = x else { return };
        if let (Some(adapter), false) = (needs.adapter, needs.dw.is_none()) {
            return self.add_adapter_gradients(cx, adapter, x, delta, sinks);
        }
        match &needs.dw {
            Slices::None => {}
            Slices::All => self.add_dw(cx, delta.mat(), x.mat(), sinks),
            Slices::Rows(ranges) if ranges.runs() == 1 => {
                let run = ranges.iter().next().unwrap_or_default();
                self.add_dw(cx, delta.mat().columns(run), x.mat(), sinks);
            }
            Slices::Rows(ranges) => {
                let rows: Vec<_> = ranges.iter().collect();
                let mut panel = cx.engine.tensor(delta.rows(), ranges.len());
                cx.engine.kernels.gather_columns(delta.data(), self.output, &rows, panel.data_mut());
                self.add_dw(cx, panel.mat(), x.mat(), sinks);
            }
            // The input was saved whole, for the probe or for another layer that reads it.
            Slices::Cols(_) if x.cols() == self.input => {
                let panel = self.gather_input(cx, x);
                self.add_dw(cx, delta.mat(), panel.mat(), sinks);
            }
            Slices::Cols(_) => self.add_dw(cx, delta.mat(), x.mat(), sinks),
        }
    }

    /// `dW (+)= δᵀ·x` into the gradient buffer.
    fn add_dw(&self, cx: Context, delta: Mat, x: Mat, sinks: &mut Sinks) {
        let (dw, written) = sinks.gradients.accumulate(self.weight);
        cx.engine.product(self.site, Pass::Dw, delta.t(), x, dw.mat_mut(), written);
    }

    /// The needed columns of `dx = δ·W`, in a tensor `[rows, in]` whose other columns are arbitrary; `None` where
    /// no column is needed.
    pub fn backward_input(&self, cx: Context, delta: &Tensor) -> Option<Tensor> {
        if self.needs(cx).dx.is_none() {
            return None;
        }
        let mut dx = cx.engine.tensor(delta.rows(), self.input);
        self.write_dx(cx, delta, &mut dx, false);
        Some(dx)
    }

    /// `dx += δ·W` over the needed columns.
    pub fn add_backward_input(&self, cx: Context, delta: &Tensor, dx: &mut Tensor) {
        self.write_dx(cx, delta, dx, true);
    }

    fn write_dx(&self, cx: Context, delta: &Tensor, dx: &mut Tensor, accumulate: bool) {
        let w = Mat::new(cx.parameters.data(self.weight), self.output, self.input);
        for columns in runs(&self.needs(cx).dx, self.input) {
            let part = dx.mat_mut().columns(columns.clone());
            if columns.len() < self.input {
                cx.engine.product(self.site, Pass::Dx, delta.mat(), w.columns(columns), part, accumulate);
                continue;
            }
            let (place, form) = ((self.site, Pass::Dx), (Form::AsItIs, w));
            let start = if accumulate { Start::Add } else { Start::Zero };
            let weight = (cx.parameters, self.weight);
            cx.engine.product_with_weight(place, delta.mat().into(), weight, form, part, start);
        }
        let needs = self.needs(cx);
        if let (Some(adapter), false) = (needs.adapter, needs.dx.is_none()) {
            let v = adapter.reduced_delta(cx, self.site, delta, Pass::Dx);
            let a = Mat::new(cx.parameters.data(adapter.a), adapter.rank, self.input);
            for columns in runs(&needs.dx, self.input) {
                let part = dx.mat_mut().columns(columns.clone());
                cx.engine.product(self.site, Pass::Dx, v.mat(), a.columns(columns), part, true);
            }
        }
    }

    /// The products of forward and backward on `rows` rows.
    pub fn products(&self, needs: &Needs, rows: usize, out: &mut Vec<Product>) {
        let product = |pass, m, k, n| Product { site: self.site, pass, batch: 1, m, k, n };
        out.push(product(Pass::Forward, rows, self.input, self.output));
        for columns in runs(&needs.dx, self.input) {
            out.push(product(Pass::Dx, rows, self.output, columns.len()));
        }
        if let Some(Adapter { rank, .. }) = needs.adapter {
            let forward = [(rows, self.input, rank), (rows, rank, self.output)];
            out.extend(forward.map(|(m, k, n)| product(Pass::Forward, m, k, n)));
            if !needs.dx.is_none() {
                out.push(product(Pass::Dx, rows, self.output, rank));
            }
            out.extend(
                runs(&needs.dx, self.input).iter().map(|run| product(Pass::Dx, rows, rank, run.len())),
            );
            if !needs.dw.is_none() {
                let (u, v) = ((rows, self.input, rank), (rows, self.output, rank));
                let gradients = [u, (self.output, rows, rank), v, (rank, rows, self.input)];
                out.extend(gradients.map(|(m, k, n)| product(Pass::Dw, m, k, n)));
            }
            return;
        }
        match &needs.dw {
            Slices::None => {}
            Slices::All => out.push(product(Pass::Dw, self.output, rows, self.input)),
            Slices::Rows(ranges) => out.push(product(Pass::Dw, ranges.len(), rows, self.input)),
            Slices::Cols(ranges) => out.push(product(Pass::Dw, self.output, rows, ranges.len())),
        }
    }
}
