//! Look-up of embedding rows and the scatter of their gradients.

use super::for_row_blocks;

/// `out[i] += table[ids[i]]`, or `=` where `assign`. `out` `[n, cols]`, `table` `[rows, cols]`.
///
/// # Panics
/// If an id lies outside the table.
pub fn look_up(table: &[f32], cols: usize, ids: &[u32], out: &mut [f32], assign: bool) {
    for_row_blocks(out, cols, |first, out| {
        vectorised!(|| {
            for (id, out) in ids[first..].iter().zip(out.chunks_exact_mut(cols)) {
                let row = &table[*id as usize * cols..][..cols];
                if assign {
                    out.copy_from_slice(row);
                } else {
                    out.iter_mut().zip(row).for_each(|(o, r)| *o += r);
                }
            }
        });
    });
}

/// `sums[slots[i]] += d[i]`: the gradient of a look-up, in order of `i`. `d` `[n, cols]`.
pub fn scatter_add(d: &[f32], cols: usize, slots: &[u32], sums: &mut [f32]) {
    vectorised!(|| {
        for (slot, d) in slots.iter().zip(d.chunks_exact(cols)) {
            let sums = &mut sums[*slot as usize * cols..][..cols];
            sums.iter_mut().zip(d).for_each(|(s, d)| *s += d);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_is_the_transpose_of_look_up() {
        let (rows, cols) = (5, 3);
        let table: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let ids = [4, 0, 4, 2];
        let mut out = vec![0.0; ids.len() * cols];
        look_up(&table, cols, &ids, &mut out, true);
        assert_eq!(out[..3], table[12..15]);
        look_up(&table, cols, &ids, &mut out, false);
        assert_eq!(out[3..6], [0.0, 2.0, 4.0]);
        let d: Vec<f32> = (0..out.len()).map(|i| 0.5 + i as f32).collect();
        let mut sums = vec![0.0; rows * cols];
        scatter_add(&d, cols, &ids, &mut sums);
        // <look_up(table), d> = <table, scatter(d)>
        let left: f32 = out.iter().zip(&d).map(|(o, d)| o / 2.0 * d).sum();
        let right: f32 = table.iter().zip(&sums).map(|(t, s)| t * s).sum();
        assert_eq!(left, right);
    }
}
