//! Products whose operands were packed before, because several products share one or because one stays as it is, and what a
//! product adds to. Where a library packs for itself, nothing is packed before, and the numbers are the same.

use super::{Precision, check_shapes, gemm};
#[cfg(target_arch = "x86_64")]
use super::{amx, threads_for};
use crate::cpu::rows::fill_rows;
use crate::{Mat, MatMut};

/// What a product adds to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Nothing: `C = A·B`.
    Zero,
    /// What is there: `C += A·B`.
    Add,
    /// The same row everywhere: `C[i, ·] = bias + (A·B)[i, ·]`, `bias` `[n]`.
    Bias(&'a [f32]),
}

/// What packing an operand once saves the products that share it; nothing where the library packs for itself.
#[derive(Debug)]
pub struct Packed {
    #[cfg(target_arch = "x86_64")]
    panels: Option<amx::product::Panels>,
}

/// Which operand of a product something is packed for, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The left one, for the products to come.
    Left,
    /// The right one, for the products to come.
    Right,
    /// The right one, to be kept.
    KeptRight,
}

/// An operand of a product, and what [`pack`] made of it, if it was packed before.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    mat: Mat<'a>,
    packed: Option<&'a Packed>,
}

impl<'a> From<Mat<'a>> for Factor<'a> {
    fn from(mat: Mat<'a>) -> Self {
        Self { mat, packed: None }
    }
}

impl<'a> Factor<'a> {
    /// `mat`, with what [`pack`] made of it.
    pub fn packed(mat: Mat<'a>, packed: Option<&'a Packed>) -> Self {
        Self { mat, packed }
    }

    /// The matrix.
    pub fn mat(self) -> Mat<'a> {
        self.mat
    }

    #[cfg(target_arch = "x86_64")]
    fn operand(self) -> amx::product::Operand<'a> {
        let panels = self.packed.and_then(|packed| packed.panels.as_ref());
        panels.map_or(amx::product::Operand::Lies(self.mat), amx::product::Operand::Packed)
    }
}

/// Packs an operand for [`gemm_packed`].
pub fn pack(mat: Mat, packing: Packing, precision: Precision) -> Packed {
    #[cfg(target_arch = "x86_64")]
    {
        use amx::{Side, product::Panels};
        let threads = rayon::current_num_threads();
        let by_tiles = precision == Precision::Bf16 && amx::is_available() && mat.rows * mat.cols > 0;
        let panels = by_tiles.then(|| match packing {
            Packing::Left => Panels::new(mat, Side::Left, threads),
            Packing::Right => Panels::new(mat, Side::Right, threads),
            Packing::KeptRight => Panels::kept(mat, Side::Right, threads),
        });
        Packed { panels }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (mat, packing, precision);
        Packed {}
    }
}

/// `C = start + A·B`, bit for bit what [`gemm()`] gives when C holds the start before.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm_packed(a: Factor, b: Factor, c: MatMut, start: Start, precision: Precision) {
    check_shapes(a.mat, b.mat, &c);
    if let Start::Bias(bias) = start {
        assert!(bias.len() == c.cols, "a bias of {} for {} columns", bias.len(), c.cols);
    }
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16 && amx::is_available() && a.mat.rows * a.mat.cols * b.mat.cols > 0 {
        return amx::product::gemm(a.operand(), b.operand(), c, start, threads_for(a.mat, b.mat));
    }
    if let Start::Bias(bias) = start {
        match c.row_stride == c.cols {
            true => fill_rows(&mut c.data[..c.rows * c.cols], bias),
            false => {
                let rows = c.data.chunks_mut(c.row_stride).take(c.rows);
                rows.for_each(|row| row[..bias.len()].copy_from_slice(bias));
            }
        }
    }
    let accumulate = !matches!(start, Start::Zero);
    gemm(a.mat, b.mat, c, accumulate, precision);
}
