//! Patches of pictures and series as tokens, the norm behind the last block, and the head of a forecaster.

use rgft_core::{Extent, Images, Inputs, Series, Slices};
use rgft_kernels::reference::patches as twin;
use rgft_nn::layers::embedding::Table;
use rgft_nn::layers::final_norm::FinalNorm;
use rgft_nn::layers::forecast_head::ForecastHead;
use rgft_nn::layers::patch_embedding::PatchEmbedding;
use rgft_nn::layers::patch_stem::PatchStem;
use rgft_nn::layers::pre_norm::PreNorm;
use rgft_nn::layers::series_stem::{InstanceNorm, SeriesStem};
use rgft_nn::layers::{Block, Context, Sinks, Stem};
use rgft_nn::{Needs, Product, Tape, Tensor};

use super::check::{Layer, Subject, Twin};
use super::net::{DROPOUT, Net, Part, Plan, TOKENS, cols, numbers, rows};
use super::truth::Truth;

const HIDDEN: usize = 6;
const EPSILON: f32 = 0.05;
/// Windows of the forecaster's tests, and tokens of each.
const WINDOWS: [usize; 3] = [3; 3];

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// A stem, what it reads, and the patches that it should cut out of that.
struct Case {
    stem: Box<dyn Stem>,
    embedding: PatchEmbedding,
    inputs: Inputs,
    patches: Vec<f64>,
}

fn embedding(net: &mut Net, scalars: usize, patches: usize, class: bool) -> PatchEmbedding {
    let class = class.then(|| net.table(1, HIDDEN));
    let tokens = patches + usize::from(class.is_some());
    let positions = net.table(tokens, HIDDEN);
    PatchEmbedding { projection: net.linear(scalars, HIDDEN), class, positions, tokens, dropout: DROPOUT }
}

fn pictures(net: &mut Net, class: bool) -> Case {
    let (height, width, channels, patch) = (4, 6, 2, 2);
    let embedding = embedding(net, 8, 6, class);
    let pixels = numbers(3, 3 * height * width * channels);
    let patches = twin::image_patches(&wide(&pixels), height, width, channels, patch);
    let inputs = Inputs::Images(Images { pixels, height, width, channels });
    let stem = Box::new(PatchStem { embedding: embedding.clone(), height, width, channels, patch });
    Case { stem, embedding, inputs, patches }
}

fn series(net: &mut Net, instance_norm: Option<InstanceNorm>) -> Case {
    let (context, patch, stride) = (12, 4, 3);
    let embedding = embedding(net, patch, 3, false);
    let values = numbers(3, 4 * context);
    let windows = match instance_norm {
        Some(norm) => twin::instance_norm(&wide(&values), context, norm.epsilon.into()).0,
        None => wide(&values),
    };
    let patches = twin::series_patches(&windows, context, patch, stride);
    let inputs = Inputs::Series(Series { values, steps: context });
    let stem = Box::new(SeriesStem { embedding: embedding.clone(), context, patch, stride, instance_norm });
    Case { stem, embedding, inputs, patches }
}

fn looked_up(truth: &Truth, table: &Table, ids: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
    let row = |id: usize| truth.parameter(table.weight)[id * HIDDEN..][..HIDDEN].to_vec();
    let found = ids.clone().flat_map(row).collect();
    truth.site(table.site, ids.map(|id| id as f64).collect(), found)
}

impl Layer for Case {
    fn truth(&self, truth: &Truth, _: &[f64]) -> Vec<f64> {
        let PatchEmbedding { projection, class, positions, tokens, dropout } = &self.embedding;
        let examples = self.inputs.extent().examples();
        let mut y = looked_up(truth, positions, (0..examples).flat_map(|_| 0..*tokens));
        let patches = truth.linear(projection, &self.patches);
        let classes = class.as_ref().map(|table| looked_up(truth, table, std::iter::repeat_n(0, examples)));
        let mut patches = patches.chunks_exact(HIDDEN);
        let mut classes = classes.iter().flat_map(|rows| rows.chunks_exact(HIDDEN));
        for (i, y) in y.chunks_exact_mut(HIDDEN).enumerate() {
            let front = class.is_some() && i % tokens == 0;
            let row = if front { classes.next() } else { patches.next() };
            y.iter_mut().zip(row.unwrap()).for_each(|(y, x)| *y += x);
        }
        truth.drop(projection.site, *dropout, &y)
    }

    fn forward(&self, cx: Context, _: Tensor, tape: &mut Tape) -> Tensor {
        let y = self.stem.forward(cx, &self.inputs, tape);
        assert_eq!(y.rows(), self.stem.extent(&self.inputs.extent()).rows());
        y
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        self.stem.backward(cx, &self.inputs, dy, tape, sinks);
        None
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        self.stem.set_needs(needs, &plan.update, observe);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.stem.products(needs, extent, out);
    }

    fn extent(&self) -> Extent {
        self.inputs.extent()
    }
}

