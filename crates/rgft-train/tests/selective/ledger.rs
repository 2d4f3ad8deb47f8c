//! The ledger of whole runs on the tiny net against counts by hand, to the FLOP, account by account.
//!
//! tiny/bert: hidden 16, 2 layers, 4 heads of width 4, intermediate 32, 3 labels, a pooler before the classifier;
//! sequences of 3, 7, 12 and 10 tokens.

use rgft_core::events::Flops;
use rgft_train::Costs;

use super::common::{Tiny, recipe, run};

const TOKENS: u64 = 3 + 7 + 12 + 10;
/// Σ length²: entries of the attention matrices of one head.
const SQUARES: u64 = 3 * 3 + 7 * 7 + 12 * 12 + 10 * 10;
const SEQUENCES: u64 = 4;
const ADAMW: u64 = 12;

fn linear(out: u64, input: u64) -> u64 {
    2 * TOKENS * out * input
}

/// Wq, Wk, Wv, Wo, up and down of one layer: forward, dX and dW alike.
fn linears() -> u64 {
    4 * linear(16, 16) + 2 * linear(32, 16)
}

/// QKᵀ and PV of one layer.
fn attention() -> u64 {
    2 * (2 * SQUARES * 16)
}

/// Pooler and classifier.
fn head() -> u64 {
    2 * SEQUENCES * (16 * 16 + 3 * 16)
}

fn forward() -> u64 {
    2 * (linears() + attention()) + head()
}

/// Attention's backward has four products where forward has two.
fn dx() -> u64 {
    2 * (linears() + 2 * attention()) + head()
}

fn dw() -> u64 {
    2 * linears() + head()
}

/// Word 64, position 40 and segment 2 rows and a norm; two layers; pooler and classifier.
fn scalars() -> u64 {
    let layer = 4 * (16 * 16 + 16) + (32 * 16 + 32) + (16 * 32 + 16) + 2 * (16 + 16);
    (64 + 40 + 2) * 16 + 32 + 2 * layer + HEAD_SCALARS
}

const HEAD_SCALARS: u64 = 16 * 16 + 16 + 3 * 16 + 3;

/// A run on the golden batch, which is all there is to a step.
fn steps(n: usize, settings: &[&str]) -> Flops {
    let recipe = recipe(&[&[&format!("epochs={n}"), "batch-size=4"], settings].concat());
    let mut work = Tiny::load().workload(&recipe);
    assert_eq!(work.model.parameters().scalars() as u64, scalars());
    let finished = run(&recipe, &mut work);
    assert_eq!(finished.summary.steps, n);
    finished.summary.flops
}

fn one_step(settings: &[&str]) -> Flops {
    steps(1, settings)
}

#[test]
fn a_full_step_is_the_hand_count() {
    let flops = one_step(&["method=full"]);
    let update = ADAMW * scalars();
    assert_eq!(
        [flops.forward, flops.dx, flops.dw, flops.update, flops.probe, flops.cache, flops.tracking],
        [forward(), dx(), dw(), update, 0, 0, 0]
    );
    assert_eq!(flops.total, forward() + dx() + dw() + ADAMW * scalars());
    assert_eq!(flops.full_equivalent, flops.total);
    // Validated after the step.
    assert_eq!(flops.evaluation, forward());
}

#[test]
fn a_head_step_is_the_hand_count() {
    let flops = one_step(&["method=head"]);
    let classifier_dx = 2 * SEQUENCES * 3 * 16;
    assert_eq!(
        [flops.forward, flops.dx, flops.dw, flops.update, flops.cache],
        [head(), classifier_dx, head(), ADAMW * HEAD_SCALARS, forward() - head()]
    );
    assert_eq!(flops.full_equivalent, forward() + dx() + dw() + ADAMW * scalars());
}

#[test]
fn a_prefix_is_computed_once_with_a_cache_and_each_time_without() {
    let with = steps(5, &["method=head"]);
    assert_eq!((with.forward, with.cache), (5 * head(), forward() - head()));
    let without = steps(5, &["method=head", "cache=off"]);
    assert_eq!((without.forward, without.cache), (5 * forward(), 0));
    assert_eq!((with.dx, with.dw, with.update), (without.dx, without.dw, without.update));
}

#[test]
fn sgd_counts_four_for_an_update() {
    assert_eq!(one_step(&["method=full", "optimizer=sgd"]).update, 4 * scalars());
}

#[test]
fn a_probe_is_a_forward_and_a_dx_with_its_signal_apart() {
    // The sketch multiplies group sums with a site's input: four heads or neuron groups cut the rows of q, k, v and
    // up; columns (Wo and down) and whole layers (the head's two) take one row each.
    let sketch = 2 * (2 * TOKENS * (3 * 4 * 16 + 16 + 4 * 16 + 32)) + 2 * SEQUENCES * (16 + 16);
    let once = ["method=static", "granularity=group", "first-probe-batches=1", "probe-share=0.5"];
    for (signal, tracking) in [("exact", dw()), ("coherent", dw()), ("sketch", sketch), ("gram", 0)] {
        let recipe = recipe(
            &[&once[..], &["epochs=20", "batch-size=4", "budget=1", &format!("signal={signal}")]].concat(),
        );
        let flops = run(&recipe, &mut Tiny::load().workload(&recipe)).summary.flops;
        assert_eq!((flops.probe, flops.tracking), (forward() + dx(), tracking), "{signal}");
    }
}

#[test]
fn what_the_planner_is_told_is_what_the_ledger_counts() {
    let tiny = Tiny::load();
    let components = tiny.components();
    let costs = Costs::new(&tiny.model, &components, &[tiny.extent()], ADAMW);
    // Of four examples.
    let is = |found: f64, expected: u64| {
        assert!((4.0 * found - expected as f64).abs() < 0.5, "{found}, {expected}")
    };
    is(costs.full, forward() + dx() + dw() + ADAMW * scalars());
    assert_eq!(costs.cut.len(), tiny.model.levels());
    let top = tiny.model.levels() - 1;
    is(costs.cut[top], head());
    is(costs.prefix[top], forward() - head());
    // δ leaves the head and stops at the last feed-forward block's output.
    is(costs.cut[top - 1], 2 * linear(32, 16) + 2 * head());
    is(costs.prefix[top - 1], forward() - head() - 2 * linear(32, 16));
    is(costs.prefix[0], 0);
    let neurons = components.iter().position(|c| c.name == "encoder.layer.1.feed_forward.neurons.2").unwrap();
    // Eight rows of up with their biases, eight columns of down.
    let own = 2 * linear(8, 16) + ADAMW * (8 * 16 + 8 + 16 * 8);
    is(costs.component[neurons], own);
    // Where backward ends at it, δ is brought to its eight neurons through down.
    is(costs.component_at_cut[neurons], own + linear(8, 16));
}
