//! The attention block, with dropout on probabilities and on the branch.

use rgft_core::Slices;
use rgft_kernels::reference;
use rgft_nn::layers::attention::Attention;

use super::check::{Subject, Twin};
use super::net::{DROPOUT, LENGTHS, Net, Part, Plan, TOKENS, bias, cols, rows};
use super::truth::Truth;

const HIDDEN: usize = 6;

impl Twin for Attention {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let [q, k, v] = [&self.query, &self.key, &self.value].map(|linear| truth.linear(linear, x));
        let keep = truth.keep(self.output.site, self.dropout);
        let context = reference::attention(&q, &k, &v, &LENGTHS, self.heads, HIDDEN / self.heads, keep);
        truth.norm(&self.norm, &truth.linear(&self.output, &context), Some(x))
    }
}

fn attention(net: &mut Net, heads: usize, dropout: f32) -> Attention {
    let mut linear = || net.linear(HIDDEN, HIDDEN);
    let [query, key, value, output] = [linear(), linear(), linear(), linear()];
    Attention { query, key, value, output, norm: net.norm(HIDDEN, dropout), heads, dropout }
}

/// The rows of Wq, Wk, Wv and the columns of Wo that belong to head `h`.
fn head(attention: &Attention, h: usize) -> Part {
    let width = HIDDEN / attention.heads;
    let range = h * width..(h + 1) * width;
    let inputs = [&attention.query, &attention.key, &attention.value];
    let inputs = inputs.into_iter().flat_map(|linear| linear.parameters());
    let own = inputs.map(|parameter| (parameter, rows([range.clone()])));
    own.chain([(attention.output.weight, cols([range.clone()]))]).collect()
}

fn norm(attention: &Attention) -> Part {
    let Attention { norm, output, .. } = attention;
    [norm.weight, norm.bias, bias(output)].map(|parameter| (parameter, Slices::All)).to_vec()
}

#[test]
fn every_set_of_heads_and_ragged_slices() {
    for (heads, dropout) in [(3, DROPOUT), (2, DROPOUT), (1, 0.0)] {
        let mut net = Net::default();
        let attention = attention(&mut net, heads, dropout);
        let Attention { query, key, value, output, norm: n, .. } = &attention;
        let components: Vec<_> = (0..heads).map(|h| head(&attention, h)).chain([norm(&attention)]).collect();
        let odd = [
            // Slices that are no whole heads, of one parameter or scattered over many.
            vec![(query.weight, rows([1..2]))],
            vec![(bias(key), rows([3..5]))],
            vec![(query.weight, rows([0..1, 2..3, 5..6])), (bias(value), rows([4..5]))],
            vec![
                (key.weight, rows([0..2])),
                (value.weight, rows([4..6])),
                (bias(output), rows([1..2, 4..6])),
            ],
            vec![(output.weight, cols([0..1, 3..5]))],
            vec![(output.weight, rows([1..3, 5..6])), (value.weight, rows([2..4]))],
            // Rows in one place, everything in another.
            vec![(key.weight, Slices::All), (value.weight, rows([0..2])), (n.weight, Slices::All)],
            [query, key, value, output].map(|linear| (bias(linear), Slices::All)).to_vec(),
        ];
        let subject = Subject { net: &net, layer: &attention, input: (TOKENS, HIDDEN) };
        let name = format!("attention, {heads} heads, dropout {dropout}");
        subject.check(&name, &net.block_plans(&components, &odd));
    }
}

#[test]
fn forward_saves_only_what_backward_reads() {
    let mut net = Net::default();
    let attention = attention(&mut net, 3, 0.0);
    let subject = Subject { net: &net, layer: &attention, input: (TOKENS, HIDDEN) };
    let saved = |part: Part, below| subject.saved(&Plan { update: net.update([&part]), below }, false);

    let [x, context, normalised] = [TOKENS * HIDDEN; 3];
    let inner = 3 * TOKENS * HIDDEN + 3 * (3 * 3 + 1 + 5 * 5);
    let norm = normalised + TOKENS;
    assert_eq!(saved(vec![], Slices::None), 0);
    assert_eq!(saved(vec![(attention.norm.weight, Slices::All)], Slices::None), norm);
    assert_eq!(saved(vec![(bias(&attention.output), Slices::All)], Slices::None), norm);
    assert_eq!(saved(vec![(attention.output.weight, cols([2..4]))], Slices::None), norm + context / 3);
    assert_eq!(saved(vec![(bias(&attention.query), Slices::All)], Slices::None), norm + inner);
    assert_eq!(saved(head(&attention, 1), Slices::None), norm + context / 3 + inner + x);
    assert_eq!(saved(vec![], Slices::All), norm + inner);
}

#[test]
fn one_head_costs_its_own_products_alone() {
    let mut net = Net::default();
    let attention = attention(&mut net, 3, 0.0);
    let subject = Subject { net: &net, layer: &attention, input: (TOKENS, HIDDEN) };
    let linear = (2 * TOKENS * HIDDEN * HIDDEN) as u64;
    let squares = (3 * 3 + 1 + 5 * 5) as u64;
    let product_of_a_head = 2 * squares * 2;
    let flops = |part: Part, below| subject.flops(&Plan { update: net.update([&part]), below });

    let forward = 4 * linear + 3 * 2 * product_of_a_head;
    // A third of Wo's columns leads into the head; a third of each dW is its own.
    let one = flops(head(&attention, 1), Slices::None);
    assert_eq!([one.forward, one.dx, one.dw], [forward, linear / 3 + 4 * product_of_a_head, 4 * linear / 3]);
    let columns = flops(vec![(attention.output.weight, cols([2..4]))], Slices::None);
    assert_eq!([columns.forward, columns.dx, columns.dw], [forward, 0, linear / 3]);
    let below = flops(head(&attention, 1), Slices::All);
    assert_eq!([below.dx, below.dw], [4 * linear + 3 * 4 * product_of_a_head, 4 * linear / 3]);
}
