//! The products of a step, `C = Σ_t A_t·B_t` with a few rows, on one thread: right operands are packed once for all steps.

use std::cell::Cell;

use super::super::panels::{Right, padded};
#[cfg(target_arch = "x86_64")]
use crate::amx::{self, LINES, Line, PANEL, STEP, Side, TILE};
use crate::{Mat, Precision};

/// Rows of `C`, at most: those of two tiles.
pub(super) const MOST_ROWS: usize = 32;

thread_local! {
    static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    #[cfg(target_arch = "x86_64")]
    static LINES_OF_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    #[cfg(target_arch = "x86_64")]
    static LINES_OF_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The right operands, packed.
pub(super) enum Terms<'a> {
    /// One for each term, and the columns of `C`.
    Vectors(&'a [Right<'a>], usize),
    /// Panels of 32 columns, each with the steps of all terms one after the other, and how many steps that are.
    #[cfg(target_arch = "x86_64")]
    Tiles(&'a [Line], usize),
}

/// Scalars from row to row of `C` with `columns` columns: whole panels, and rows that do not all begin in the same set of the
/// cache.
pub(super) fn stride(columns: usize) -> usize {
    padded(columns) + 16
}

impl Terms<'_> {
    /// Calls `work` with the operands `b`, packed. Their memory serves the next ones.
    pub(super) fn with(b: &[Mat], precision: Precision, work: impl FnOnce(&Terms<'_>)) {
        #[cfg(target_arch = "x86_64")]
        if precision == Precision::Bf16 && amx::is_available() {
            let mut room = LINES_OF_B.take();
            let (lines, steps) = pack_tiles(b, &mut room);
            work(&Terms::Tiles(lines, steps));
            return LINES_OF_B.set(room);
        }
        let mut room = PANELS.take();
        let sizes = b.iter().map(|b| b.rows * padded(b.cols));
        room.resize(sizes.clone().sum(), 0.0);
        let mut rest = &mut room[..];
        let mut rights = Vec::with_capacity(b.len());
        for (b, size) in b.iter().zip(sizes) {
            let (own, tail) = std::mem::take(&mut rest).split_at_mut(size);
            rest = tail;
            rights.push(Right::new(*b, own, precision));
        }
        work(&Terms::Vectors(&rights, b[0].cols));
        drop(rights);
        PANELS.set(room);
    }

    /// `C = Σ_t A_t·B_t`, rows of `c` [`stride`] apart. The first term has a row for each of `C`; later ones may have fewer, the
    /// first ones. What `c` holds beyond its columns, and below those rows, is arbitrary.
    pub(super) fn times(&self, a: &[Mat], c: &mut [f32], stride: usize) {
        assert!(a[0].rows <= MOST_ROWS && c.len() == MOST_ROWS * stride);
        match self {
            Terms::Vectors(rights, columns) => {
                for (i, (right, a)) in rights.iter().zip(a).enumerate().filter(|(_, (_, a))| a.rows > 0) {
                    right.times(*a, *columns, &mut c[..a.rows * stride], i > 0);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Terms::Tiles(b, steps) => times_on_tiles(a, b, *steps, c, stride),
        }
    }
}

/// Tiles of the right operands `b`, and the steps of a panel.
#[cfg(target_arch = "x86_64")]
fn pack_tiles<'l>(b: &[Mat], room: &'l mut Vec<Line>) -> (&'l [Line], usize) {
    use rayon::prelude::*;
    let steps: usize = b.iter().map(|b| b.rows.div_ceil(STEP)).sum();
    let lines = amx::room(room, b[0].cols.div_ceil(PANEL) * steps * LINES);
    lines.par_chunks_mut(steps * LINES).enumerate().for_each(|(panel, lines)| {
        let tiles = lines.chunks_exact_mut(TILE);
        let places =
            b.iter().flat_map(|b| (0..b.rows).step_by(STEP).flat_map(|k| [(*b, k, 0), (*b, k, TILE)]));
        tiles.zip(places).for_each(|(tile, (b, k, half))| {
            amx::pack_tile(b.t(), panel * PANEL + half, k, Side::Right, tile);
        });
    });
    (lines, steps)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn times_on_tiles(a: &[Mat], b: &[Line], steps: usize, c: &mut [f32], stride: usize) {
    // Terms without rows are left out, where nothing comes behind them.
    let used = a.iter().rposition(|a| a.rows > 0).map_or(0, |last| last + 1);
    let own: usize = a[..used].iter().map(|a| a.cols.div_ceil(STEP)).sum();
    let mut room = LINES_OF_A.take();
    let packed = amx::room(&mut room, own * LINES);
    let places =
        a[..used].iter().flat_map(|a| (0..a.cols).step_by(STEP).flat_map(|k| [(*a, k, 0), (*a, k, TILE)]));
    for (tile, (a, k, half)) in packed.chunks_exact_mut(TILE).zip(places) {
        amx::pack_tile(a, half, k, Side::Left, tile);
    }
    if own > 0 {
        amx::configure();
        for (panel, b) in b.chunks_exact(steps * LINES).enumerate() {
            let c = &mut c[panel * PANEL..][..(MOST_ROWS - 1) * stride + PANEL];
            // SAFETY: tiles are available (else nothing was packed for them) and configured; both operands have `own` steps;
            // c has 32 rows of 32 numbers.
            unsafe {
                amx::multiply(packed, &b[..own * LINES], c.as_mut_ptr(), stride, (std::ptr::null(), 0))
            };
        }
        amx::release();
    }
    LINES_OF_A.set(room);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn terms_add_up_to_the_reference_in_both_precisions() {
        // Small integers are exact in bf16.
        let numbers = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 31 + seed) % 13) as f32 - 6.0).collect()
        };
        for (m, k, fewer, l, n) in
            [(1, 1, 0, 1, 1), (7, 40, 5, 33, 70), (32, 32, 32, 64, 96), (20, 3, 16, 100, 33)]
        {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let (h, w) = (numbers(m * l, 3), numbers(l * n, 4));
            // One operand lies transposed.
            let b = Mat::new(&b, n, k).t();
            let (a, w) = (Mat::new(&a, m, k), Mat::new(&w, l, n));
            let h = Mat::new(&h, m, l).rows_range(0..fewer);
            let mut expected = reference::product(a, b, None);
            let own: Vec<f32> = expected[..fewer * n].iter().map(|x| *x as f32).collect();
            expected[..fewer * n].copy_from_slice(&reference::product(h, w, Some(&own)));
            for precision in [Precision::F32, Precision::Bf16] {
                let stride = stride(n);
                let mut c = vec![f32::NAN; MOST_ROWS * stride];
                Terms::with(&[b, w], precision, |terms| terms.times(&[a, h], &mut c, stride));
                let found: Vec<f32> = c.chunks(stride).take(m).flat_map(|row| &row[..n]).copied().collect();
                reference::assert_close(&found, &expected, 1e-5);
            }
        }
    }
}
