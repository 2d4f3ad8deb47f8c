//! Which rows at a site belong to which example of a batch.
//!
//! Rows of one example lie together, example after example, except in recurrent layers, which say in which order they
//! show them (`Engine::row_order`). How many they are follows from how many there are: a multiple of the rows that
//! entered the model (tokens; the heads of tokens), or equally many per example (one after pooling, pixels, patches).

use std::ops::Range;

use rgft_core::{Extent, Inputs};
use rgft_nn::{Engine, Tensor};

/// Rows of each example where inputs enter; 1 where they are maps.
pub(super) struct RowsOfExamples(Vec<usize>);

impl RowsOfExamples {
    pub(super) fn new(inputs: &Inputs) -> Self {
        match inputs.extent() {
            Extent::Sequences(lengths) => Self(lengths),
            Extent::Maps { examples, .. } => Self(vec![1; examples]),
        }
    }

    pub(super) fn examples(&self) -> usize {
        self.0.len()
    }

    /// Of each example, its rows among `rows` packed ones.
    pub(super) fn among(&self, rows: usize) -> Vec<Range<usize>> {
        let (entered, examples) = (self.0.iter().sum::<usize>().max(1), self.examples().max(1));
        debug_assert!(rows.is_multiple_of(entered) || rows.is_multiple_of(examples), "{rows} rows");
        let mut end = 0;
        let rows_of = |&length: &usize| {
            let own = if rows.is_multiple_of(entered) { length * (rows / entered) } else { rows / examples };
            end += own;
            end - own..end
        };
        self.0.iter().map(rows_of).collect()
    }
}

/// `x` with its rows packed example after example; `None` where they are so already.
pub(super) fn packed(engine: &Engine, x: &Tensor) -> Option<Tensor> {
    let order = engine.row_order()?;
    let mut place = vec![0; order.len()];
    order.iter().zip(0..).for_each(|(&row, shown)| place[row as usize] = shown);
    let mut out = engine.tensor(x.rows(), x.cols());
    engine.kernels.gather_rows(x.data(), x.cols(), 0..x.cols(), &place, out.data_mut());
    Some(out)
}

#[cfg(test)]
mod tests {
    use rgft_core::Tokens;

    use super::*;

    #[test]
    fn rows_of_tokens_of_their_heads_and_of_pooled_texts() {
        let tokens = Tokens { lengths: vec![2, 1, 3], ..Tokens::default() };
        let rows = RowsOfExamples::new(&Inputs::Tokens(tokens));
        assert_eq!(rows.among(6), [0..2, 2..3, 3..6]);
        assert_eq!(rows.among(12), [0..4, 4..6, 6..12]);
        assert_eq!(rows.among(3), [0..1, 1..2, 2..3]);
    }
}
