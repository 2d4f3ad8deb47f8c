//! Slabs: pieces of maps with their padding written out, small enough to stay in cache.

/// Scalars of a slab that stay in the second-level cache beside packed weights.
pub(super) const SLAB: usize = 24 * 1024;

/// Channels `first..first + count` of maps `[examples, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The window that slides over maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Rows and columns of taps.
    pub(super) taps: [usize; 2],
    /// Pixels that it starts above and to the left of the map.
    pub(super) before: [isize; 2],
    /// Pixels from one place to the next.
    pub(super) stride: usize,
    /// Places, down and to the right.
    pub(super) places: [usize; 2],
}

impl Window {
    /// Pixels of a slab's row.
    pub(super) fn slab_width(self) -> usize {
        (self.places[1] - 1) * self.stride + self.taps[1]
    }

    /// Rows of a slab that `places` rows of places read.
    pub(super) fn slab_rows(self, places: usize) -> usize {
        (places - 1) * self.stride + self.taps[0]
    }

    /// The patches `[examples · rows · places to the right, taps · count]` of a slab: for products of a library.
    pub(super) fn patches<'p>(
        self,
        count: usize,
        slab: &[f32],
        examples: usize,
        rows: usize,
        patches: &'p mut Vec<f32>,
    ) -> &'p [f32] {
        let (line, run) = (self.slab_width() * count, self.taps[1] * count);
        let patch = self.taps[0] * run;
        let n = examples * rows * self.places[1] * patch;
        patches.resize(n.max(patches.len()), 0.0);
        for (place, out) in patches[..n].chunks_exact_mut(patch).enumerate() {
            let (row, column) = (place / self.places[1], place % self.places[1]);
            let top = (row / rows) * self.slab_rows(rows) + (row % rows) * self.stride;
            for (tap, out) in out.chunks_exact_mut(run).enumerate() {
                out.copy_from_slice(&slab[(top + tap) * line + column * self.stride * count..][..run]);
            }
        }
        &patches[..n]
    }

    /// How many rows of places, of how many examples, one slab of `count` channels holds that has about `size` scalars.
    pub(super) fn slab_size(self, count: usize, examples: usize, size: usize) -> (usize, usize) {
        let row = self.slab_width() * count;
        let image = self.slab_rows(self.places[0]) * row;
        if image <= size {
            return (self.places[0], (size / image).clamp(1, examples.max(1)));
        }
        let rows = (size / row).saturating_sub(self.taps[0]) / self.stride + 1;
        (rows.min(self.places[0]), 1)
    }
}

impl Maps {
    /// Writes the slab `[examples, slab rows, slab width, count]` of the places in rows `start..start + rows` of maps
    /// `x`, which start at the first example. What lies outside of a map is zero.
    pub(super) fn copy(
        self,
        window: Window,
        x: &[f32],
        examples: usize,
        start: usize,
        rows: usize,
        slab: &mut Vec<f32>,
    ) {
        let (slab_rows, width) = (window.slab_rows(rows), window.slab_width());
        let line = width * self.count;
        slab.resize((examples * slab_rows * line).max(slab.len()), 0.0);
        let left = window.before[1];
        // Columns of the slab that lie inside the map.
        let inside = left.clamp(0, width as isize) as usize
            ..(self.width as isize + left).clamp(left.max(0), width as isize).max(0) as usize;
        let source = (inside.start as isize - left) as usize;
        let top = (start * window.stride) as isize - window.before[0];
        for (r, out) in slab.chunks_exact_mut(line).take(examples * slab_rows).enumerate() {
            let (example, row) = (r / slab_rows, top + (r % slab_rows) as isize);
            if row < 0 || row >= self.height as isize || inside.is_empty() {
                out.fill(0.0);
                continue;
            }
            let pixel = (example * self.height + row as usize) * self.width + source;
            out[..inside.start * self.count].fill(0.0);
            out[inside.end * self.count..].fill(0.0);
            let out = &mut out[inside.start * self.count..inside.end * self.count];
            if self.count == self.channels {
                out.copy_from_slice(&x[pixel * self.channels..][..out.len()]);
            } else {
                let pixels = x[pixel * self.channels..].chunks(self.channels);
                for (out, x) in out.chunks_exact_mut(self.count).zip(pixels) {
                    out.copy_from_slice(&x[self.first..][..self.count]);
                }
            }
        }
    }
}
