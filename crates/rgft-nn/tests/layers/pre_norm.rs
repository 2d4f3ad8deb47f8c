//! The blocks of a pre-norm transformer, as decoders have them (RMS norms, rotation, grouped queries, SwiGLU, causal) and
//! as encoders of patches do (layer norms, biases, every token seeing all); and a language model's two ends.

mod ends;

use std::sync::Arc;

use rgft_core::Slices;
use rgft_kernels::cpu::activation::Activation;
use rgft_kernels::reference::{self, decoder};
use rgft_nn::layers::linear::Linear;
use rgft_nn::layers::pre_norm::{Neurons, PreNorm, PreNormAttention, PreNormFeedForward, Rotary};
use rgft_nn::layers::rms_norm::RmsNorm;

use super::check::{Subject, Twin};
use super::net::{DROPOUT, LENGTHS, Net, Part, Plan, TOKENS, cols, rows};
use super::truth::Truth;

const HIDDEN: usize = 6;
const WIDTH: usize = 4;
const NEURONS: usize = 9;

fn rms_norm(truth: &Truth, norm: &RmsNorm, x: &[f64]) -> Vec<f64> {
    let scaled = |weight: &[f64]| decoder::rms_norm(x, weight, norm.epsilon.into());
    truth.site(norm.site, scaled(&vec![1.0; norm.width]), scaled(truth.parameter(norm.weight)))
}

fn pre_norm(truth: &Truth, norm: &PreNorm, x: &[f64]) -> Vec<f64> {
    match norm {
        PreNorm::Layer(norm) => truth.norm(norm, x, None),
        PreNorm::Rms(norm) => rms_norm(truth, norm, x),
    }
}

fn joined(truth: &Truth, norm: &PreNorm, dropout: f32, x: &[f64], branch: &[f64]) -> Vec<f64> {
    truth.drop(norm.site(), dropout, branch).iter().zip(x).map(|(branch, x)| branch + x).collect()
}

impl Twin for PreNormAttention {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let h = pre_norm(truth, &self.norm, x);
        let [mut q, mut k, v] = [&self.query, &self.key, &self.value].map(|linear| truth.linear(linear, &h));
        if let Some([of_queries, of_keys]) = &self.head_norms {
            (q, k) = (rms_norm(truth, of_queries, &q), rms_norm(truth, of_keys, &k));
        }
        let width = self.query.output / self.heads;
        if let Some(rotary) = &self.rotary {
            let tables = rotary.tables(8);
            let wide = |table: &[f32]| -> Vec<f64> { table.iter().map(|&x| x.into()).collect() };
            let (cos, sin) = (wide(&tables.cos), wide(&tables.sin));
            let positions: Vec<u32> = LENGTHS.iter().flat_map(|&n| 0..n as u32).collect();
            let turned = |x: &[f64], heads| {
                let planes = rotary.frequencies().len();
                decoder::rope(x, (&cos, &sin), planes, heads * width, width, &positions)
            };
            (q, k) = (turned(&q, self.heads), turned(&k, self.kv_heads));
        }
        let (heads, kv_heads, causal) = (self.heads, self.kv_heads, self.causal);
        let heads = decoder::Heads { lengths: &LENGTHS, heads, kv_heads, width, causal };
        let keep = truth.keep(self.output.site, self.attention_dropout);
        let context = decoder::attention(heads, &q, &k, &v, keep);
        joined(truth, &self.norm, self.dropout, x, &truth.linear(&self.output, &context))
    }
}

impl Twin for PreNormFeedForward {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let h = pre_norm(truth, &self.norm, x);
        let up = truth.linear(&self.up, &h);
        let activated: Vec<f64> = match &self.neurons {
            Neurons::Plain(activation) => up.iter().map(|&u| reference::activation(*activation, u)).collect(),
            Neurons::Gated(gate) => {
                let gates = truth.linear(gate, &h);
                gates.iter().zip(&up).map(|(&g, &u)| decoder::swiglu(g, u)).collect()
            }
        };
        joined(truth, &self.norm, self.dropout, x, &truth.linear(&self.down, &activated))
    }
}

