//! Kernels that say how long they took and how much memory their operands are, for `rgft bench steps --profile`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cpu::activation::Activation;
use crate::cpu::attention::{AttentionSaved, Heads};
use crate::cpu::batch_norm::{NormSlopes, ScaleShift, Source};
use crate::cpu::conv::ConvShape;
use crate::cpu::image_pool::MapShape;
use crate::cpu::lstm::{LstmSaved, LstmWalk};
use crate::cpu::norm::{NormInput, NormWeights};
use crate::cpu::optimizer::{AdamW, Block, Sgd};
use crate::cpu::pooling::Pool;
use crate::cpu::rope::Rotation;
use crate::cpu::scalar::Dropout;
use crate::gemm::{Factor, Packing, Start};
use crate::{Cpu, Mat, MatMut, Precision};

/// What one kernel's calls took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// How many there were.
    pub calls: usize,
    /// Time in them.
    pub time: Duration,
    /// Bytes of their operands, each counted once, as if nothing of it were in a cache. Of tables, a few rows of which are
    /// read, nothing counts.
    pub bytes: usize,
}

/// What each kernel's calls took, by its name; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Timings(Arc<Mutex<BTreeMap<&'static str, Spent>>>);

impl Timings {
    /// What was spent since the last call.
    pub fn take(&self) -> BTreeMap<&'static str, Spent> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, kernel: &'static str, time: Duration, bytes: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = all.entry(kernel).or_default();
        *spent = Spent { calls: spent.calls + 1, time: spent.time + time, bytes: spent.bytes + bytes };
    }
}

/// The processor's kernels, each call timed. Numbers are those of [`Cpu`].
#[derive(Clone, Debug, Default)]
pub struct Timed(pub Timings);

impl Timed {
    /// Makes the call `run` of `kernel`, on operands of so many bytes.
    pub(crate) fn call<R>(&self, kernel: &'static str, bytes: usize, run: impl FnOnce(&Cpu) -> R) -> R {
        let begun = Instant::now();
        let result = run(&Cpu);
        self.0.add(kernel, begun.elapsed(), bytes);
        result
    }
}

/// An argument of a kernel.
pub(crate) trait Operand {
    /// Bytes of the numbers in it.
    fn bytes(&self) -> usize;
}

impl Operand for &[f32] {
    fn bytes(&self) -> usize {
        size_of_val(*self)
    }
}

impl Operand for &mut [f32] {
    fn bytes(&self) -> usize {
        size_of_val(*self)
    }
}

impl Operand for Mat<'_> {
    fn bytes(&self) -> usize {
        self.rows * self.cols * size_of::<f32>()
    }
}

impl Operand for Factor<'_> {
    fn bytes(&self) -> usize {
        self.mat().bytes()
    }
}

impl Operand for MatMut<'_> {
    fn bytes(&self) -> usize {
        self.rows * self.cols * size_of::<f32>()
    }
}

impl<O: Operand> Operand for Option<O> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Operand::bytes)
    }
}

impl<A: Operand, B: Operand> Operand for (A, B) {
    fn bytes(&self) -> usize {
        self.0.bytes() + self.1.bytes()
    }
}

impl<O: Operand> Operand for [O; 2] {
    fn bytes(&self) -> usize {
        self.iter().map(Operand::bytes).sum()
    }
}

impl Operand for &[(Mat<'_>, Mat<'_>)] {
    fn bytes(&self) -> usize {
        self.iter().map(Operand::bytes).sum()
    }
}

impl Operand for LstmSaved<'_> {
    fn bytes(&self) -> usize {
        [&*self.gates, &*self.c, &*self.h].iter().map(Operand::bytes).sum()
    }
}

impl Operand for NormInput<'_> {
    fn bytes(&self) -> usize {
        self.projection.bytes() + self.residual.bytes()
    }
}

impl Operand for ScaleShift<'_> {
    fn bytes(&self) -> usize {
        self.residual.bytes()
    }
}

impl Operand for Source<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::From(z) => z.bytes(),
            Self::InPlace => 0,
        }
    }
}

impl Operand for AttentionSaved<'_> {
    fn bytes(&self) -> usize {
        [self.q, self.k, self.v, self.probabilities].iter().map(Operand::bytes).sum()
    }
}

impl Operand for Block<'_> {
    /// Gradient and weights; the moments are arguments of their own.
    fn bytes(&self) -> usize {
        let rows = self.weight.len().div_ceil(self.weight_stride.max(1));
        let passed = 1 + usize::from(self.gradient.is_some());
        passed * rows * self.width * size_of::<f32>()
    }
}

/// Shapes, settings and indices.
macro_rules! small {
    ($($small:ty),* $(,)?) => { $(impl Operand for $small { fn bytes(&self) -> usize { 0 } })* };
}
small!(bool, f32, f64, usize, &[u32], &[usize], &[Range<usize>], Range<usize>, Precision, Activation);
small!(
    Packing,
    Start<'_>,
    NormWeights<'_>,
    NormSlopes<'_>,
    Rotation<'_>,
    Heads<'_>,
    LstmWalk<'_>,
    Dropout,
    Pool,
    AdamW,
    Sgd,
    ConvShape,
    MapShape
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kernels;

    #[test]
    fn calls_give_the_cpus_numbers_and_are_counted() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0]);
        let timed = Timed::default();
        let mut c = [0.0; 2];
        for _ in 0..2 {
            let views = (Mat::new(&a, 2, 3), Mat::new(&b, 3, 1));
            timed.gemm(views.0, views.1, MatMut::new(&mut c, 2, 1), false, Precision::F32);
        }
        assert_eq!(c, [7.0, 16.0]);
        assert!(timed.squared_norm(&b) == 5.0);
        let spent = timed.0.take();
        assert_eq!((spent["gemm"].calls, spent["gemm"].bytes), (2, 2 * 4 * (6 + 3 + 2)));
        assert_eq!((spent["squared_norm"].calls, spent["squared_norm"].bytes), (1, 12));
        assert!(timed.0.take().is_empty());
    }
}
