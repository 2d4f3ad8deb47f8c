//! bf16 products on the tile registers of AMX (x86-64, Linux): an instruction multiplies a tile of 16 rows with one of 16
//! columns over 32 steps of `k`, 16,384 FLOPs, accumulating in f32.
//!
//! ```text
//! C[32, 32] += Σ_k  A[32, k..k+32] · B[k..k+32, 32]        two tiles of A, two of B, four of C
//! ```
//!
//! Both operands are rounded and packed into tiles first: of A a tile holds 16 rows of 32 numbers, of B 16 pairs of rows,
//! the pairs of 16 columns side by side (Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter 20). In
//! 32-bit words, each a pair of bf16 neighbours in `k`, A's tile is `[row, pair]` and B's `[pair, column]`: one is the other
//! transposed, so an operand that lies the other way round in memory is transposed in registers.
//!
//! The compiler has no stable intrinsics for tiles, hence the assembler here; no other room may contain any.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::{Mat, MatMut};

/// Rows of a tile, and 32-bit words of one of its rows.
const TILE: usize = 16;
/// Rows of C, and columns, that four tiles of it cover: what a panel of A or B is wide.
const PANEL: usize = 2 * TILE;
/// Numbers along `k` in a tile.
const STEP: usize = 32;
/// Lines of two tiles: what one step takes of a panel.
const LINES: usize = 2 * TILE;
/// Steps in a block of `k`: a panel of B, 32 KiB, stays in the first-level cache while those of A pass by.
const BLOCK_STEPS: usize = 16;
/// Panels in a task. Those of A, with a block of `k` 256 KiB, stay in the second-level cache; and what is packed together is
/// read a kilobyte at a time where `k` is the row.
const TASK_PANELS: usize = 8;

/// A row of a tile, which is a line of the cache: a load of a tile that straddles lines takes four times as long.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; TILE]);

/// Whether the processor has tiles for bf16 and the system lets this process use them.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512bf16")
            && has_tiles()
            && may_use_tiles()
    })
}

/// CPUID leaf 7: bit 22 of EDX is AMX-BF16, bit 24 AMX-TILE.
fn has_tiles() -> bool {
    let tiles = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & tiles == tiles
}

/// Linux saves tiles at a context switch only for processes that have asked for it (`arch_prctl(2)`): all threads may use
/// them from then on.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let status: isize;
    // SAFETY: the call takes two integers and touches no memory of ours; the kernel clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => status,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

