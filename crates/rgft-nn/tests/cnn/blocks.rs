//! Every block under every kind of need: finite differences, products, what is saved, what a probe sees.

use std::ops::Range;

use rgft_core::{Extent, Images, Inputs, Slices};
use rgft_kernels::cpu::batch_norm::Clip;
use rgft_kernels::reference;
use rgft_kernels::reference::images::for_each_product;
use rgft_nn::layers::batch_norm::BatchNorm;
use rgft_nn::layers::conv::Conv;
use rgft_nn::layers::conv_norm::ConvNorm;
use rgft_nn::layers::image_stem::ImageStem;
use rgft_nn::layers::residual_block::{ResidualBlock, Shortcut};
use rgft_nn::layers::{Block, Context, Sinks, Stem};
use rgft_nn::models::Grain;
use rgft_nn::{Activation, Engine, Gradients, Needs, Parameter, Parameters, Probe, Tape, Tensor};

use super::common::{engine, numbers};
use super::truth::Truth;

#[derive(Default)]
struct Net {
    parameters: Parameters,
    /// Weight and bias of each site.
    sites: Vec<(usize, Option<usize>)>,
}

impl Net {
    fn parameter(&mut self, name: &str, shape: &[usize], centre: f32, buffer: bool) -> usize {
        let data = numbers(100 + self.parameters.len(), shape.iter().product());
        let data = data.into_iter().map(|x| centre + 0.5 * x).collect();
        let name = format!("{}:{name}", self.parameters.len());
        self.parameters.push(Parameter { name, shape: shape.to_vec(), data, buffer, ..Parameter::default() })
    }

    fn site(&mut self, weight: usize, bias: Option<usize>) -> usize {
        self.sites.push((weight, bias));
        self.sites.len() - 1
    }

    /// Channels in and out, filter, stride, groups.
    fn unit(&mut self, [input, output, kernel, stride, groups]: [usize; 5], clip: Clip) -> ConvNorm {
        let weight = self.parameter("weight", &[output, kernel, kernel, input / groups], 0.0, false);
        let site = self.site(weight, None);
        let conv = Conv { site, weight, input, output, kernel, stride, padding: kernel / 2, groups };
        let mut vector = |name: &str, centre, buffer| self.parameter(name, &[output], centre, buffer);
        let (weight, bias) = (vector("gamma", 1.0, false), vector("beta", 0.2, false));
        let (mean, variance) = (vector("mean", 0.0, true), vector("variance", 1.0, true));
        let site = self.site(weight, Some(bias));
        let (epsilon, momentum) = (0.05, 0.1);
        let norm = BatchNorm { site, weight, bias, mean, variance, width: output, epsilon, momentum, clip };
        ConvNorm { name: format!("unit{site}"), conv, norm }
    }

    fn needs(&self, update: &[Slices]) -> Vec<Needs> {
        let needs = self.sites.iter().map(|(weight, bias)| Needs {
            dw: update[*weight].clone(),
            db: bias.map_or(Slices::None, |bias| update[bias].clone()),
            ..Needs::default()
        });
        needs.collect()
    }

    fn update(&self, parts: &[(usize, Slices)]) -> Vec<Slices> {
        let mut update = vec![Slices::None; self.parameters.len()];
        for (parameter, slices) in parts {
            let (rows, cols) = (self.parameters[*parameter].rows(), self.parameters[*parameter].cols());
            update[*parameter] = std::mem::take(&mut update[*parameter]).union(slices, rows, cols).unwrap();
        }
        update
    }
}

enum Subject {
    Block(ResidualBlock),
    Stem(ImageStem),
}

impl Subject {
    fn truth(&self, truth: &Truth, extent: &Extent, x: &[f64]) -> Vec<f64> {
        match self {
            Self::Block(block) => truth.block(block, extent, x),
            Self::Stem(stem) => truth.stem(stem, extent, x),
        }
    }

    fn units(&self) -> Vec<&ConvNorm> {
        match self {
            Self::Stem(stem) => vec![&stem.unit],
            Self::Block(block) => match &block.shortcut {
                Shortcut::Projection(unit) => block.branch.iter().chain([unit]).collect(),
                _ => block.branch.iter().collect(),
            },
        }
    }
}

/// Writes down what it sees: the site, its input as dense rows or as maps that were convolved to `dW`, and `δ`.
#[derive(Default)]
struct Recorder(Vec<(usize, Vec<f64>)>);

