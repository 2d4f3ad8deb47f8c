//! The task head: mean and first-token pooling, with and without the dense layer, with dropout.

use rgft_core::Slices;
use rgft_kernels::cpu::activation::Activation;
use rgft_kernels::cpu::pooling::Pool;
use rgft_kernels::reference;
use rgft_nn::layers::head::Head;

use super::check::{Subject, Twin};
use super::net::{DROPOUT, LENGTHS, Net, Part, Plan, TOKENS, bias, cols, rows};
use super::truth::Truth;

const HIDDEN: usize = 6;
const OUTPUTS: usize = 4;

impl Twin for Head {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let mut pooled = reference::pool(self.pool, x, HIDDEN, &LENGTHS);
        if let Some((dense, activation)) = &self.dense {
            let inner = truth.linear(dense, &pooled);
            pooled = inner.iter().map(|&x| reference::activation(*activation, x)).collect();
        }
        truth.linear(&self.classifier, &truth.drop(self.classifier.site, self.dropout, &pooled))
    }
}

fn head(net: &mut Net, pool: Pool, activation: Option<Activation>, dropout: f32) -> Head {
    let dense = activation.map(|activation| (net.linear(HIDDEN, HIDDEN), activation));
    Head { pool, dense, classifier: net.linear(HIDDEN, OUTPUTS), dropout }
}

#[test]
fn every_subset_of_its_parameters_and_ragged_slices() {
    for pool in [Pool::Mean, Pool::First] {
        for activation in [None, Some(Activation::Tanh), Some(Activation::Gelu), Some(Activation::Relu)] {
            for dropout in [0.0, DROPOUT] {
                let mut net = Net::default();
                let head = head(&mut net, pool, activation, dropout);
                let parts: Vec<Part> = (0..net.parameters.len()).map(|i| vec![(i, Slices::All)]).collect();
                let (weight, own) = (head.classifier.weight, bias(&head.classifier));
                let mut odd = vec![
                    vec![(weight, cols([0..2, 5..6])), (own, rows([1..3]))],
                    vec![(weight, rows([2..4]))],
                ];
                if let Some((dense, _)) = &head.dense {
                    odd.push(vec![(dense.weight, rows([0..2, 4..5])), (weight, cols([1..4]))]);
                    odd.push(vec![(dense.weight, cols([2..3, 4..6])), (bias(dense), rows([5..6]))]);
                }
                let subject = Subject { net: &net, layer: &head, input: (TOKENS, HIDDEN) };
                let name = format!("head, {pool:?}, {activation:?}, dropout {dropout}");
                subject.check(&name, &net.block_plans(&parts, &odd));
            }
        }
    }
}

#[test]
fn forward_saves_only_what_backward_reads() {
    let mut net = Net::default();
    let head = head(&mut net, Pool::Mean, Some(Activation::Tanh), 0.0);
    let subject = Subject { net: &net, layer: &head, input: (TOKENS, HIDDEN) };
    let (dense, classifier) = (&head.dense.as_ref().unwrap().0, &head.classifier);
    let saved = |part: Part, below| subject.saved(&Plan { update: net.update([&part]), below }, false);

    let row = LENGTHS.len() * HIDDEN;
    assert_eq!(saved(vec![], Slices::None), 0);
    assert_eq!(saved(vec![(bias(classifier), Slices::All)], Slices::None), 0);
    assert_eq!(saved(vec![(classifier.weight, Slices::All)], Slices::None), row);
    assert_eq!(saved(vec![(bias(dense), Slices::All)], Slices::None), row);
    assert_eq!(saved(vec![(dense.weight, rows([1..2]))], Slices::None), 2 * row);
    assert_eq!(saved(vec![], Slices::All), row);
}
