//! Views of matrices over `f32` slices, with strides: transposing or taking rows and columns copies nothing.

use std::ops::Range;

/// A read-only view of a `[rows, cols]` matrix.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major `[rows, cols]` view.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A view whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// If the last element lies outside `data`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert_within(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The columns `range`.
    pub fn columns(self, range: Range<usize>) -> Self {
        self.t().rows_range(range).t()
    }

    /// The rows `range`.
    pub fn rows_range(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.rows, "rows {range:?} of a matrix with {} rows", self.rows);
        let data = if range.is_empty() { &[] } else { &self.data[range.start * self.row_stride..] };
        Self { data, rows: range.len(), ..self }
    }

    /// `(rows, cols)`.
    pub fn shape(self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

/// A writable view of a row-major `[rows, cols]` matrix.
#[derive(Debug)]
pub struct MatMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A dense row-major `[rows, cols]` view.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A view whose rows start `row_stride` elements apart.
    ///
    /// # Panics
    /// If the last element lies outside `data`, or rows would overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert_within(data.len(), rows, cols, row_stride);
        assert!(row_stride >= cols, "row stride {row_stride} below {cols} columns: rows would overlap");
        Self { data, rows, cols, row_stride }
    }

    /// The columns `range`.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.cols, "columns {range:?} of a matrix with {} columns", self.cols);
        let data = if self.rows == 0 { self.data } else { &mut self.data[range.start..] };
        Self { data, cols: range.len(), ..self }
    }

    /// `(rows, cols)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

fn assert_within(len: usize, rows: usize, cols: usize, row_stride: usize) {
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
    assert!(
        needed <= len,
        "[{rows}, {cols}] with row stride {row_stride} needs {needed} elements, found {len}"
    );
}
