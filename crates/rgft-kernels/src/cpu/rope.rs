//! Rotary position embedding (Su et al. 2021), in the half-split layout of published weights: in each head, elements
//! `i` and `i + r/2` (`i < r/2`) are a point in the plane and turn by the angle `position · f_i`; elements from `r` on
//! stay as they are.
//!
//! `x'_i = c·x_i − s·x_{i+r/2}`, `x'_{i+r/2} = c·x_{i+r/2} + s·x_i` with `c = m·cos`, `s = m·sin` of the angle, `m` a
//! magnitude (1 but for some ways of scaling). Backward is the transposed map: the same with `−s`.

use super::for_row_blocks;

/// Tables of `m·cos` and `m·sin`, `[positions, r/2]` each.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// `m·cos`.
    pub cos: &'a [f32],
    /// `m·sin`.
    pub sin: &'a [f32],
    /// `r/2`: planes of each head.
    pub planes: usize,
}

/// Turns each head of `x` `[tokens, heads · width]` in place, by its token's row of the tables: `positions` `[tokens]`.
/// Where `back`, the other way round: what backward does to `δ`.
pub fn rope(rotation: Rotation, x: &mut [f32], cols: usize, width: usize, positions: &[u32], back: bool) {
    let planes = rotation.planes;
    let sign = if back { -1.0 } else { 1.0 };
    for_row_blocks(x, cols, |first, x| {
        vectorised!(|| {
            for (row, position) in x.chunks_exact_mut(cols).zip(&positions[first..]) {
                let at = *position as usize * planes;
                let (cos, sin) = (&rotation.cos[at..at + planes], &rotation.sin[at..at + planes]);
                for head in row.chunks_exact_mut(width) {
                    let (low, high) = head.split_at_mut(planes);
                    for (((low, high), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                        let s = sign * s;
                        (*low, *high) = (c * *low - s * *high, c * *high + s * *low);
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn numbers(seed: usize, n: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919) % 997) as f32 / 400.0 - 1.2).collect()
    }

    #[test]
    fn forward_matches_the_reference_and_backward_is_its_transpose() {
        for (heads, width, planes, tokens) in [(3, 6, 3, 5), (2, 8, 2, 400)] {
            let cols = heads * width;
            let positions: Vec<u32> = (0..tokens as u32).map(|t| (t * 5) % 11).collect();
            let (cos, sin) = (numbers(3, 11 * planes), numbers(4, 11 * planes));
            let rotation = Rotation { cos: &cos, sin: &sin, planes };
            let (x, d) = (numbers(1, tokens * cols), numbers(2, tokens * cols));
            let (mut y, mut back) = (x.clone(), d.clone());
            rope(rotation, &mut y, cols, width, &positions, false);
            rope(rotation, &mut back, cols, width, &positions, true);
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| x.into()).collect() };
            let tables = (&wide(&cos)[..], &wide(&sin)[..]);
            let expected = reference::decoder::rope(&wide(&x), tables, planes, cols, width, &positions);
            reference::assert_close(&y, &expected, 1e-5);
            // <rope(x), d> = <x, back(d)>
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            assert!((dot(&y, &d) - dot(&x, &back)).abs() < 1e-3);
        }
    }
}
