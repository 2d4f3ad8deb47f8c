//! Embeddings: `x = LN(word[id] + position[i] + type[t])`, then dropout. Backward scatters `δ` to looked-up rows.

use super::norm::Norm;
use super::{Context, Sinks};
use crate::probe::Activation;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// One table of rows.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its site.
    pub site: usize,
    /// Parameter index of the table `[rows, width]`.
    pub weight: usize,
}

/// What a packed batch of token sequences says, one entry per token.
#[derive(Clone, Debug, Default)]
pub struct TokenRows {
    /// Row of the word table.
    pub words: Vec<u32>,
    /// Row of the position table.
    pub positions: Vec<u32>,
    /// Row of the segment table.
    pub types: Vec<u32>,
}

/// Word, position and segment embeddings with their norm.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Words.
    pub words: Table,
    /// Positions.
    pub positions: Table,
    /// Segments (not in DistilBERT).
    pub types: Option<Table>,
    /// The norm; its dropout acts on the output, see [`Embeddings::forward`].
    pub norm: Norm,
    /// Probability of dropping an element of the output.
    pub dropout: f32,
}

impl Embeddings {
    fn tables<'a>(&'a self, rows: &'a TokenRows) -> impl Iterator<Item = (&'a Table, &'a [u32])> {
        let types = self.types.as_ref().map(|table| (table, &rows.types[..]));
        [(&self.words, &rows.words[..]), (&self.positions, &rows.positions[..])].into_iter().chain(types)
    }

    /// `[tokens, width]`.
    pub fn forward(&self, cx: Context, rows: &TokenRows, tape: &mut Tape) -> Tensor {
        let mut sum = cx.engine.tensor(rows.words.len(), self.norm.width);
        for (i, (table, ids)) in self.tables(rows).enumerate() {
            let data = cx.parameters.data(table.weight);
            cx.engine.kernels.look_up(data, self.norm.width, ids, sum.data_mut(), i == 0);
        }
        let mut x = self.norm.forward(cx, &sum, None, None, tape);
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
        x
    }

    /// `dx` `[tokens, width]`: the end of every backward that comes this far.
    pub fn backward(
        &self,
        cx: Context,
        rows: &TokenRows,
        mut dx: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) {
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, dx.data_mut());
        }
        let Some(d) = self.norm.backward(cx, dx, tape, sinks) else { return };
        for (table, ids) in self.tables(rows) {
            let needs = &cx.needs[table.site];
            if needs.observe {
                sinks.probe.see(cx.engine, table.site, Activation::Rows(ids), &d);
            }
            if !needs.dw.is_none() {
                sinks.gradients.scatter(cx.engine, table.weight, ids, &d);
            }
        }
    }
}