impl Probe for Recorder {
    /// Gradients that follow from what is shown: dW of a convolution, dγ and dβ of a norm.
    fn see(&mut self, _: &Engine, site: usize, input: Activation, delta: &Tensor) {
        let gradient = match input {
            Activation::Maps { x, shape } => {
                let mut dw = vec![0.0; shape.output * shape.patch()];
                for_each_product(shape, |o, i, w| dw[w] += f64::from(delta.data()[o]) * f64::from(x[i]));
                dw
            }
            Activation::Dense(normalised) => {
                let mut sums = vec![0.0; 2 * delta.cols()];
                for (i, (d, n)) in delta.data().iter().zip(normalised.data()).enumerate() {
                    sums[i % delta.cols()] += f64::from(*d) * f64::from(*n);
                    sums[delta.cols() + i % delta.cols()] += f64::from(*d);
                }
                sums
            }
            _ => panic!("no table here"),
        };
        self.0.push((site, gradient));
    }
}

struct Case {
    net: Net,
    subject: Subject,
    extent: Extent,
    input: usize,
}

impl Case {
    fn x(&self) -> Vec<f32> {
        numbers(2, self.extent.rows() * self.input)
    }

    /// y, dx and the gradient of each parameter, by central differences in f64.
    fn expected(&self, needs: &[Needs], training: bool, c: &[f32]) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>) {
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
        let parameters: Vec<_> = self.net.parameters.iter().map(|p| wide(&p.data)).collect();
        let batch = |site: usize| training && !needs[site].is_empty();
        let evaluate = |x: &[f64], parameters: &[Vec<f64>]| {
            self.subject.truth(&Truth { parameters, batch: &batch }, &self.extent, x)
        };
        let loss = |x: &[f64], parameters: &[Vec<f64>]| -> f64 {
            evaluate(x, parameters).iter().zip(c).map(|(y, &c)| y * f64::from(c)).sum()
        };
        let x = wide(&self.x());
        let dx = (0..x.len()).map(|i| reference::difference(&x, i, |x| loss(x, &parameters))).collect();
        let gradient = |p: usize| -> Vec<f64> {
            let moved = |values: &[f64]| {
                let mut all = parameters.clone();
                all[p] = values.to_vec();
                loss(&x, &all)
            };
            (0..parameters[p].len()).map(|i| reference::difference(&parameters[p], i, moved)).collect()
        };
        let gradients = (0..parameters.len())
            .map(|p| if self.net.parameters[p].buffer { Vec::new() } else { gradient(p) });
        (evaluate(&x, &parameters), dx, gradients.collect())
    }

    fn check(&self, name: &str, parts: &[(usize, Slices)], below: bool, training: bool) {
        let case = format!("{name}, training {training}, below {below}, {parts:?}");
        let update = self.net.update(parts);
        let outputs = self.subject_extent().rows() * self.output();
        let c = numbers(1, outputs);
        for observe in [false, true] {
            let engine = engine(training);
            let mut needs = self.net.needs(&update);
            match &self.subject {
                Subject::Block(block) => block.set_needs(&mut needs, &update, below, observe),
                Subject::Stem(stem) => stem.set_needs(&mut needs, &update, observe),
            }
            let (y, dx, gradients) = self.expected(&needs, training, &c);
            let inputs = self.inputs();
            let cx = Context {
                engine: &engine,
                parameters: &self.net.parameters,
                needs: &needs,
                extent: &self.extent,
                inputs: Some(&inputs),
            };
            let tables = vec![false; update.len()];
            let mut sums = Gradients::new(&engine, &self.net.parameters, &update, &tables);
            let (mut tape, mut probe) = (Tape::default(), Recorder::default());
            engine.record();
            let mut dx_found = None;
            for times in 1..=2 {
                let mut x = engine.tensor(self.extent.rows(), self.input);
                x.data_mut().copy_from_slice(&self.x());
                let y_found = match &self.subject {
                    Subject::Block(block) => block.forward(cx, x, &mut tape),
                    Subject::Stem(stem) => stem.forward(cx, &inputs, &mut tape),
                };
                close(&case, "y", y_found.data(), &y, 1.0);
                let asked = needs.iter().any(|needs| !needs.is_empty());
                assert!(asked || tape.is_empty(), "{case}: saved without need");
                let mut dy = engine.tensor(y_found.rows(), y_found.cols());
                dy.data_mut().copy_from_slice(&c);
                let mut sinks = Sinks { gradients: &mut sums, probe: &mut probe };
                dx_found = match &self.subject {
                    Subject::Block(block) => block.backward(cx, dy, &mut tape, &mut sinks),
                    Subject::Stem(stem) => {
                        stem.backward(cx, &inputs, dy, &mut tape, &mut sinks);
                        None
                    }
                };
                assert!(tape.is_empty(), "{case}: forward saved what backward did not read");
                if times == 1 {
                    let (mut executed, mut planned) = (engine.recorded(), Vec::new());
                    match &self.subject {
                        Subject::Block(block) => block.products(&needs, &self.extent, &mut planned),
                        Subject::Stem(stem) => stem.products(&needs, &self.extent, &mut planned),
                    }
                    executed.sort_unstable();
                    planned.sort_unstable();
                    assert_eq!(executed, planned, "{case}: the products executed are not those planned");
                }
                self.check_gradients(&case, &update, &sums, &gradients, f64::from(times));
            }
            let is_block = matches!(self.subject, Subject::Block(_));
            assert_eq!(dx_found.is_some(), below && is_block, "{case}: whether dx comes back");
            if let Some(found) = dx_found {
                close(&case, "dx", found.data(), &dx, 1.0);
            }
            self.check_seen(&case, observe, &probe, &gradients);
        }
    }

    fn check_gradients(
        &self,
        case: &str,
        update: &[Slices],
        found: &Gradients,
        expected: &[Vec<f64>],
        times: f64,
    ) {
        for (i, parameter) in self.net.parameters.iter().enumerate() {
            assert_eq!(found.has(i), !update[i].is_none(), "{case}: whether {} has a buffer", parameter.name);
            let dense = found.dense(i, parameter.rows(), parameter.cols());
            let wanted = |row: usize| match &update[i] {
                Slices::Rows(ranges) => ranges.contains(row),
                part => !part.is_none(),
            };
            let masked = expected[i].iter().enumerate();
            let masked: Vec<f64> =
                masked.map(|(at, g)| if wanted(at / parameter.cols()) { *g } else { 0.0 }).collect();
            if !parameter.buffer {
                close(case, &parameter.name, &dense, &masked, times);
            }
        }
    }

    /// The probe saw each site, and what it saw says the gradient of all its parameters.
    fn check_seen(&self, case: &str, observe: bool, probe: &Recorder, gradients: &[Vec<f64>]) {
        let mut seen: Vec<_> = probe.0.iter().map(|(site, _)| *site).collect();
        seen.sort_unstable();
        let sites = if observe { self.net.sites.len() } else { 0 };
        assert_eq!(seen, (0..sites).flat_map(|site| [site; 2]).collect::<Vec<_>>(), "{case}: sites seen");
        for (site, found) in &probe.0 {
            let (weight, bias) = self.net.sites[*site];
            let mut expected = gradients[weight].clone();
            expected.extend(bias.iter().flat_map(|bias| gradients[*bias].clone()));
            let found: Vec<f32> = found.iter().map(|x| *x as f32).collect();
            close(case, &format!("what site {site} shows"), &found, &expected, 1.0);
        }
    }

    fn inputs(&self) -> Inputs {
        let Extent::Maps { height, width, .. } = self.extent else { panic!("maps") };
        Inputs::Images(Images { pixels: self.x(), height, width, channels: self.input })
    }

    fn subject_extent(&self) -> Extent {
        match &self.subject {
            Subject::Block(block) => block.extent(&self.extent),
            Subject::Stem(stem) => stem.extent(&self.extent),
        }
    }

    fn output(&self) -> usize {
        match &self.subject {
            Subject::Block(block) => block.branch.last().unwrap().conv.output,
            Subject::Stem(stem) => stem.unit.conv.output,
        }
    }

    /// Nothing, everything, each unit, parts of units, single parameters: each with and without something below.
    fn check_all(&self, name: &str) {
        let whole = |parameter| (parameter, Slices::All);
        let part = |parameter, range: Range<usize>| (parameter, Slices::Rows([range].into_iter().collect()));
        let all = |unit: &ConvNorm| [unit.conv.weight, unit.norm.weight, unit.norm.bias];
        let units = self.subject.units();
        let everything: Vec<_> = units.iter().flat_map(|unit| all(unit)).map(whole).collect();
        let mut plans = vec![vec![], everything];
        for unit in &units {
            plans.push(all(unit).map(|parameter| part(parameter, 1..3)).to_vec());
        }
        let ragged = |parameter| vec![part(parameter, 0..1), part(parameter, 2..4)];
        plans.push(units.iter().flat_map(|unit| all(unit).into_iter().flat_map(ragged)).collect());
        let (first, last) = (units[0], units[units.len() - 1]);
        plans.extend([vec![whole(first.norm.bias)], vec![whole(last.norm.weight)]]);
        plans.extend([
            vec![part(first.conv.weight, 2..4)],
            vec![part(last.norm.bias, 0..2), whole(first.conv.weight)],
        ]);
        for parts in &plans {
            self.check(name, parts, true, true);
            self.check(name, parts, false, true);
        }
        self.check(name, &plans[1], true, false);
    }
}

