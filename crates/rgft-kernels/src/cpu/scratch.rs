//! Memory of the tasks: what each has to itself, and what they write together.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::ARCH;
use crate::Mat;

/// Floats of a cache line: where pieces of scratch memory begin.
const LINE: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Lends pieces of this thread's scratch memory of the given sizes (contents arbitrary).
pub(super) fn with_scratch<const N: usize>(sizes: [usize; N], work: impl FnOnce([&mut [f32]; N])) {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = LINE + sizes.iter().map(|n| n.next_multiple_of(LINE)).sum::<usize>();
        if scratch.len() < room {
            scratch.resize(room, 0.0);
        }
        let start = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let mut rest = &mut scratch[start..];
        work(sizes.map(|n| {
            let (piece, tail) = std::mem::take(&mut rest).split_at_mut(n.next_multiple_of(LINE));
            rest = tail;
            &mut piece[..n]
        }));
    });
}

/// Reads a number of each cache line of `x` in order: strided pieces that are read or written soon are then near.
pub(super) fn read_ahead(x: Mat) {
    (0..x.rows).for_each(|r| read_line_by_line(&x.data[r * x.row_stride..][..x.cols]));
}

fn read_line_by_line(x: &[f32]) {
    std::hint::black_box(x.iter().step_by(LINE).fold(0, |bits, x| bits ^ x.to_bits()));
}

/// A matrix that tasks write at the same time, each its own elements.
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    cols: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the buffer is only reached through `part`, whose callers promise that no two parts overlap.
#[allow(unsafe_code)]
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(buffer: &'a mut [f32], cols: usize) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), cols, borrow: PhantomData }
    }

    /// `n` elements from `first` on.
    ///
    /// # Safety
    /// While the part is alive, no other part has one of its elements.
    ///
    /// # Panics
    /// If they lie outside the buffer.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, first: usize, n: usize) -> &mut [f32] {
        assert!(first <= self.len && n <= self.len - first, "{n} elements from {first} on of {}", self.len);
        // SAFETY: the elements lie in the buffer, which is borrowed uniquely for as long as `self` lives, and by the
        // caller's promise nothing else reaches them.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), n) }
    }

    /// [`read_ahead`] of `columns` of `rows`.
    ///
    /// # Safety
    /// At the same time, no one else has those elements.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read_ahead(&self, rows: Range<usize>, columns: Range<usize>) {
        for row in rows {
            // SAFETY: the caller's promise.
            read_line_by_line(unsafe { self.part(row * self.cols + columns.start, columns.len()) });
        }
    }

    /// Writes rows, `stride` apart in `from`, to `columns` of the rows from `first` on.
    ///
    /// # Safety
    /// At the same time, no one else has those elements.
    #[allow(unsafe_code)]
    pub(super) unsafe fn write(&self, first: usize, columns: Range<usize>, from: &[f32], stride: usize) {
        let places = (first * self.cols + columns.start..).step_by(self.cols);
        ARCH.dispatch(Write { to: self, rows: places.zip(from.chunks_exact(stride)), width: columns.len() });
    }
}

/// Rows, and where each goes.
struct Write<'a, I> {
    to: &'a Shared<'a>,
    rows: I,
    width: usize,
}

impl<'a, I: Iterator<Item = (usize, &'a [f32])>> WithSimd for Write<'a, I> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (first, from) in self.rows {
            // SAFETY: the promise of `Shared::write`'s caller.
            let to = unsafe { self.to.part(first, self.width) };
            let ((to, to_tail), (from, tail)) =
                (S::as_mut_simd_f32s(to), S::as_simd_f32s(&from[..self.width]));
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            simd.partial_store_f32s(to_tail, simd.partial_load_f32s(tail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_begins_on_lines_and_shared_buffers_are_checked() {
        with_scratch([3, 40, 0, 16], |pieces| {
            assert_eq!(pieces.each_ref().map(|piece| piece.len()), [3, 40, 0, 16]);
            assert!(pieces.iter().all(|piece| piece.as_ptr().align_offset(64) == 0));
        });
        let mut buffer = [0.0; 10];
        let shared = Shared::new(&mut buffer, 4);
        // SAFETY: one at a time.
        #[allow(unsafe_code)]
        let outside =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { shared.part(8, 3).len() }));
        assert!(outside.is_err());
        // SAFETY: one at a time.
        #[allow(unsafe_code)]
        unsafe {
            shared.read_ahead(0..2, 1..3);
            shared.write(0, 1..3, &[1.0, 2.0, 9.0, 3.0, 4.0, 9.0], 3);
        }
        assert_eq!(buffer, [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0]);
    }
}
