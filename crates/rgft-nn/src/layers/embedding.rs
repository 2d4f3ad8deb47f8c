//! Embeddings: `x = LN(word[id] + position[i] + type[t])`, then dropout. Backward scatters `δ` to looked-up rows.

use rgft_core::{ComponentKind, Extent, Inputs, Slices, Tokens};

use super::norm::Norm;
use super::{Context, Part, Sinks, Stem, all_if, whole};
use crate::NnError;
use crate::models::Grain;
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::probe::{Activation, Passed};
use crate::product::Product;
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

/// Rows of the word, position and segment tables, one entry per token.
struct TokenRows<'a> {
    words: &'a [u32],
    positions: Vec<u32>,
    types: &'a [u32],
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
    /// Position of the first token (RoBERTa counts from `padding_idx + 1`).
    pub first_position: u32,
}

/// The tokens of inputs that a stem has checked.
///
/// # Panics
/// If they are none.
pub(crate) fn tokens(inputs: &Inputs) -> &Tokens {
    match inputs {
        Inputs::Tokens(tokens) => tokens,
        _ => panic!("inputs were checked to be tokens"),
    }
}

impl Embeddings {
    fn rows<'a>(&self, tokens: &'a Tokens) -> TokenRows<'a> {
        let positions = tokens.lengths.iter().flat_map(|&n| (0..n as u32).map(|i| i + self.first_position));
        TokenRows { words: &tokens.ids, positions: positions.collect(), types: &tokens.types }
    }

    fn tables<'a>(&'a self, rows: &'a TokenRows) -> impl Iterator<Item = (&'a Table, &'a [u32])> {
        let types = self.types.as_ref().map(|table| (table, rows.types));
        [(&self.words, rows.words), (&self.positions, &rows.positions[..])].into_iter().chain(types)
    }

    /// Tokens of the longest text.
    pub fn longest(&self, parameters: &Parameters) -> usize {
        parameters[self.positions.weight].rows() - self.first_position as usize
    }
}

impl Stem for Embeddings {
    /// `[tokens, width]`.
    fn forward(&self, cx: Context, inputs: &Inputs, tape: &mut Tape) -> Tensor {
        let rows = self.rows(tokens(inputs));
        let mut sum = cx.engine.tensor(rows.words.len(), self.norm.width);
        for (i, (table, ids)) in self.tables(&rows).enumerate() {
            let data = cx.parameters.data(table.weight);
            cx.engine.kernels.look_up(data, self.norm.width, ids, sum.data_mut(), i == 0);
            cx.engine.pass(table.site, Passed::Rows(ids));
        }
        let mut x = self.norm.forward(cx, &sum, None, None, tape);
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, x.data_mut());
        }
        x
    }

    fn backward(&self, cx: Context, inputs: &Inputs, mut dx: Tensor, tape: &mut Tape, sinks: &mut Sinks) {
        if let Some(dropout) = cx.engine.dropout(self.words.site, self.dropout) {
            cx.engine.kernels.drop_elements(dropout, dx.data_mut());
        }
        let Some(d) = self.norm.backward(cx, dx, tape, sinks) else { return };
        for (table, ids) in self.tables(&self.rows(tokens(inputs))) {
            let needs = &cx.needs[table.site];
            if needs.observe {
                sinks.probe.see(cx.engine, table.site, Activation::Rows(ids), &d);
            }
            if !needs.dw.is_none() {
                sinks.gradients.scatter(cx.engine, table.weight, ids, &d);
            }
        }
    }

    /// Looking up is no product.
    fn products(&self, _: &[Needs], _: &Extent, _: &mut Vec<Product>) {}

    fn set_needs(&self, needs: &mut [Needs], _: &[Slices], observe: bool) {
        let mut any = observe;
        for table in [&self.words, &self.positions].into_iter().chain(&self.types) {
            needs[table.site].observe = observe;
            any |= !needs[table.site].dw.is_none();
        }
        let norm = &mut needs[self.norm.site];
        norm.observe = observe;
        norm.dx = all_if(any);
    }

    fn parts(&self, parameters: &Parameters, _: Grain) -> Vec<Part> {
        let part = |name: &str, kind, all: &[usize]| {
            Part::new(name, kind, all.iter().map(|&parameter| whole(parameters, parameter)).collect())
        };
        let mut places = vec![self.positions.weight];
        places.extend(self.types.as_ref().map(|table| table.weight));
        vec![
            part("words", ComponentKind::Embedding, &[self.words.weight]),
            part("positions", ComponentKind::Embedding, &places),
            part("norm", ComponentKind::Norm, &[self.norm.weight, self.norm.bias]),
        ]
    }

    fn check(&self, parameters: &Parameters, inputs: &Inputs) -> Result<(), NnError> {
        let Inputs::Tokens(tokens) = inputs else { return Err(NnError::Inputs { expected: "tokens" }) };
        let rows = |table: &Table| parameters[table.weight].rows();
        let largest = |ids: &[u32]| ids.iter().max().map_or(0, |id| *id as usize);
        let types = self.types.as_ref().map_or(usize::MAX, rows);
        let longest = tokens.lengths.iter().max().copied().unwrap_or(0);
        let limits = [
            ("token id", largest(&tokens.ids), rows(&self.words) - 1, rows(&self.words)),
            ("sequence length", longest, self.longest(parameters), self.longest(parameters)),
            ("segment id", largest(&tokens.types), types - 1, types),
        ];
        match limits.into_iter().find(|(_, found, largest, _)| found > largest) {
            Some((what, found, _, limit)) => Err(NnError::OutOfRange { what, found, limit }),
            None => Ok(()),
        }
    }
}
