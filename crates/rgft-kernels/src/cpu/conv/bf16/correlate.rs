//! Windows slid over maps, as in [`super::super::correlate`], by tiles of 32 pixels and 32 output channels, or of 64 and 16
//! where there are no more.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::SLAB;
use super::planes::Planes;
use crate::amx::{
    Line, PANEL, STEP, Side, TILE, configure, halves, multiply_shifted, multiply_shifted_narrow, pack_tile,
    release, room,
};
use crate::cpu::conv::Taps;
use crate::cpu::conv::correlate::{Correlation, Target};

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
    // Channels of a block, and lines of weights in a step.
    let wide = if channels <= TILE { TILE } else { PANEL };
    let block = taps * of_tap * wide;
    let mut packed = PACKED.take();
    let lines = room(&mut packed, channels.div_ceil(wide) * block);
    lines.par_chunks_mut(block).enumerate().for_each(|(i, lines)| {
        for (step, lines) in lines.chunks_exact_mut(wide).enumerate() {
            let (tap, k) = (step / of_tap, step % of_tap * STEP);
            let tap = [tap / window.taps[1], tap % window.taps[1]];
            for (half, tile) in lines.chunks_exact_mut(TILE).enumerate() {
                pack_tile(weights.of(tap), i * wide + half * TILE, k, Side::Right, tile);
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
            let lines = room(&mut slab, (planes.pixels() + 2 * PANEL) * of_tap);
            planes.write(source, x, start, halves(lines));
            offsets.clear();
            offsets.extend(planes.taps().flat_map(|tap| {
                let first = planes.offset(tap) * of_tap;
                (first..first + of_tap).map(|line| {
                    u32::try_from(line * size_of::<Line>()).expect("a piece of maps of less than 4 GiB")
                })
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
    let pixel = slab.len() / (planes.pixels() + 2 * PANEL);
    let mut sums = [0f32; PANEL * PANEL];
    let maps = place.target.maps;
    let wide = if maps.count <= TILE { TILE } else { PANEL };
    let (tall, stride) = (sums.len() / wide, pixel * size_of::<Line>());
    let farthest = offsets.iter().max().map_or(0, |&offset| offset as usize / size_of::<Line>());
    assert!(
        planes.end().next_multiple_of(tall) * pixel + farthest <= slab.len(),
        "a tap sees beyond its slab"
    );
    configure();
    for (block, weights) in packed.chunks_exact(offsets.len() * wide).enumerate() {
        let channels = block * wide..maps.count.min((block + 1) * wide);
        for q in (0..planes.end()).step_by(tall) {
            let seen = slab[q * pixel..].as_ptr();
            // SAFETY: tiles are available and configured; what any tap sees of a tile's pixels lies in the slab, which has
            // as many more as a tile has rows; the weights have a step for each offset.
            unsafe {
                match wide {
                    TILE => multiply_shifted_narrow(seen, stride, offsets, weights, &mut sums),
                    _ => multiply_shifted(seen, stride, offsets, weights, &mut sums),
                }
            }
            vectorised!(|| place.store(planes, q..q + tall, &sums, channels.clone(), y));
        }
    }
    release();
}

impl Place {
    /// The sums of some pixels and channels.
    #[inline(always)]
    fn store(
        self,
        planes: Planes,
        pixels: Range<usize>,
        sums: &[f32; PANEL * PANEL],
        channels: Range<usize>,
        y: &mut [f32],
    ) {
        let wide = sums.len() / pixels.len();
        let Target { maps, step, offset } = self.target;
        for (start, run, places) in planes.runs(pixels.clone()) {
            let Some([example, row, column]) = places else { continue };
            let row = example * maps.height + (self.start + row) * step + offset[0];
            let pixel = row * maps.width + column * step + offset[1];
            let y = &mut y[pixel * maps.channels + maps.first + channels.start..];
            let sums = sums[(start - pixels.start) * wide..].chunks_exact(wide).take(run);
            for (y, sums) in y.chunks_mut(step * maps.channels).zip(sums) {
                let (y, y_rest) = y[..channels.len()].as_chunks_mut::<TILE>();
                let (sums, sums_rest) = sums[..channels.len()].as_chunks::<TILE>();
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
}
