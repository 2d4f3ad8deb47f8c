//! Embeddings with and without segments; gradients of tables as looked-up rows and as matrices.

use rgft_core::{Inputs, Slices, Tokens};
use rgft_nn::layers::embedding::{Embeddings, Table};
use rgft_nn::layers::{Context, Sinks, Stem};
use rgft_nn::{Needs, Tape, Tensor};

use super::check::{Layer, Subject};
use super::net::{DROPOUT, LENGTHS, Net, Part, Plan, TOKENS};
use super::truth::Truth;

const WIDTH: usize = 6;

struct Case {
    embeddings: Embeddings,
    inputs: Inputs,
    positions: Vec<u32>,
}

impl Case {
    fn new(net: &mut Net, with_types: bool) -> Self {
        let (words, positions) = (net.table(8, WIDTH), net.table(7, WIDTH));
        let types = with_types.then(|| net.table(2, WIDTH));
        let norm = net.norm(WIDTH, 0.0);
        let embeddings = Embeddings { words, positions, types, norm, dropout: DROPOUT, first_position: 1 };
        // Words come more than once, and some rows of every table but the segments' are never looked up.
        let tokens = Tokens {
            ids: vec![5, 0, 5, 2, 7, 2, 5, 1, 0],
            types: vec![0, 1, 1, 0, 0, 0, 0, 1, 1],
            lengths: LENGTHS.to_vec(),
        };
        let positions = LENGTHS.iter().flat_map(|&n| 1..=n as u32).collect();
        Self { embeddings, inputs: Inputs::Tokens(tokens), positions }
    }

    fn tables(&self) -> Vec<(&Table, &[u32])> {
        let e = &self.embeddings;
        let Inputs::Tokens(tokens) = &self.inputs else { panic!("tokens") };
        let types = e.types.as_ref().map(|table| (table, &tokens.types[..]));
        [(&e.words, &tokens.ids[..]), (&e.positions, &self.positions[..])].into_iter().chain(types).collect()
    }
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, _: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; TOKENS * WIDTH];
        for (table, ids) in self.tables() {
            let row = |id: &u32| &truth.parameter(table.weight)[*id as usize * WIDTH..][..WIDTH];
            let looked_up = ids.iter().flat_map(row).copied().collect();
            let looked_up = truth.site(table.site, ids.iter().map(|&id| id.into()).collect(), looked_up);
            sum.iter_mut().zip(looked_up).for_each(|(sum, x)| *sum += x);
        }
        let y = truth.norm(&self.embeddings.norm, &sum, None);
        truth.drop(self.embeddings.words.site, self.embeddings.dropout, &y)
    }

    fn forward(&self, cx: Context, _: Tensor, tape: &mut Tape) -> Tensor {
        self.embeddings.forward(cx, &self.inputs, tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.embeddings.backward(cx, &self.inputs, dy, tape, sinks);
        None
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        self.embeddings.set_needs(needs, &plan.update, observe);
    }
}

#[test]
fn every_subset_of_the_tables_and_the_norm() {
    for (with_types, dense_tables) in [(true, false), (false, false), (true, true)] {
        let mut net = Net { dense_tables, ..Net::default() };
        let case = Case::new(&mut net, with_types);
        let parts: Vec<Part> = (0..net.parameters.len()).map(|i| vec![(i, Slices::All)]).collect();
        let plan = |update| Plan { update, below: Slices::None };
        let plans: Vec<_> = net.subsets(&parts).into_iter().map(plan).collect();
        let subject = Subject { net: &net, layer: &case, input: (0, 0) };
        subject.check(&format!("embeddings, types {with_types}, dense tables {dense_tables}"), &plans);
    }
}
