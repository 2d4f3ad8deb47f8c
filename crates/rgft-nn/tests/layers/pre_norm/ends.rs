//! Where tokens enter a language model, and where logits leave it.

use rgft_core::{Inputs, Slices, Tokens};
use rgft_nn::layers::lm_head::LmHead;
use rgft_nn::layers::pre_norm::PreNorm;
use rgft_nn::layers::token_stem::TokenStem;
use rgft_nn::layers::{Context, Sinks, Stem};
use rgft_nn::{Needs, Tape, Tensor};

use super::{HIDDEN, pre_norm};
use crate::check::{Layer, Subject, Twin};
use crate::net::{DROPOUT, LENGTHS, Net, Part, Plan, TOKENS, cols, rows};
use crate::truth::Truth;

impl Twin for LmHead {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let h = self.norm.as_ref().map_or(x.to_vec(), |norm| pre_norm(truth, norm, x));
        truth.linear(&self.output, &h)
    }
}

#[test]
fn every_subset_of_the_heads_parameters_and_ragged_slices() {
    for with_norm in [true, false] {
        let mut net = Net::default();
        let norm = with_norm.then(|| PreNorm::Rms(net.rms_norm(HIDDEN)));
        let output = if with_norm { net.linear_without_bias(HIDDEN, 5) } else { net.linear(HIDDEN, 5) };
        let weight = output.weight;
        let head = LmHead { norm, output, tied: false };
        let parts: Vec<Part> = (0..net.parameters.len()).map(|i| vec![(i, Slices::All)]).collect();
        let odd = [vec![(weight, rows([1..3]))], vec![(weight, cols([0..1, 2..4]))]];
        let subject = Subject { net: &net, layer: &head, input: (TOKENS, HIDDEN) };
        subject.check(&format!("language head, norm {with_norm}"), &net.block_plans(&parts, &odd));
    }
}

struct Case {
    stem: TokenStem,
    tokens: Tokens,
    positions: Vec<u32>,
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, _: &[f64]) -> Vec<f64> {
        let positions = self.stem.positions.iter().map(|table| (table, &self.positions));
        let mut sum = vec![0.0; TOKENS * HIDDEN];
        for (table, ids) in [(&self.stem.words, &self.tokens.ids)].into_iter().chain(positions) {
            let row = |id: &u32| &truth.parameter(table.weight)[*id as usize * HIDDEN..][..HIDDEN];
            let looked_up = ids.iter().flat_map(row).copied().collect();
            let looked_up = truth.site(table.site, ids.iter().map(|&id| id.into()).collect(), looked_up);
            sum.iter_mut().zip(looked_up).for_each(|(sum, x)| *sum += x);
        }
        truth.drop(self.stem.words.site, self.stem.dropout, &sum)
    }

    fn forward(&self, cx: Context, _: Tensor, tape: &mut Tape) -> Tensor {
        self.stem.forward(cx, &Inputs::Tokens(self.tokens.clone()), tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.stem.backward(cx, &Inputs::Tokens(self.tokens.clone()), dy, tape, sinks);
        None
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        self.stem.set_needs(needs, &plan.update, observe);
    }
}

#[test]
fn every_subset_of_the_stems_tables() {
    for (learnt, dense_tables) in [(true, false), (false, false), (false, true)] {
        let mut net = Net { dense_tables, ..Net::default() };
        let (words, positions) = (net.table(8, HIDDEN), learnt.then(|| net.table(7, HIDDEN)));
        let tokens = Tokens {
            ids: vec![5, 0, 5, 2, 7, 2, 5, 1, 0],
            types: vec![0; TOKENS],
            lengths: LENGTHS.to_vec(),
        };
        let stem = TokenStem { words, positions, width: HIDDEN, dropout: DROPOUT, longest: 7 };
        let positions = LENGTHS.iter().flat_map(|&n| 0..n as u32).collect();
        let case = Case { stem, tokens, positions };
        let parts: Vec<Part> = (0..net.parameters.len()).map(|i| vec![(i, Slices::All)]).collect();
        let plan = |update| Plan { update, below: Slices::None };
        let plans: Vec<_> = net.subsets(&parts).into_iter().map(plan).collect();
        let subject = Subject { net: &net, layer: &case, input: (0, 0) };
        subject.check(&format!("token stem, positions {learnt}, dense tables {dense_tables}"), &plans);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut net = Net::default();
    let (words, positions) = (net.table(8, HIDDEN), Some(net.table(3, HIDDEN)));
    let stem = TokenStem { words, positions, width: HIDDEN, dropout: 0.0, longest: 3 };
    let check = |ids: Vec<u32>| {
        let (types, lengths) = (vec![0; ids.len()], vec![ids.len()]);
        let tokens = Inputs::Tokens(Tokens { ids, types, lengths });
        stem.check(&net.parameters, &tokens).map_err(|error| error.to_string())
    };
    assert_eq!(check(vec![7, 0, 1]), Ok(()));
    assert_eq!(check(vec![8]), Err("token id 8 does not fit the model, which has 8".into()));
    assert_eq!(check(vec![1; 4]), Err("sequence length 4 does not fit the model, which has 3".into()));
}
