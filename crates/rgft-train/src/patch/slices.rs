//! Differences of tensors, and the rows or columns in which they are not zero.

use std::ops::Range;

use safetensors::tensor::Dtype;

use super::PatchError;
use super::pieces::{CHUNK, Piece, Sink, Source};
use super::tensor_files::Tensor;

/// Scalars of the largest tensor that is told as a difference.
const MOST_SCALARS: usize = 1 << 32;

/// Bytes of a run in the list of runs.
const RUN: usize = 8;

/// A tensor as a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub(crate) fn row(self) -> usize {
        self.cols * self.unit
    }

    /// Rows that are handled together, one range after another.
    pub(crate) fn chunks(self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let step = (CHUNK / self.row().max(1)).max(1);
        let end = rows.end;
        rows.step_by(step).map(move |begin| begin..end.min(begin + step))
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

/// The exclusive or of two tensors of one size.
pub(crate) trait Difference {
    fn size(&self) -> Size;

    /// Rows `rows` of it.
    fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>, PatchError>;
}

/// Rows or columns: ascending runs that do not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) axis: Axis,
    pub(crate) runs: Vec<Range<usize>>,
}

impl Selection {
    /// Where `difference` is not zero, in the way that takes the fewest bytes; nothing where it is zero everywhere.
    pub(crate) fn of(difference: &dyn Difference) -> Result<Option<Self>, PatchError> {
        let size = difference.size();
        if size.rows == 0 || size.cols == 0 {
            return Ok(None);
        }
        let (mut rows, mut columns) = (vec![false; size.rows], vec![false; size.cols]);
        for chunk in size.chunks(0..size.rows) {
            let bits = difference.rows(chunk.clone())?;
            for (row, bits) in chunk.zip(bits.chunks_exact(size.row())) {
                if !is_zero(bits) {
                    rows[row] = true;
                    for (column, scalar) in columns.iter_mut().zip(bits.chunks_exact(size.unit)) {
                        *column |= !is_zero(scalar);
                    }
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
        Ok((!smaller.runs.is_empty()).then_some(smaller))
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

    /// The selected part of `difference`, as `bits:NAME`, and the runs of the selection.
    pub(crate) fn pieces<'a>(self, name: &str, difference: impl Difference + 'a) -> [Piece<'a>; 2] {
        let (size, axis) = (difference.size(), self.axis);
        let runs = self.runs.iter().flat_map(|run| [run.start as u32, run.end as u32]);
        let runs: Vec<u8> = runs.flat_map(u32::to_le_bytes).collect();
        let runs =
            Piece::of_bytes(format!("{}:{name}", axis.name()), Dtype::U32, vec![self.runs.len(), 2], runs);
        let shape = self.shape(size);
        let source: Source<'a> = Box::new(move |sink| self.write(&difference, sink));
        let (dtype, bytes) = (size.bits(), shape[0] * shape[1] * size.unit);
        [Piece { name: format!("bits:{name}"), dtype, shape: shape.to_vec(), bytes, source }, runs]
    }

    fn write(&self, difference: &dyn Difference, sink: &mut Sink<'_>) -> Result<(), PatchError> {
        let size = difference.size();
        match self.axis {
            Axis::Rows => {
                for chunk in self.runs.iter().flat_map(|run| size.chunks(run.clone())) {
                    sink(&difference.rows(chunk)?)?;
                }
            }
            Axis::Columns => {
                let mut gathered = Vec::new();
                for chunk in size.chunks(0..size.rows) {
                    gathered.clear();
                    for row in difference.rows(chunk)?.chunks_exact(size.row()) {
                        for run in &self.runs {
                            gathered.extend_from_slice(&row[run.start * size.unit..run.end * size.unit]);
                        }
                    }
                    sink(&gathered)?;
                }
            }
        }
        Ok(())
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

/// The size of `tensor` as a difference.
pub(crate) fn size_of(tensor: &Tensor) -> Option<Size> {
    Size::of(&tensor.shape, tensor.dtype)
}

/// `a ⊕ b`, in `a`.
pub(crate) fn xor(a: &mut [u8], b: &[u8]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
}
