//! The engine: kernels, arena, precision and dropout in one place, and the count of every product that runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rgft_kernels::cpu::scalar::{Dropout, hash};
use rgft_kernels::gemm::{Factor, Packed, Packing, Start};
use rgft_kernels::{Cpu, Kernels, Mat, MatMut, Precision};

use crate::packed_weights::{Form, PackedWeights};
use crate::parameters::Parameters;
use crate::probe::{Observer, Passed};
use crate::product::{Flops, Pass, Product};
use crate::tensor::{Arena, Tensor};

/// What a pass is for, which decides dropout and whose statistics batch norms use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No dropout, running statistics.
    #[default]
    Evaluate,
    /// No dropout; the batch's statistics where a site needs anything, as a training step would use them.
    Probe,
    /// No dropout; the batch's statistics everywhere, and they are observed.
    Calibrate,
    /// Dropout; the batch's statistics where a site needs anything, and they are observed.
    Train {
        /// Of the step's dropout.
        seed: u32,
    },
}

/// What one batch says of a running statistic.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// The parameter that holds it.
    pub parameter: usize,
    /// A number per channel.
    pub values: Vec<f32>,
    /// The share of the batch in the next value.
    pub momentum: f32,
}

/// Runs a model's layers. One engine belongs to one thread; its kernels use the current rayon pool.
pub struct Engine {
    /// The device's kernels.
    pub kernels: Box<dyn Kernels>,
    /// Where tensors come from.
    pub arena: Arena,
    /// In what precision products run.
    pub precision: Precision,
    weights: PackedWeights,
    mode: Cell<Mode>,
    flops: Cell<Flops>,
    statistics: RefCell<Vec<Statistic>>,
    log: RefCell<Option<Vec<Product>>>,
    observer: RefCell<Option<Rc<RefCell<dyn Observer>>>>,
    /// Whether what passes now has passed before.
    again: Cell<bool>,
    row_order: RefCell<Option<Vec<u32>>>,
}

impl Engine {
    /// An engine on the CPU. Precision falls back to f32 where the processor lacks bf16 products.
    pub fn new(precision: Precision) -> Self {
        Self {
            kernels: Box::new(Cpu),
            arena: Arena::default(),
            precision: precision.supported(),
            weights: PackedWeights::default(),
            mode: Cell::default(),
            flops: Cell::default(),
            statistics: RefCell::default(),
            log: RefCell::default(),
            observer: RefCell::default(),
            again: Cell::default(),
            row_order: RefCell::default(),
        }
    }

