//! Matrix products `C = A·B` and `C += A·B`: the one file that knows what computes them.
//!
//! * `f32`: crate `gemm` (AVX-512, AVX2 + FMA, NEON, portable; chosen at run time).
//! * `bf16`: operands are rounded to bf16 while they are copied, products are accumulated in f32 and stored
//!   as f32: on tile registers (`amx/product.rs`) where there are any, for which no library was found; else crate `gemmkit`, whose
//!   `vdpbf16ps` kernels need AVX512_BF16. Elsewhere bf16 has no hardware behind it and [`Precision::supported`] answers
//!   `f32`.
//!
//! No other room may name these crates.

mod packed;

use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::amx;
#[cfg(target_arch = "x86_64")]
use crate::instructions::{Instructions, allowed};
use crate::{Mat, MatMut};

pub use packed::{Factor, Packed, Packing, Start, gemm_packed, pack};

/// Below this many multiply-adds a product runs on the calling thread: waking a second one costs more.
const SERIAL_MULTIPLY_ADDS: usize = 48 * 48 * 256;

/// In what precision products are computed; operands and results are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// Operands rounded to bfloat16 (round to nearest even), accumulated in `f32`.
    Bf16,
}

impl Precision {
    /// `self` where the processor computes it natively, else [`Precision::F32`].
    pub fn supported(self) -> Self {
        if self == Self::Bf16 && has_bf16() { Self::Bf16 } else { Self::F32 }
    }
}

/// Whether the processor multiplies bf16 natively (AVX512_BF16).
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        allowed() == Instructions::Avx512
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// `C = A·B`, or `C += A·B` where `accumulate`. Shapes `[m, k]·[k, n] → [m, n]`.
///
/// Runs on the current rayon pool; small products run on the calling thread.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool, precision: Precision) {
    gemm_on(a, b, c, accumulate, precision, threads_for(a, b));
}

fn check_shapes(a: Mat, b: Mat, c: &MatMut) {
    assert!(
        a.cols == b.rows && c.rows == a.rows && c.cols == b.cols,
        "product of {:?} and {:?} into {:?}",
        a.shape(),
        b.shape(),
        c.shape()
    );
}

fn threads_for(a: Mat, b: Mat) -> usize {
    if a.rows * a.cols * b.cols < SERIAL_MULTIPLY_ADDS { 1 } else { rayon::current_num_threads() }
}

/// [`gemm()`] on the calling thread alone, for products that are already one task of many.
pub fn gemm_serial(a: Mat, b: Mat, c: MatMut, accumulate: bool, precision: Precision) {
    gemm_on(a, b, c, accumulate, precision, 1);
}

fn gemm_on(a: Mat, b: Mat, c: MatMut, accumulate: bool, precision: Precision, threads: usize) {
    check_shapes(a, b, &c);
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        if !accumulate {
            c.data.chunks_mut(c.row_stride).take(c.rows).for_each(|row| row[..c.cols].fill(0.0));
        }
        return;
    }
    match precision {
        Precision::F32 => gemm_f32(a, b, c, accumulate, threads),
        Precision::Bf16 => gemm_bf16(a, b, c, accumulate, threads),
    }
}

