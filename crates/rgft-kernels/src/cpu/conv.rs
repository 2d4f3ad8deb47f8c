//! Convolutions of channels-last maps: `y[n, i, j, o] = Σ_{tap, c} W[o, tap, c]·x[n, i·s + tap − p, …, c]`, in groups.
//!
//! Maps are `[examples, height, width, channels]`, weights `[out, kernel, kernel, in/groups]`, so that a patch is a few
//! contiguous runs and an output channel a row of W.
//!
//! * 1×1 with stride 1 is one product of matrices.
//! * Depthwise convolutions have a kernel of their own: channels are lanes.
//! * Everything else is a product whose first operand is read where it lies, in pieces of maps that fit the cache,
//!   padding written out (`slab`), by register tiles (`tile`). Where the precision is bf16, or maps are too narrow to
//!   fill a tile, patches are copied and a library multiplies.
//!
//! No map of patches of a whole batch exists.

mod correlate;
mod depthwise;
mod slab;
mod tile;
mod weight_gradient;

use std::cell::RefCell;
use std::ops::Range;

use self::correlate::{Correlation, Target};
use self::slab::{Maps, Window};
use self::weight_gradient::WeightGradient;
use super::rows::gather_columns;
use crate::gemm::gemm;
use crate::{Mat, MatMut, Precision};

/// What is convolved with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Maps in the batch.
    pub examples: usize,
    /// Rows of an input map.
    pub height: usize,
    /// Columns of an input map.
    pub width: usize,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Rows, and columns, of a filter.
    pub kernel: usize,
    /// Pixels from one place of the filter to the next.
    pub stride: usize,
    /// Zeros around an input map; less than `kernel`.
    pub padding: usize,
    /// Groups: output channels of one read input channels of the same one.
    pub groups: usize,
}

/// Who multiplies.
#[derive(Clone, Copy, Debug)]
enum Backend {
    /// Register tiles that read maps in place.
    Tiles,
    /// A library, copies of patches.
    Panels(Precision),
}

impl ConvShape {
    /// Rows and columns of an output map.
    pub fn places(&self) -> [usize; 2] {
        [self.height, self.width].map(|n| match n + 2 * self.padding {
            padded if padded >= self.kernel => (padded - self.kernel) / self.stride + 1,
            _ => 0,
        })
    }

    /// Rows of the output matrix `[examples · height · width, output]`.
    pub fn rows(&self) -> usize {
        let [height, width] = self.places();
        self.examples * height * width
    }

    /// Weights of one output channel.
    pub fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input / self.groups
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0 && self.groups == 1
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.input && self.groups == self.output
    }

    /// Tiles cannot be filled by rows of fewer than four places; with many channels patches are then cheap.
    fn backend(&self, columns: usize, precision: Precision) -> Backend {
        let narrow = columns < 4 && self.input / self.groups >= 32;
        if narrow || precision == Precision::Bf16 { Backend::Panels(precision) } else { Backend::Tiles }
    }

    /// Input channels of group `g`.
    fn source(&self, g: usize) -> Maps {
        let count = self.input / self.groups;
        Maps { height: self.height, width: self.width, channels: self.input, first: g * count, count }
    }

    /// Output channels of group `g`.
    fn target(&self, g: usize) -> Maps {
        let ([height, width], count) = (self.places(), self.output / self.groups);
        Maps { height, width, channels: self.output, first: g * count, count }
    }

    fn window(&self) -> Window {
        Window {
            taps: [self.kernel; 2],
            before: [self.padding as isize; 2],
            stride: self.stride,
            places: self.places(),
        }
    }

    fn check(&self, x: usize, weight: usize, y: usize) {
        let expected = (
            self.examples * self.height * self.width * self.input,
            self.output * self.patch(),
            self.rows() * self.output,
        );
        assert!(
            (x, weight, y) == expected
                && self.padding < self.kernel
                && self.input.is_multiple_of(self.groups)
                && self.output.is_multiple_of(self.groups),
            "{self:?} of {x}, {weight} and {y} scalars, expected {expected:?}"
        );
    }
}

/// Forward: `x` `[examples, height, width, input]`, `weight` `[output, kernel, kernel, input/groups]`, `y`
/// `[examples, out height, out width, output]`, all of it written.
///
/// # Panics
/// If the slices do not have these shapes.
pub fn conv_forward(shape: ConvShape, x: &[f32], weight: &[f32], y: &mut [f32], precision: Precision) {
    shape.check(x.len(), weight.len(), y.len());
    if shape.is_pointwise() {
        let (x, w) = (Mat::new(x, shape.rows(), shape.input), Mat::new(weight, shape.output, shape.input));
        return gemm(x, w.t(), MatMut::new(y, shape.rows(), shape.output), false, precision);
    }
    if shape.is_depthwise() {
        return depthwise::forward(shape, x, weight, y);
    }
    let (window, k, inner) = (shape.window(), shape.kernel, shape.input / shape.groups);
    for g in 0..shape.groups {
        let (source, maps) = (shape.source(g), shape.target(g));
        let target = Target { maps, step: 1, offset: [0, 0] };
        let weight =
            |o: usize, [r, c]: [usize; 2], i| weight[(((maps.first + o) * k + r) * k + c) * inner + i];
        let correlation = Correlation { examples: shape.examples, source, window, target };
        correlation.run(shape.backend(window.places[1], precision), x, weight, y, false);
    }
}

