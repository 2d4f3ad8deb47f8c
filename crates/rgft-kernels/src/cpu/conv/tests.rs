// `vec![2..5]` means that range.
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::reference;
use crate::reference::images::for_each_product;

fn numbers(seed: u32, n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| crate::cpu::scalar::hash(seed, i) as f32 / 2f32.powi(31) - 1.0).collect()
}

/// Kernels of 1 to 7, strides of 1 to 3, groups, depthwise; maps smaller than the filter, and larger than a slab; more
/// channels than a tile.
fn shapes() -> Vec<ConvShape> {
    let of = |examples, height, width, input, output, kernel, stride, padding, groups| ConvShape {
        examples,
        height,
        width,
        input,
        output,
        kernel,
        stride,
        padding,
        groups,
    };
    vec![
        of(3, 8, 8, 16, 16, 3, 1, 1, 1),
        of(3, 9, 7, 16, 24, 3, 2, 1, 1),
        of(2, 5, 32, 3, 16, 3, 1, 1, 1),
        of(2, 17, 13, 3, 8, 7, 2, 3, 1),
        of(5, 4, 4, 33, 40, 3, 1, 1, 1),
        of(2, 2, 2, 40, 20, 3, 1, 1, 1),
        of(2, 1, 1, 5, 6, 3, 2, 1, 1),
        of(4, 6, 6, 8, 12, 1, 1, 0, 1),
        of(4, 7, 6, 8, 12, 1, 2, 0, 1),
        of(2, 7, 7, 8, 12, 3, 2, 1, 4),
        of(2, 9, 9, 8, 12, 3, 3, 2, 2),
        of(2, 9, 9, 40, 40, 3, 1, 1, 40),
        of(2, 9, 8, 70, 70, 3, 2, 1, 70),
        of(2, 6, 6, 4, 4, 5, 1, 2, 4),
        of(1, 40, 40, 32, 16, 3, 1, 1, 1),
        of(1, 41, 40, 32, 16, 3, 2, 1, 1),
        of(2, 6, 6, 80, 130, 3, 1, 1, 1),
        of(1, 120, 90, 20, 40, 3, 1, 1, 1),
        of(0, 6, 6, 8, 8, 3, 1, 1, 1),
        of(2, 2, 9, 8, 8, 5, 1, 1, 1),
        of(2, 90, 80, 34, 8, 3, 2, 1, 1),
        of(2, 11, 13, 18, 8, 2, 3, 1, 1),
    ]
}

struct Case {
    shape: ConvShape,
    x: Vec<f32>,
    weight: Vec<f32>,
    delta: Vec<f32>,
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

impl Case {
    fn new(shape: ConvShape) -> Self {
        Self::of(shape, numbers)
    }

    fn of(shape: ConvShape, numbers: impl Fn(u32, usize) -> Vec<f32>) -> Self {
        let x = numbers(1, shape.examples * shape.height * shape.width * shape.input);
        let weight = numbers(2, shape.output * shape.patch());
        let delta = numbers(3, shape.rows() * shape.output);
        let (mut y, mut dx, mut dw) = (vec![0.0; delta.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
        for_each_product(shape, |o, i, w| {
            y[o] += f64::from(x[i]) * f64::from(weight[w]);
            dx[i] += f64::from(delta[o]) * f64::from(weight[w]);
            dw[w] += f64::from(delta[o]) * f64::from(x[i]);
        });
        Self { shape, x, weight, delta, y, dx, dw }
    }

    fn check(&self, precision: Precision, tolerance: f64) {
        let shape = self.shape;
        let mut y = vec![f32::NAN; self.y.len()];
        conv_forward(shape, &self.x, &self.weight, &mut y, precision);
        reference::assert_close(&y, &self.y, tolerance);

        let mut dx = vec![f32::NAN; self.dx.len()];
        conv_backward_input(shape, &self.weight, &self.delta, &mut dx, false, precision);
        reference::assert_close(&dx, &self.dx, tolerance);
        let start = numbers(4, dx.len());
        dx.copy_from_slice(&start);
        conv_backward_input(shape, &self.weight, &self.delta, &mut dx, true, precision);
        let added: Vec<_> = self.dx.iter().zip(&start).map(|(d, s)| d + f64::from(*s)).collect();
        reference::assert_close(&dx, &added, tolerance);

        let n = shape.output;
        let all = 0..n;
        for rows in [vec![all], vec![n / 3..n / 2], vec![0..1, n / 2..n], vec![1..2, 3..n - 1], vec![]] {
            let patch = shape.patch();
            let wanted: Vec<f64> = rows
                .iter()
                .flat_map(|range| self.dw[range.start * patch..range.end * patch].iter().copied())
                .collect();
            let mut dw = vec![f32::NAN; wanted.len()];
            conv_backward_weight(shape, &self.x, &self.delta, &rows, &mut dw, false, precision);
            reference::assert_close(&dw, &wanted, 4.0 * tolerance);
            conv_backward_weight(shape, &self.x, &self.delta, &rows, &mut dw, true, precision);
            let twice: Vec<_> = wanted.iter().map(|dw| 2.0 * dw).collect();
            reference::assert_close(&dw, &twice, 8.0 * tolerance);
        }
    }
}

#[test]
fn convolutions_and_their_gradients_match_the_reference() {
    shapes().into_iter().for_each(|shape| Case::new(shape).check(Precision::F32, 2e-5));
}

#[test]
fn bf16_convolutions_match_the_reference_within_rounding() {
    shapes().into_iter().for_each(|shape| Case::new(shape).check(Precision::Bf16, 0.3));
}

#[test]
fn bf16_convolutions_of_what_bf16_holds_are_exact() {
    // Eighths: their products and sums are exact in f32, unless the starting numbers are added.
    let eighths = |seed, n| numbers(seed, n).iter().map(|x| (8.0 * x).round() / 8.0).collect();
    shapes().into_iter().for_each(|shape| Case::of(shape, eighths).check(Precision::Bf16, 1e-6));
}

#[test]
fn a_part_of_dw_has_the_bits_of_the_whole() {
    for shape in [shapes()[16], shapes()[0], shapes()[9]] {
        let case = Case::new(shape);
        let gradient = |rows: &[Range<usize>]| {
            let mut dw = vec![0.0; rows.iter().map(ExactSizeIterator::len).sum::<usize>() * shape.patch()];
            conv_backward_weight(shape, &case.x, &case.delta, rows, &mut dw, false, Precision::F32);
            dw
        };
        let (all, part) = (0..shape.output, 5..shape.output - 3);
        let whole = gradient(&[all]);
        let expected = &whole[part.start * shape.patch()..part.end * shape.patch()];
        assert!(gradient(&[part]) == expected, "{shape:?}");
    }
}

#[test]
fn the_same_threads_give_the_same_bits() {
    let case = Case::new(shapes()[0]);
    let run = || {
        let all = 0..case.shape.output;
        let mut dw = vec![0.0; case.dw.len()];
        conv_backward_weight(case.shape, &case.x, &case.delta, &[all], &mut dw, false, Precision::F32);
        dw
    };
    let first = run();
    (0..5).for_each(|_| assert_eq!(first, run()));
}
