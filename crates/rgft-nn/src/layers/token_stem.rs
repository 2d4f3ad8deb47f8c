//! Token embeddings without a norm: `x = word[id] (+ position[i])`, then dropout. Backward scatters `δ` to looked-up rows.
//!
//! The table of words may be the output map's weight too (tied embeddings): then its gradient is the sum of both.

use rgft_core::{ComponentKind, Extent, Inputs, Slices};

use super::embedding::{Table, tokens};
use super::{Context, Part, Sinks, Stem, whole};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::{Activation, Passed};
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// Word embeddings, and position embeddings where positions are learnt.
#[derive(Clone, Debug)]
pub struct TokenStem {
    /// Words.
    pub words: Table,
    /// Positions, from 0.
    pub positions: Option<Table>,
    /// Columns of the tables.
    pub width: usize,
    /// Probability of dropping an element of the output.
    pub dropout: f32,
    /// Tokens of the longest text; `usize::MAX` where there is no limit.
    pub longest: usize,
}

impl TokenStem {
    /// The sum of the tables' rows.
    fn look_up(&self, cx: Context, ids: &[u32], positions: &[u32]) -> Tensor {
        let mut x = cx.engine.tensor(ids.len(), self.width);
        for (i, (table, rows)) in self.tables(ids, positions).enumerate() {
            let data = cx.parameters.data(table.weight);
            cx.engine.kernels.look_up(data, self.width, rows, x.data_mut(), i == 0);
            cx.engine.pass(table.site, Passed::Rows(rows));
        }
        x
    }

    fn tables<'a>(
        &'a self,
        ids: &'a [u32],
        positions: &'a [u32],
    ) -> impl Iterator<Item = (&'a Table, &'a [u32])> {
        std::iter::once((&self.words, ids)).chain(self.positions.iter().map(move |table| (table, positions)))
    }

    fn positions(&self, lengths: &[usize]) -> Vec<u32> {
        let learnt = self.positions.is_some();
        lengths.iter().filter(|_| learnt).flat_map(|&n| 0..n as u32).collect()
    }
}

impl Stem for TokenStem {
    /// `[tokens, width]`.
    fn forward(&self, cx: Context, inputs: &Inputs, _: &mut Tape) -> Tensor {
        let tokens = tokens(inputs);
        let mut x = self.look_up(cx, &tokens.ids, &self.positions(&tokens.lengths));
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
        x
    }

    fn backward(&self, cx: Context, inputs: &Inputs, mut d: Tensor, _: &mut Tape, sinks: &mut Sinks) {
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, d.data_mut());
        }
        let tokens = tokens(inputs);
        for (table, rows) in self.tables(&tokens.ids, &self.positions(&tokens.lengths)) {
            let needs = &cx.needs[table.site];
            if needs.observe {
                sinks.probe.see(cx.engine, table.site, Activation::Rows(rows), &d);
            }
            if !needs.dw.is_none() {
                sinks.gradients.scatter(cx.engine, table.weight, rows, &d);
            }
        }
    }

    /// Looking up is no product.
    fn products(&self, _: &[Needs], _: &Extent, _: &mut Vec<Product>) {}

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], observe: bool) {
        for (table, _) in self.tables(&[], &[]) {
            needs[table.site].observe = observe;
        }
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let part = |name: &str, table: &Table| {
            Part::new(name, ComponentKind::Embedding, vec![whole(parameters, table.weight)])
        };
        match &self.positions {
            None => vec![part("", &self.words)],
            Some(positions) => vec![part("words", &self.words), part("positions", positions)],
        }
    }

    fn check(&self, parameters: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Tokens(tokens) = inputs else { return Err(NnError::Inputs { expected: "tokens" }) };
        let (longest, limit) = (tokens.lengths.iter().max().copied().unwrap_or(0), self.longest);
        if longest > limit {
            return Err(NnError::OutOfRange { what: "sequence length", found: longest, limit });
        }
        let (largest, limit) =
            (tokens.ids.iter().max().map_or(0, |id| *id as usize), parameters[self.words.weight].rows());
        if largest >= limit {
            return Err(NnError::OutOfRange { what: "token id", found: largest, limit });
        }
        Ok(())
    }

    fn decode(&self, cx: Context, ids: &[u32], first: usize) -> Option<Tensor> {
        let positions: Vec<u32> = (first..first + ids.len()).map(|i| i as u32).collect();
        Some(self.look_up(cx, ids, &positions))
    }
}
