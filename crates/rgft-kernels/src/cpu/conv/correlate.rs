//! Windows slid over maps: `y[place, o] = Σ_tap Σ_c w[o, tap, c]·x[place·stride + tap − before, c]`.
//!
//! Forward is one such correlation. dX is `stride²` of them, one for each remainder of a pixel's position: the taps that
//! reach those pixels, in reverse, slid over `δ` with stride 1, so that no multiplication by an inserted zero is made.

use std::cell::RefCell;

use pulp::Simd;
use rayon::prelude::*;

use crate::gemm::gemm_serial;
use crate::{Mat, MatMut, Precision};

use super::slab::{Maps, SLAB, Window};
use super::tile::{TileShape, along, even_parts, finish, with_pixels, zeros};
use super::{Backend, Taps};

/// Where the results of a correlation stand: pixels `step` apart from `offset` on, of maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) maps: Maps,
    pub(super) step: usize,
    pub(super) offset: [usize; 2],
}

/// A correlation of maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Correlation {
    pub(super) examples: usize,
    pub(super) source: Maps,
    pub(super) window: Window,
    pub(super) target: Target,
}

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Correlation {
    /// Runs it: `y` gets the sums, or has them added where `add`.
    pub(super) fn run(self, backend: Backend, x: &[f32], weights: Taps, y: &mut [f32], add: bool) {
        let Window { places, taps, .. } = self.window;
        if self.examples == 0 || places.contains(&0) || self.target.maps.count == 0 {
            return;
        }
        let tile = match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Bf16Tiles => return super::bf16::correlate(self, x, weights, y, add),
            Backend::Tiles => TileShape::of(self.target.maps.count),
            Backend::Panels(_) => TileShape::whole(self.target.maps.count),
        };
        let mut packed = PACKED.take();
        pack(&mut packed, tile, self.target.maps.count, taps, self.source.count, weights);
        let (rows, examples) = self.window.slab_size(self.source.count, self.examples, SLAB);
        let examples = examples.min(self.examples.div_ceil(rayon::current_num_threads()));
        let image = self.target.maps.height * self.target.maps.width * self.target.maps.channels;
        let source_image = self.source.height * self.source.width * self.source.channels;
        y.par_chunks_mut(examples * image).enumerate().for_each(|(chunk, y)| {
            let x = &x[chunk * examples * source_image..];
            let [mut slab, mut patches, mut products] = BUFFERS.take();
            for start in (0..places[0]).step_by(rows) {
                let rows = rows.min(places[0] - start);
                let n = y.len() / image;
                self.source.copy(self.window, x, n, start, rows, &mut slab);
                let piece = Piece { correlation: self, tile, slab: &slab, packed: &packed, start, rows, add };
                match backend {
                    Backend::Panels(precision) => {
                        let patches = self.window.patches(self.source.count, &slab, n, rows, &mut patches);
                        piece.multiply(precision, patches, &mut products, y);
                    }
                    _ => super::super::ARCH.dispatch(Run { piece, examples: n, y }),
                }
            }
            BUFFERS.set([slab, patches, products]);
        });
        PACKED.set(packed);
    }
}

/// Weights as tiles read them: `[tiles, tap rows, tap columns · c, tile channels]`, zeros beyond the last channel.
fn pack(
    packed: &mut Vec<f32>,
    tile: TileShape,
    output: usize,
    taps: [usize; 2],
    input: usize,
    weights: Taps,
) {
    let size = taps[0] * taps[1] * input * tile.channels;
    packed.clear();
    packed.resize(tile.count(output) * size, 0.0);
    packed.par_chunks_mut(size).enumerate().with_min_len(1).for_each(|(t, packed)| {
        let first = t * tile.channels;
        let channels = tile.channels.min(output - first);
        for (k, lanes) in packed.chunks_exact_mut(tile.channels).enumerate() {
            let (tap, c) = (k / input, k % input);
            let tap = [tap / taps[1], tap % taps[1]];
            lanes[..channels].iter_mut().enumerate().for_each(|(o, w)| *w = weights.at(first + o, tap, c));
        }
    });
}

/// Rows of places of a few examples: what one slab serves.
#[derive(Clone, Copy)]
struct Piece<'a> {
    correlation: Correlation,
    tile: TileShape,
    slab: &'a [f32],
    packed: &'a [f32],
    start: usize,
    rows: usize,
    add: bool,
}