/// dX: `delta` as `y` in [`conv_forward`], `dx` as `x`; all of it written, or added to where `add`.
///
/// # Panics
/// If the slices do not have these shapes.
pub fn conv_backward_input(
    shape: ConvShape,
    weight: &[f32],
    delta: &[f32],
    dx: &mut [f32],
    add: bool,
    precision: Precision,
) {
    shape.check(dx.len(), weight.len(), delta.len());
    if shape.is_pointwise() {
        let d = Mat::new(delta, shape.rows(), shape.output);
        let w = Mat::new(weight, shape.output, shape.input);
        return gemm(d, w, MatMut::new(dx, shape.rows(), shape.input), add, precision);
    }
    if shape.is_depthwise() {
        return depthwise::backward_input(shape, weight, delta, dx, add);
    }
    let (k, s) = (shape.kernel, shape.stride);
    // Of taps `first, first + s, …` the ones that reach pixels `s·i + remainder`, how many, and how far before place i
    // the last of them lies.
    let reach = |remainder: usize| {
        let first = (remainder + shape.padding) % s;
        let taps = k.saturating_sub(first).div_ceil(s);
        (first, taps, taps as isize - 1 - ((remainder + shape.padding) / s) as isize)
    };
    if !add && k < s {
        dx.fill(0.0);
    }
    for remainders in (0..s * s).map(|phase| [phase / s, phase % s]) {
        let [(first_row, rows, above), (first_column, columns, left)] = remainders.map(reach);
        let places = [shape.height, shape.width];
        let places = [0, 1].map(|axis| places[axis].saturating_sub(remainders[axis]).div_ceil(s));
        if rows == 0 || columns == 0 {
            continue;
        }
        let window = Window { taps: [rows, columns], before: [above, left], stride: 1, places };
        for g in 0..shape.groups {
            let (maps, source) = (shape.source(g), shape.target(g));
            let target = Target { maps, step: s, offset: remainders };
            let weight = |i: usize, [r, c]: [usize; 2], o: usize| {
                let (r, c) = (first_row + s * (rows - 1 - r), first_column + s * (columns - 1 - c));
                weight[(((source.first + o) * k + r) * k + c) * maps.count + i]
            };
            let correlation = Correlation { examples: shape.examples, source, window, target };
            correlation.run(shape.backend(places[1], precision), delta, weight, dx, add);
        }
    }
}

thread_local! {
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// dW of the output channels in `rows` (ascending, disjoint): `dw` `[wanted, kernel, kernel, input/groups]`, one after
/// the other; all of it written, or added to where `add`.
///
/// # Panics
/// If the slices do not have these shapes.
pub fn conv_backward_weight(
    shape: ConvShape,
    x: &[f32],
    delta: &[f32],
    rows: &[Range<usize>],
    dw: &mut [f32],
    add: bool,
    precision: Precision,
) {
    shape.check(x.len(), shape.output * shape.patch(), delta.len());
    let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
    assert!(dw.len() == wanted * shape.patch(), "{} scalars for {wanted} rows of dW", dw.len());
    if shape.is_pointwise() {
        return pointwise_weight(shape, x, delta, rows, dw, add, precision);
    }
    if shape.is_depthwise() {
        return depthwise::backward_weight(shape, x, delta, rows, dw, add);
    }
    let mut rest = dw;
    for g in 0..shape.groups {
        let (source, channels) = (shape.source(g), shape.target(g));
        let own = channels.first..channels.first + channels.count;
        let within = |range: &Range<usize>| range.start.max(own.start)..range.end.min(own.end);
        let rows: Vec<_> = rows.iter().map(within).filter(|range| !range.is_empty()).collect();
        let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let (dw, tail) = std::mem::take(&mut rest).split_at_mut(wanted * shape.patch());
        rest = tail;
        let gradient = WeightGradient {
            examples: shape.examples,
            source,
            window: shape.window(),
            channels: shape.output,
            outputs: channels.count,
            rows: &rows,
        };
        // A row of places is what a tile of dW sums over: it may be as narrow as it likes.
        let backend = if precision == Precision::Bf16 { Backend::Panels(precision) } else { Backend::Tiles };
        gradient.run(backend, x, delta, dw, add);
    }
}

fn pointwise_weight(
    shape: ConvShape,
    x: &[f32],
    delta: &[f32],
    rows: &[Range<usize>],
    dw: &mut [f32],
    add: bool,
    precision: Precision,
) {
    let pixels = shape.rows();
    let x = Mat::new(x, pixels, shape.input);
    let wanted = dw.len() / shape.input;
    let dw = MatMut::new(dw, wanted, shape.input);
    let d = Mat::new(delta, pixels, shape.output);
    match rows {
        [] => {}
        [run] => gemm(d.columns(run.clone()).t(), x, dw, add, precision),
        _ => {
            let mut panel = PANEL.take();
            panel.resize((pixels * wanted).max(panel.len()), 0.0);
            gather_columns(delta, shape.output, rows, &mut panel[..pixels * wanted]);
            gemm(Mat::new(&panel, pixels, wanted).t(), x, dw, add, precision);
            PANEL.set(panel);
        }
    }
}

#[cfg(test)]
mod tests;
