//! Convolutions of channels-last maps: `y[n, i, j, o] = Σ_{tap, c} W[o, tap, c]·x[n, i·s + tap − p, …, c]`, in groups.
//!
//! Maps are `[examples, height, width, channels]`, weights `[out, kernel, kernel, in/groups]`, so that a patch is a few
//! contiguous runs and an output channel a row of W.
//!
//! * 1×1 with stride 1 is one product of matrices.
//! * Depthwise convolutions have a kernel of their own: channels are lanes.
//! * Everything else is a product whose first operand is read where it lies, in pieces of maps that fit the cache,
//!   padding written out (`slab`), by register tiles (`tile`), in bf16 by those of the processor (`bf16`). Where bf16 has
//!   none, or maps are too narrow to fill a tile, patches are copied and a library multiplies.
//!
//! No map of patches of a whole batch exists.

#[cfg(target_arch = "x86_64")]
mod bf16;
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
    /// The processor's tiles for bf16, which do so too.
    #[cfg(target_arch = "x86_64")]
    Bf16Tiles,
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
        match bf16_backend(precision) {
            Some(backend) => backend,
            None if columns < 4 && self.input / self.groups >= 32 => Backend::Panels(precision),
            None => Backend::Tiles,
        }
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

/// Who multiplies in bf16, if that is the precision.
fn bf16_backend(precision: Precision) -> Option<Backend> {
    if precision == Precision::F32 {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    if crate::amx::is_available() {
        return Some(Backend::Bf16Tiles);
    }
    Some(Backend::Panels(precision))
}

/// Weights as a correlation sees them: for each tap a matrix `[outputs, inputs]`.
#[derive(Clone, Copy, Debug)]
struct Taps<'a> {
    weight: &'a [f32],
    /// Where the first tap's first weight is.
    first: usize,
    /// Scalars from one row of taps, and one column, to the next.
    taps: [isize; 2],
    /// How many, and scalars from one to the next.
    outputs: (usize, usize),
    inputs: (usize, usize),
}

impl<'a> Taps<'a> {
    fn start(self, [r, c]: [usize; 2]) -> usize {
        (self.first as isize + r as isize * self.taps[0] + c as isize * self.taps[1]) as usize
    }

    /// The weight of one output and one input.
    #[inline(always)]
    fn at(self, output: usize, tap: [usize; 2], input: usize) -> f32 {
        self.weight[self.start(tap) + output * self.outputs.1 + input * self.inputs.1]
    }

    /// The matrix of `tap`.
    #[cfg(target_arch = "x86_64")]
    fn of(self, tap: [usize; 2]) -> Mat<'a> {
        let ((rows, row_stride), (cols, col_stride)) = (self.outputs, self.inputs);
        Mat { data: &self.weight[self.start(tap)..], rows, cols, row_stride, col_stride }
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
        let weights = Taps {
            weight,
            first: maps.first * k * k * inner,
            taps: [k * inner, inner].map(|step| step as isize),
            outputs: (maps.count, k * k * inner),
            inputs: (inner, 1),
        };
        let correlation = Correlation { examples: shape.examples, source, window, target };
        correlation.run(shape.backend(window.places[1], precision), x, weights, y, false);
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
            // The last of the taps comes first.
            let (row, column) = (first_row + s * (rows - 1), first_column + s * (columns - 1));
            let weights = Taps {
                weight,
                first: ((source.first * k + row) * k + column) * maps.count,
                taps: [k * s * maps.count, s * maps.count].map(|step| -(step as isize)),
                outputs: (maps.count, 1),
                inputs: (source.count, k * k * maps.count),
            };
            let correlation = Correlation { examples: shape.examples, source, window, target };
            correlation.run(shape.backend(places[1], precision), delta, weights, dx, add);
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
        let backend = bf16_backend(precision).unwrap_or(Backend::Tiles);
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