thread_local! {
    static PACKED: RefCell<[Vec<Line>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// `C = A·B` or `C += A·B`, operands rounded to bf16 (to nearest even, subnormal numbers to 0).
///
/// The bits do not depend on the number of threads. They do on whether an element lies in a whole panel or at the edge.
///
/// To be called only where tiles are available, which [`is_available`] has asked for, and with `k > 0`.
pub(crate) fn gemm(a: Mat, b: Mat, c: MatMut, accumulate: bool, threads: usize) {
    let (m, n, k) = (c.rows, c.cols, a.cols);
    debug_assert!(is_available() && k > 0);
    let (rows, columns, steps) = (m.div_ceil(PANEL), n.div_ceil(PANEL), k.div_ceil(STEP));
    // Taken, not borrowed: while rayon waits inside the product, this thread may start another one.
    let [mut of_a, mut of_b] = PACKED.take();
    let (lines_of_a, lines_of_b) = (room(&mut of_a, rows * steps), room(&mut of_b, columns * steps));
    // Panels that are packed together.
    let together = |panels: usize| TASK_PANELS.min(panels.div_ceil(threads));
    let (group_a, group_b) = (together(rows), together(columns));
    let pack_a = |(i, lines): (usize, &mut [Line])| pack(a, i * group_a, Side::Left, lines);
    let pack_b = |(i, lines): (usize, &mut [Line])| pack(b.t(), i * group_b, Side::Right, lines);
    let (chunk_a, chunk_b) = (group_a * steps * LINES, group_b * steps * LINES);
    let target = Target { data: c.data.as_mut_ptr(), row_stride: c.row_stride, rows: m, cols: n };
    // Rows of C in tasks of whole blocks; columns too, where that makes too few for the threads.
    let down = rows.div_ceil(TASK_PANELS);
    let across = if threads > 1 { (2 * threads).div_ceil(down).min(columns) } else { 1 };
    let wide = columns.div_ceil(across);
    let task = |i: usize, of_a: &[Line], of_b: &[Line]| {
        let (first, left) = (i / across * TASK_PANELS, i % across * wide);
        let rows = first..rows.min(first + TASK_PANELS);
        let columns = left.min(columns)..columns.min(left + wide);
        multiply_panels(target, rows, columns, [of_a, of_b], steps, accumulate);
    };
    if threads > 1 {
        lines_of_b.par_chunks_mut(chunk_b).enumerate().for_each(pack_b);
        lines_of_a.par_chunks_mut(chunk_a).enumerate().for_each(pack_a);
        let (lines_of_a, lines_of_b) = (&*lines_of_a, &*lines_of_b);
        (0..down * across).into_par_iter().for_each(|i| task(i, lines_of_a, lines_of_b));
    } else {
        lines_of_b.chunks_mut(chunk_b).enumerate().for_each(pack_b);
        lines_of_a.chunks_mut(chunk_a).enumerate().for_each(pack_a);
        (0..down).for_each(|i| task(i, lines_of_a, lines_of_b));
    }
    PACKED.set([of_a, of_b]);
}

/// Lines for so many steps of panels. Grown only: whatever is in them is packed over.
fn room(lines: &mut Vec<Line>, steps: usize) -> &mut [Line] {
    let wanted = steps * LINES;
    if lines.len() < wanted {
        lines.resize(wanted, Line([0; TILE]));
    }
    &mut lines[..wanted]
}

/// Multiply-adds that never leave the registers, for the machine's peak: FLOPs of `rounds` rounds.
#[allow(unsafe_code)]
pub(crate) fn flops_in_registers(rounds: usize) -> f64 {
    configure();
    for _ in 0..rounds {
        // SAFETY: called only where tiles are available; they were configured.
        unsafe {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem),
            );
        }
    }
    release();
    (rounds * 4 * TILE * TILE * STEP * 2) as f64
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    data: *mut f32,
    row_stride: usize,
    rows: usize,
    cols: usize,
}

// SAFETY: the pointer is only written through, by tasks that write disjoint parts while the unique borrow that it came from
// is alive.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

/// A part of C: some panels of A with some of B.
#[allow(unsafe_code)]
fn multiply_panels(
    target: Target,
    rows: Range<usize>,
    columns: Range<usize>,
    [of_a, of_b]: [&[Line]; 2],
    steps: usize,
    accumulate: bool,
) {
    let size = steps * LINES;
    let mut edge = [0f32; PANEL * PANEL];
    configure();
    for first in (0..steps).step_by(BLOCK_STEPS) {
        let block = BLOCK_STEPS.min(steps - first);
        let adds = accumulate || first > 0;
        for column in columns.clone() {
            let b = &of_b[column * size + first * LINES..][..block * LINES];
            for row in rows.clone() {
                let a = &of_a[row * size + first * LINES..][..block * LINES];
                let (top, left) = (row * PANEL, column * PANEL);
                let (height, width) = (PANEL.min(target.rows - top), PANEL.min(target.cols - left));
                // SAFETY: the element at (top, left) is one of C.
                let c = unsafe { target.data.add(top * target.row_stride + left) };
                if (height, width) == (PANEL, PANEL) {
                    // SAFETY: tiles are available and configured; 32 rows and columns of C lie there, and nobody else
                    // writes them.
                    unsafe { multiply(a, b, c, target.row_stride, adds) };
                    continue;
                }
                // SAFETY: as above, into a whole square of our own.
                unsafe { multiply(a, b, edge.as_mut_ptr(), PANEL, false) };
                for (r, row) in edge.chunks(PANEL).take(height).enumerate() {
                    // SAFETY: row `top + r` of C has `width` elements from `left` on, and nobody else writes them.
                    let own = unsafe { std::slice::from_raw_parts_mut(c.add(r * target.row_stride), width) };
                    own.iter_mut().zip(row).for_each(|(c, x)| *c = if adds { *c + x } else { *x });
                }
            }
        }
    }
    release();
}

