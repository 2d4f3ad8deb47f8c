//! dW of some output channels: `dW[o, tap, c] = Σ_place δ[place, o]·x[place·stride + tap − before, c]`.
//!
//! Few weights: each thread sums over its share of the examples, and the shares are added in order. Many weights: each
//! thread sums over all examples for its share of the output channels. Either way the partition, and with it the bits,
//! depends on nothing but the shapes and the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm::gemm_serial;
use crate::{Mat, MatMut};

use super::Backend;
use super::slab::{Maps, SLAB, Window};
use super::tile::{TileShape, across, even_parts, load, store, with_pixels, zeros};

/// Scalars of dW up to which every thread keeps sums of its own.
const SHARED: usize = 1 << 16;

/// Where dW's operands stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightGradient<'a> {
    pub(super) examples: usize,
    /// x.
    pub(super) source: Maps,
    pub(super) window: Window,
    /// Channels of `δ` in memory.
    pub(super) channels: usize,
    /// Output channels of the group, wanted or not.
    pub(super) outputs: usize,
    /// The channels of `δ` that are wanted.
    pub(super) rows: &'a [Range<usize>],
}

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl WeightGradient<'_> {
    /// `dw` `[wanted channels, taps, c]`, assigned, or added to where `add`.
    pub(super) fn run(self, backend: Backend, x: &[f32], delta: &[f32], dw: &mut [f32], add: bool) {
        let (wanted, patch) = (self.wanted(), self.patch());
        if wanted == 0 || patch == 0 {
            return;
        }
        if self.window.places.contains(&0) {
            if !add {
                dw.fill(0.0);
            }
            return;
        }
        let tile = match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Bf16Tiles => return super::bf16::add_weight_gradient(self, x, delta, dw, add),
            Backend::Tiles => TileShape::of(wanted),
            Backend::Panels(_) => TileShape::whole(wanted),
        };
        let (tiles, size) = (tile.count(wanted), patch * tile.channels);
        let threads = rayon::current_num_threads();
        let by_examples = self.sums_by_examples();
        let shares = if by_examples { threads.min(self.examples).max(1) } else { 1 };
        let tiles_of_task = if by_examples { tiles } else { tiles.div_ceil(threads) };
        let tasks_of_share = tiles.div_ceil(tiles_of_task);
        let mut sums = SUMS.take();
        sums.clear();
        sums.resize(shares * tiles * size, 0.0);
        // A share's last task may have fewer tiles, so sums are cut by share first.
        sums.par_chunks_mut(tiles * size).enumerate().for_each(|(share, sums)| {
            let examples = share * self.examples / shares..(share + 1) * self.examples / shares;
            let tasks = sums.par_chunks_mut(tiles_of_task * size).enumerate();
            debug_assert!(tasks.len() == tasks_of_share);
            tasks.for_each(|(task, sums)| {
                self.share(backend, tile, examples.clone(), task * tiles_of_task, x, delta, sums);
            });
        });
        dw.par_chunks_mut(patch).enumerate().for_each(|(o, dw)| {
            let (t, lane) = (o / tile.channels, o % tile.channels);
            for (k, dw) in dw.iter_mut().enumerate() {
                let at = t * size + k * tile.channels + lane;
                let sum: f32 = (0..shares).map(|share| sums[share * tiles * size + at]).sum();
                *dw = if add { *dw + sum } else { sum };
            }
        });
        SUMS.set(sums);
    }

    /// Adds what `examples` say to the sums of the tiles from `first` on.
    fn share(
        self,
        backend: Backend,
        tile: TileShape,
        examples: Range<usize>,
        first: usize,
        x: &[f32],
        delta: &[f32],
        sums: &mut [f32],
    ) {
        let places = self.window.places;
        let (rows, at_once) = self.window.slab_size(self.source.count, examples.len(), SLAB);
        let [mut slab, mut panel, mut patches] = BUFFERS.take();
        let patch = self.patch();
        let size = patch * tile.channels;
        let image = self.source.height * self.source.width * self.source.channels;
        for example in examples.clone().step_by(at_once) {
            let n = at_once.min(examples.end - example);
            for start in (0..places[0]).step_by(rows) {
                let rows = rows.min(places[0] - start);
                self.source.copy(self.window, &x[example * image..], n, start, rows, &mut slab);
                for (t, sums) in sums.chunks_exact_mut(size).enumerate() {
                    let deltas = Deltas { example, examples: n, start, rows, delta };
                    let panel = self.gather(tile, first + t, deltas, &mut panel);
                    match backend {
                        Backend::Panels(precision) => {
                            let pixels = panel.len() / tile.channels;
                            let patches =
                                self.window.patches(self.source.count, &slab, n, rows, &mut patches);
                            let a = Mat::new(patches, pixels, patch).t();
                            let b = Mat::new(panel, pixels, tile.channels);
                            gemm_serial(a, b, MatMut::new(sums, patch, tile.channels), true, precision);
                        }
                        _ => {
                            let piece = Piece { gradient: self, tile, examples: n, rows, slab: &slab };
                            super::super::ARCH.dispatch(Run { piece, panel, sums });
                        }
                    }
                }
            }
        }
        BUFFERS.set([slab, panel, patches]);
    }

    /// Weights of one output channel.
    pub(super) fn patch(self) -> usize {
        self.window.taps[0] * self.window.taps[1] * self.source.count
    }

    /// How many output channels are wanted.
    pub(super) fn wanted(self) -> usize {
        self.rows.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether threads share out the examples. Decided by the whole of dW, so that a part of it has the bits of the whole.
    pub(super) fn sums_by_examples(self) -> bool {
        self.outputs * self.patch() <= SHARED
    }

    /// The wanted channels of tile `t` of `δ`, side by side: `[examples, rows, columns, tile channels]`.
    fn gather<'p>(self, tile: TileShape, t: usize, deltas: Deltas, panel: &'p mut Vec<f32>) -> &'p [f32] {
        let Deltas { example, examples, start, rows, delta } = deltas;
        let places = self.window.places;
        let pixels = rows * places[1];
        panel.resize((examples * pixels * tile.channels).max(panel.len()), 0.0);
        let panel = &mut panel[..examples * pixels * tile.channels];
        // Which channels of δ lie where in the tile.
        let (mut before, first, mut filled) = (0, t * tile.channels, 0);
        for range in self.rows {
            let from = first.max(before).min(before + range.len()) - before + range.start;
            let to = (first + tile.channels).max(before).min(before + range.len()) - before + range.start;
            before += range.len();
            if from >= to {
                continue;
            }
            let lanes = filled..filled + (to - from);
            filled = lanes.end;
            for e in 0..examples {
                let pixel = ((example + e) * places[0] + start) * places[1];
                let delta = delta[pixel * self.channels..].chunks_exact(self.channels);
                let panel = panel[e * pixels * tile.channels..].chunks_exact_mut(tile.channels);
                for (panel, delta) in panel.zip(delta).take(pixels) {
                    panel[lanes.clone()].copy_from_slice(&delta[from..to]);
                }
            }
        }
        if filled < tile.channels {
            panel.chunks_exact_mut(tile.channels).for_each(|panel| panel[filled..].fill(0.0));
        }
        panel
    }
}

