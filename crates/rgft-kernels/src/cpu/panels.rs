//! Products of a head of attention or a step of a recurrent layer: `C = A·B` and `C += A·B`, too small for a library's set-up
//! to pay.
//!
//! `B` is copied once into *panels* of as many columns as two vectors have lanes, `[panels, k, columns]`, with zeros
//! beyond its last column; every product with it then reads it in order. `A` is read where it lies, along its rows or
//! (transposed) across them. A tile of `C`, of a few rows and one panel's columns, stays in registers for its whole sum:
//! `c[p, ·] = Σ_k a[p, k]·b[k, ·]`. A row of `C` is padded to [`padded`] columns, so that tiles are stored whole.
//!
//! Products in other precisions than f32 go to [`gemm_serial`], and their `B` is not copied.

use pulp::{Simd, WithSimd};

use super::ARCH;
use crate::gemm::{Precision, gemm_serial};
use crate::{Mat, MatMut};

/// Vectors of a panel's row.
const VECTORS: usize = 2;

/// Columns that `n` columns take where a row holds whole panels, on any processor.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(32)
}

/// The right operand `B` of products.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// Panels, of `k` rows each.
    Panels(&'a [f32], usize),
    /// Where it lies, for the library.
    Library(Mat<'a>, Precision),
}

impl<'a> Right<'a> {
    /// `b`, in panels in `room` where the products are f32; `room` is `b.rows · padded(b.cols)` floats.
    pub(super) fn new(b: Mat<'a>, room: &'a mut [f32], precision: Precision) -> Self {
        if precision != Precision::F32 {
            return Self::Library(b, precision);
        }
        let rows = b.rows;
        ARCH.dispatch(Pack { b, panels: room });
        Self::Panels(room, rows)
    }

    /// `C = A·B`, or `C += A·B` where `add`, with the first `a.cols` rows and `columns` columns of `B`. Rows of `c` are
    /// `padded` and as far apart as `c.len() / a.rows`; what they hold beyond `columns` is arbitrary.
    pub(super) fn times(self, a: Mat, columns: usize, c: &mut [f32], add: bool) {
        let stride = c.len() / a.rows;
        match self {
            Self::Panels(b, depth) => ARCH.dispatch(Product { a, b, depth, columns, c, stride, add }),
            Self::Library(b, precision) => {
                let b = b.rows_range(0..a.cols).columns(0..columns);
                gemm_serial(a, b, MatMut::strided(c, a.rows, columns, stride), add, precision);
            }
        }
    }
}

/// Copies `b` into panels.
struct Pack<'a> {
    b: Mat<'a>,
    panels: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (b, width) = (self.b, VECTORS * S::F32_LANES);
        for (i, panel) in
            self.panels.chunks_exact_mut(b.rows * width).take(b.cols.div_ceil(width)).enumerate()
        {
            let first = i * width;
            let n = width.min(b.cols - first);
            if b.col_stride == 1 {
                for (k, row) in
                    S::as_mut_simd_f32s(panel).0.as_chunks_mut::<VECTORS>().0.iter_mut().enumerate()
                {
                    let from = &b.data[k * b.row_stride + first..][..n];
                    let (whole, tail) = S::as_simd_f32s(from);
                    *row = std::array::from_fn(|v| match whole.get(v) {
                        Some(lanes) => *lanes,
                        None if v == whole.len() => simd.partial_load_f32s(tail),
                        None => simd.splat_f32s(0.0),
                    });
                }
            } else {
                for (i, rows) in panel.chunks_mut(SIDE * width).enumerate() {
                    for column in (0..width).step_by(SIDE) {
                        let square = transposed(square(b, i * SIDE, first + column));
                        for (row, from) in rows.chunks_exact_mut(width).zip(square.as_chunks::<SIDE>().0) {
                            let to = S::as_mut_simd_f32s(&mut row[column..]).0;
                            to.iter_mut().zip(S::as_simd_f32s(from).0).for_each(|(to, from)| *to = *from);
                        }
                    }
                }
            }
        }
    }
}

/// The side of the squares in which a transposed operand is copied.
const SIDE: usize = 16;

/// Columns of `b` from `column` on as rows of a square, from its row `k` on; zeros beyond its last.
#[inline(always)]
fn square(b: Mat, k: usize, column: usize) -> [f32; SIDE * SIDE] {
    let mut square = [0.0; SIDE * SIDE];
    let n = SIDE.min(b.rows - k);
    let columns = column.min(b.cols)..b.cols;
    for (row, column) in square.as_chunks_mut::<SIDE>().0.iter_mut().zip(columns) {
        let from = &b.data[column * b.col_stride + k..][..n];
        match from.first_chunk() {
            Some(whole) => *row = *whole,
            None => row[..n].copy_from_slice(from),
        }
    }
    square
}

/// The transposed square: four times, its upper half is interleaved with its lower half, each of which turns the bits
/// of an element's place by one.
#[inline(always)]
fn transposed(mut square: [f32; SIDE * SIDE]) -> [f32; SIDE * SIDE] {
    for _ in 0..SIDE.ilog2() {
        let (upper, lower) = square.split_at(SIDE * SIDE / 2);
        let mut next = [0.0; SIDE * SIDE];
        for ((to, upper), lower) in next.as_chunks_mut().0.iter_mut().zip(upper).zip(lower) {
            *to = [*upper, *lower];
        }
        square = next;
    }
    square
}

/// One product with panels.
struct Product<'a> {
    a: Mat<'a>,
    b: &'a [f32],
    depth: usize,
    columns: usize,
    c: &'a mut [f32],
    stride: usize,
    add: bool,
}

