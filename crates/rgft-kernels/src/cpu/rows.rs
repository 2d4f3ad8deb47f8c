//! Passes over the rows of `[rows, cols]`: broadcast a bias, sum columns, add, drop, gather, norms.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::scalar::Dropout;
use super::{for_row_blocks, norm};

/// Elements that one task of [`add_column_sums`] reads, from end to end. The order of additions hangs on it.
const SUMMED_ELEMENTS: usize = 1 << 16;

thread_local! {
    /// What the tasks of the last [`add_column_sums`] of this thread summed.
    static PARTIAL_SUMS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Each row of `out` `[rows, cols]` becomes `bias` `[cols]`.
pub fn fill_rows(out: &mut [f32], bias: &[f32]) {
    for_row_blocks(out, bias.len(), |_, rows| {
        rows.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
    });
}

/// `sums[j] += Σ_rows x[row, j]·y[row, j]` (`y = None`: `Σ x`) over the columns `ranges`, written to `sums`
/// one range after the other; `sums` is as long as the ranges together. The order of additions does not
/// depend on the number of threads.
pub fn add_column_sums(x: &[f32], y: Option<&[f32]>, cols: usize, ranges: &[Range<usize>], sums: &mut [f32]) {
    let width = sums.len();
    if width == 0 {
        return;
    }
    // Rows enough that partial sums are a small part of x.
    let task = (SUMMED_ELEMENTS / cols).max(32) * cols;
    let add = |first: usize, sums: &mut [f32]| {
        let x = &x[first..x.len().min(first + task)];
        vectorised!(|| match y {
            None => {
                for row in x.chunks_exact(cols) {
                    for_ranges(sums, ranges, |sums, range| {
                        sums.iter_mut().zip(&row[range]).for_each(|(s, x)| *s += x);
                    });
                }
            }
            Some(y) => {
                for (x, y) in x.chunks_exact(cols).zip(y[first..].chunks_exact(cols)) {
                    for_ranges(sums, ranges, |sums, range| {
                        let pairs = x[range.clone()].iter().zip(&y[range]);
                        sums.iter_mut().zip(pairs).for_each(|(s, (x, y))| *s += x * y);
                    });
                }
            }
        });
    };
    if x.len() <= task {
        return add(0, sums);
    }
    // Taken, not borrowed: another call may run on this thread while it waits for its tasks.
    let mut partial = PARTIAL_SUMS.take();
    partial.clear();
    partial.resize(x.len().div_ceil(task) * width, 0.0);
    partial.par_chunks_mut(width).enumerate().for_each(|(i, sums)| add(i * task, sums));
    for partial in partial.chunks_exact(width) {
        sums.iter_mut().zip(partial).for_each(|(s, p)| *s += p);
    }
    PARTIAL_SUMS.set(partial);
}

/// Calls `pass(its part of packed, range)` for each of `ranges`, whose parts stand one after the other in `packed`.
#[inline(always)]
fn for_ranges(packed: &mut [f32], ranges: &[Range<usize>], pass: impl Fn(&mut [f32], Range<usize>)) {
    let mut rest = packed;
    for range in ranges {
        let (part, tail) = rest.split_at_mut(range.len());
        pass(part, range.clone());
        rest = tail;
    }
}

/// `x *= dropout`, element by element: forward and backward alike.
pub fn drop_elements(dropout: Dropout, x: &mut [f32]) {
    for_row_blocks(x, 1, |first, x| {
        vectorised!(|| x.iter_mut().enumerate().for_each(|(i, x)| *x *= dropout.factor(first + i)));
    });
}

/// `y = dropout(x)`, element by element.
pub fn drop_into(dropout: Dropout, x: &[f32], y: &mut [f32]) {
    for_row_blocks(y, 1, |first, y| {
        vectorised!(|| {
            let pairs = y.iter_mut().zip(&x[first..]);
            pairs.enumerate().for_each(|(i, (y, x))| *y = x * dropout.factor(first + i));
        });
    });
}

/// Copies the columns `ranges` of `x` `[rows, cols]`, side by side, into `panel` `[rows, Σ range lengths]`.
pub fn gather_columns(x: &[f32], cols: usize, ranges: &[Range<usize>], panel: &mut [f32]) {
    let width: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    if width == 0 {
        return;
    }
    for_row_blocks(panel, width, |first, panel| {
        for (row, panel) in x[first * cols..].chunks_exact(cols).zip(panel.chunks_exact_mut(width)) {
            let mut at = 0;
            for range in ranges {
                panel[at..at + range.len()].copy_from_slice(&row[range.clone()]);
                at += range.len();
            }
        }
    });
}

/// `‖x‖²` in f64, summed block by block in a fixed order.
pub fn squared_norm(x: &[f32]) -> f64 {
    const BLOCK: usize = 1 << 14;
    let block = |x: &[f32]| -> f64 {
        vectorised!(|| x.chunks(256).map(|x| f64::from(norm::sum_of_squares(x))).sum())
    };
    if x.len() <= BLOCK {
        return block(x);
    }
    // Few enough partial sums that adding them in order costs nothing; `collect` keeps the order.
    x.par_chunks(BLOCK).map(block).collect::<Vec<f64>>().iter().sum()
}

/// `out[row, g] = Σ_{c in groups[g]} s_c·x[row, c]` with signs `s` `[cols]`: `x` `[rows, cols]`, `out` `[rows, groups]`.
pub fn signed_group_sums(x: &[f32], signs: &[f32], groups: &[Range<usize>], out: &mut [f32]) {
    for_groups(x, signs.len(), groups, out, |x, group| norm::dot(&x[group.clone()], &signs[group]));
}

/// `out[row, g] = Σ_{c in groups[g]} x[row, c]²`: `x` `[rows, cols]`, `out` `[rows, groups]`.
pub fn squared_group_norms(x: &[f32], cols: usize, groups: &[Range<usize>], out: &mut [f32]) {
    for_groups(x, cols, groups, out, |x, group| norm::sum_of_squares(&x[group]));
}

fn for_groups(
    x: &[f32],
    cols: usize,
    groups: &[Range<usize>],
    out: &mut [f32],
    reduce: impl Fn(&[f32], Range<usize>) -> f32 + Sync,
) {
    if groups.is_empty() {
        return;
    }
    for_row_blocks(out, groups.len(), |first, out| {
        vectorised!(|| {
            for (x, out) in x[first * cols..].chunks_exact(cols).zip(out.chunks_exact_mut(groups.len())) {
                out.iter_mut().zip(groups).for_each(|(out, group)| *out = reduce(x, group.clone()));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn column_sums_of_ranges() {
        for rows in [3, 700] {
            let cols = 300;
            let (x, y) = (numbers(rows * cols), numbers(rows * cols + 5)[5..].to_vec());
            let ranges = [4..9, 130..290];
            let mut sums = vec![1.0; 165];
            add_column_sums(&x, Some(&y), cols, &ranges, &mut sums);
            let mut plain = vec![0.0; 165];
            add_column_sums(&x, None, cols, &ranges, &mut plain);
            for (i, c) in ranges.into_iter().flatten().enumerate() {
                let product: f64 = (0..rows).map(|r| (x[r * cols + c] * y[r * cols + c]) as f64).sum();
                let total: f64 = (0..rows).map(|r| x[r * cols + c] as f64).sum();
                assert!((sums[i] as f64 - 1.0 - product).abs() < 1e-3, "column {c}");
                assert!((plain[i] as f64 - total).abs() < 1e-3, "column {c}");
            }
        }
    }

    #[test]
    fn column_sums_have_the_same_bits_for_any_threads_and_ranges() {
        let (x, cols) = (numbers(900 * 200), 200);
        let sums = |threads: usize, ranges: &[Range<usize>]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let mut sums = vec![0.1; 200];
            pool.install(|| add_column_sums(&x, None, cols, ranges, &mut sums));
            sums
        };
        let whole = sums(1, std::slice::from_ref(&(0..200)));
        assert_eq!(whole, sums(3, std::slice::from_ref(&(0..200))));
        assert_eq!(whole, sums(2, &[0..7, 7..150, 150..200]));
    }

    #[test]
    fn gathered_panels_stand_side_by_side() {
        let x = numbers(6 * 10);
        let mut panel = vec![0.0; 6 * 5];
        gather_columns(&x, 10, &[1..3, 7..10], &mut panel);
        for r in 0..6 {
            let expected: Vec<f32> = [1, 2, 7, 8, 9].iter().map(|c| x[r * 10 + c]).collect();
            assert_eq!(panel[r * 5..][..5], expected);
        }
    }

    #[test]
    fn norms_and_groups() {
        let x = numbers(50_000);
        let truth: f64 = x.iter().map(|&x| (x as f64).powi(2)).sum();
        assert!((squared_norm(&x) / truth - 1.0).abs() < 1e-6);
        let signs: Vec<f32> = (0..20).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
        let (mut sums, mut squares) = (vec![0.0; 40], vec![0.0; 40]);
        let groups = [0..5, 5..10, 10..15, 15..20];
        signed_group_sums(&x[..200], &signs, &groups, &mut sums);
        squared_group_norms(&x[..200], 20, &groups, &mut squares);
        let at = 7 * 20 + 10..7 * 20 + 15;
        let sum: f32 = x[at.clone()].iter().zip(&signs[10..15]).map(|(x, s)| x * s).sum();
        let square: f32 = x[at].iter().map(|x| x * x).sum();
        assert!((sums[7 * 4 + 2] - sum).abs() < 1e-5 && (squares[7 * 4 + 2] - square).abs() < 1e-5);
    }

    #[test]
    fn filling_adding_dropping() {
        let bias = numbers(7);
        let mut x = vec![0.0; 21];
        fill_rows(&mut x, &bias);
        assert!(x.iter().enumerate().all(|(i, x)| (x - bias[i % 7]).abs() < 1e-6));
        let dropout = Dropout { seed: 1, probability: 0.5 };
        let mut y = vec![0.0; 21];
        drop_into(dropout, &x, &mut y);
        drop_elements(dropout, &mut x);
        assert_eq!(x, y);
        assert!(x.contains(&0.0));
    }
}