/// `found` is `times · expected` to 1e-4 of the largest.
fn close(case: &str, what: &str, found: &[f32], expected: &[f64], times: f64) {
    assert_eq!(found.len(), expected.len(), "{case}: {what}");
    let largest = expected.iter().fold(0.05f64, |largest, e| largest.max(e.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*f) - times * e).abs();
        assert!(error <= 1e-4 * times * largest, "{case}: {what} at {i}: {f} against {}", times * e);
    }
}

fn maps(examples: usize, height: usize, width: usize) -> Extent {
    Extent::Maps { examples, height, width }
}

#[test]
fn a_basic_block_with_its_identity() {
    let mut net = Net::default();
    let branch = vec![net.unit([4, 4, 3, 1, 1], Clip::Relu), net.unit([4, 4, 3, 1, 1], Clip::Relu)];
    let subject = Subject::Block(ResidualBlock { branch, shortcut: Shortcut::Identity });
    Case { net, subject, extent: maps(2, 4, 3), input: 4 }.check_all("identity");
}

#[test]
fn a_basic_block_that_pads() {
    let mut net = Net::default();
    let branch = vec![net.unit([4, 7, 3, 2, 1], Clip::Relu), net.unit([7, 7, 3, 1, 1], Clip::Relu)];
    let subject = Subject::Block(ResidualBlock { branch, shortcut: Shortcut::Pad { before: 1 } });
    Case { net, subject, extent: maps(2, 4, 3), input: 4 }.check_all("pad");
}