/// Calls `$tile` for the number of rows that `$rows` is.
macro_rules! with_rows {
    ($rows:expr, $tile:ident $args:tt, $($n:literal)*) => {
        match $rows {
            $($n => $tile::<S, $n> $args,)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, depth, columns, c, stride, add } = self;
        let width = VECTORS * S::F32_LANES;
        // All sums, a panel's row and one broadcast fit the registers.
        let most = if S::REGISTER_COUNT < 32 { 6 } else { 12 };
        let parts = a.rows.div_ceil(most);
        for (i, panel) in b.chunks_exact(depth * width).take(columns.div_ceil(width)).enumerate() {
            let panel = &panel[..a.cols * width];
            for part in 0..parts {
                // Parts as even as can be.
                let rows = part * a.rows / parts..(part + 1) * a.rows / parts;
                let c = &mut c[rows.start * stride + i * width..];
                let a = a.rows_range(rows);
                if a.col_stride == 1 {
                    with_rows!(a.rows, along(simd, a, panel, c, stride, add), 1 2 3 4 5 6 7 8 9 10 11 12);
                } else {
                    with_rows!(a.rows, across(simd, a, panel, c, stride, add), 1 2 3 4 5 6 7 8 9 10 11 12);
                }
            }
        }
    }
}

/// The sums of a tile.
type Tile<S, const P: usize> = [[<S as Simd>::f32s; VECTORS]; P];

/// A tile of `A·B` with `A`'s rows dense.
#[inline(always)]
fn along<S: Simd, const P: usize>(simd: S, a: Mat, b: &[f32], c: &mut [f32], stride: usize, add: bool) {
    let mut sums: Tile<S, P> = [[simd.splat_f32s(0.0); VECTORS]; P];
    let b = S::as_simd_f32s(b).0.as_chunks::<VECTORS>().0;
    let rows: [&[f32]; P] = std::array::from_fn(|p| &a.data[p * a.row_stride..][..b.len()]);
    for (k, b) in b.iter().enumerate() {
        multiply_add(simd, &mut sums, |p| rows[p][k], b);
    }
    finish(simd, sums, c, stride, add);
}

/// A tile of `A·B` with `A`'s columns dense.
#[inline(always)]
fn across<S: Simd, const P: usize>(simd: S, a: Mat, b: &[f32], c: &mut [f32], stride: usize, add: bool) {
    let mut sums: Tile<S, P> = [[simd.splat_f32s(0.0); VECTORS]; P];
    for (k, b) in S::as_simd_f32s(b).0.as_chunks::<VECTORS>().0.iter().enumerate() {
        let a = &a.data[k * a.col_stride..][..P];
        multiply_add(simd, &mut sums, |p| a[p], b);
    }
    finish(simd, sums, c, stride, add);
}

#[inline(always)]
fn multiply_add<S: Simd, const P: usize>(
    simd: S,
    sums: &mut Tile<S, P>,
    a: impl Fn(usize) -> f32,
    b: &[S::f32s; VECTORS],
) {
    for (p, sums) in sums.iter_mut().enumerate() {
        let a = simd.splat_f32s(a(p));
        sums.iter_mut().zip(b).for_each(|(sum, b)| *sum = simd.mul_add_e_f32s(a, *b, *sum));
    }
}

/// Writes a tile to the start of `c`, or adds it there.
#[inline(always)]
fn finish<S: Simd, const P: usize>(simd: S, sums: Tile<S, P>, c: &mut [f32], stride: usize, add: bool) {
    for (p, sums) in sums.iter().enumerate() {
        let c = S::as_mut_simd_f32s(&mut c[p * stride..][..VECTORS * S::F32_LANES]).0;
        let pairs = c.iter_mut().zip(sums);
        pairs.for_each(|(c, sum)| *c = if add { simd.add_f32s(*c, *sum) } else { *sum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn products_match_the_reference_in_every_layout() {
        for (m, k, n) in [(1, 1, 1), (5, 3, 7), (12, 17, 32), (13, 16, 33), (64, 32, 64), (25, 70, 100)] {
            for layout in 0..8 {
                let (a, b, add) = (numbers(m * k, 1), numbers(k * n, 2), layout & 4 != 0);
                let a = if layout & 1 == 0 { Mat::new(&a, m, k) } else { Mat::new(&a, k, m).t() };
                let b = if layout & 2 == 0 { Mat::new(&b, k, n) } else { Mat::new(&b, n, k).t() };
                let (mut room, mut c) = (vec![f32::NAN; k * padded(n)], numbers(m * padded(n), 3));
                let dense =
                    |c: &[f32]| c.chunks(padded(n)).flat_map(|row| &row[..n]).copied().collect::<Vec<_>>();
                let expected = reference::product(a, b, add.then_some(&dense(&c)[..]));
                let right = Right::new(b, &mut room, Precision::F32);
                right.times(a, n, &mut c, add);
                reference::assert_close(&dense(&c), &expected, 1e-5);
                // With fewer of B's rows and columns.
                let (less_k, less_n) = (k.div_ceil(2), n.div_ceil(2));
                let a = a.columns(0..less_k);
                right.times(a, less_n, &mut c, false);
                let expected = reference::product(a, b.rows_range(0..less_k).columns(0..less_n), None);
                let found: Vec<_> = c.chunks(padded(n)).flat_map(|row| &row[..less_n]).copied().collect();
                reference::assert_close(&found, &expected, 1e-5);
            }
        }
    }

    #[test]
    fn a_transposed_square_is_one() {
        let square: [f32; SIDE * SIDE] = std::array::from_fn(|i| i as f32);
        let turned = transposed(square);
        (0..SIDE * SIDE).for_each(|i| assert_eq!(turned[i], square[i % SIDE * SIDE + i / SIDE]));
    }
}
