//! Moves rows between sequence-major order (packed sequences one after the other) and time-major order (all sequences'
//! first rows, then all second ones …), in which recurrent layers run. Which row goes where is the caller's map.

use std::ops::Range;

use super::for_row_blocks;

/// One step in time of sequences sorted by falling length: the rows that it computes, in time-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its first row.
    pub first: usize,
    /// How many sequences are alive.
    pub rows: usize,
    /// How many of them, the first ones, come with a state from the step before; the others begin here.
    pub carried: usize,
}

impl Step {
    /// The rows `range` of it, as scalars of a matrix with `cols` columns.
    pub fn scalars(&self, range: Range<usize>, cols: usize) -> Range<usize> {
        (self.first + range.start) * cols..(self.first + range.end) * cols
    }
}

/// `out[r] = x[rows[r], columns]`: `x` `[_, cols]`, `out` `[rows.len(), columns.len()]`.
pub fn gather_rows(x: &[f32], cols: usize, columns: Range<usize>, rows: &[u32], out: &mut [f32]) {
    for_row_blocks(out, columns.len(), |first, out| {
        for (row, out) in rows[first..].iter().zip(out.chunks_exact_mut(columns.len())) {
            out.copy_from_slice(&x[*row as usize * cols..][columns.clone()]);
        }
    });
}

/// `out[r, columns] = x[rows[r]]`, where row numbers go on into `more` after the last of `x`: `x`, `more`
/// `[_, columns.len()]`, `out` `[rows.len(), cols]`, whose other columns are left alone.
pub fn gather_rows_into_columns(
    [x, more]: [&[f32]; 2],
    rows: &[u32],
    out: &mut [f32],
    cols: usize,
    columns: Range<usize>,
) {
    let width = columns.len();
    let in_x = x.len() / width.max(1);
    for_row_blocks(out, cols, |first, out| {
        for (row, out) in rows[first..].iter().zip(out.chunks_exact_mut(cols)) {
            let row = *row as usize;
            let from = if row < in_x { &x[row * width..] } else { &more[(row - in_x) * width..] };
            out[columns.clone()].copy_from_slice(&from[..width]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_where_the_map_says_and_nowhere_else() {
        // Few rows, and enough for several tasks.
        for n in [5usize, 20_011] {
            let x: Vec<f32> = (0..n * 4).map(|i| i as f32).collect();
            let rows: Vec<u32> = (0..n).map(|i| ((i * 3 + 1) % n) as u32).collect();
            let mut out = vec![f32::NAN; n * 2];
            gather_rows(&x, 4, 1..3, &rows, &mut out);
            for (i, out) in out.chunks(2).enumerate() {
                let row = rows[i] as f32 * 4.0;
                assert_eq!(out, [row + 1.0, row + 2.0]);
            }

            let (head, tail) = x.split_at(n.div_ceil(2) * 4);
            let mut out = vec![-1.0; n * 6];
            gather_rows_into_columns([head, tail], &rows, &mut out, 6, 1..5);
            for (i, out) in out.chunks(6).enumerate() {
                let row = rows[i] as f32 * 4.0;
                assert_eq!(out, [-1.0, row, row + 1.0, row + 2.0, row + 3.0, -1.0]);
            }
        }
    }
}
