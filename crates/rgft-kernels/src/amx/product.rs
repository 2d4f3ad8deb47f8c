//! Products of matrices on tiles: both operands are rounded and packed into panels, then multiplied task by task.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::{
    LINES, Line, PANEL, STEP, Side, TILE, configure, is_available, multiply, pack_tile, release, room,
};
use crate::gemm::Start;
use crate::{Mat, MatMut};

/// Steps in a block of `k`: a panel of B, 32 KiB, stays in the first-level cache while those of A pass by.
const BLOCK_STEPS: usize = 16;
/// Panels in a task. Those of A, with a block of `k` 256 KiB, stay in the second-level cache; and what is packed together is
/// read a kilobyte at a time where `k` is the row.
const TASK_PANELS: usize = 8;

/// Buffers that a thread keeps for operands to come.
const MOST_SPARE: usize = 4;

/// Below this many lines packing runs on the calling thread: waking a second one costs more.
const SERIAL_LINES: usize = 1024;

thread_local! {
    static PACKED: RefCell<[Vec<Line>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    static SPARE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// An operand, packed. Its memory serves the next one.
#[derive(Debug)]
pub(crate) struct Panels {
    lines: Vec<Line>,
    side: Side,
    /// Of the operand.
    shape: (usize, usize),
}

impl Panels {
    /// `operand`, `[m, k]` on the left or `[k, n]` on the right.
    pub(crate) fn new(operand: Mat, side: Side, threads: usize) -> Self {
        let mut lines = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        pack_panels(operand, side, &mut lines, threads);
        Self { lines, side, shape: operand.shape() }
    }

    /// As [`Panels::new`], in memory of its own, no larger than it must be: for what is kept.
    pub(crate) fn kept(operand: Mat, side: Side, threads: usize) -> Self {
        let mut lines = Vec::new();
        pack_panels(operand, side, &mut lines, threads);
        Self { lines, side, shape: operand.shape() }
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST_SPARE {
                spare.push(std::mem::take(&mut self.lines));
            }
        });
    }
}

/// An operand of a product, packed before or not.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    Lies(Mat<'a>),
    Packed(&'a Panels),
}

impl<'a> Operand<'a> {
    fn shape(self) -> (usize, usize) {
        match self {
            Self::Lies(mat) => mat.shape(),
            Self::Packed(panels) => panels.shape,
        }
    }

    /// Its lines, in `room` where it has none yet.
    fn lines(self, side: Side, room: &'a mut Vec<Line>, threads: usize) -> &'a [Line] {
        match self {
            Self::Lies(mat) => pack_panels(mat, side, room, threads),
            Self::Packed(panels) => {
                assert!(panels.side == side, "an operand that was packed for the other side");
                &panels.lines
            }
        }
    }
}

/// `C = start + A·B`, operands rounded to bf16 (to nearest even, subnormal numbers to 0).
///
/// The bits do not depend on the number of threads. They do on whether an element lies in a whole panel or at the edge.
///
/// To be called only where tiles are available, which [`is_available`] has asked for, and with `k > 0`.
pub(crate) fn gemm(a: Operand, b: Operand, c: MatMut, start: Start, threads: usize) {
    let ((m, k), (of_b, n)) = (a.shape(), b.shape());
    assert!(k == of_b && c.shape() == (m, n), "{:?} by {:?} into {:?}", a.shape(), b.shape(), c.shape());
    // Taken, not borrowed: while rayon waits inside the product, this thread may start another one.
    let [mut room_of_a, mut room_of_b] = PACKED.take();
    let of_b = b.lines(Side::Right, &mut room_of_b, threads);
    let of_a = a.lines(Side::Left, &mut room_of_a, threads);
    multiply_tasks([of_a, of_b], k, c, start, threads);
    PACKED.set([room_of_a, room_of_b]);
}

/// Packs an operand, `[m, k]` on the left or `[k, n]` on the right, into panels.
fn pack_panels<'l>(operand: Mat, side: Side, lines: &'l mut Vec<Line>, threads: usize) -> &'l [Line] {
    let source = if side == Side::Left { operand } else { operand.t() };
    let (panels, steps) = (source.rows.div_ceil(PANEL), source.cols.div_ceil(STEP));
    let lines = room(lines, panels * steps * LINES);
    // Panels that are packed together.
    let together = TASK_PANELS.min(panels.div_ceil(threads));
    let chunk = together * steps * LINES;
    let pack = |(i, lines): (usize, &mut [Line])| pack(source, i * together, side, lines);
    if threads > 1 && lines.len() > SERIAL_LINES {
        lines.par_chunks_mut(chunk).enumerate().for_each(pack);
    } else {
        lines.chunks_mut(chunk).enumerate().for_each(pack);
    }
    lines
}