/// A kind of block: `encoder` as vision has it, else as decoders do.
fn attention(net: &mut Net, heads: usize, kv_heads: usize, encoder: bool, dropout: f32) -> PreNormAttention {
    let norm =
        if encoder { PreNorm::Layer(net.norm(HIDDEN, 0.0)) } else { PreNorm::Rms(net.rms_norm(HIDDEN)) };
    let mut linear = |input, output, bias| match bias {
        true => net.linear(input, output),
        false => net.linear_without_bias(input, output),
    };
    let (wide, narrow) = (heads * WIDTH, kv_heads * WIDTH);
    let query = linear(HIDDEN, wide, encoder);
    // As in Qwen2, some maps have a bias where others have none.
    let key = linear(HIDDEN, narrow, true);
    let (value, output) = (linear(HIDDEN, narrow, encoder), linear(wide, HIDDEN, encoder));
    let head_norms = (!encoder && heads == 2).then(|| [net.rms_norm(WIDTH), net.rms_norm(WIDTH)]);
    // One plane of two turns: the other elements stay.
    let planes = if heads == 4 { 1 } else { 2 };
    let rotary = (!encoder).then(|| Arc::new(Rotary::new(vec![0.9, 0.13][..planes].to_vec(), 1.2)));
    let (causal, attention_dropout) = (!encoder, dropout);
    PreNormAttention {
        norm,
        query,
        key,
        value,
        output,
        head_norms,
        rotary,
        heads,
        kv_heads,
        causal,
        attention_dropout,
        dropout,
    }
}

fn all(parameters: impl IntoIterator<Item = usize>) -> Part {
    parameters.into_iter().map(|parameter| (parameter, Slices::All)).collect()
}

fn rows_of(linear: &Linear, range: std::ops::Range<usize>) -> Part {
    linear.parameters().map(|parameter| (parameter, rows([range.clone()]))).collect()
}

/// The query heads that share head `h` of keys and values, with it.
fn head(block: &PreNormAttention, h: usize) -> Part {
    let (group, own) = (block.heads / block.kv_heads * WIDTH, h * WIDTH..(h + 1) * WIDTH);
    let wide = h * group..(h + 1) * group;
    let mut part = rows_of(&block.query, wide.clone());
    part.extend([&block.key, &block.value].into_iter().flat_map(|linear| rows_of(linear, own.clone())));
    part.push((block.output.weight, cols([wide])));
    part
}

fn norm_of(block: &PreNormAttention) -> Part {
    let of_heads = block.head_norms.iter().flatten().map(|norm| norm.weight);
    all(block.norm.parameters().into_iter().chain(of_heads).chain(block.output.bias))
}

#[test]
fn every_set_of_head_groups_and_ragged_slices() {
    let shapes = [(4, 2, false, DROPOUT), (2, 1, false, 0.0), (2, 2, false, DROPOUT), (2, 2, true, DROPOUT)];
    for (heads, kv_heads, encoder, dropout) in shapes {
        let mut net = Net::default();
        let block = attention(&mut net, heads, kv_heads, encoder, dropout);
        let PreNormAttention { query, key, value, output, norm, .. } = &block;
        let components: Vec<_> = (0..kv_heads).map(|h| head(&block, h)).chain([norm_of(&block)]).collect();
        let odd = [
            // Slices that are no whole heads, of one parameter or scattered over many.
            vec![(query.weight, rows([1..2]))],
            vec![(key.weight, rows([1..2])), (key.bias.unwrap(), rows([3..4]))],
            vec![(query.weight, rows([0..1, 5..7])), (value.weight, rows([2..3]))],
            vec![(output.weight, cols([0..1, 3..6]))],
            vec![(output.weight, rows([1..3, 5..6])), (value.weight, rows([2..4]))],
            // Rows in one place, everything in another.
            vec![(key.weight, Slices::All), (value.weight, rows([0..2]))],
            vec![(norm.parameters()[0], Slices::All), (query.weight, rows([2..3]))],
        ];
        let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
        let name = format!("pre-norm attention, {heads}/{kv_heads} heads, encoder {encoder}, {dropout}");
        subject.check(&name, &net.block_plans(&components, &odd));
    }
}

#[test]
fn one_group_of_heads_costs_its_own_products_alone() {
    let mut net = Net::default();
    let block = attention(&mut net, 4, 2, false, 0.0);
    let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
    let linear = |output: usize| (2 * TOKENS * HIDDEN * output) as u64;
    let of_a_head = (2 * (3 * 3 + 1 + 5 * 5) * WIDTH) as u64;
    let flops = |part: Part, below| subject.flops(&Plan { update: net.update([&part]), below });

    let forward = 2 * linear(16) + 2 * linear(8) + 4 * 2 * of_a_head;
    let one = flops(head(&block, 1), Slices::None);
    // dx of Wo's columns that lead into the two query heads; dW of 8 rows, 4, 4, and 8 columns.
    let dx = linear(8) + 2 * 4 * of_a_head;
    assert_eq!([one.forward, one.dx, one.dw], [forward, dx, 2 * linear(8) + 2 * linear(4)]);
    let columns = flops(vec![(block.output.weight, cols([8..16]))], Slices::None);
    assert_eq!([columns.forward, columns.dx, columns.dw], [forward, 0, linear(8)]);
    let below = flops(head(&block, 1), Slices::All);
    let whole = 2 * linear(16) + 2 * linear(8) + 4 * 4 * of_a_head;
    assert_eq!([below.dx, below.dw], [whole, 2 * linear(8) + 2 * linear(4)]);
}

