//! Windows slid over maps, as in [`super::super::correlate`], by tiles of 32 pixels and 32 output channels.

use std::cell::RefCell;

use rayon::prelude::*;

use super::SLAB;
use super::planes::Planes;
use crate::amx::{
    LINES, Line, PANEL, STEP, Side, TILE, configure, halves, multiply_shifted, pack_tile, release, room,
};
use crate::cpu::conv::Taps;
use crate::cpu::conv::correlate::{Correlation, Target};
use crate::cpu::vectorised;

thread_local! {
    static PACKED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    static BUFFERS: RefCell<(Vec<Line>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Runs `correlation` where tiles are available: `y` gets the sums, or has them added where `add`.
pub(in crate::cpu::conv) fn correlate(
    correlation: Correlation,
    x: &[f32],
    weights: Taps,
    y: &mut [f32],
    add: bool,
) {
    let Correlation { source, window, target, .. } = correlation;
    let (places, channels) = (window.places, target.maps.count);
    if correlation.examples == 0 || places.contains(&0) || channels == 0 {
        return;
    }
    let (taps, of_tap) = (window.taps[0] * window.taps[1], source.count.div_ceil(STEP));
    let block = taps * of_tap * LINES;
    let mut packed = PACKED.take();
    let lines = room(&mut packed, channels.div_ceil(PANEL) * block);
    lines.par_chunks_mut(block).enumerate().for_each(|(i, lines)| {
        for (step, lines) in lines.chunks_exact_mut(LINES).enumerate() {
            let (tap, k) = (step / of_tap, step % of_tap * STEP);
            let tap = [tap / window.taps[1], tap % window.taps[1]];
            for (half, tile) in lines.chunks_exact_mut(TILE).enumerate() {
                pack_tile(weights.of(tap), i * PANEL + half * TILE, k, Side::Right, tile);
            }
        }
    });
    let packed_weights = &*lines;

    let (rows, examples) = window.slab_size(of_tap * STEP, correlation.examples, SLAB);
    let examples = examples.min(correlation.examples.div_ceil(rayon::current_num_threads()));
    let image = target.maps.height * target.maps.width * target.maps.channels;
    let source_image = source.height * source.width * source.channels;
    y.par_chunks_mut(examples * image).enumerate().for_each(|(chunk, y)| {
        let x = &x[chunk * examples * source_image..];
        let (mut slab, mut offsets) = BUFFERS.take();
        for start in (0..places[0]).step_by(rows) {
            let planes = Planes::new(window, y.len() / image, rows.min(places[0] - start), 2 * of_tap, false);
            // The last tile reads beyond the last place.
            let lines = room(&mut slab, (planes.pixels() + PANEL) * of_tap);
            planes.write(source, x, start, halves(lines));
            offsets.clear();
            offsets.extend(planes.taps().flat_map(|tap| {
                let first = planes.offset(tap) * of_tap;
                (first..first + of_tap).map(|line| (line * size_of::<Line>()) as u32)
            }));
            multiply(planes, lines, &offsets, packed_weights, Place { target, start, add }, y);
        }
        BUFFERS.set((slab, offsets));
    });
    PACKED.set(packed);
}

/// Where the sums of a piece go.
#[derive(Clone, Copy)]
struct Place {
    target: Target,
    start: usize,
    add: bool,
}

#[allow(unsafe_code)]
fn multiply(planes: Planes, slab: &[Line], offsets: &[u32], packed: &[Line], place: Place, y: &mut [f32]) {
    let pixel = slab.len() / (planes.pixels() + PANEL);
    let mut sums = [0f32; PANEL * PANEL];
    configure();
    for (block, weights) in packed.chunks_exact(offsets.len() * LINES).enumerate() {
        let first = block * PANEL;
        let channels = PANEL.min(place.target.maps.count - first);
        for q in (0..planes.end()).step_by(PANEL) {
            // SAFETY: tiles are available and configured; pixels `q..q + 32` seen by any tap lie in the slab, which has as
            // many more as a tile has rows; the weights have a step for each offset.
            unsafe {
                multiply_shifted(
                    slab[q * pixel..].as_ptr(),
                    pixel * size_of::<Line>(),
                    offsets,
                    weights,
                    &mut sums,
                );
            }
            vectorised(|| place.store(planes, q, &sums, first, channels, y));
        }
    }
    release();
}

impl Place {
    /// The sums of 32 pixels from `q` on, of the channels from `first` on.
    #[inline(always)]
    fn store(
        self,
        planes: Planes,
        q: usize,
        sums: &[f32; PANEL * PANEL],
        first: usize,
        channels: usize,
        y: &mut [f32],
    ) {
        let Target { maps, step, offset } = self.target;
        for (i, sums) in sums.chunks_exact(PANEL).enumerate() {
            let Some([example, row, column]) = planes.place(q + i) else { continue };
            let row = example * maps.height + (self.start + row) * step + offset[0];
            let pixel = row * maps.width + column * step + offset[1];
            let y = &mut y[pixel * maps.channels + maps.first + first..][..channels];
            let ((y, y_rest), (sums, sums_rest)) =
                (y.as_chunks_mut::<TILE>(), sums[..channels].as_chunks::<TILE>());
            if self.add {
                let add = |(y, sum): (&mut f32, &f32)| *y += sum;
                y.iter_mut().zip(sums).for_each(|(y, sums)| y.iter_mut().zip(sums).for_each(add));
                y_rest.iter_mut().zip(sums_rest).for_each(add);
            } else {
                y.iter_mut().zip(sums).for_each(|(y, sums)| *y = *sums);
                y_rest.copy_from_slice(sums_rest);
            }
        }
    }
}
