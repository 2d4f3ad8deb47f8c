//! dW, as in [`super::super::weight_gradient`], by tiles of 32 output channels and 32 weights that sum over 32 pixels at
//! once.
//!
//! Tiles want pixels in pairs: those of `δ` transposed, those of x side by side, once paired from the first pixel on and once
//! from the second, because taps see them shifted. Where a pixel is no place, `δ` is zero.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::SLAB;
use super::planes::{Planes, ZERO};
use crate::amx::{
    LINES, Line, PANEL, STEP, TILE, configure, halves, interleave, multiply_in_pairs, release, room,
    round_rows, transpose_tile,
};
use crate::cpu::conv::weight_gradient::WeightGradient;

thread_local! {
    static BUFFERS: RefCell<[Vec<Line>; 6]> = const { RefCell::new([const { Vec::new() }; 6]) };
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `dw` `[wanted channels, taps, c]`, assigned, or added to where `add`; to be called where tiles are available.
pub(in crate::cpu::conv) fn add_weight_gradient(
    gradient: WeightGradient,
    x: &[f32],
    delta: &[f32],
    dw: &mut [f32],
    add: bool,
) {
    let (wanted, patch) = (gradient.wanted(), gradient.patch());
    if wanted == 0 || patch == 0 {
        return;
    }
    let channels = gradient.source.count;
    let of_tap = channels.div_ceil(TILE);
    let blocks = wanted.div_ceil(PANEL);
    // Two tiles of weights at a time.
    let size = (patch / channels * of_tap).div_ceil(2) * PANEL * PANEL;
    let (by_examples, threads) = (gradient.sums_by_examples(), rayon::current_num_threads());
    let shares = if by_examples { threads.min(gradient.examples).max(1) } else { 1 };
    let blocks_of_task = if by_examples { blocks } else { blocks.div_ceil(threads) };
    let mut sums = SUMS.take();
    sums.clear();
    sums.resize(shares * blocks * size, 0.0);
    sums.par_chunks_mut(blocks * size).enumerate().for_each(|(share, sums)| {
        let examples = share * gradient.examples / shares..(share + 1) * gradient.examples / shares;
        sums.par_chunks_mut(blocks_of_task * size).enumerate().for_each(|(task, sums)| {
            let first = task * blocks_of_task * PANEL;
            let wanted = first..wanted.min(first + blocks_of_task * PANEL);
            Share { gradient, wanted, of_tap, size }.add(examples.clone(), x, delta, sums);
        });
    });
    dw.par_chunks_mut(patch).enumerate().for_each(|(o, dw)| {
        let row = o / PANEL * size + o % PANEL * PANEL;
        let tiles = dw.chunks_exact_mut(channels).flat_map(|of_tap| of_tap.chunks_mut(TILE)).enumerate();
        for (tile, dw) in tiles {
            let at = row + tile / 2 * PANEL * PANEL + tile % 2 * TILE;
            for share in 0..shares {
                let sums = &sums[share * blocks * size + at..][..dw.len()];
                if add || share > 0 {
                    dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
                } else {
                    dw.copy_from_slice(sums);
                }
            }
        }
    });
    SUMS.set(sums);
}

/// Some of the wanted channels.
#[derive(Clone)]
struct Share<'a> {
    gradient: WeightGradient<'a>,
    /// Which of them.
    wanted: Range<usize>,
    /// Tiles of weights of one tap.
    of_tap: usize,
    /// Sums of 32 channels.
    size: usize,
}