#[test]
fn every_subset_of_a_stems_parameters_and_ragged_slices() {
    type Make = fn(&mut Net) -> Case;
    let cases: [(&str, Make); 4] = [
        ("pictures with a class token", |net| pictures(net, true)),
        ("pictures", |net| pictures(net, false)),
        ("series", |net| series(net, None)),
        ("series in their own units", |net| series(net, Some(InstanceNorm { epsilon: EPSILON }))),
    ];
    for (name, make) in cases {
        for dense_tables in [false, true] {
            let mut net = Net { dense_tables, ..Net::default() };
            let case = make(&mut net);
            let parts: Vec<Part> = (0..net.parameters.len()).map(|i| vec![(i, Slices::All)]).collect();
            let weight = case.embedding.projection.weight;
            let odd: [Part; 3] = [
                vec![(weight, rows([1..2, 4..6]))],
                vec![(weight, cols([0..2, 3..4]))],
                vec![(weight, rows([2..5]))],
            ];
            let updates = net.subsets(&parts).into_iter().chain(odd.iter().map(|part| net.update([part])));
            let plans: Vec<_> = updates.map(|update| Plan { update, below: Slices::None }).collect();
            let subject = Subject { net: &net, layer: &case, input: (0, 0) };
            subject.check(&format!("{name}, dense tables {dense_tables}"), &plans);
        }
    }
}

#[test]
fn positions_cost_nothing_and_save_nothing() {
    let mut net = Net::default();
    let case = pictures(&mut net, true);
    let subject = Subject { net: &net, layer: &case, input: (0, 0) };
    let projection = &case.embedding.projection;
    let plan = |part: Part| Plan { update: net.update([&part]), below: Slices::None };
    let forward = 2 * 18 * 8 * HIDDEN as u64;
    let positions = plan(vec![(case.embedding.positions.weight, Slices::All)]);
    let flops = subject.flops(&positions);
    assert_eq!([flops.forward, flops.dx, flops.dw], [forward, 0, 0]);
    assert_eq!(subject.saved(&positions, false), 0);
    let patches = plan(vec![(projection.weight, Slices::All)]);
    let flops = subject.flops(&patches);
    assert_eq!([flops.forward, flops.dx, flops.dw], [forward, 0, forward]);
    assert_eq!(subject.saved(&patches, false), 18 * 8);
}

/// A forecaster's head and the windows that it forecasts.
struct Forecast {
    head: ForecastHead,
    inputs: Inputs,
}

impl Layer for Forecast {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let ForecastHead { map, instance_norm, dropout } = &self.head;
        let y = truth.linear(map, &truth.drop(map.site, *dropout, x));
        let (Some(norm), Inputs::Series(series)) = (instance_norm, &self.inputs) else { return y };
        let units = twin::instance_norm(&wide(&series.values), series.steps, norm.epsilon.into()).1;
        let unit = |i: usize| &units[i / map.output * 2..][..2];
        y.iter().enumerate().map(|(i, y)| y * unit(i)[1] + unit(i)[0]).collect()
    }

    fn forward(&self, cx: Context, x: Tensor, tape: &mut Tape) -> Tensor {
        self.head.forward(cx, x, tape)
    }

    fn backward(&self, cx: Context, dy: Tensor, tape: &mut Tape, sinks: &mut Sinks) -> Option<Tensor> {
        let dx = self.head.backward(cx, dy, tape, sinks);
        assert!(dx.as_ref().is_none_or(|dx| (dx.rows(), dx.cols()) == (TOKENS, HIDDEN)));
        dx
    }

    fn set_needs(&self, needs: &mut [Needs], plan: &Plan, observe: bool) {
        self.head.set_needs(needs, &plan.update, !plan.below.is_none(), observe);
    }

    fn products(&self, needs: &[Needs], extent: &Extent, out: &mut Vec<Product>) {
        self.head.products(needs, extent, out);
    }

    fn extent(&self) -> Extent {
        Extent::Sequences(WINDOWS.to_vec())
    }

    fn inputs(&self) -> Option<&Inputs> {
        Some(&self.inputs)
    }
}

#[test]
fn forecasts_come_back_in_the_windows_units() {
    for instance_norm in [None, Some(InstanceNorm { epsilon: EPSILON })] {
        let mut net = Net::default();
        let map = net.linear(WINDOWS[0] * HIDDEN, 5);
        let (weight, bias) = (map.weight, map.bias.unwrap());
        let values = numbers(4, WINDOWS.len() * 7).iter().map(|x| 3.0 * x + 1.0).collect();
        let inputs = Inputs::Series(Series { values, steps: 7 });
        let case = Forecast { head: ForecastHead { map, instance_norm, dropout: DROPOUT }, inputs };
        let odd: [Part; 3] = [
            vec![(weight, rows([0..1, 3..5]))],
            vec![(weight, cols([2..7]))],
            vec![(weight, rows([1..3])), (bias, rows([1..3]))],
        ];
        let plans = net.block_plans(&[vec![(weight, Slices::All), (bias, Slices::All)]], &odd);
        let subject = Subject { net: &net, layer: &case, input: (TOKENS, HIDDEN) };
        subject.check(&format!("forecast head, {instance_norm:?}"), &plans);
    }
}

impl Twin for FinalNorm {
    fn truth(&self, truth: &Truth, x: &[f64]) -> Vec<f64> {
        let PreNorm::Layer(norm) = &self.0 else { panic!("a layer norm") };
        truth.norm(norm, x, None)
    }
}

#[test]
fn the_norm_behind_the_last_block() {
    let mut net = Net::default();
    let norm = FinalNorm(PreNorm::Layer(net.norm(HIDDEN, 0.0)));
    let subject = Subject { net: &net, layer: &norm, input: (TOKENS, HIDDEN) };
    subject.check("final norm", &net.block_plans(&[], &[]));
}
