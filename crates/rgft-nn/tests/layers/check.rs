//! The one checker: any layer, any plan.

use rgft_core::{Extent, Inputs, Slices};
use rgft_kernels::Precision;
use rgft_nn::layers::{Block, Context, Sinks};
use rgft_nn::{Activation, Engine, Flops, Gradients, Needs, Probe, Product, Tape, Tensor};

use super::net::{LENGTHS, Net, Plan, numbers, selects};
use super::truth::{Expected, Truth};

/// How a layer is written in f64, and how it is called.
pub trait Layer {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64>;
    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor;
    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor>;
    /// `needs` come with dw and db as the plan says.
    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool);
    /// Not for layers without products.
    fn products(&self, _needs: &[Needs], _extent: &Extent, _out: &mut Vec<Product>) {}
    /// How large what enters is.
    fn extent(&self) -> Extent {
        Extent::Sequences(LENGTHS.to_vec())
    }
    /// What the batch reads, where the layer looks at it.
    fn inputs(&self) -> Option<&Inputs> {
        None
    }
}

/// A block in f64.
pub trait Twin: Block {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64>;
    /// How large what enters is.
    fn entering(&self) -> Extent {
        Extent::Sequences(LENGTHS.to_vec())
    }
    /// What the batch reads, where the block looks at it.
    fn reads(&self) -> Option<&Inputs> {
        None
    }
}

impl<B: Twin> Layer for B {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        Twin::truth(self, truth, x)
    }

    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        Block::forward(self, cx, x, tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        Block::backward(self, cx, dy, tape, sinks)
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        Block::set_needs(self, needs, &plan.update, !plan.below.is_none(), observe);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        Block::products(self, needs, extent, out);
    }

    fn extent(&self) -> Extent {
        self.entering()
    }

    fn inputs(&self) -> Option<&Inputs> {
        self.reads()
    }
}

/// Writes down what it sees: `(site, a, δ)`, token ids as numbers.
#[derive(Default)]
struct Recorder(Vec<(usize, Vec<f32>, Vec<f32>)>);

impl Probe for Recorder {
    fn see(&mut self, _: &Engine, site: usize, input: Activation, delta: &Tensor) {
        let input = match input {
            Activation::Dense(tensor) => tensor.data().to_vec(),
            Activation::Rows(ids) => ids.iter().map(|&id| id as f32).collect(),
            Activation::Maps { x, .. } => x.to_vec(),
        };
        self.0.push((site, input, delta.data().to_vec()));
    }
}

/// One forward and backward pass.
struct Outcome {
    y: Vec<f32>,
    /// Zero where it was not asked for: anything may be there.
    dx: Option<Vec<f32>>,
    seen: Vec<(usize, Vec<f32>, Vec<f32>)>,
    saved: usize,
}

/// A layer with an input `[rows, cols]`.
pub struct Subject<'a> {
    pub net: &'a Net,
    pub layer: &'a dyn Layer,
    pub input: (usize, usize),
}