impl Share<'_> {
    /// Adds what `examples` say.
    fn add(&self, examples: Range<usize>, x: &[f32], delta: &[f32], sums: &mut [f32]) {
        let WeightGradient { source, window, .. } = self.gradient;
        let places = window.places;
        // Many sums are read and written for each piece: then pieces are larger.
        let piece = if self.gradient.sums_by_examples() { SLAB / 2 } else { 2 * SLAB };
        let (rows, at_once) = window.slab_size(self.of_tap * TILE, examples.len(), piece);
        let image = source.height * source.width * source.channels;
        let [mut slab, mut even, mut odd, mut rounded, mut deltas, mut panels] = BUFFERS.take();
        for example in examples.clone().step_by(at_once) {
            let n = at_once.min(examples.end - example);
            for start in (0..places[0]).step_by(rows) {
                let rows = rows.min(places[0] - start);
                let planes = Planes::new(window, n, rows, self.of_tap, true);
                // The last steps read beyond the last place, where `δ` is zero; so x must be a number there.
                let pixels = planes.pixels() + 2 * STEP;
                let halves_of_x = halves(room(&mut slab, (pixels * self.of_tap).div_ceil(2)));
                planes.write(source, &x[example * image..], start, halves_of_x);
                halves_of_x[planes.pixels() * self.of_tap..].fill(ZERO);
                let pairs = [(&mut even, 0), (&mut odd, 1)].map(|(pairs, first)| {
                    let lines = room(pairs, pixels / 2 * self.of_tap);
                    let halves = &halves_of_x[first * self.of_tap..];
                    for (pair, lines) in
                        halves.chunks_exact(2 * self.of_tap).zip(lines.chunks_exact_mut(self.of_tap))
                    {
                        let (one, other) = pair.split_at(self.of_tap);
                        interleave(one, other, lines);
                    }
                    &*lines
                });
                let steps = planes.end().div_ceil(STEP);
                let of_piece = Deltas { example, start, delta };
                let buffers = [&mut rounded, &mut deltas];
                let panels = self.transpose(planes, steps, of_piece, buffers, &mut panels);
                self.multiply(planes, panels, pairs, sums);
            }
        }
        BUFFERS.set([slab, even, odd, rounded, deltas, panels]);
    }

    /// `δ` as tiles read it: `[32 channels, steps, two tiles]`, zero where there is no place.
    fn transpose<'p>(
        &self,
        planes: Planes,
        steps: usize,
        Deltas { example, start, delta }: Deltas,
        [rounded, pairs]: [&mut Vec<Line>; 2],
        panels: &'p mut Vec<Line>,
    ) -> &'p [Line] {
        let WeightGradient { window, channels, .. } = self.gradient;
        let pixel = self.wanted.len().div_ceil(PANEL) * 2;
        let rounded = &mut halves(room(rounded, steps * STEP * pixel / 2))[..steps * STEP * pixel];
        let mut row = ROW.take();
        for (first, run, places) in planes.runs(0..steps * STEP) {
            let to = &mut rounded[first * pixel..][..run * pixel];
            let Some([e, down, across]) = places else {
                to.fill(ZERO);
                continue;
            };
            let place = ((example + e) * window.places[0] + start + down) * window.places[1] + across;
            let delta = &delta[place * channels..][..run * channels];
            if let [wanted] = self.gradient.rows {
                let delta = &delta[wanted.start + self.wanted.start..];
                round_rows(delta, self.wanted.len(), channels, to, pixel);
            } else {
                for (delta, to) in delta.chunks_exact(channels).zip(to.chunks_exact_mut(pixel)) {
                    row.clear();
                    self.gradient.rows.iter().for_each(|run| row.extend_from_slice(&delta[run.clone()]));
                    round_rows(&row[self.wanted.clone()], self.wanted.len(), 0, to, pixel);
                }
            }
        }
        ROW.set(row);
        let pairs = room(pairs, steps * TILE * pixel);
        for (two, lines) in rounded.chunks_exact(2 * pixel).zip(pairs.chunks_exact_mut(pixel)) {
            let (one, other) = two.split_at(pixel);
            interleave(one, other, lines);
        }
        let panels = room(panels, pixel * steps * TILE);
        for (block, panel) in panels.chunks_exact_mut(steps * LINES).enumerate() {
            for (step, tiles) in panel.chunks_exact_mut(LINES).enumerate() {
                for (half, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
                    transpose_tile(&pairs[step * TILE * pixel + 2 * block + half..], pixel, tile);
                }
            }
        }
        panels
    }

    /// Adds the products of the panels of `δ` with the pairs of x.
    #[allow(unsafe_code)]
    fn multiply(&self, planes: Planes, panels: &[Line], pairs: [&[Line]; 2], sums: &mut [f32]) {
        let tiles = self.gradient.patch() / self.gradient.source.count * self.of_tap;
        let columns = self.gradient.window.taps[1];
        let steps = planes.end().div_ceil(STEP);
        // Where a tile of weights sees its first pair.
        let first = |tile: usize| {
            let (tap, half) = (tile / self.of_tap, tile % self.of_tap);
            let offset = planes.offset([tap / columns, tap % columns]);
            &pairs[offset % 2][offset / 2 * self.of_tap + half..]
        };
        configure();
        for (panel, sums) in panels.chunks_exact(steps * LINES).zip(sums.chunks_exact_mut(self.size)) {
            for (two, sums) in sums.as_chunks_mut().0.iter_mut().enumerate() {
                // Beside an odd last tile stands itself, and is not read.
                let of_x = [2 * two, (2 * two + 1).min(tiles - 1)].map(first);
                assert!(of_x.iter().all(|x| x.len() > (steps * TILE - 1) * self.of_tap));
                // SAFETY: tiles are available and configured; from each tile's first pair on there are pairs for all
                // steps, because x was written with two steps more than its planes have.
                unsafe {
                    multiply_in_pairs(
                        panel,
                        of_x.map(<[Line]>::as_ptr),
                        self.of_tap * size_of::<Line>(),
                        sums,
                    );
                }
            }
        }
        release();
    }
}

/// The places of `δ` that a piece serves.
#[derive(Clone, Copy)]
struct Deltas<'a> {
    example: usize,
    start: usize,
    delta: &'a [f32],
}
