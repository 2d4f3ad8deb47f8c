//! LSTM and GRU layers over packed sequences, in one direction and in both, under every kind of plan.

use std::cmp::Reverse;

use rgft_core::{Extent, Granularity, Slices};
use rgft_kernels::reference::recurrent::{gru_cell, lstm_cell};
use rgft_nn::layers::recurrent::{Cell, Direction, Recurrent};
use rgft_nn::layers::{Block, Context, Sinks};
use rgft_nn::models::Grain;
use rgft_nn::{Needs, Product, Tape, Tensor};

use super::check::{Layer, Subject};
use super::net::{DROPOUT, Net, Part, Plan, bias, rows};
use super::truth::Truth;

const INPUT: usize = 3;
const HIDDEN: usize = 5;

struct Case {
    layer: Recurrent,
    lengths: Vec<usize>,
}

impl Case {
    fn new(net: &mut Net, cell: Cell, both: bool, lengths: &[usize], dropout: f32) -> Self {
        let width = cell.gates().len() * HIDDEN;
        let directions = [false, true].into_iter().take(1 + usize::from(both)).map(|reverse| Direction {
            input: net.linear(INPUT, width),
            recurrent: net.linear(HIDDEN, width),
            reverse,
        });
        let layer = Recurrent { cell, directions: directions.collect(), dropout, lowest: false };
        Self { layer, lengths: lengths.into() }
    }

    fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// All parts of some gates' rows, in one direction.
    fn gates(&self, direction: usize, of: &[std::ops::Range<usize>]) -> Part {
        let direction = &self.layer.directions[direction];
        let own = Slices::Rows(of.iter().cloned().collect());
        let linears = [&direction.input, &direction.recurrent];
        linears
            .iter()
            .flat_map(|linear| [(linear.weight, own.clone()), (bias(linear), own.clone())])
            .collect()
    }

    /// `(sequence, time)` in time-major order.
    fn time_major(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        order.sort_by_key(|&s| Reverse(self.lengths[s]));
        let longest = self.lengths.iter().max().copied().unwrap_or(0);
        let alive = |t| order.iter().filter(move |&&s| self.lengths[s] > t).map(move |&s| (s, t));
        (0..longest).flat_map(alive).collect()
    }

    /// One direction: `h` of each `(sequence, time)`.
    fn direction(&self, truth: &Truth, direction: &Direction, x: &[f64]) -> Vec<Vec<Vec<f64>>> {
        let order = self.time_major();
        let first = |s: usize| self.lengths[..s].iter().sum::<usize>();
        let sorted = order.iter().flat_map(|&(s, t)| &x[(first(s) + t) * INPUT..][..INPUT]).copied();
        let a = truth.linear(&direction.input, &sorted.collect::<Vec<_>>());
        let (linear, width) = (&direction.recurrent, direction.recurrent.output);
        let (weight, bias) = (truth.parameter(linear.weight), truth.parameter(bias(linear)));

        let mut states = self.lengths.iter().map(|&n| vec![(vec![], vec![]); n]).collect::<Vec<_>>();
        let (mut before_all, mut u_all) = (vec![0.0; order.len() * HIDDEN], vec![0.0; order.len() * width]);
        let mut walk: Vec<usize> = (0..order.len()).collect();
        if direction.reverse {
            walk.reverse();
        }
        for row in walk {
            let (s, t) = order[row];
            let earlier = if direction.reverse { t + 1 } else { t.wrapping_sub(1) };
            let (c, h) = states[s].get(earlier).cloned().unwrap_or((vec![0.0; HIDDEN], vec![0.0; HIDDEN]));
            let u: Vec<f64> = (0..width)
                .map(|o| {
                    let sum: f64 = (0..HIDDEN).map(|k| weight[o * HIDDEN + k] * h[k]).sum();
                    sum + bias[o] + truth.shift(linear.site, row * width + o)
                })
                .collect();
            let a = &a[row * width..][..width];
            before_all[row * HIDDEN..][..HIDDEN].copy_from_slice(&h);
            u_all[row * width..][..width].copy_from_slice(&u);
            states[s][t] = match self.layer.cell {
                Cell::Lstm => {
                    lstm_cell(&a.iter().zip(&u).map(|(a, u)| a + u).collect::<Vec<_>>(), &c, HIDDEN)
                }
                Cell::Gru => (vec![], gru_cell(a, &u, &h, HIDDEN)),
            };
        }
        truth.site(linear.site, before_all, u_all);
        let only_h = |states: Vec<(Vec<f64>, Vec<f64>)>| states.into_iter().map(|(_, h)| h).collect();
        states.into_iter().map(only_h).collect()
    }
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let all: Vec<_> = self.layer.directions.iter().map(|d| self.direction(truth, d, x)).collect();
        let mut y = Vec::new();
        for (s, &length) in self.lengths.iter().enumerate() {
            (0..length).for_each(|t| all.iter().for_each(|h| y.extend(&h[s][t])));
        }
        truth.drop(self.layer.directions[0].input.site, self.layer.dropout, &y)
    }

    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        self.layer.forward(cx, x, tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.layer.backward(cx, dy, tape, sinks)
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        self.layer.set_needs(needs, &plan.update, !plan.below.is_none(), observe);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.layer.products(needs, extent, out);
    }

    fn extent(&self) -> Extent {
        Extent::Sequences(self.lengths.clone())
    }
}

