//! The engine: kernels, arena, precision and dropout in one place, and the count of every product that runs.

use std::cell::{Cell, RefCell};

use rgft_kernels::cpu::scalar::{Dropout, hash};
use rgft_kernels::{Cpu, Kernels, Mat, MatMut, Precision};

use crate::product::{Flops, Pass, Product};
use crate::tensor::{Arena, Tensor};

/// Runs a model's layers. One engine belongs to one thread; its kernels use the current rayon pool.
pub struct Engine {
    /// The device's kernels.
    pub kernels: Box<dyn Kernels>,
    /// Where tensors come from.
    pub arena: Arena,
    /// In what precision products run.
    pub precision: Precision,
    /// Seed of this step's dropout; `None` when evaluating.
    dropout_seed: Cell<Option<u32>>,
    flops: Cell<Flops>,
    log: RefCell<Option<Vec<Product>>>,
}

impl Engine {
    /// An engine on the CPU. Precision falls back to f32 where the processor lacks bf16 products.
    pub fn new(precision: Precision) -> Self {
        Self {
            kernels: Box::new(Cpu),
            arena: Arena::default(),
            precision: precision.supported(),
            dropout_seed: Cell::new(None),
            flops: Cell::default(),
            log: RefCell::default(),
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

    /// A training step begins, with this seed of its dropout; or, with `None`, evaluation.
    pub fn set_dropout(&self, seed: Option<u32>) {
        self.dropout_seed.set(seed);
    }

    /// Whether a training step runs: batch norms of what is updated use the batch's statistics.
    pub fn is_training(&self) -> bool {
        self.dropout_seed.get().is_some()
    }

    /// The dropout that acts at `place` in this step, if any.
    pub fn dropout(&self, place: usize, probability: f32) -> Option<Dropout> {
        let seed = self.dropout_seed.get().filter(|_| probability > 0.0)?;
        Some(Dropout { seed: hash(seed, place as u32 + 1), probability })
    }

    /// `C = A·B` or `C += A·B`, counted.
    pub fn product(&self, site: usize, pass: Pass, a: Mat, b: Mat, c: MatMut, accumulate: bool) {
        let ((m, k), (_, n)) = (a.shape(), b.shape());
        self.count(Product { site, pass, batch: 1, m, k, n });
        self.kernels.gemm(a, b, c, accumulate, self.precision);
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