/// The longer side of `C` is cut into one part per thread, each a serial product. That beats the library's own
/// threads by about 6 % at training shapes, because parts need not wait for each other between blocks of `k`. No sum
/// is cut, so the bits are those of the whole, unless a part is a row or two (which the library computes otherwise).
#[allow(unsafe_code)]
fn gemm_f32(a: Mat, b: Mat, c: MatMut, accumulate: bool, threads: usize) {
    let (m, n) = (c.rows, c.cols);
    let by_rows = m >= n;
    let longer = if by_rows { m } else { n };
    // Parts of whole micro-tiles.
    let part = longer.div_ceil(threads).next_multiple_of(16);
    let (target, c_row) = (Target(c.data.as_mut_ptr()), c.row_stride);
    let run = |i: usize| {
        let range = (i * part).min(longer)..((i + 1) * part).min(longer);
        let (a, b) = if by_rows { (a.rows_range(range.clone()), b) } else { (a, b.columns(range.clone())) };
        let offset = if by_rows { range.start * c_row } else { range.start };
        if range.is_empty() {
            return;
        }
        // SAFETY: `Mat` and `MatMut` were checked to lie inside their slices when they were made, and the shapes
        // agree (asserted by the caller). `c` is a unique borrow, so it aliases neither operand, and the parts of
        // it that the threads write are disjoint rows or disjoint columns.
        unsafe {
            gemm::gemm(
                a.rows,
                b.cols,
                a.cols,
                target.at(offset),
                1,
                c_row as isize,
                accumulate,
                a.data.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    };
    match longer.div_ceil(part) {
        1 => run(0),
        parts => (0..parts).into_par_iter().for_each(run),
    }
}

/// Where the threads of one product write, each its own part.
#[derive(Clone, Copy)]
struct Target(*mut f32);

impl Target {
    #[allow(unsafe_code)]
    fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: offsets are those of elements of the matrix that the pointer came from.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: the pointer is only written through, by `gemm_f32`, whose threads write disjoint parts while the unique
// borrow it came from is alive.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

thread_local! {
    static BF16_OPERANDS: RefCell<[Vec<bf16>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    static BF16_WORKSPACE: RefCell<gemmkit::Workspace> = const { RefCell::new(gemmkit::Workspace::new()) };
}

/// The bf16 product on whatever instructions there are (native only where [`has_bf16`]).
fn gemm_bf16(a: Mat, b: Mat, c: MatMut, accumulate: bool, threads: usize) {
    #[cfg(target_arch = "x86_64")]
    if amx::is_available() {
        use amx::product::{Operand, gemm};
        let start = if accumulate { Start::Add } else { Start::Zero };
        return gemm(Operand::Lies(a), Operand::Lies(b), c, start, threads);
    }
    gemm_bf16_on_vectors(a, b, c, accumulate, threads);
}

#[allow(unsafe_code)]
fn gemm_bf16_on_vectors(a: Mat, b: Mat, c: MatMut, accumulate: bool, threads: usize) {
    use gemmkit::Parallelism;
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::Serial };
    // Taken, not borrowed: while rayon waits inside the product, this thread may start another one.
    let [mut a16, mut b16] = BF16_OPERANDS.take();
    let mut workspace = BF16_WORKSPACE.take();
    let (a_row, a_col) = round_to_bf16(a, &mut a16, threads);
    let (b_row, b_col) = round_to_bf16(b, &mut b16, threads);
    let beta = if accumulate { 1.0 } else { 0.0 };
    macro_rules! run {
        ($family:ty, $token:expr, $token_type:ty, $mr:literal, $nr:literal) => {
            // SAFETY: the rounded operands are dense copies with the shapes of `a` and `b`; `c` was checked
            // when its view was made. gemmkit wants a column-major result, so Cᵀ = Bᵀ·Aᵀ is computed:
            // operands swapped, strides swapped. The token's instructions were detected.
            unsafe {
                gemmkit::driver::run::<$family, $token_type, $mr, $nr>(
                    $token,
                    c.cols,
                    a.cols,
                    c.rows,
                    1.0,
                    b16.as_ptr(),
                    b_col,
                    b_row,
                    a16.as_ptr(),
                    a_col,
                    a_row,
                    beta,
                    c.data.as_mut_ptr(),
                    1,
                    c.row_stride as isize,
                    parallelism,
                    &mut workspace,
                );
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        use gemmkit::simd::Avx512Bf16;
        run!(gemmkit::kernel::Bf16DotGemmF32, Avx512Bf16, Avx512Bf16, 2, 12);
    } else if allowed() >= Instructions::Avx2
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
    {
        use gemmkit::simd::Fma;
        run!(gemmkit::kernel::MixedGemmF32<bf16>, Fma, Fma, 2, 6);
    } else {
        use gemmkit::simd::ScalarTok;
        run!(gemmkit::kernel::MixedGemmF32<bf16>, ScalarTok, ScalarTok, 4, 4);
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use gemmkit::simd::ScalarTok;
        run!(gemmkit::kernel::MixedGemmF32<bf16>, ScalarTok, ScalarTok, 4, 4);
    }
    BF16_WORKSPACE.set(workspace);
    BF16_OPERANDS.set([a16, b16]);
}

/// Copies `source` into `target` as bf16, dense in the order in which it lies in memory; returns the copy's
/// `(row stride, column stride)`.
fn round_to_bf16(source: Mat, target: &mut Vec<bf16>, threads: usize) -> (isize, isize) {
    let transposed = source.col_stride != 1;
    let m = if transposed { source.t() } else { source };
    assert!(m.col_stride == 1, "one of a product's strides must be 1");
    target.resize(m.rows * m.cols, bf16::ZERO);
    let rows_per_task = m.rows.div_ceil(threads).max(1);
    let round_rows = |first: usize, rows: &mut [bf16]| {
        vectorised!(|| {
            for (r, row) in rows.chunks_mut(m.cols).enumerate() {
                let from = &m.data[(first + r) * m.row_stride..][..m.cols];
                row.iter_mut().zip(from).for_each(|(to, &x)| *to = bf16::from_bits(bf16_bits(x)));
            }
        });
    };
    if threads > 1 && target.len() > 1 << 16 {
        let tasks = target.par_chunks_mut(rows_per_task * m.cols).enumerate();
        tasks.for_each(|(i, rows)| round_rows(i * rows_per_task, rows));
    } else {
        round_rows(0, target);
    }
    let stride = m.cols as isize;
    if transposed { (1, stride) } else { (stride, 1) }
}

/// The bf16 nearest to `x`, ties to even; NaN stays NaN. Branch-free, so that it vectorises.
#[inline(always)]
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet_nan } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::rows::fill_rows;
    use crate::reference;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn check(product: impl Fn(Mat, Mat, MatMut, bool), tolerance: f64) {
        for &(m, k, n) in &[(1, 1, 1), (3, 5, 7), (17, 64, 33), (64, 130, 96), (200, 1031, 40), (5, 0, 4)] {
            for layout in 0..4 {
                for accumulate in [false, true] {
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    let a_view = if layout & 1 == 0 { Mat::new(&a, m, k) } else { Mat::new(&a, k, m).t() };
                    let b_view = if layout & 2 == 0 { Mat::new(&b, k, n) } else { Mat::new(&b, n, k).t() };
                    let mut c = numbers(m * n, 3);
                    let expected = reference::product(a_view, b_view, accumulate.then_some(&c[..]));
                    product(a_view, b_view, MatMut::new(&mut c, m, n), accumulate);
                    for (x, y) in c.iter().zip(&expected) {
                        let scale = (k as f64).sqrt().max(1.0);
                        assert!(
                            (*x as f64 - y).abs() < tolerance * scale,
                            "{m}x{k}x{n} layout {layout}: {x} against {y}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn f32_products_match_the_reference() {
        check(|a, b, c, accumulate| gemm(a, b, c, accumulate, Precision::F32), 1e-5);
    }

    #[test]
    fn bf16_products_match_the_reference_within_rounding() {
        check(|a, b, c, accumulate| gemm(a, b, c, accumulate, Precision::Bf16), 8e-3);
        // What runs where there are no tiles. Whoever calls it has answered the empty product.
        let on_vectors = |a: Mat, b: Mat, c: MatMut, accumulate: bool| match a.cols {
            0 => gemm(a, b, c, accumulate, Precision::Bf16),
            _ => gemm_bf16_on_vectors(a, b, c, accumulate, 2),
        };
        check(on_vectors, 8e-3);
    }

    #[test]
    fn bf16_products_of_bf16_numbers_are_exact_to_f32() {
        let (m, k, n) = (33, 70, 29);
        let exact = |v: Vec<f32>| -> Vec<f32> { v.iter().map(|&x| bf16::from_f32(x).to_f32()).collect() };
        let (a, b) = (exact(numbers(m * k, 1)), exact(numbers(k * n, 2)));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        let mut c = vec![0.0; m * n];
        gemm(a, b, MatMut::new(&mut c, m, n), false, Precision::Bf16);
        for (x, y) in c.iter().zip(reference::product(a, b, None)) {
            assert!((*x as f64 - y).abs() < 1e-4, "{x} against {y}");
        }
    }

    #[test]
    fn parts_of_a_product_have_the_bits_of_the_whole() {
        for (m, k, n) in [(70, 300, 150), (200, 64, 33), (31, 500, 700), (1025, 96, 64)] {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
            let with = |threads| {
                let mut c = start.clone();
                gemm_on(a, b, MatMut::new(&mut c, m, n), true, Precision::F32, threads);
                c
            };
            let whole = with(1);
            (2..6).for_each(|threads| assert_eq!(whole, with(threads), "{m}x{k}x{n} on {threads}"));
        }
    }

    #[test]
    fn packing_before_changes_no_bit() {
        let waves = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.7).sin()).collect() };
        for (m, k, n) in [(64, 256, 1024), (3, 70, 40), (0, 5, 4), (33, 300, 65)] {
            let (a, b, start) = (waves(m * k), waves(k * n), waves(m * n));
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, n, k).t());
            for precision in [Precision::F32, Precision::Bf16] {
                let (mut once, mut packed) = (start.clone(), start.clone());
                gemm(a, b, MatMut::new(&mut once, m, n), true, precision);
                let [left, right, kept] = [(a, Packing::Left), (b, Packing::Right), (b, Packing::KeptRight)]
                    .map(|(mat, packing)| pack(mat, packing, precision));
                let (a, b) = (Factor::packed(a, Some(&left)), Factor::packed(b, Some(&right)));
                gemm_packed(a, b, MatMut::new(&mut packed, m, n), Start::Add, precision);
                assert!(once == packed, "{m}x{k}x{n} {precision:?}");
                let bias = &waves(n + 1)[1..];
                fill_rows(&mut once, bias);
                gemm(a.mat(), b.mat(), MatMut::new(&mut once, m, n), true, precision);
                // Also into some columns of a wider matrix.
                let mut wider = vec![7.0; m * (n + 2)];
                let b = Factor::packed(b.mat(), Some(&kept));
                let c = MatMut::new(&mut wider, m, n + 2).columns(1..n + 1);
                gemm_packed(a, b, c, Start::Bias(bias), precision);
                let found: Vec<f32> = wider.chunks(n + 2).flat_map(|row| row[1..=n].to_vec()).collect();
                assert!(once == found, "{m}x{k}x{n} {precision:?}, with a bias");
                assert!(wider.chunks(n + 2).all(|row| row[0] == 7.0 && row[n + 1] == 7.0));
            }
        }
    }

    #[test]
    #[should_panic(expected = "product of (4, 3)")]
    fn packed_products_check_their_shapes() {
        let (a, b, mut c) = ([0.0; 12], [0.0; 15], [0.0; 30]);
        let (a, b) = (Mat::new(&a, 4, 3), Mat::new(&b, 3, 5));
        let packed = pack(b, Packing::Right, Precision::Bf16);
        let b = Factor::packed(b, Some(&packed));
        gemm_packed(a.into(), b, MatMut::new(&mut c, 6, 5), Start::Zero, Precision::Bf16);
    }

    #[test]
    fn strided_ranges_write_only_their_columns() {
        let (a, b) = (numbers(12 * 20, 1), numbers(20 * 9, 2));
        let a = Mat::new(&a, 12, 20);
        let b = Mat::new(&b, 20, 9).columns(2..6);
        let expected = reference::product(a, b, None);
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2)] {
            let mut c = vec![7.0f32; 12 * 30];
            gemm(a, b, MatMut::new(&mut c, 12, 30).columns(10..14), false, precision);
            for (i, x) in c.iter().enumerate() {
                match i % 30 {
                    j @ 10..14 => assert!((*x as f64 - expected[i / 30 * 4 + j - 10]).abs() < tolerance),
                    _ => assert_eq!(*x, 7.0),
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        for x in [0.0f32, -0.0, 1.0, 1.003_906_2, 1.011_718_8, 3.4e38, f32::INFINITY, 1e-40, -2.7] {
            assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x}");
        }
        assert!(bf16::from_bits(bf16_bits(f32::NAN)).is_nan());
    }
}
