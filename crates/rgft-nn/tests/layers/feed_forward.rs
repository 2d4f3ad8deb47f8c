//! The feed-forward block, with dropout on the branch.

use rgft_core::Slices;
use rgft_kernels::cpu::activation::Activation;
use rgft_kernels::reference;
use rgft_nn::layers::feed_forward::FeedForward;

use super::check::{Subject, Twin};
use super::net::{DROPOUT, Net, Part, Plan, TOKENS, bias, cols, rows};
use super::truth::Truth;

const HIDDEN: usize = 6;
const NEURONS: usize = 11;

impl Twin for FeedForward {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let inner = truth.linear(&self.up, x);
        let activated: Vec<_> = inner.iter().map(|&x| reference::activation(self.activation, x)).collect();
        truth.norm(&self.norm, &truth.linear(&self.down, &activated), Some(x))
    }
}

fn feed_forward(net: &mut Net, activation: Activation, dropout: f32) -> FeedForward {
    let (up, down) = (net.linear(HIDDEN, NEURONS), net.linear(NEURONS, HIDDEN));
    FeedForward { up, activation, down, norm: net.norm(HIDDEN, dropout), groups: 3 }
}

/// The rows of `Wu`, `bu` and the columns of `Wd` of some neurons.
fn neurons(block: &FeedForward, range: std::ops::Range<usize>) -> Part {
    let own = rows([range.clone()]);
    vec![(block.up.weight, own.clone()), (bias(&block.up), own), (block.down.weight, cols([range]))]
}

fn norm(block: &FeedForward) -> Part {
    [block.norm.weight, block.norm.bias, bias(&block.down)].map(|parameter| (parameter, Slices::All)).to_vec()
}

#[test]
fn every_set_of_neuron_groups_and_ragged_slices() {
    for (activation, dropout) in [
        (Activation::Gelu, DROPOUT),
        (Activation::GeluTanh, DROPOUT),
        (Activation::Silu, 0.0),
        (Activation::Relu, DROPOUT),
        (Activation::Tanh, 0.0),
    ] {
        let mut net = Net::default();
        let block = feed_forward(&mut net, activation, dropout);
        let FeedForward { up, down, norm: n, .. } = &block;
        let groups = [0..4, 4..8, 8..NEURONS].map(|range| neurons(&block, range));
        let components: Vec<_> = groups.into_iter().chain([norm(&block)]).collect();
        let odd = [
            // Rows of Wu that are not those of bu, nor the columns of Wd.
            vec![(up.weight, rows([1..3, 7..8])), (bias(up), rows([2..6]))],
            vec![(up.weight, rows([9..11])), (down.weight, cols([0..2, 5..6]))],
            vec![(bias(up), rows([0..1, 10..11]))],
            vec![(down.weight, rows([0..2, 4..5])), (bias(down), rows([3..5])), (bias(up), rows([4..5]))],
            // Rows in one place, everything in another.
            vec![(up.weight, rows([0..5])), (bias(up), Slices::All), (n.bias, Slices::All)],
            vec![(bias(up), Slices::All), (bias(down), Slices::All)],
        ];
        let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
        let name = format!("feed-forward, {activation:?}, dropout {dropout}");
        subject.check(&name, &net.block_plans(&components, &odd));
    }
}

#[test]
fn forward_saves_only_what_backward_reads() {
    let mut net = Net::default();
    let block = feed_forward(&mut net, Activation::Gelu, 0.0);
    let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
    let saved = |part: Part, below| subject.saved(&Plan { update: net.update([&part]), below }, false);

    let (x, inner, norm) = (TOKENS * HIDDEN, TOKENS * NEURONS, TOKENS * HIDDEN + TOKENS);
    assert_eq!(saved(vec![], Slices::None), 0);
    assert_eq!(saved(vec![(block.norm.bias, Slices::All)], Slices::None), norm);
    assert_eq!(saved(vec![(bias(&block.down), Slices::All)], Slices::None), norm);
    assert_eq!(saved(vec![(block.down.weight, cols([2..4, 6..7]))], Slices::None), norm + TOKENS * 3);
    assert_eq!(saved(vec![(bias(&block.up), Slices::All)], Slices::None), norm + inner);
    assert_eq!(saved(neurons(&block, 4..8), Slices::None), norm + TOKENS * 4 + inner + x);
    assert_eq!(saved(vec![], Slices::All), norm + inner);
}

#[test]
fn a_group_of_neurons_costs_its_own_products_alone() {
    let mut net = Net::default();
    let block = feed_forward(&mut net, Activation::Gelu, 0.0);
    let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
    let product = |neurons: usize| (2 * TOKENS * HIDDEN * neurons) as u64;
    let flops = |part: Part, below| subject.flops(&Plan { update: net.update([&part]), below });

    let own = flops(neurons(&block, 4..7), Slices::None);
    assert_eq!([own.forward, own.dx, own.dw], [2 * product(NEURONS), product(3), 2 * product(3)]);
    let rows_alone =
        flops(vec![(block.up.weight, rows([4..7])), (bias(&block.up), rows([6..8]))], Slices::None);
    assert_eq!([rows_alone.dx, rows_alone.dw], [product(4), product(3)]);
    let columns = flops(vec![(block.down.weight, cols([4..7]))], Slices::None);
    assert_eq!([columns.dx, columns.dw], [0, product(3)]);
    let below = flops(neurons(&block, 4..7), Slices::All);
    assert_eq!([below.dx, below.dw], [2 * product(NEURONS), 2 * product(3)]);
}