/// Multiplies panels, task by task.
fn multiply_tasks([of_a, of_b]: [&[Line]; 2], k: usize, c: MatMut, start: Start, threads: usize) {
    let (m, n) = (c.rows, c.cols);
    debug_assert!(is_available() && k > 0);
    let (rows, columns, steps) = (m.div_ceil(PANEL), n.div_ceil(PANEL), k.div_ceil(STEP));
    let target = Target { data: c.data.as_mut_ptr(), row_stride: c.row_stride, rows: m, cols: n };
    // Rows of C in tasks of whole blocks; columns too, where that makes too few for the threads.
    let down = rows.div_ceil(TASK_PANELS);
    let across = if threads > 1 { (2 * threads).div_ceil(down).min(columns) } else { 1 };
    let wide = columns.div_ceil(across);
    let task = |i: usize| {
        let (first, left) = (i / across * TASK_PANELS, i % across * wide);
        let rows = first..rows.min(first + TASK_PANELS);
        let columns = left.min(columns)..columns.min(left + wide);
        multiply_panels(target, rows, columns, [of_a, of_b], steps, start);
    };
    if threads > 1 {
        (0..down * across).into_par_iter().for_each(task);
    } else {
        (0..down).for_each(task);
    }
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
    start: Start,
) {
    let size = steps * LINES;
    let mut edge = [0f32; PANEL * PANEL];
    configure();
    for first in (0..steps).step_by(BLOCK_STEPS) {
        let block = BLOCK_STEPS.min(steps - first);
        let start = if first > 0 { Start::Add } else { start };
        for column in columns.clone() {
            let b = &of_b[column * size + first * LINES..][..block * LINES];
            for row in rows.clone() {
                let a = &of_a[row * size + first * LINES..][..block * LINES];
                let (top, left) = (row * PANEL, column * PANEL);
                let (height, width) = (PANEL.min(target.rows - top), PANEL.min(target.cols - left));
                // SAFETY: the element at (top, left) is one of C.
                let c = unsafe { target.data.add(top * target.row_stride + left) };
                if (height, width) == (PANEL, PANEL) {
                    let from = match start {
                        Start::Zero => (std::ptr::null(), 0),
                        Start::Add => (c.cast_const(), target.row_stride),
                        Start::Bias(bias) => (bias[left..][..PANEL].as_ptr(), 0),
                    };
                    // SAFETY: tiles are available and configured; 32 rows and columns of C lie there, and nobody else
                    // writes them; a bias is one row for all.
                    unsafe { multiply(a, b, c, target.row_stride, from) };
                    continue;
                }
                // SAFETY: as above, into a whole square of our own.
                unsafe { multiply(a, b, edge.as_mut_ptr(), PANEL, (std::ptr::null(), 0)) };
                for (r, row) in edge.chunks(PANEL).take(height).enumerate() {
                    // SAFETY: row `top + r` of C has `width` elements from `left` on, and nobody else writes them.
                    let own = unsafe { std::slice::from_raw_parts_mut(c.add(r * target.row_stride), width) };
                    match start {
                        Start::Zero => own.copy_from_slice(&row[..width]),
                        Start::Add => own.iter_mut().zip(row).for_each(|(c, x)| *c += x),
                        Start::Bias(bias) => {
                            let sums = bias[left..].iter().zip(row);
                            own.iter_mut().zip(sums).for_each(|(c, (b, x))| *c = b + x);
                        }
                    }
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
                let (left, right) = (a, b);
                for (threads, accumulate) in [(1, false), (1, true), (2, true), (5, false), (16, true)] {
                    let mut c = start.clone();
                    let (a, b) = (Operand::Lies(a), Operand::Lies(b));
                    let begin = if accumulate { Start::Add } else { Start::Zero };
                    gemm(a, b, MatMut::strided(&mut c[1..], m, n, c_stride), begin, threads);
                    let own: Vec<f32> =
                        start[1..].chunks(c_stride).flat_map(|row| &row[..n]).copied().collect();
                    let product = reference::product(left, right, accumulate.then_some(&own[..]));
                    let mut expected = start.clone();
                    for (row, product) in expected[1..].chunks_mut(c_stride).zip(product.chunks(n)) {
                        row.iter_mut().zip(product).for_each(|(c, x)| *c = *x as f32);
                    }
                    assert!(c == expected, "{m}x{k}x{n}, layout {layout}, {threads} threads, {accumulate}");
                    let mut again = start.clone();
                    let c = MatMut::strided(&mut again[1..], m, n, c_stride);
                    let packed =
                        [Panels::new(left, Side::Left, threads), Panels::kept(right, Side::Right, threads)];
                    gemm(Operand::Packed(&packed[0]), Operand::Packed(&packed[1]), c, begin, threads);
                    assert!(again == expected, "packed before: {m}x{k}x{n}, layout {layout}");
                    let bias = numbers(n, 4);
                    let mut with_bias = start.clone();
                    for row in with_bias[1..].chunks_mut(c_stride).take(m) {
                        row[..n].copy_from_slice(&bias);
                    }
                    let mut sum = with_bias.clone();
                    gemm(a, b, MatMut::strided(&mut sum[1..], m, n, c_stride), Start::Add, threads);
                    let mut fused = start.clone();
                    gemm(a, b, MatMut::strided(&mut fused[1..], m, n, c_stride), Start::Bias(&bias), threads);
                    assert!(sum == fused, "with a bias: {m}x{k}x{n}, layout {layout}");
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
            gemm(Operand::Lies(a), Operand::Lies(b), MatMut::new(&mut c, m, n), Start::Zero, threads);
            c
        };
        let one = with(1);
        (1..9usize).into_par_iter().for_each(|threads| assert!(with(threads) == one, "{threads} threads"));
    }
}