/// All eight tiles: 16 rows of 64 bytes.
#[allow(unsafe_code)]
fn configure() {
    #[repr(C, align(64))]
    struct Shape([u8; 64]);
    let mut shape = Shape([0; 64]);
    // Palette 1; bytes of a row from 16 on, two bytes each; rows from 48 on.
    shape.0[0] = 1;
    (0..8).for_each(|tile| (shape.0[16 + 2 * tile], shape.0[48 + tile]) = (64, TILE as u8));
    // SAFETY: called only where tiles are available; the operand is 64 bytes of palette 1.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &shape, options(nostack, readonly)) };
}

/// Tiles in use would make every context switch dearer.
#[allow(unsafe_code)]
fn release() {
    // SAFETY: called only where tiles are available; nothing is kept in them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// `C[32, 32] = A·B`, or `+=`, over the steps of one block. A's tiles pass by (`t1`: not to displace B's from the first-level
/// cache).
///
/// # Safety
/// Tiles must be available and configured by this thread; `a` and `b` must be of equally many whole steps, one at least; 32
/// rows of 32 numbers, `row_stride` apart, must be writable at `c`.
#[allow(unsafe_code)]
unsafe fn multiply(a: &[Line], b: &[Line], c: *mut f32, row_stride: usize, adds: bool) {
    let steps = a.len() / LINES;
    debug_assert!(steps > 0 && a.len() == b.len());
    // SAFETY: every step reads two tiles of 1,024 bytes of each operand, which have `steps` of them; C by the contract.
    unsafe {
        asm!(
            "test {adds}, {adds}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {stride}]",
            "tileloadd tmm1, [{c} + {stride} + 64]",
            "tileloadd tmm2, [{below} + {stride}]",
            "tileloadd tmm3, [{below} + {stride} + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloaddt1 tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloaddt1 tmm5, [{a} + {row} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{below} + {stride}], tmm2",
            "tilestored [{below} + {stride} + 64], tmm3",
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            c = in(reg) c,
            below = in(reg) c.add(TILE * row_stride),
            stride = in(reg) row_stride * size_of::<f32>(),
            row = in(reg) 64usize,
            steps = inout(reg) steps => _,
            adds = in(reg) usize::from(adds),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Which operand a panel is of.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// Packs panels of `source`, `[rows of A or columns of B, k]`, from panel `first` on: for each step two tiles. Beyond the
/// edges there are zeros.
fn pack(source: Mat, first: usize, side: Side, lines: &mut [Line]) {
    let steps = source.cols.div_ceil(STEP);
    let (panels, along_k) = (lines.len() / (steps * LINES), source.col_stride == 1);
    // In the order in which the numbers lie in memory.
    for i in 0..panels * steps {
        let (panel, step) = if along_k { (i / steps, i % steps) } else { (i % panels, i / panels) };
        let tiles = lines[(panel * steps + step) * LINES..][..LINES].chunks_mut(TILE);
        for (half, tile) in tiles.enumerate() {
            let line = (first + panel) * PANEL + half * TILE;
            // SAFETY: `is_available` has detected AVX-512 with bf16.
            #[allow(unsafe_code)]
            unsafe {
                pack_tile(source, line, step * STEP, side, tile);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn pack_tile(source: Mat, first: usize, k: usize, side: Side, tile: &mut [Line]) {
    let lines = TILE.min(source.rows.saturating_sub(first));
    let numbers = STEP.min(source.cols - k);
    let mut pairs = [_mm512_setzero_si512(); TILE];
    let along_k = source.col_stride == 1;
    if along_k {
        // [line, pair]
        for (line, pairs) in pairs.iter_mut().enumerate().take(lines) {
            let from = &source.data[(first + line) * source.row_stride + k..][..numbers];
            let low = load(&from[..numbers.min(16)]);
            let high = load(&from[numbers.min(16)..]);
            *pairs = rounded(high, low);
        }
    } else {
        assert!(source.row_stride == 1, "one of a product's strides must be 1");
        // [pair, line]
        for (pair, pairs) in pairs.iter_mut().enumerate().take(numbers.div_ceil(2)) {
            let at = |k: usize| match k < source.cols && lines > 0 {
                true => load(&source.data[k * source.col_stride + first..][..lines]),
                false => _mm512_setzero_ps(),
            };
            let even = k + 2 * pair;
            *pairs = interleaved(rounded(at(even + 1), at(even)));
        }
    }
    if along_k != (side == Side::Left) {
        transpose(&mut pairs);
    }
    for (to, from) in tile.iter_mut().zip(pairs) {
        // SAFETY: a line is 64 bytes, aligned to as many.
        unsafe { _mm512_store_si512(to.0.as_mut_ptr().cast(), from) };
    }
}

/// Up to 16 numbers, and zeros.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
fn load(numbers: &[f32]) -> __m512 {
    let mask = ((1u32 << numbers.len().min(16)) - 1) as u16;
    // SAFETY: what the mask leaves out is not read.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

/// 32 bf16: those of `low`, then those of `high`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn rounded(high: __m512, low: __m512) -> __m512i {
    // SAFETY: both are 64 bytes of plain data.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Number `i` of the lower half beside number `i` of the upper half.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved(halves: __m512i) -> __m512i {
    let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves));
    let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(halves));
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

/// 16 × 16 words: first within 4 × 4 of each lane, then lanes.
#[target_feature(enable = "avx512f")]
fn transpose(rows: &mut [__m512i; TILE]) {
    for four in rows.as_chunks_mut::<4>().0 {
        let [a, b, c, d] = *four;
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        *four = [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    // Now rows[4·g + j] holds in lane l the words of column 4·l + j from rows 4·g … 4·g + 3.
    let old = *rows;
    for j in 0..4 {
        let (a, b, c, d) = (old[j], old[4 + j], old[8 + j], old[12 + j]);
        let (ab, cd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let (ab_odd, cd_odd) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        rows[j] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        rows[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        rows[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        rows[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn every_layout_edge_and_number_of_threads_gives_the_product() {
        if !is_available() {
            eprintln!("skipped: no tiles for bf16 here");
            return;
        }
        // Small integers are exact in bf16, and their sums in f32.
        let numbers = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 31 + seed) % 13) as f32 - 6.0).collect()
        };
        for (m, k, n) in
            [(1, 1, 1), (32, 32, 32), (33, 31, 65), (16, 513, 17), (300, 70, 130), (5, 1100, 400)]
        {
            // Each in a matrix with three columns more.
            let (a, b) = (numbers((m + 3) * (k + 3), 1), numbers((k + 3) * (n + 3), 2));
            let (c_stride, start) = (n + 3, numbers(m * (n + 3), 3));
            for layout in 0..4 {
                let of = |data, rows, cols| Mat::strided(data, rows, cols, cols + 3);
                let a = if layout & 1 == 0 { of(&a, m, k) } else { of(&a, k, m).t() };
                let b = if layout & 2 == 0 { of(&b, k, n) } else { of(&b, n, k).t() };
                for (threads, accumulate) in [(1, false), (1, true), (2, true), (5, false), (16, true)] {
                    let mut c = start.clone();
                    gemm(a, b, MatMut::strided(&mut c[1..], m, n, c_stride), accumulate, threads);
                    let own: Vec<f32> =
                        start[1..].chunks(c_stride).flat_map(|row| &row[..n]).copied().collect();
                    let product = reference::product(a, b, accumulate.then_some(&own[..]));
                    let mut expected = start.clone();
                    for (row, product) in expected[1..].chunks_mut(c_stride).zip(product.chunks(n)) {
                        row.iter_mut().zip(product).for_each(|(c, x)| *c = *x as f32);
                    }
                    assert!(c == expected, "{m}x{k}x{n}, layout {layout}, {threads} threads, {accumulate}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit_also_inside_of_other_tasks() {
        if !is_available() {
            eprintln!("skipped: no tiles for bf16 here");
            return;
        }
        let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.7).sin()).collect() };
        let (m, k, n) = (290, 700, 333);
        let (a, b) = (numbers(m * k), numbers(k * n));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        let with = |threads| {
            let mut c = vec![0.0; m * n];
            gemm(a, b, MatMut::new(&mut c, m, n), false, threads);
            c
        };
        let one = with(1);
        (1..9usize).into_par_iter().for_each(|threads| assert!(with(threads) == one, "{threads} threads"));
    }
}