impl Piece<'_> {
    /// `patches · weights`, by a library, and from there to `y`.
    fn multiply(self, precision: Precision, patches: &[f32], products: &mut Vec<f32>, y: &mut [f32]) {
        let (channels, target) = (self.tile.channels, self.correlation.target);
        let patch = self.packed.len() / channels;
        let pixels = patches.len() / patch;
        products.resize((pixels * channels).max(products.len()), 0.0);
        let products = &mut products[..pixels * channels];
        let (a, b) = (Mat::new(patches, pixels, patch), Mat::new(self.packed, patch, channels));
        gemm_serial(a, b, MatMut::new(products, pixels, channels), false, precision);
        let columns = self.correlation.window.places[1];
        for (place, sums) in products.chunks_exact(channels).enumerate() {
            let (row, column) = (place / columns, place % columns);
            let (example, row) = (row / self.rows, self.start + row % self.rows);
            let [top, left] = [row, column].map(|at| at * target.step);
            let pixel = (example * target.maps.height + top + target.offset[0]) * target.maps.width;
            let at = (pixel + left + target.offset[1]) * target.maps.channels + target.maps.first;
            let y = y[at..][..channels].iter_mut().zip(sums);
            y.for_each(|(y, sum)| *y = if self.add { *y + sum } else { *sum });
        }
    }
}

struct Run<'a, 'y> {
    piece: Piece<'a>,
    examples: usize,
    y: &'y mut [f32],
}

impl pulp::WithSimd for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As `TileShape::of` says; other sizes are not compiled.
        match S::F32_LANES {
            16 if self.piece.tile.vectors == 1 => tiles::<S, 1>(simd, self),
            16 | 8 => tiles::<S, 2>(simd, self),
            _ => tiles::<S, 4>(simd, self),
        }
    }
}

#[inline(always)]
fn tiles<S: Simd, const V: usize>(simd: S, Run { piece, examples, y }: Run<'_, '_>) {
    let Piece { correlation, tile, slab, packed, .. } = piece;
    let Correlation { source, window, target, .. } = correlation;
    let (input, line) = (source.count, window.slab_width() * source.count);
    let slab_rows = window.slab_rows(piece.rows);
    let run = window.taps[1] * input * tile.channels;
    for (t, packed) in packed.chunks_exact(window.taps[0] * run).enumerate() {
        let channel = t * tile.channels;
        let channels = tile.channels.min(target.maps.count - channel);
        for example in 0..examples {
            for row in 0..piece.rows {
                let top = (example * slab_rows + row * window.stride) * line;
                let y_row = (piece.start + row) * target.step + target.offset[0];
                let y_row = (example * target.maps.height + y_row) * target.maps.width + target.offset[1];
                for (first, n) in even_parts(window.places[1], tile.pixels) {
                    let a = &slab[top + first * window.stride * input..];
                    let pixel = y_row + first * target.step;
                    let place = Place {
                        line,
                        step: window.stride * input,
                        run,
                        channels,
                        y_step: target.step * target.maps.channels,
                        add: piece.add,
                    };
                    let y = &mut y[pixel * target.maps.channels + target.maps.first + channel..];
                    with_pixels!(n, pixels::<S, _, V>(simd, place, a, packed, y));
                }
            }
        }
    }
}

/// Strides around one tile.
#[derive(Clone, Copy)]
struct Place {
    /// Of a slab's rows.
    line: usize,
    /// Of neighbouring places in the slab.
    step: usize,
    /// Packed weights of one row of taps.
    run: usize,
    channels: usize,
    /// Of neighbouring places in y.
    y_step: usize,
    add: bool,
}

#[inline(always)]
fn pixels<S: Simd, const P: usize, const V: usize>(
    simd: S,
    place: Place,
    a: &[f32],
    packed: &[f32],
    y: &mut [f32],
) {
    let mut acc = zeros::<S, P, V>(simd);
    for (row, b) in packed.chunks_exact(place.run).enumerate() {
        along::<S, P, V>(simd, &mut acc, &a[row * place.line..], place.step, b);
    }
    for (p, row) in acc.into_iter().enumerate() {
        finish::<S, V>(simd, &mut y[p * place.y_step..][..place.channels], row, place.add);
    }
}