    /// A `[rows, cols]` tensor with arbitrary contents.
    pub fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        self.arena.tensor(rows, cols)
    }

    /// A `[rows, cols]` tensor of zeros.
    pub fn zeros(&self, rows: usize, cols: usize) -> Tensor {
        let mut tensor = self.arena.tensor(rows, cols);
        tensor.data_mut().fill(0.0);
        tensor
    }

    /// A tensor of the same numbers.
    pub fn copy(&self, tensor: &Tensor) -> Tensor {
        let mut copy = self.tensor(tensor.rows(), tensor.cols());
        copy.data_mut().copy_from_slice(tensor.data());
        copy
    }

    /// Runs `pass`, which repeats one that ran: it is counted, but observes nothing.
    pub(crate) fn again(&self, pass: impl FnOnce()) {
        let before = self.again.replace(true);
        pass();
        self.again.set(before);
    }

    /// What the passes from now on are for.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.set(mode);
    }

    /// What passes are for at present.
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }

    /// As [`Engine::set_mode`]: a training step with this seed, or evaluation.
    pub fn set_dropout(&self, seed: Option<u32>) {
        self.set_mode(seed.map_or(Mode::Evaluate, |seed| Mode::Train { seed }));
    }

    /// The dropout that acts at `place` in this step, if any.
    pub fn dropout(&self, place: usize, probability: f32) -> Option<Dropout> {
        match self.mode.get() {
            Mode::Train { seed } if probability > 0.0 => {
                Some(Dropout { seed: hash(seed, place as u32 + 1), probability })
            }
            _ => None,
        }
    }

    /// Remembers what a batch says of a running statistic.
    pub(crate) fn observe_statistic(&self, statistic: Statistic) {
        if !self.again.get() {
            self.statistics.borrow_mut().push(statistic);
        }
    }

    /// What the batches since the last call said of running statistics.
    pub fn take_statistics(&self) -> Vec<Statistic> {
        self.statistics.take()
    }

    /// `C = A·B` or `C += A·B`, counted.
    pub fn product(&self, site: usize, pass: Pass, a: Mat, b: Mat, c: MatMut, accumulate: bool) {
        let ((m, k), (_, n)) = (a.shape(), b.shape());
        self.count(Product { site, pass, batch: 1, m, k, n });
        self.kernels.gemm(a, b, c, accumulate, self.precision);
    }

    /// `C = start + A·W`, counted, where the weight `W` is `view`: parameter `index` in its `form`.
    pub(crate) fn product_with_weight(
        &self,
        (site, pass): (usize, Pass),
        a: Factor,
        (parameters, index): (&Parameters, usize),
        (form, view): (Form, Mat),
        c: MatMut,
        start: Start,
    ) {
        let ((m, k), (_, n)) = (a.mat().shape(), view.shape());
        self.count(Product { site, pass, batch: 1, m, k, n });
        let by = (&*self.kernels, self.precision);
        // A look goes through everything a few times and seldom comes back: what it packed would outlive it.
        let keeps = self.mode.get() != Mode::Probe;
        let packed = keeps.then(|| self.weights.get(by, (parameters, index), (form, view))).flatten();
        let w = Factor::packed(view, packed.as_deref());
        self.kernels.gemm_packed(a, w, c, start, self.precision);
    }

    /// Packs the left factor of products that share it.
    pub(crate) fn pack_shared(&self, a: Mat) -> Packed {
        self.kernels.pack(a, Packing::Left, self.precision)
    }

    /// Counts a product that a kernel runs inside itself.
    pub fn count(&self, product: Product) {
        let mut flops = self.flops.get();
        flops.add(&product);
        self.flops.set(flops);
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.push(product);
        }
    }

    /// From now on `observer` sees what passes each site in forward; with `None`, nobody does. Observers never change
    /// numbers.
    pub fn observe(&self, observer: Option<Rc<RefCell<dyn Observer>>>) {
        self.observer.replace(observer);
    }

    /// Whether an observer looks on.
    pub(crate) fn is_observed(&self) -> bool {
        self.observer.borrow().is_some()
    }

    /// Shows to the observer, if there is one, what passes a site.
    pub(crate) fn pass(&self, site: usize, passed: Passed) {
        if let (Some(observer), false) = (&*self.observer.borrow(), self.again.get()) {
            observer.borrow_mut().pass(self, site, passed);
        }
    }

    /// The rows of what is shown to probes and observers from now on: which row of the packed examples each one is.
    /// `None`: packed, example after example.
    pub(crate) fn set_row_order(&self, packed: Option<&[u32]>) {
        self.row_order.replace(packed.map(<[u32]>::to_vec));
    }

    /// Which row of the packed examples each row is that is being shown; `None` where they are in that order.
    pub fn row_order(&self) -> Option<Vec<u32>> {
        self.row_order.borrow().clone()
    }

    /// The FLOPs counted since the last call.
    pub fn take_flops(&self) -> Flops {
        self.flops.take()
    }

    /// Starts (or restarts) recording every product.
    pub fn record(&self) {
        self.log.replace(Some(Vec::new()));
    }

    /// Ends the recording and returns it.
    pub fn recorded(&self) -> Vec<Product> {
        self.log.take().unwrap_or_default()
    }
}
