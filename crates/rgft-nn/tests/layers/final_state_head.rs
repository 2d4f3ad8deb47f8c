//! The head on a recurrent layer's final states, of one direction and of both, with a sequence without rows.

use rgft_core::{Extent, Slices};
use rgft_nn::layers::final_state_head::FinalStateHead;

use super::check::{Subject, Twin};
use super::net::{DROPOUT, Net, bias, cols, rows};
use super::truth::Truth;

const LENGTHS: [usize; 4] = [3, 0, 1, 5];
const HIDDEN: usize = 4;

impl Twin for FinalStateHead {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let width = self.directions * HIDDEN;
        let (mut states, mut first) = (Vec::new(), 0);
        for length in LENGTHS {
            let own = &x[first * width..][..length * width];
            first += length;
            match own.chunks_exact(width).next_back() {
                None => states.extend(vec![0.0; width]),
                Some(last) => {
                    states.extend(&last[..HIDDEN]);
                    states.extend(&own[HIDDEN..width]);
                }
            }
        }
        truth.linear(&self.output, &truth.drop(self.output.site, self.dropout, &states))
    }

    fn entering(&self) -> Extent {
        Extent::Sequences(LENGTHS.to_vec())
    }
}

#[test]
fn every_subset_of_its_parameters_and_ragged_slices() {
    for directions in [1, 2] {
        let mut net = Net::default();
        let output = net.linear(directions * HIDDEN, 3);
        let head = FinalStateHead { output, directions, dropout: DROPOUT, instance_norm: None };
        let parameters = [head.output.weight, bias(&head.output)];
        let components = parameters.map(|parameter| vec![(parameter, Slices::All)]);
        let odd = [
            vec![(parameters[0], rows([0..1, 2..3])), (parameters[1], rows([1..2]))],
            vec![(parameters[0], cols([1..3]))],
        ];
        let subject = Subject { net: &net, layer: &head, input: (9, directions * HIDDEN) };
        subject.check(&format!("final states of {directions}"), &net.block_plans(&components, &odd));
    }
}
