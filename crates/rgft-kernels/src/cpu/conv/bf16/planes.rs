//! Pieces of maps in bf16, dealt out to `stride²` planes: plane `(a, b)` has of the padded map the pixels
//! `(stride·i + a, stride·j + b)`. Then tap `(r, c)` of the place at pixel `q` of a plane is pixel `q + offset(r, c)`, where
//! the offset depends on the tap alone; planes run on from row to row and example to example. At the end of a row there are
//! pixels that no place has, and what is computed for them is dropped.

use std::ops::Range;

use crate::amx::{Half, round_rows};
use crate::cpu::conv::slab::{Maps, Window};

/// The layout of a piece: some rows of places of some examples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    window: Window,
    examples: usize,
    /// Rows of places.
    rows: usize,
    /// Rows of a plane in each example.
    height: usize,
    /// Columns of a plane.
    width: usize,
    /// Halves of lines that a pixel takes.
    pixel: usize,
}

impl Planes {
    /// For `rows` rows of places; a pixel takes `pixel` halves of lines, a row an even number of pixels where `even`.
    pub(super) fn new(window: Window, examples: usize, rows: usize, pixel: usize, even: bool) -> Self {
        let beyond = window.taps.map(|taps| (taps - 1) / window.stride);
        let width = window.places[1] + beyond[1];
        let width = if even { width.next_multiple_of(2) } else { width };
        Self { window, examples, rows, height: rows + beyond[0], width, pixel }
    }

    /// Pixels of one plane.
    fn plane(self) -> usize {
        self.examples * self.height * self.width
    }

    /// Planes that taps read, down and across.
    fn phases(self) -> [usize; 2] {
        self.window.taps.map(|taps| taps.min(self.window.stride))
    }

    /// Pixels of all planes.
    pub(super) fn pixels(self) -> usize {
        let [down, across] = self.phases();
        down * across * self.plane()
    }

    /// Pixels from a place to what `tap` sees there.
    pub(super) fn offset(self, [r, c]: [usize; 2]) -> usize {
        let s = self.window.stride;
        let phase = r % s * self.phases()[1] + c % s;
        phase * self.plane() + r / s * self.width + c / s
    }

    /// All taps, row by row.
    pub(super) fn taps(self) -> impl Iterator<Item = [usize; 2]> {
        let [rows, columns] = self.window.taps;
        (0..rows * columns).map(move |tap| [tap / columns, tap % columns])
    }

    /// Pixels up to the last place.
    pub(super) fn end(self) -> usize {
        ((self.examples - 1) * self.height + self.rows - 1) * self.width + self.window.places[1]
    }

    /// Pixels `range` of a plane in runs: where each begins, how long it is, and its places, if it has any, as example, row of
    /// the piece and first column.
    pub(super) fn runs(
        self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, Option<[usize; 3]>)> {
        let mut q = range.start;
        std::iter::from_fn(move || {
            let (first, left) = (q, range.end.checked_sub(q).filter(|left| *left > 0)?);
            let (row, column) = (first / self.width, first % self.width);
            let (example, row) = (row / self.height, row % self.height);
            let places = self.window.places[1];
            let is_place = example < self.examples && row < self.rows && column < places;
            let run = left.min(if is_place { places } else { self.width } - column);
            q += run;
            Some((first, run, is_place.then_some([example, row, column])))
        })
    }

    /// Writes the planes of places in rows `start..` of maps `x`, which start at the first example.
    pub(super) fn write(self, source: Maps, x: &[f32], start: usize, to: &mut [Half]) {
        let s = self.window.stride;
        let lines = to[..self.pixels() * self.pixel].chunks_exact_mut(self.width * self.pixel);
        for (line, to) in lines.enumerate() {
            let (phase, row) = (line / (self.examples * self.height), line % (self.examples * self.height));
            let [a, b] = [phase / self.phases()[1], phase % self.phases()[1]];
            let (example, i) = (row / self.height, row % self.height);
            let row = ((start + i) * s + a) as isize - self.window.before[0];
            // Columns whose pixel `s·j + left` lies inside the map.
            let left = b as isize - self.window.before[1];
            let first_from = |pixel: isize| (pixel - left).max(0) as usize;
            let [begin, end] =
                [0, source.width as isize].map(|pixel| first_from(pixel).div_ceil(s).min(self.width));
            if row < 0 || row >= source.height as isize || begin >= end {
                to.fill(ZERO);
                continue;
            }
            let first = (example * source.height + row as usize) * source.width;
            let first = first + ((begin * s) as isize + left) as usize;
            to[..begin * self.pixel].fill(ZERO);
            to[end * self.pixel..].fill(ZERO);
            let to = &mut to[begin * self.pixel..end * self.pixel];
            let x = &x[first * source.channels + source.first..];
            round_rows(x, source.count, s * source.channels, to, self.pixel);
        }
    }
}

/// Nothing.
pub(super) const ZERO: Half = Half([0; 16]);