#[test]
fn attention_saves_only_what_backward_reads() {
    let mut net = Net::default();
    let block = attention(&mut net, 4, 2, false, 0.0);
    let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
    let saved = |part: Part, below| subject.saved(&Plan { update: net.update([&part]), below }, false);
    let (h, normalised) = (TOKENS * HIDDEN, TOKENS * HIDDEN + TOKENS);
    let inner = TOKENS * (16 + 8 + 8) + 4 * (3 * 3 + 1 + 5 * 5);
    assert_eq!(saved(vec![], Slices::None), 0);
    assert_eq!(saved(all(block.output.bias), Slices::None), 0);
    assert_eq!(saved(vec![(block.output.weight, cols([8..16]))], Slices::None), TOKENS * 8);
    assert_eq!(saved(head(&block, 1), Slices::None), TOKENS * 8 + inner + h);
    assert_eq!(saved(norm_of(&block), Slices::None), normalised + inner);
    assert_eq!(saved(vec![], Slices::All), normalised + inner);
}

/// `gate`: gated, without biases, behind an RMS norm; else plain, with biases, behind a layer norm.
fn feed_forward(net: &mut Net, gate: bool, activation: Activation, dropout: f32) -> PreNormFeedForward {
    let norm = if gate { PreNorm::Rms(net.rms_norm(HIDDEN)) } else { PreNorm::Layer(net.norm(HIDDEN, 0.0)) };
    let mut linear = |input, output| match gate {
        true => net.linear_without_bias(input, output),
        false => net.linear(input, output),
    };
    let (up, down) = (linear(HIDDEN, NEURONS), linear(NEURONS, HIDDEN));
    let neurons = match gate {
        true => Neurons::Gated(linear(HIDDEN, NEURONS)),
        false => Neurons::Plain(activation),
    };
    PreNormFeedForward { norm, up, neurons, down, dropout, groups: 3 }
}

fn neurons(block: &PreNormFeedForward, range: std::ops::Range<usize>) -> Part {
    let mut part = rows_of(&block.up, range.clone());
    if let Neurons::Gated(gate) = &block.neurons {
        part.extend(rows_of(gate, range.clone()));
    }
    part.push((block.down.weight, cols([range])));
    part
}

#[test]
fn every_set_of_neuron_groups_and_ragged_slices() {
    for (gate, activation, dropout) in [
        (true, Activation::Silu, DROPOUT),
        (false, Activation::GeluTanh, DROPOUT),
        (false, Activation::Gelu, 0.0),
    ] {
        let mut net = Net::default();
        let block = feed_forward(&mut net, gate, activation, dropout);
        let PreNormFeedForward { up, down, norm, .. } = &block;
        let groups = [0..3, 3..6, 6..NEURONS].map(|range| neurons(&block, range));
        let own = all(norm.parameters().into_iter().chain(down.bias));
        let components: Vec<_> = groups.into_iter().chain([own]).collect();
        let mut odd = vec![
            vec![(up.weight, rows([1..3, 7..8])), (down.weight, cols([0..2, 5..6]))],
            vec![(down.weight, rows([0..2, 4..5])), (up.weight, rows([4..5]))],
            vec![(norm.parameters()[0], Slices::All), (up.weight, rows([0..5]))],
        ];
        if let Neurons::Gated(gate) = &block.neurons {
            odd.push(vec![(gate.weight, rows([2..3])), (up.weight, rows([4..7]))]);
            odd.push(vec![(gate.weight, Slices::All), (up.weight, rows([4..7]))]);
        }
        let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
        let name = format!("pre-norm feed-forward, gated {gate}, {activation:?}, dropout {dropout}");
        subject.check(&name, &net.block_plans(&components, &odd));
    }
}

#[test]
fn a_group_of_gated_neurons_costs_its_own_products_alone() {
    let mut net = Net::default();
    let block = feed_forward(&mut net, true, Activation::Silu, 0.0);
    let subject = Subject { net: &net, layer: &block, input: (TOKENS, HIDDEN) };
    let product = |neurons: usize| (2 * TOKENS * HIDDEN * neurons) as u64;
    let flops = |part: Part, below| subject.flops(&Plan { update: net.update([&part]), below });
    let own = flops(neurons(&block, 3..6), Slices::None);
    assert_eq!([own.forward, own.dx, own.dw], [3 * product(NEURONS), product(3), 3 * product(3)]);
    let below = flops(neurons(&block, 3..6), Slices::All);
    assert_eq!([below.dx, below.dw], [3 * product(NEURONS), 3 * product(3)]);
}
