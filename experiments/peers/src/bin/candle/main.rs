//! Steps of candle on its CPU backend, in single precision: its products know no other that is faster.

mod encoder;
mod lstm;
mod resnet;

use std::collections::HashMap;
use std::process::ExitCode;

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::{AdamW, Optimizer, VarBuilder, VarMap, loss};
use peers::{Bench, Work};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From a batch to logits. What is trained uses operations that candle can go back through; others are faster.
trait Model {
    fn logits(&self, batch: &Tensor, train: bool) -> Result<Tensor>;
}

fn build(work: Work, vb: VarBuilder) -> Result<Box<dyn Model>> {
    Ok(match work {
        Work::Encoder { layers, hidden, heads, .. } => {
            Box::new(encoder::Encoder::new(layers, hidden, heads, work.outputs(), vb)?)
        }
        Work::Resnet20 => Box::new(resnet::ResNet::new(work.outputs(), vb)?),
        Work::Lstm => Box::new(lstm::Forecaster::new(work.outputs(), vb)?),
    })
}

fn measure(bench: &Bench) -> Result<()> {
    let (work, device) = (bench.work, Device::Cpu);
    let batch = match work {
        Work::Encoder { .. } => Tensor::from_vec(work.tokens(), work.shape(), &device)?,
        _ => Tensor::from_vec(work.numbers(), work.shape(), &device)?,
    };
    let targets = Tensor::new(work.targets(), &device)?;
    let variables = VarMap::new();
    let model = build(work, VarBuilder::from_varmap(&variables, DType::F32, &device))?;

    // The same numbers, of which no graph is kept.
    let fixed: HashMap<String, Tensor> = {
        let named = variables.data().lock().expect("no other thread");
        named.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    };
    let frozen = build(work, VarBuilder::from_tensors(fixed, DType::F32, &device))?;
    bench.report("forward", || {
        frozen.logits(&batch, false).expect("forward");
    });

    // What an operation without a backward leaves out is not said by candle.
    let gradients = loss::cross_entropy(&model.logits(&batch, true)?, &targets)?.backward()?;
    for (name, var) in variables.data().lock().expect("no other thread").iter() {
        if !name.contains("running") && gradients.get(var).is_none() {
            return Err(Error::Msg(format!("{name} has no gradient")));
        }
    }
    drop(gradients);
    let mut optimizer = AdamW::new_lr(variables.all_vars(), 1e-5)?;
    bench.report("full step", || {
        let logits = model.logits(&batch, true).expect("forward");
        let loss = loss::cross_entropy(&logits, &targets).expect("loss");
        optimizer.backward_step(&loss).expect("backward");
    });
    Ok(())
}

fn main() -> ExitCode {
    let done = Bench::from_arguments("0.11.1").and_then(|bench| match bench {
        Some(bench) => measure(&bench).map_err(|error| error.to_string()),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
