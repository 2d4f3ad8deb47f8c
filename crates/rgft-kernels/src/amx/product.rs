//! Products of matrices on tiles: both operands are rounded and packed into panels, then multiplied task by task.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::{
    LINES, Line, PANEL, STEP, Side, TILE, configure, is_available, multiply, pack_tile, release, room,
};
use crate::{Mat, MatMut};

/// Steps in a block of `k`: a panel of B, 32 KiB, stays in the first-level cache while those of A pass by.
const BLOCK_STEPS: usize = 16;
/// Panels in a task. Those of A, with a block of `k` 256 KiB, stay in the second-level cache; and what is packed together is
/// read a kilobyte at a time where `k` is the row.
const TASK_PANELS: usize = 8;

thread_local! {
    static PACKED: RefCell<[Vec<Line>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// `C = A·B` or `C += A·B`, operands rounded to bf16 (to nearest even, subnormal numbers to 0).
///
/// The bits do not depend on the number of threads. They do on whether an element lies in a whole panel or at the edge.
///
/// To be called only where tiles are available, which [`is_available`] has asked for, and with `k > 0`.
pub(crate) fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool, threads: usize) {
    let (m, n, k) = (c.rows, c.cols, a.cols);
    debug_assert!(is_available() && k > 0);
    let (rows, columns, steps) = (m.div_ceil(PANEL), n.div_ceil(PANEL), k.div_ceil(STEP));
    // Taken, not borrowed: while rayon waits inside the product, this thread may start another one.
    let [mut of_a, mut of_b] = PACKED.take();
    let (lines_of_a, lines_of_b) =
        (room(&mut of_a, rows * steps * LINES), room(&mut of_b, columns * steps * LINES));
    // Panels that are packed together.
    let together = |panels: usize| TASK_PANELS.min(panels.div_ceil(threads));
    let (group_a, group_b) = (together(rows), together(columns));
    let pack_a = |(i, lines): (usize, &mut [Line])| pack(a, i * group_a, Side::Left, lines);
    let pack_b = |(i, lines): (usize, &mut [Line])| pack(b.t(), i * group_b, Side::Right, lines);
    let (chunk_a, chunk_b) = (group_a * steps * LINES, group_b * steps * LINES);
    let target = Target { data: c.data.as_mut_ptr(), row_stride: c.row_stride, rows: m, cols: n };
    // Rows of C in tasks of whole blocks; columns too, where that makes too few for the threads.
    let down = rows.div_ceil(TASK_PANELS);
    let across = if threads > 1 { (2 * threads).div_ceil(down).min(columns) } else { 1 };
    let wide = columns.div_ceil(across);
    let task = |i: usize, of_a: &[Line], of_b: &[Line]| {
        let (first, left) = (i / across * TASK_PANELS, i % across * wide);
        let rows = first..rows.min(first + TASK_PANELS);
        let columns = left.min(columns)..columns.min(left + wide);
        multiply_panels(target, rows, columns, [of_a, of_b], steps, accumulate);
    };
    if threads > 1 {
        lines_of_b.par_chunks_mut(chunk_b).enumerate().for_each(pack_b);
        lines_of_a.par_chunks_mut(chunk_a).enumerate().for_each(pack_a);
        let (lines_of_a, lines_of_b) = (&*lines_of_a, &*lines_of_b);
        (0..down * across).into_par_iter().for_each(|i| task(i, lines_of_a, lines_of_b));
    } else {
        lines_of_b.chunks_mut(chunk_b).enumerate().for_each(pack_b);
        lines_of_a.chunks_mut(chunk_a).enumerate().for_each(pack_a);
        (0..down).for_each(|i| task(i, lines_of_a, lines_of_b));
    }
    PACKED.set([of_a, of_b]);
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    data: *mut f32,
    row_stride: usize,
    rows: usize,
    cols: usize,
}

// SAFETY: the pointer is only written through, by tasks that write disjoint parts while the unique borrow that it came from
// is alive.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

/// A part of C: some panels of A with some of B.
#[allow(unsafe_code)]
fn multiply_panels(
    target: Target,
    rows: Range<usize>,
    columns: Range<usize>,
    [of_a, of_b]: [&[Line]; 2],
    steps: usize,
    accumulate: bool,
) {
    let size = steps * LINES;
    let mut edge = [0f32; PANEL * PANEL];
    configure();
    for first in (0..steps).step_by(BLOCK_STEPS) {
        let block = BLOCK_STEPS.min(steps - first);
        let adds = accumulate || first > 0;
        for column in columns.clone() {
            let b = &of_b[column * size + first * LINES..][..block * LINES];
            for row in rows.clone() {
                let a = &of_a[row * size + first * LINES..][..block * LINES];
                let (top, left) = (row * PANEL, column * PANEL);
                let (height, width) = (PANEL.min(target.rows - top), PANEL.min(target.cols - left));
                // SAFETY: the element at (top, left) is one of C.
                let c = unsafe { target.data.add(top * target.row_stride + left) };
                if (height, width) == (PANEL, PANEL) {
                    // SAFETY: tiles are available and configured; 32 rows and columns of C lie there, and nobody else
                    // writes them.
                    unsafe { multiply(a, b, c, target.row_stride, adds) };
                    continue;
                }
                // SAFETY: as above, into a whole square of our own.
                unsafe { multiply(a, b, edge.as_mut_ptr(), PANEL, false) };
                for (r, row) in edge.chunks(PANEL).take(height).enumerate() {
                    // SAFETY: row `top + r` of C has `width` elements from `left` on, and nobody else writes them.
                    let own = unsafe { std::slice::from_raw_parts_mut(c.add(r * target.row_stride), width) };
                    own.iter_mut().zip(row).for_each(|(c, x)| *c = if adds { *c + x } else { *x });
                }
            }
        }
    }
    release();
}

/// Packs panels of `source`, `[rows of A or columns of B, k]`, from panel `first` on: for each step two tiles. Beyond the
/// edges there are zeros.
fn pack(source: Mat, first: usize, side: Side, lines: &mut [Line]) {
    let steps = source.cols.div_ceil(STEP);
    let (panels, along_k) = (lines.len() / (steps * LINES), source.col_stride == 1);
    // In the order in which the numbers lie in memory.
    for i in 0..panels * steps {
        let (panel, step) = if along_k { (i / steps, i % steps) } else { (i % panels, i / panels) };
        let tiles = lines[(panel * steps + step) * LINES..][..LINES].chunks_mut(TILE);
        for (half, tile) in tiles.enumerate() {
            let line = (first + panel) * PANEL + half * TILE;
            pack_tile(source, line, step * STEP, side, tile);
        }
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn every_layout_edge_and_number_of_threads_gives_the_product() {
        if !is_available() {
            eprintln!("skipped: no tiles for bf16 here");
            return;
        }
        // Small integers are exact in bf16, and their sums in f32.
        let numbers = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 31 + seed) % 13) as f32 - 6.0).collect()
        };
        for (m, k, n) in
            [(1, 1, 1), (32, 32, 32), (33, 31, 65), (16, 513, 17), (300, 70, 130), (5, 1100, 400)]
        {
            // Each in a matrix with three columns more.
            let (a, b) = (numbers((m + 3) * (k + 3), 1), numbers((k + 3) * (n + 3), 2));
            let (c_stride, start) = (n + 3, numbers(m * (n + 3), 3));
            for layout in 0..4 {
                let of = |data, rows, cols| Mat::strided(data, rows, cols, cols + 3);
                let a = if layout & 1 == 0 { of(&a, m, k) } else { of(&a, k, m).t() };
                let b = if layout & 2 == 0 { of(&b, k, n) } else { of(&b, n, k).t() };
                for (threads, accumulate) in [(1, false), (1, true), (2, true), (5, false), (16, true)] {
                    let mut c = start.clone();
                    gemm(a, b, MatMut::strided(&mut c[1..], m, n, c_stride), accumulate, threads);
                    let own: Vec<f32> =
                        start[1..].chunks(c_stride).flat_map(|row| &row[..n]).copied().collect();
                    let product = reference::product(a, b, accumulate.then_some(&own[..]));
                    let mut expected = start.clone();
                    for (row, product) in expected[1..].chunks_mut(c_stride).zip(product.chunks(n)) {
                        row.iter_mut().zip(product).for_each(|(c, x)| *c = *x as f32);
                    }
                    assert!(c == expected, "{m}x{k}x{n}, layout {layout}, {threads} threads, {accumulate}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_also_inside_of_other_tasks() {
        if !is_available() {
            eprintln!("skipped: no tiles for bf16 here");
            return;
        }
        let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.7).sin()).collect() };
        let (m, k, n) = (290, 700, 333);
        let (a, b) = (numbers(m * k), numbers(k * n));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        let with = |threads| {
            let mut c = vec![0.0; m * n];
            gemm(a, b, MatMut::new(&mut c, m, n), false, threads);
            c
        };
        let one = with(1);
        (1..9usize).into_par_iter().for_each(|threads| assert!(with(threads) == one, "{threads} threads"));
    }
}
