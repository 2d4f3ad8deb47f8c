//! Register tiles: `P × V` accumulators of `V` vectors each, fed by one broadcast operand and one packed one.
//!
//! `acc[p][·] += Σ_k a[p, k]·b[k, ·]` with `b` `[k, tile]` packed, `tile = V · lanes` channels. The broadcast operand is
//! read where it lies in the padded map, so no patch is ever copied. Two orders of `a` are enough: its sum runs along
//! memory (forward and dX: channels of a patch) or across it (dW: pixels).

use pulp::Simd;
use pulp::bytemuck;

/// How large tiles are on this processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileShape {
    /// Channels of a tile: the packed operand's width.
    pub(super) channels: usize,
    /// The most pixels of a tile.
    pub(super) pixels: usize,
    /// Vectors of a tile's row.
    pub(super) vectors: usize,
}

impl TileShape {
    /// The tile for `channels` output channels: all accumulators, a row of the packed operand and one broadcast fit
    /// the vector registers.
    pub(super) fn of(channels: usize) -> Self {
        struct Lanes;
        impl pulp::WithSimd for Lanes {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        let lanes = super::super::ARCH.dispatch(Lanes);
        let (pixels, vectors) = match lanes {
            16 => (12, if channels > 16 { 2 } else { 1 }),
            8 => (6, 2),
            4 => (6, 4),
            _ => (3, 4),
        };
        Self { channels: vectors * lanes, pixels, vectors }
    }

    /// One tile of all channels, for a library's product.
    pub(super) fn whole(channels: usize) -> Self {
        Self { channels, pixels: 1, vectors: 1 }
    }

    /// How many tiles `channels` channels take.
    pub(super) fn count(self, channels: usize) -> usize {
        channels.div_ceil(self.channels)
    }
}

/// `n` cut as evenly as possible into parts of at most `most`: `(start, length)`.
#[inline(always)]
pub(super) fn even_parts(n: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = n.div_ceil(most);
    (0..parts).map(move |i| {
        let (start, end) = (i * n / parts, (i + 1) * n / parts);
        (start, end - start)
    })
}

/// A row of accumulators.
pub(super) type Row<S, const V: usize> = [<S as Simd>::f32s; V];

/// Zeros.
#[inline(always)]
pub(super) fn zeros<S: Simd, const P: usize, const V: usize>(simd: S) -> [Row<S, V>; P] {
    [[simd.splat_f32s(0.0); V]; P]
}

/// `V` vectors from the start of `x`.
#[inline(always)]
pub(super) fn load<S: Simd, const V: usize>(x: &[f32]) -> Row<S, V> {
    let x = &x[..V * S::F32_LANES];
    std::array::from_fn(|v| {
        let lanes = &x[v * S::F32_LANES..][..S::F32_LANES];
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(lanes))
    })
}

/// `row` to the start of `x`.
#[inline(always)]
pub(super) fn store<S: Simd, const V: usize>(x: &mut [f32], row: &Row<S, V>) {
    let x = &mut x[..V * S::F32_LANES];
    for (x, lanes) in x.chunks_exact_mut(S::F32_LANES).zip(row) {
        x.copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(lanes)));
    }
}

/// `x += row` over `x`, which may be shorter than the row; `x = row` unless `add`.
#[inline(always)]
pub(super) fn finish<S: Simd, const V: usize>(simd: S, x: &mut [f32], row: Row<S, V>, add: bool) {
    let full = V * S::F32_LANES;
    if x.len() == full {
        let mut row = row;
        if add {
            let old: Row<S, V> = load::<S, V>(x);
            row = std::array::from_fn(|v| simd.add_f32s(old[v], row[v]));
        }
        store::<S, V>(x, &row);
    } else {
        let lanes = row.iter().flat_map(|lanes| bytemuck::cast_slice::<_, f32>(std::slice::from_ref(lanes)));
        x.iter_mut().zip(lanes).for_each(|(x, y)| *x = if add { *x + y } else { *y });
    }
}

/// Sums along memory: `a[p, k] = a[p·step + k]`, `k < b.len() / tile`.
#[inline(always)]
pub(super) fn along<S: Simd, const P: usize, const V: usize>(
    simd: S,
    acc: &mut [Row<S, V>; P],
    a: &[f32],
    step: usize,
    b: &[f32],
) {
    let tile = V * S::F32_LANES;
    let n = b.len() / tile;
    let rows: [&[f32]; P] = std::array::from_fn(|p| &a[p * step..][..n]);
    for (k, b) in b.chunks_exact(tile).enumerate().take(n) {
        let b = load::<S, V>(b);
        for p in 0..P {
            let a = simd.splat_f32s(rows[p][k]);
            for v in 0..V {
                acc[p][v] = simd.mul_add_e_f32s(a, b[v], acc[p][v]);
            }
        }
    }
}

/// Sums across memory: `a[p, k] = a[k·step + p]`, `k < b.len() / tile`.
#[inline(always)]
pub(super) fn across<S: Simd, const P: usize, const V: usize>(
    simd: S,
    acc: &mut [Row<S, V>; P],
    a: &[f32],
    step: usize,
    b: &[f32],
) {
    let tile = V * S::F32_LANES;
    for (k, b) in b.chunks_exact(tile).enumerate() {
        let b = load::<S, V>(b);
        let a = &a[k * step..][..P];
        for p in 0..P {
            let a = simd.splat_f32s(a[p]);
            for v in 0..V {
                acc[p][v] = simd.mul_add_e_f32s(a, b[v], acc[p][v]);
            }
        }
    }
}

/// Calls `$call::<S, P, V>(…)` with `P` the constant that `$p` is, as far as [`TileShape::of`] goes.
macro_rules! with_pixels {
    (@ $p:expr, $call:ident::<$s:ty, _, $v:ident> $args:tt, $last:literal: $($n:literal)*) => {
        match $p {
            $($n => $call::<$s, $n, $v> $args,)*
            _ => $call::<$s, $last, $v> $args,
        }
    };
    ($p:expr, $call:ident::<$s:ty, _, $v:ident> $args:tt) => {
        match <$s>::F32_LANES {
            16 => with_pixels!(@ $p, $call::<$s, _, $v> $args, 12: 1 2 3 4 5 6 7 8 9 10 11),
            _ => with_pixels!(@ $p, $call::<$s, _, $v> $args, 6: 1 2 3 4 5),
        }
    };
}
pub(super) use with_pixels;
