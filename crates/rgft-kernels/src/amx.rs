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

pub(crate) mod product;

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use crate::Mat;
use crate::instructions::{Instructions, allowed};

/// Rows of a tile, and 32-bit words of one of its rows.
pub(crate) const TILE: usize = 16;
/// Rows of C, and columns, that four tiles of it cover: what a panel of A or B is wide.
pub(crate) const PANEL: usize = 2 * TILE;
/// Numbers along `k` in a tile.
pub(crate) const STEP: usize = 32;
/// Lines of two tiles: what one step takes of a panel.
pub(crate) const LINES: usize = 2 * TILE;
/// A row of a tile, which is a line of the cache: a load of a tile that straddles lines takes four times as long.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; TILE]);

/// Whether the processor has tiles for bf16 and the system lets this process use them.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        allowed() == Instructions::Avx512
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl")
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

/// So many lines. Grown only: whatever is in them is written over.
pub(crate) fn room(lines: &mut Vec<Line>, wanted: usize) -> &mut [Line] {
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

/// All eight tiles: 16 rows of 64 bytes.
#[allow(unsafe_code)]
pub(crate) fn configure() {
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
pub(crate) fn release() {
    // SAFETY: called only where tiles are available; nothing is kept in them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// `C[32, 32] = start + A·B` over the steps of one block, where `start` is 32 rows `start_stride` apart (0: one row for all),
/// or null for zeros. A's tiles pass by (`t1`: not to displace B's from the first-level cache).
///
/// # Safety
/// Tiles must be available and configured by this thread; `a` and `b` must be of equally many whole steps, one at least; 32
/// rows of 32 numbers, `row_stride` apart, must be writable at `c`, and such rows readable at `start` unless that is null.
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply(
    a: &[Line],
    b: &[Line],
    c: *mut f32,
    row_stride: usize,
    (start, start_stride): (*const f32, usize),
) {
    let steps = a.len() / LINES;
    debug_assert!(steps > 0 && a.len() == b.len());
    // SAFETY: every step reads two tiles of 1,024 bytes of each operand, which have `steps` of them; C by the contract.
    unsafe {
        asm!(
            "test {start}, {start}",
            "jz 2f",
            "tileloadd tmm0, [{start} + {start_stride}]",
            "tileloadd tmm1, [{start} + {start_stride} + 64]",
            "add {start}, {half}",
            "tileloadd tmm2, [{start} + {start_stride}]",
            "tileloadd tmm3, [{start} + {start_stride} + 64]",
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
            start = inout(reg) start => _,
            start_stride = in(reg) start_stride * size_of::<f32>(),
            half = in(reg) TILE * start_stride * size_of::<f32>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `C[32, 32] = A·B` where A is read in place: its rows are lines of bf16 `stride` bytes apart, at step `i` from byte
/// `offsets[i]` behind `a` on. For convolutions, whose taps see the same pixels shifted. C is dense.
///
/// # Safety
/// As for [`multiply`]; at each offset 32 rows of 64 bytes must be readable, and `b` must have as many steps as there are
/// offsets.
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply_shifted(
    a: *const Line,
    stride: usize,
    offsets: &[u32],
    b: &[Line],
    c: &mut [f32; PANEL * PANEL],
) {
    debug_assert!(!offsets.is_empty() && b.len() == offsets.len() * LINES);
    // SAFETY: by the contract; C is 32 rows of 128 bytes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {at:e}, dword ptr [{offsets}]",
            "add {at}, {a}",
            "tileloadd tmm4, [{at} + {stride}]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {at}, {below}",
            "tileloadd tmm5, [{at} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {offsets}, 4",
            "add {b}, 2048",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + 2*{row}], tmm0",
            "tilestored [{c} + 2*{row} + 64], tmm1",
            "tilestored [{c} + 2*{row} + 2048], tmm2",
            "tilestored [{c} + 2*{row} + 2112], tmm3",
            at = out(reg) _,
            a = in(reg) a,
            stride = in(reg) stride,
            below = in(reg) TILE * stride,
            offsets = inout(reg) offsets.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            row = in(reg) 64usize,
            c = in(reg) c.as_mut_ptr(),
            steps = inout(reg) offsets.len() => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// [`multiply_shifted`] for few channels: `C[64, 16] = A·B`, four tiles of A, one of B.
///
/// # Safety
/// As for [`multiply_shifted`], with 64 rows at each offset and half as many lines of `b`.
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply_shifted_narrow(
    a: *const Line,
    stride: usize,
    offsets: &[u32],
    b: &[Line],
    c: &mut [f32; PANEL * PANEL],
) {
    debug_assert!(!offsets.is_empty() && b.len() == offsets.len() * TILE);
    // SAFETY: by the contract; C is 64 rows of 64 bytes.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "mov {at:e}, dword ptr [{offsets}]",
            "add {at}, {a}",
            "tileloadd tmm4, [{at} + {stride}]",
            "tileloadd tmm6, [{b} + {row}]",
            "add {at}, {below}",
            "tileloadd tmm5, [{at} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "add {at}, {below}",
            "tileloadd tmm4, [{at} + {stride}]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "add {at}, {below}",
            "tileloadd tmm5, [{at} + {stride}]",
            "tdpbf16ps tmm2, tmm4, tmm6",
            "add {offsets}, 4",
            "add {b}, 1024",
            "tdpbf16ps tmm3, tmm5, tmm6",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {row}], tmm0",
            "tilestored [{c} + {row} + 1024], tmm1",
            "tilestored [{c} + {row} + 2048], tmm2",
            "tilestored [{c} + {row} + 3072], tmm3",
            at = out(reg) _,
            a = in(reg) a,
            stride = in(reg) stride,
            below = in(reg) TILE * stride,
            offsets = inout(reg) offsets.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            row = in(reg) 64usize,
            c = in(reg) c.as_mut_ptr(),
            steps = inout(reg) offsets.len() => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `C[32, 32] += A·B` where B is read in place: the lines of its two halves, pairs of numbers of 16 columns each, are `stride`
/// bytes apart from `b[0]` and `b[1]` on. For the weight gradients of convolutions. C is dense.
///
/// # Safety
/// As for [`multiply`]; from `b[0]` and `b[1]` on 16 lines for each step of `a` must be readable.
#[allow(unsafe_code)]
pub(crate) unsafe fn multiply_in_pairs(
    a: &[Line],
    b: [*const Line; 2],
    stride: usize,
    c: &mut [f32; PANEL * PANEL],
) {
    let steps = a.len() / LINES;
    debug_assert!(steps > 0);
    // SAFETY: by the contract; C is 32 rows of 128 bytes.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c} + 2*{row}]",
            "tileloadd tmm1, [{c} + 2*{row} + 64]",
            "tileloadd tmm2, [{c} + 2*{row} + 2048]",
            "tileloadd tmm3, [{c} + 2*{row} + 2112]",
            "2:",
            "tileloadd tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b0} + {stride}]",
            "tileloadd tmm7, [{b1} + {stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {row} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 2048",
            "add {b0}, {step}",
            "add {b1}, {step}",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + 2*{row}], tmm0",
            "tilestored [{c} + 2*{row} + 64], tmm1",
            "tilestored [{c} + 2*{row} + 2048], tmm2",
            "tilestored [{c} + 2*{row} + 2112], tmm3",
            a = inout(reg) a.as_ptr() => _,
            b0 = inout(reg) b[0] => _,
            b1 = inout(reg) b[1] => _,
            stride = in(reg) stride,
            step = in(reg) TILE * stride,
            row = in(reg) 64usize,
            c = in(reg) c.as_mut_ptr(),
            steps = inout(reg) steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// 16 bf16.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Half(pub(crate) [u16; TILE]);

/// The halves of lines.
#[allow(unsafe_code)]
pub(crate) fn halves(lines: &mut [Line]) -> &mut [Half] {
    // SAFETY: a line is two halves, plain data, and stricter aligned.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), 2 * lines.len()) }
}

/// Rows of `cols` numbers, `stride` apart, as bf16, to nearest even: each into as many halves as `to` has for it, zeros behind
/// its numbers.
pub(crate) fn round_rows(numbers: &[f32], cols: usize, stride: usize, to: &mut [Half], width: usize) {
    #[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
    #[allow(unsafe_code)]
    fn run(numbers: &[f32], cols: usize, stride: usize, to: &mut [Half], width: usize) {
        let store = |half: &mut Half, numbers: __m512| {
            // SAFETY: a half is 32 bytes, aligned to as many; both types are plain data.
            unsafe {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(numbers));
                _mm256_store_si256(half.0.as_mut_ptr().cast(), rounded);
            }
        };
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            let (whole, rest) = numbers[row * stride..][..cols].as_chunks::<TILE>();
            let (of_whole, of_rest) = to.split_at_mut(whole.len());
            for (half, numbers) in of_whole.iter_mut().zip(whole) {
                store(half, load(numbers));
            }
            for half in of_rest.iter_mut() {
                store(half, _mm512_setzero_ps());
            }
            if let (Some(half), false) = (of_rest.first_mut(), rest.is_empty()) {
                store(half, load(rest));
            }
        }
    }
    debug_assert!(is_available() && cols <= TILE * width);
    // SAFETY: whoever rounds has asked `is_available`, which detects these instructions.
    #[allow(unsafe_code)]
    unsafe {
        run(numbers, cols, stride, to, width);
    }
}

/// Lines of pairs: numbers of `even` beside those of `odd`, as tiles of B have them.
pub(crate) fn interleave(even: &[Half], odd: &[Half], to: &mut [Line]) {
    #[target_feature(enable = "avx512f,avx512bw")]
    #[allow(unsafe_code)]
    fn run(even: &[Half], odd: &[Half], to: &mut [Line]) {
        for ((even, odd), to) in even.iter().zip(odd).zip(to) {
            // SAFETY: halves and lines are plain data, aligned to their size.
            unsafe {
                let (even, odd) =
                    (_mm256_load_si256(even.0.as_ptr().cast()), _mm256_load_si256(odd.0.as_ptr().cast()));
                let pairs = interleaved(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(even), odd));
                _mm512_store_si512(to.0.as_mut_ptr().cast(), pairs);
            }
        }
    }
    debug_assert!(is_available() && even.len() == to.len() && odd.len() == to.len());
    // SAFETY: whoever interleaves has asked `is_available`, which detects these instructions.
    #[allow(unsafe_code)]
    unsafe {
        run(even, odd, to);
    }
}

/// A tile of B, whose lines are `stride` lines apart, as one of A, or the other way round.
pub(crate) fn transpose_tile(lines: &[Line], stride: usize, tile: &mut [Line]) {
    #[target_feature(enable = "avx512f")]
    #[allow(unsafe_code)]
    fn run(lines: &[Line], stride: usize, tile: &mut [Line]) {
        let mut rows = [_mm512_setzero_si512(); TILE];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: a line is 64 bytes, aligned to as many.
            *row = unsafe { _mm512_load_si512(lines[i * stride].0.as_ptr().cast()) };
        }
        transpose(&mut rows);
        for (to, from) in tile.iter_mut().zip(rows) {
            // SAFETY: as above.
            unsafe { _mm512_store_si512(to.0.as_mut_ptr().cast(), from) };
        }
    }
    debug_assert!(is_available());
    // SAFETY: whoever transposes has asked `is_available`, which detects these instructions.
    #[allow(unsafe_code)]
    unsafe {
        run(lines, stride, tile);
    }
}

/// Which operand a panel is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// One tile of `source`, `[rows of A or columns of B, k]`: from row `first` and number `k` on. Beyond the edges there are
/// zeros.
pub(crate) fn pack_tile(source: Mat, first: usize, k: usize, side: Side, tile: &mut [Line]) {
    debug_assert!(is_available());
    // SAFETY: whoever packs has asked `is_available`, which detects these instructions.
    #[allow(unsafe_code)]
    unsafe {
        pack(source, first, k, side, tile);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn pack(source: Mat, first: usize, k: usize, side: Side, tile: &mut [Line]) {
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
