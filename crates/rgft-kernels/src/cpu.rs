//! The CPU's kernels: one file per kernel, row-parallel with rayon, vectorised by the compiler for the widest
//! instructions found at run time (`vectorised!`). No kernel allocates; none knows a layer or a model.

/// [`vectorised`] of a closure that is always inlined. One that is not is compiled once, for the oldest processor, and
/// called from there; the compiler decides by size, so that it is just the long loops that go wrong.
macro_rules! vectorised {
    (|| $loops:expr) => {
        $crate::cpu::vectorised(
            #[inline(always)]
            || $loops,
        )
    };
}

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod conv;
pub mod embedding;
pub mod gated;
pub mod gru;
pub mod image_pool;
pub mod instance_norm;
mod lanes;
pub mod loss;
pub mod lstm;
pub mod norm;
pub mod optimizer;
mod panels;
pub mod patches;
pub mod pooling;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod scalar;
mod scratch;
pub mod time_major;

use std::sync::LazyLock;

use rayon::prelude::*;

/// Elements below which a pass runs on the calling thread.
const SERIAL_ELEMENTS: usize = 1 << 14;

static ARCH: LazyLock<pulp::Arch> = LazyLock::new(crate::instructions::arch);

/// Runs `loops` compiled for the widest vector instructions of this processor. Plain loops inside it
/// vectorise; calls that are not inlined into it do not.
#[inline(always)]
pub(crate) fn vectorised<R>(loops: impl FnOnce() -> R) -> R {
    struct Loops<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Loops<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    ARCH.dispatch(Loops(loops))
}

/// How many rows of `cols` elements one task takes, so that each thread gets a few equal tasks.
pub(crate) fn rows_per_task(rows: usize, cols: usize) -> usize {
    if rows * cols < SERIAL_ELEMENTS {
        return rows.max(1);
    }
    rows.div_ceil(4 * rayon::current_num_threads()).max(1)
}

/// Calls `pass(first_row, rows)` on consecutive blocks of rows of `data` (`[_, cols]`), in parallel.
pub(crate) fn for_row_blocks(data: &mut [f32], cols: usize, pass: impl Fn(usize, &mut [f32]) + Sync) {
    if data.is_empty() {
        return;
    }
    let block = rows_per_task(data.len() / cols, cols);
    data.par_chunks_mut(block * cols).enumerate().for_each(|(i, rows)| pass(i * block, rows));
}