#[test]
fn every_set_of_gates_and_ragged_slices() {
    for cell in [Cell::Lstm, Cell::Gru] {
        for (both, lengths, dropout) in [
            (false, &[3, 1, 5][..], DROPOUT),
            (true, &[2, 4, 4, 1], DROPOUT),
            (true, &[3, 3, 3], 0.0),
            (false, &[6], 0.0),
            (false, &[2, 0, 1], 0.0),
        ] {
            let mut net = Net::default();
            let case = Case::new(&mut net, cell, both, lengths, dropout);
            let (last, width) = (usize::from(both), cell.gates().len() * HIDDEN);
            // A gate, a group of one, and all the others; in the last direction whole gates.
            let mut components =
                vec![case.gates(0, &[0..5]), case.gates(0, &[5..7]), case.gates(0, &[7..width])];
            if both {
                components.push(case.gates(1, &[0..10]));
                components.push(case.gates(1, &[10..width]));
            }
            let [input, recurrent] =
                [&case.layer.directions[last].input, &case.layer.directions[last].recurrent];
            let odd = [
                vec![(input.weight, rows([1..3, 7..8, 12..13])), (bias(input), rows([2..6]))],
                vec![(recurrent.weight, rows([0..2, 13..15])), (input.weight, rows([4..9]))],
                vec![(recurrent.weight, rows([5..10])), (bias(recurrent), Slices::All)],
                vec![(input.weight, Slices::All), (recurrent.weight, rows([0..1, 9..11]))],
            ];
            let subject = Subject { net: &net, layer: &case, input: (case.rows(), INPUT) };
            let name = format!("{cell:?}, both {both}, lengths {lengths:?}, dropout {dropout}");
            subject.check(&name, &net.block_plans(&components, &odd));
        }
    }
}

#[test]
fn forward_saves_only_what_backward_reads() {
    for (cell, gates) in [(Cell::Lstm, 4), (Cell::Gru, 3)] {
        let mut net = Net::default();
        let case = Case::new(&mut net, cell, true, &[3, 1, 5], 0.0);
        let subject = Subject { net: &net, layer: &case, input: (case.rows(), INPUT) };
        let saved = |part: Part, below| subject.saved(&Plan { update: net.update([&part]), below }, false);
        let Direction { input, recurrent, .. } = &case.layer.directions[1];
        // Of one direction: the gates, and c' or the candidate's share; the GRU's backward reads h' as well.
        let (x, h) = (9 * INPUT, 9 * HIDDEN);
        let states = gates * h + if cell == Cell::Gru { 2 * h } else { h };
        assert_eq!(saved(vec![], Slices::None), 0);
        assert_eq!(saved(vec![(bias(input), Slices::All)], Slices::None), states);
        assert_eq!(saved(vec![(input.weight, rows([1..2]))], Slices::None), states + x);
        let with_h = if cell == Cell::Lstm { states + h } else { states };
        assert_eq!(saved(vec![(recurrent.weight, rows([1..2, 4..5]))], Slices::None), with_h);
        assert_eq!(saved(case.gates(1, &[2..3]), Slices::None), with_h + x);
        assert_eq!(saved(vec![], Slices::All), 2 * states);
    }
}

#[test]
fn the_count_is_the_hand_count() {
    let mut net = Net::default();
    let case = Case::new(&mut net, Cell::Lstm, false, &[3, 1, 5], 0.0);
    let subject = Subject { net: &net, layer: &case, input: (case.rows(), INPUT) };
    let flops = |part: Part, below| subject.flops(&Plan { update: net.update([&part]), below });
    // 9 rows; 6 of them have a row before them in their sequence.
    let (tokens, carried, width) = (9, 6, 4 * HIDDEN);
    let forward = (2 * width * (tokens * INPUT + carried * HIDDEN)) as u64;
    let chain = (2 * carried * width * HIDDEN) as u64;
    let dw = |rows: usize| (2 * rows * tokens * (INPUT + HIDDEN)) as u64;

    let nothing = flops(vec![], Slices::None);
    assert_eq!([nothing.forward, nothing.dx, nothing.dw], [forward, 0, 0]);
    let group = flops(case.gates(0, &[2..4]), Slices::None);
    assert_eq!([group.forward, group.dx, group.dw], [forward, chain, dw(2)]);
    let all = flops(case.gates(0, &[0..width]), Slices::All);
    let dx = (2 * tokens * width * INPUT) as u64;
    assert_eq!([all.forward, all.dx, all.dw], [forward, chain + dx, dw(width)]);
    let below = flops(vec![], Slices::All);
    assert_eq!([below.forward, below.dx, below.dw], [forward, chain + dx, 0]);
}

#[test]
fn gates_in_groups_cover_every_scalar_once() {
    for (neuron_group, count) in [(0, 3), (1, 5), (3, 2), (50, 1)] {
        let mut net = Net::default();
        let case = Case::new(&mut net, Cell::Gru, true, &[1], 0.0);
        let grain = Grain { granularity: Granularity::Group, neuron_group };
        let parts = case.layer.parts(&net.parameters, grain);
        assert_eq!(parts.len(), 2 * 3 * count);
        assert_eq!(parts[count].name, "gate.z.0");
        assert_eq!(parts[parts.len() - 1].name, format!("reverse.gate.n.{}", count - 1));
        let mut owners = net.parameters.iter().map(|p| vec![0; p.rows()]).collect::<Vec<_>>();
        let slices = parts.iter().flat_map(|part| &part.slices);
        slices
            .for_each(|slice| owners[slice.parameter][slice.range.clone()].iter_mut().for_each(|n| *n += 1));
        assert!(owners.iter().flatten().all(|&owners| owners == 1));
    }
}

#[test]
fn nothing_leaves_the_lowest_layer() {
    let mut net = Net::default();
    let mut case = Case::new(&mut net, Cell::Lstm, false, &[2], 0.0);
    case.layer.lowest = true;
    let mut needs = net.needs(&net.update([&case.gates(0, &[0..3])]));
    Block::set_needs(&case.layer, &mut needs, &[], true, true);
    assert!(needs[0].dx.is_none() && !needs[1].dx.is_none());
}
