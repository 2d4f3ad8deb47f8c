//! The tape: a stack of what forward saved. Backward pops in the reverse order of the pushes; both sides look at
//! the same [`Needs`](crate::Needs), so they always agree on what is there.

use crate::tensor::Tensor;

/// Saved tensors, last on top.
#[derive(Debug, Default)]
pub struct Tape(Vec<Tensor>);

impl Tape {
    /// Saves `tensor`.
    pub fn push(&mut self, tensor: Tensor) {
        self.0.push(tensor);
    }

    /// The tensor saved last.
    ///
    /// # Panics
    /// If nothing is left: then forward and backward read different needs, which is a bug.
    pub fn pop(&mut self) -> Tensor {
        self.0.pop().expect("backward reads what forward saved")
    }

    /// Number of tensors on the tape.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is on the tape.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Scalars on the tape.
    pub fn scalars(&self) -> usize {
        self.0.iter().map(|tensor| tensor.data().len()).sum()
    }
}
