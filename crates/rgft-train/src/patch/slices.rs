//! Differences of tensors, and the rows or columns in which they are not zero.

use std::ops::Range;

use safetensors::tensor::Dtype;

use super::PatchError;
use super::pieces::Piece;

/// Scalars of the largest tensor that is told as a difference.
const MOST_SCALARS: usize = 1 << 32;

/// Bytes of a run in the list of runs.
const RUN: usize = 8;

/// A tensor as a matrix.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// First dimension.
    pub(crate) rows: usize,
    /// Product of the others.
    pub(crate) cols: usize,
    /// Bytes of a scalar.
    pub(crate) unit: usize,
}

impl Size {
    /// Of a tensor; nothing where its scalars are not whole bytes, or too many.
    pub(crate) fn of(shape: &[usize], dtype: Dtype) -> Option<Self> {
        let scalars = shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side))?;
        let rows = shape.first().copied().unwrap_or(1);
        let cols = shape.iter().skip(1).try_fold(1usize, |n, side| n.checked_mul(*side))?;
        let sides = u32::try_from(rows).is_ok() && u32::try_from(cols).is_ok();
        let unit = match dtype.bitsize() {
            8 => 1,
            16 => 2,
            32 => 4,
            64 => 8,
            _ => return None,
        };
        (sides && scalars <= MOST_SCALARS).then_some(Self { rows, cols, unit })
    }

    /// Bytes of a row.
    fn row(self) -> usize {
        self.cols * self.unit
    }

    /// Bytes of all.
    pub(crate) fn bytes(self) -> usize {
        self.rows * self.row()
    }

    /// Rows or columns that it has.
    pub(crate) fn along(self, axis: Axis) -> usize {
        match axis {
            Axis::Rows => self.rows,
            Axis::Columns => self.cols,
        }
    }

    /// The unsigned integers that bits of its scalars are stored as.
    pub(crate) fn bits(self) -> Dtype {
        match self.unit {
            1 => Dtype::U8,
            2 => Dtype::U16,
            4 => Dtype::U32,
            _ => Dtype::U64,
        }
    }
}

/// Which dimension slices are cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Columns,
}

impl Axis {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Columns => "columns",
        }
    }
}

/// Rows or columns: ascending runs that do not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) axis: Axis,
    pub(crate) runs: Vec<Range<usize>>,
}

impl Selection {
    /// Where `bits` are not zero, in the way that takes the fewest bytes; nothing where they are zero everywhere.
    pub(crate) fn of(bits: &[u8], size: Size) -> Option<Self> {
        if bits.is_empty() {
            return None;
        }
        let (mut rows, mut columns) = (vec![false; size.rows], vec![false; size.cols]);
        for (row, bits) in rows.iter_mut().zip(bits.chunks_exact(size.row())) {
            *row = !is_zero(bits);
            if *row {
                for (column, scalar) in columns.iter_mut().zip(bits.chunks_exact(size.unit)) {
                    *column |= !is_zero(scalar);
                }
            }
        }
        let rows = Self { axis: Axis::Rows, runs: runs(&rows, size.row()) };
        let columns = Self { axis: Axis::Columns, runs: runs(&columns, size.rows * size.unit) };
        let bytes = |selection: &Self| {
            let [a, b] = selection.shape(size);
            a * b * size.unit + selection.runs.len() * RUN
        };
        let smaller = if bytes(&rows) <= bytes(&columns) { rows } else { columns };
        (!smaller.runs.is_empty()).then_some(smaller)
    }

    /// Rows or columns selected.
    pub(crate) fn count(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// The shape of the selected part.
    pub(crate) fn shape(&self, size: Size) -> [usize; 2] {
        match self.axis {
            Axis::Rows => [self.count(), size.cols],
            Axis::Columns => [size.rows, self.count()],
        }
    }

    /// Where the selected part stands in a tensor, in order: ranges of bytes.
    fn places(&self, size: Size) -> impl Iterator<Item = Range<usize>> {
        let (bands, width) = match self.axis {
            Axis::Rows => (1, size.row()),
            Axis::Columns => (size.rows, size.unit),
        };
        (0..bands).flat_map(move |band| {
            let begin = band * size.row();
            self.runs.iter().map(move |run| begin + run.start * width..begin + run.end * width)
        })
    }

    /// Takes the stored bits of the selected part into a tensor.
    pub(crate) fn xor(&self, tensor: &mut [u8], mut stored: &[u8], size: Size) {
        for place in self.places(size) {
            let (own, others) = stored.split_at(place.len());
            xor(&mut tensor[place], own);
            stored = others;
        }
    }

    /// The selected part of what `bits` makes, as `bits:NAME`, and the runs of the selection.
    pub(crate) fn pieces<'a>(
        self,
        name: &str,
        size: Size,
        bits: impl Fn() -> Result<Vec<u8>, PatchError> + 'a,
    ) -> [Piece<'a>; 2] {
        let runs = self.runs.iter().flat_map(|run| [run.start as u32, run.end as u32]);
        let runs: Vec<u8> = runs.flat_map(u32::to_le_bytes).collect();
        let list = format!("{}:{name}", self.axis.name());
        let runs = Piece::of_bytes(list, Dtype::U32, vec![self.runs.len(), 2], runs);
        let (name, dtype, shape) = (format!("bits:{name}"), size.bits(), self.shape(size).to_vec());
        let source = Box::new(move || {
            let whole = bits()?;
            let mut selected = Vec::new();
            self.places(size).for_each(|place| selected.extend_from_slice(&whole[place]));
            Ok(selected)
        });
        [Piece { name, dtype, shape, source }, runs]
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The runs of what is marked; those whose gap takes no more bytes than another run are joined.
pub(crate) fn runs(marked: &[bool], slice_bytes: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in (0..marked.len()).filter(|at| marked[*at]) {
        match runs.last_mut() {
            Some(last) if (at - last.end).saturating_mul(slice_bytes) <= RUN => last.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// `a ⊕ b`, in `a`.
pub(crate) fn xor(a: &mut [u8], b: &[u8]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
}
