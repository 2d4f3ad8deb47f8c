//! Blocks of elements held in local arrays, for loops over more slices than the compiler would check for overlap.
//! Arrays cannot overlap, so each loop over one vectorises.

/// Elements of a block: so many that its loops are vectorised instead of unrolled.
pub(crate) const LANES: usize = 32;

/// One block.
pub(crate) type Lanes = [f32; LANES];

/// The block of `x` that begins at `at`; zeros beyond the end.
#[inline(always)]
pub(crate) fn load(x: &[f32], at: usize) -> Lanes {
    let mut out = [0.0; LANES];
    match x[at..].first_chunk::<LANES>() {
        Some(block) => out = *block,
        None => out[..x.len() - at].copy_from_slice(&x[at..]),
    }
    out
}

/// Writes a block to where it was loaded from.
#[inline(always)]
pub(crate) fn store(x: &mut [f32], at: usize, block: Lanes) {
    let n = x.len() - at;
    match x[at..].first_chunk_mut::<LANES>() {
        Some(target) => *target = block,
        None => x[at..].copy_from_slice(&block[..n]),
    }
}

/// A block, element by element.
#[inline(always)]
pub(crate) fn each(f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for (k, out) in out.iter_mut().enumerate() {
        *out = f(k);
    }
    out
}
