//! Steps of burn on its backend burn-flex, in single precision, the fastest that it has.

mod encoder;
mod lstm;
mod resnet;

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use peers::{Bench, Work};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures `model`, whose `logits` are of the batch on the device that is given.
fn measure<M: Module>(
    bench: &Bench,
    device: &Device,
    model: M,
    logits: impl Fn(&M, &Device) -> Box<dyn Fn(&M) -> Tensor<2>>,
) {
    let plain = device.clone().inner();
    let frozen = model.valid();
    let of_frozen = logits(&frozen, &plain);
    bench.report("forward", || {
        of_frozen(&frozen);
    });
    drop((of_frozen, frozen));

    let targets: Vec<i32> = bench.work.targets().into_iter().map(|label| label as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::from(targets.as_slice()), device);
    let loss = CrossEntropyLossConfig::new().init(device);
    let mut optimizer = AdamWConfig::new().init();
    let of_model = logits(&model, device);
    let mut model = Some(model);
    bench.report("full step", || {
        let before = model.take().expect("a model");
        let gradients = loss.forward(of_model(&before), targets.clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &before);
        model = Some(optimizer.step(1e-5, before, gradients));
    });
}

/// The batch, `[examples, …]`.
fn numbers<const D: usize>(work: Work, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(work.numbers(), work.shape()), device)
}

fn run(bench: &Bench) {
    let (work, device) = (bench.work, Device::flex().autodiff());
    match work {
        Work::Encoder { layers, hidden, heads, .. } => {
            let model = encoder::Encoder::new(layers, hidden, heads, work.outputs(), &device);
            measure(bench, &device, model, |_, device| {
                let tokens: Vec<i32> = work.tokens().into_iter().map(|token| token as i32).collect();
                let batch = Tensor::<2, Int>::from_data(TensorData::new(tokens, work.shape()), device);
                Box::new(move |model| model.logits(batch.clone()))
            });
        }
        Work::Resnet20 => {
            measure(bench, &device, resnet::ResNet::new(work.outputs(), &device), |_, device| {
                let batch = numbers::<4>(work, device);
                Box::new(move |model| model.logits(batch.clone()))
            });
        }
        Work::Lstm => {
            measure(bench, &device, lstm::Forecaster::new(work.outputs(), &device), |_, device| {
                let batch = numbers::<3>(work, device);
                Box::new(move |model| model.logits(batch.clone()))
            });
        }
    }
}

fn main() -> ExitCode {
    match Bench::from_arguments("0.22.1") {
        Ok(bench) => {
            bench.iter().for_each(run);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