impl Subject<'_> {
    fn x(&self) -> Vec<f32> {
        numbers(2, self.input.0 * self.input.1)
    }

    fn needs(&self, plan: &Plan, observe: bool) -> Vec<Needs> {
        let mut needs = self.net.needs(&plan.update);
        self.layer.set_needs(&mut needs, plan, observe);
        needs
    }

    fn context<'a>(&'a self, engine: &'a Engine, needs: &'a [Needs], extent: &'a Extent) -> Context<'a> {
        Context { engine, parameters: &self.net.parameters, needs, extent, inputs: self.layer.inputs() }
    }

    /// A forward pass under the loss's dy = `c`, and its backward pass.
    fn pass(&self, cx: Context, plan: &Plan, c: &[f32], gradients: &mut Gradients) -> Outcome {
        let (mut tape, mut probe) = (Tape::default(), Recorder::default());
        let mut x = cx.engine.tensor(self.input.0, self.input.1);
        x.data_mut().copy_from_slice(&self.x());
        let y = self.layer.forward(cx, x, &mut tape);
        let saved = tape.scalars();
        let mut dy = cx.engine.tensor(y.rows(), y.cols());
        dy.data_mut().copy_from_slice(c);
        let sinks = &mut Sinks { gradients, probe: &mut probe };
        let dx = self.layer.backward(cx, dy, &mut tape, sinks);
        assert!(tape.is_empty(), "forward saved what backward did not read");
        let asked_for = |dx: Tensor| {
            let scalars = dx.data().iter().enumerate();
            let cols = dx.cols();
            scalars.map(|(i, &d)| if selects(&plan.below, i / cols, i % cols) { d } else { 0.0 }).collect()
        };
        Outcome { y: y.data().to_vec(), dx: dx.map(asked_for), seen: probe.0, saved }
    }

    /// Scalars that forward saves under `plan`.
    pub fn saved(&self, plan: &Plan, observe: bool) -> usize {
        let (engine, needs, extent) = (engine(None), self.needs(plan, observe), self.layer.extent());
        let mut tape = Tape::default();
        let x = engine.zeros(self.input.0, self.input.1);
        self.layer.forward(self.context(&engine, &needs, &extent), x, &mut tape);
        tape.scalars()
    }

    /// FLOPs that `plan` asks for.
    pub fn flops(&self, plan: &Plan) -> Flops {
        let mut products = Vec::new();
        self.layer.products(&self.needs(plan, false), &self.layer.extent(), &mut products);
        products.iter().collect()
    }

    fn dense(&self, gradients: &Gradients) -> Vec<Vec<f32>> {
        let parameters = self.net.parameters.iter().enumerate();
        parameters.map(|(i, parameter)| gradients.dense(i, parameter.rows(), parameter.cols())).collect()
    }

    /// Checks one plan; returns the bits of every gradient and of dx.
    fn check_plan(
        &self,
        seed: Option<u32>,
        expected: &Expected,
        plan: &Plan,
        observe: bool,
    ) -> Vec<Vec<u32>> {
        let (engine, needs, extent) = (engine(seed), self.needs(plan, observe), self.layer.extent());
        let cx = self.context(&engine, &needs, &extent);
        let mut gradients = Gradients::new(&engine, &self.net.parameters, &plan.update, &self.net.tables());

        engine.record();
        let once = self.pass(cx, plan, &expected.c, &mut gradients);
        let (mut executed, mut planned) = (engine.recorded(), Vec::new());
        self.layer.products(&needs, &extent, &mut planned);
        executed.sort_unstable();
        planned.sort_unstable();
        assert_eq!(executed, planned, "the products executed are not those planned");
        assert!(once.saved == 0 || needs.iter().any(|needs| !needs.is_empty()), "saved without need");

        close("y", &once.y, &expected.y, 1.0);
        assert_eq!(once.dx.is_some(), !plan.below.is_none(), "whether dx comes back");
        if let Some(dx) = &once.dx {
            close("dx", dx, &masked(&expected.dx, &plan.below, self.input.1), 1.0);
        }
        self.check_gradients(plan, &gradients, expected, 1.0);
        let first = self.dense(&gradients);

        // Gradients accumulate; after `clear` they begin anew and nothing is left of what was there.
        self.pass(cx, plan, &expected.c, &mut gradients);
        self.check_gradients(plan, &gradients, expected, 2.0);
        gradients.clear();
        self.pass(cx, plan, &expected.c, &mut gradients);
        assert_eq!(self.dense(&gradients), first, "a step leaves traces in the next");

        check_seen(&once, observe, expected);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        first.into_iter().chain(once.dx).map(bits).collect()
    }

    fn check_gradients(&self, plan: &Plan, gradients: &Gradients, expected: &Expected, times: f64) {
        for (i, found) in self.dense(gradients).iter().enumerate() {
            let (parameter, slices) = (&self.net.parameters[i], &plan.update[i]);
            assert_eq!(gradients.has(i), !slices.is_none(), "whether {} has a buffer", parameter.name);
            close(&parameter.name, found, &masked(&expected.gradients[i], slices, parameter.cols()), times);
        }
    }

    /// Checks all plans, with and without dropout, observed and not.
    pub fn check(&self, name: &str, plans: &[Plan]) {
        for seed in [None, Some(7)] {
            let expected = Expected::of(self.net, self.layer, &engine(seed), &self.x());
            for plan in plans {
                let [blind, observed] = [false, true].map(|observe| {
                    let _case = Case(format!("{name}, dropout seed {seed:?}, observe {observe}, {plan:?}"));
                    self.check_plan(seed, &expected, plan, observe)
                });
                assert_eq!(blind, observed, "{name}: a probe changes numbers under {plan:?}");
            }
        }
    }
}

/// Says which case it was when a check fails during its life.
struct Case(String);

impl Drop for Case {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in case: {}", self.0);
        }
    }
}

/// An engine whose arena holds nothing but NaN: whoever reads what was not written is found out.
fn engine(seed: Option<u32>) -> Engine {
    let engine = Engine::new(Precision::F32);
    engine.set_dropout(seed);
    let mut buffers: Vec<_> = (0..64).map(|_| engine.tensor(30, 30)).collect();
    buffers.iter_mut().for_each(|buffer| buffer.data_mut().fill(f32::NAN));
    engine
}

/// The probe saw each site once, with its true input and `δ`; or nothing at all.
fn check_seen(outcome: &Outcome, observe: bool, expected: &Expected) {
    let mut seen: Vec<_> = outcome.seen.iter().map(|(site, ..)| *site).collect();
    seen.sort_unstable();
    let sites = if observe { expected.sites.len() } else { 0 };
    assert_eq!(seen, Vec::from_iter(0..sites), "the sites that the probe saw");
    for (site, input, delta) in &outcome.seen {
        close(&format!("input of site {site}"), input, &expected.sites[*site].0, 1.0);
        close(&format!("δ of site {site}"), delta, &expected.sites[*site].1, 1.0);
    }
}

/// `values` `[_, cols]` with zeros outside `slices`.
fn masked(values: &[f64], slices: &Slices, cols: usize) -> Vec<f64> {
    let mask = |(i, v): (usize, &f64)| if selects(slices, i / cols, i % cols) { *v } else { 0.0 };
    values.iter().enumerate().map(mask).collect()
}

/// `found` is `times · expected` to 3e-5 of the largest (softmax ignores the bias of the keys, so that gradient is
/// zero but for rounding: hence the floor).
fn close(what: &str, found: &[f32], expected: &[f64], times: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.05f64, |largest, e| largest.max(e.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*f) - times * e).abs();
        assert!(error <= 3e-5 * times * largest, "{what} at {i}: {f} against {}", times * e);
    }
}