/// The places of `δ` that one slab serves.
#[derive(Clone, Copy)]
struct Deltas<'a> {
    example: usize,
    examples: usize,
    start: usize,
    rows: usize,
    delta: &'a [f32],
}

/// What one slab serves.
#[derive(Clone, Copy)]
struct Piece<'a> {
    gradient: WeightGradient<'a>,
    tile: TileShape,
    examples: usize,
    rows: usize,
    slab: &'a [f32],
}

struct Run<'a, 'y> {
    piece: Piece<'a>,
    panel: &'a [f32],
    sums: &'y mut [f32],
}

impl pulp::WithSimd for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As `TileShape::of` says; other sizes are not compiled.
        match S::F32_LANES {
            16 if self.piece.tile.vectors == 1 => entries::<S, 1>(simd, self),
            16 | 8 => entries::<S, 2>(simd, self),
            _ => entries::<S, 4>(simd, self),
        }
    }
}

#[inline(always)]
fn entries<S: Simd, const V: usize>(simd: S, Run { piece, panel, sums }: Run<'_, '_>) {
    let Piece { gradient: WeightGradient { source, window, .. }, tile, .. } = piece;
    let line = window.slab_width() * source.count;
    let run = window.taps[1] * source.count;
    let places = Places {
        examples: piece.examples,
        rows: piece.rows,
        image: window.slab_rows(piece.rows) * line,
        line: window.stride * line,
        step: window.stride * source.count,
        row: window.places[1] * tile.channels,
    };
    for (tap_row, sums) in sums.chunks_exact_mut(run * tile.channels).enumerate() {
        for (first, n) in even_parts(run, tile.pixels) {
            let a = &piece.slab[tap_row * line + first..];
            let sums = &mut sums[first * tile.channels..];
            with_pixels!(n, sum_places::<S, _, V>(simd, places, a, panel, sums));
        }
    }
}

/// The places that one tile of sums runs over, and their strides in the slab.
#[derive(Clone, Copy)]
struct Places {
    examples: usize,
    rows: usize,
    image: usize,
    line: usize,
    step: usize,
    /// Scalars of the panel in one row of places.
    row: usize,
}

#[inline(always)]
fn sum_places<S: Simd, const P: usize, const V: usize>(
    simd: S,
    places: Places,
    a: &[f32],
    panel: &[f32],
    sums: &mut [f32],
) {
    let mut acc = zeros::<S, P, V>(simd);
    let mut panel = panel.chunks_exact(places.row);
    for example in 0..places.examples {
        for row in 0..places.rows {
            let Some(b) = panel.next() else { break };
            let a = &a[example * places.image + row * places.line..];
            across::<S, P, V>(simd, &mut acc, a, places.step, b);
        }
    }
    for (sums, acc) in sums.chunks_exact_mut(V * S::F32_LANES).zip(&acc) {
        let old = load::<S, V>(sums);
        store::<S, V>(sums, &std::array::from_fn(|v| simd.add_f32s(old[v], acc[v])));
    }
}