#[test]
fn a_bottleneck_that_projects() {
    let mut net = Net::default();
    let inner = [net.unit([5, 4, 1, 1, 1], Clip::Relu), net.unit([4, 4, 3, 2, 1], Clip::Relu)];
    let branch = inner.into_iter().chain([net.unit([4, 6, 1, 1, 1], Clip::Relu)]).collect();
    let shortcut = Shortcut::Projection(net.unit([5, 6, 1, 2, 1], Clip::None));
    let subject = Subject::Block(ResidualBlock { branch, shortcut });
    Case { net, subject, extent: maps(3, 3, 4), input: 5 }.check_all("projection");
}

#[test]
fn an_inverted_residual() {
    let mut net = Net::default();
    let inner = [net.unit([4, 8, 1, 1, 1], Clip::Relu6), net.unit([8, 8, 3, 1, 8], Clip::Relu6)];
    let branch = inner.into_iter().chain([net.unit([8, 4, 1, 1, 1], Clip::None)]).collect();
    let subject = Subject::Block(ResidualBlock { branch, shortcut: Shortcut::Identity });
    Case { net, subject, extent: maps(2, 3, 4), input: 4 }.check_all("inverted");
}

#[test]
fn a_grouped_convolution_alone() {
    let mut net = Net::default();
    let branch = vec![net.unit([4, 6, 3, 2, 2], Clip::Relu6)];
    let subject = Subject::Block(ResidualBlock { branch, shortcut: Shortcut::None });
    Case { net, subject, extent: maps(2, 5, 4), input: 4 }.check_all("grouped");
}

#[test]
fn stems_with_and_without_pooling() {
    for max_pool in [false, true] {
        let mut net = Net::default();
        let unit = net.unit([3, 4, 3, 1, 1], Clip::Relu);
        let subject = Subject::Stem(ImageStem { unit, max_pool });
        Case { net, subject, extent: maps(2, 4, 5), input: 3 }.check_all(&format!("stem, pool {max_pool}"));
    }
}

#[test]
fn parts_cover_every_parameter_once() {
    let mut net = Net::default();
    let branch = vec![net.unit([4, 40, 3, 1, 1], Clip::Relu), net.unit([40, 6, 3, 1, 1], Clip::Relu)];
    let block = ResidualBlock { branch, shortcut: Shortcut::None };
    for (neuron_group, parts) in [(0, 4 + 2), (3, 14 + 2)] {
        let found = block.parts(&net.parameters, Grain { neuron_group, ..Grain::default() });
        assert_eq!(found.len(), parts);
        let scalars = found.iter().flat_map(|part| &part.slices);
        let scalars = scalars.map(|slice| slice.range.len() * net.parameters[slice.parameter].cols());
        assert_eq!(scalars.sum::<usize>(), net.parameters.scalars());
    }
}
