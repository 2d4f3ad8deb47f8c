//! Tensors `[rows, cols]` whose memory comes from an arena and goes back to it.
//!
//! A training step needs the same buffers as the one before: after warm-up every [`Arena::tensor`] finds one and
//! the heap is left alone. Buffers are never cleared: a fresh tensor holds whatever its last user left.

use std::sync::{Arc, Mutex, PoisonError};

use rgft_kernels::{Mat, MatMut};

/// A pool of buffers, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct Arena(Arc<Mutex<Pool>>);

#[derive(Debug, Default)]
struct Pool {
    free: Vec<Vec<f32>>,
    allocations: usize,
    bytes: usize,
    peak_bytes: usize,
}

/// Floats of a buffer that is worth its memory.
const LARGE: usize = 1 << 16;

impl Pool {
    /// A new buffer of `n` floats. Where it is large, the largest free one that is a little too small goes for it, so that
    /// batches of many sizes hold no more than the largest of them.
    fn allocate(&mut self, n: usize) -> Vec<f32> {
        let smaller = self.free.iter().enumerate().filter(|(_, b)| b.len() < n && b.len() >= n / 2);
        if let Some((i, _)) = smaller.max_by_key(|(_, b)| b.len()).filter(|_| n >= LARGE) {
            self.bytes -= size_of_val(&self.free.swap_remove(i)[..]);
        }
        self.allocations += 1;
        // An eighth of slack, so that batches of slightly different size share buffers.
        let data = vec![0.0; (n + n / 8).max(64)];
        self.bytes += size_of_val(&data[..]);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
        data
    }
}

impl Arena {
    /// A `[rows, cols]` tensor with arbitrary contents.
    pub fn tensor(&self, rows: usize, cols: usize) -> Tensor {
        let n = rows * cols;
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest free buffer that is large enough, unless it would waste more than half of itself.
        let fits = pool.free.iter().enumerate().filter(|(_, b)| b.len() >= n && b.len() / 2 <= n.max(512));
        let best = fits.min_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        let data = match best {
            Some(i) => pool.free.swap_remove(i),
            None => pool.allocate(n),
        };
        Tensor { data, rows, cols, arena: self.clone() }
    }

    /// Gives free buffers back to the heap.
    pub fn release(&self) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let freed: usize = pool.free.drain(..).map(|data| size_of_val(&data[..])).sum();
        pool.bytes -= freed;
    }

    /// The most bytes that its buffers, in use or free, ever took together.
    pub fn peak_bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).peak_bytes
    }

    /// How often the heap was asked for memory since the arena was made.
    pub fn allocations(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).allocations
    }
}

/// A row-major `[rows, cols]` matrix; a vector is `[n, 1]` or `[1, n]`.
#[derive(Debug)]
pub struct Tensor {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    arena: Arena,
}

impl Tensor {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The elements, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    /// The elements, writable.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    /// The same scalars as `[rows, cols]`.
    ///
    /// # Panics
    /// If they are not as many.
    pub fn reshaped(mut self, rows: usize, cols: usize) -> Self {
        assert_eq!(self.rows * self.cols, rows * cols, "[{}, {}] as [{rows}, {cols}]", self.rows, self.cols);
        (self.rows, self.cols) = (rows, cols);
        self
    }

    /// A view for products.
    pub fn mat(&self) -> Mat<'_> {
        Mat::new(self.data(), self.rows, self.cols)
    }

    /// A writable view for products.
    pub fn mat_mut(&mut self) -> MatMut<'_> {
        let (rows, cols) = (self.rows, self.cols);
        MatMut::new(self.data_mut(), rows, cols)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.arena.0.lock().unwrap_or_else(PoisonError::into_inner).free.push(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let arena = Arena::default();
        for step in 0..5 {
            let (a, b) = (arena.tensor(100 - step, 30), arena.tensor(7, 3));
            assert_eq!((a.data().len(), b.data().len()), ((100 - step) * 30, 21));
        }
        assert_eq!(arena.allocations(), 2);
    }

    #[test]
    fn batches_of_many_sizes_hold_what_the_largest_takes() {
        let arena = Arena::default();
        for rows in [100, 60, 130, 90, 170, 110, 200] {
            drop([arena.tensor(rows, 3000), arena.tensor(rows, 3000), arena.tensor(1, 7)]);
        }
        let largest = 2 * (200 * 3000 * 9 / 8) + 64;
        assert_eq!(arena.peak_bytes(), 4 * largest);
        arena.release();
        drop(arena.tensor(200, 3000));
        assert_eq!(arena.peak_bytes(), 4 * largest);
    }

    #[test]
    fn a_large_buffer_is_not_spent_on_a_small_tensor() {
        let arena = Arena::default();
        drop(arena.tensor(1000, 1000));
        drop(arena.tensor(10, 100));
        assert_eq!(arena.allocations(), 2);
    }
}
