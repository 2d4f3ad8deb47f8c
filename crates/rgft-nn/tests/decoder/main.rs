//! Decoders against PyTorch, counted by hand, and generating with a memory.

#![allow(clippy::unwrap_used, missing_docs)]

mod generating;
mod goldens;
#[path = "../pytorch/mod.rs"]
mod pytorch;

use std::path::{Path, PathBuf};

use rgft_core::{Inputs, Slices, Tokens};
use rgft_kernels::Precision;
use rgft_nn::layers::Sinks;
use rgft_nn::models::{self, HeadRequest, Model};
use rgft_nn::{Blind, Engine, Gradients, Product, Tape};
use serde_json::Value;

/// No class: the last token of a sequence has no next one.
const IGNORED: u32 = u32::MAX;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rgft/tests/goldens/decoder")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(folder: &Path) -> Model {
    let request = HeadRequest { dropout: Some(0.0), ..HeadRequest::default() };
    models::load(folder, &request).unwrap()
}

fn packed(sequences: &[Vec<u32>]) -> Inputs {
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    Inputs::Tokens(Tokens { ids: sequences.concat(), types: vec![0; lengths.iter().sum()], lengths })
}

/// The next token at every token.
fn next_tokens(sequences: &[Vec<u32>]) -> Vec<u32> {
    sequences.iter().flat_map(|ids| ids[1..].iter().copied().chain([IGNORED])).collect()
}

/// The logits of every token, without a backward.
fn logits(model: &Model, inputs: &Inputs) -> Vec<f32> {
    let engine = Engine::new(Precision::F32);
    let update = vec![Slices::None; model.parameters().len()];
    let nothing = model.needs(&update, model.levels(), false);
    let mut tape = Tape::default();
    let logits = model.forward(&engine, inputs, &nothing, &mut tape);
    assert!(tape.is_empty(), "a frozen model saves nothing");
    logits.data().to_vec()
}

/// Mean loss and gradients of a plan, with the products that ran; they must be those foretold.
fn step(
    model: &Model,
    sequences: &[Vec<u32>],
    update: &[Slices],
    cut: usize,
) -> (f64, Gradients, Vec<Product>) {
    let (engine, inputs) = (Engine::new(Precision::F32), packed(sequences));
    let needs = model.needs(update, cut, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), update, &model.tables());
    engine.record();
    let mut tape = Tape::default();
    let mut logits = model.forward(&engine, &inputs, &needs, &mut tape);
    let loss = engine.kernels.cross_entropy(logits.data_mut(), &next_tokens(sequences), 1.0);
    let sinks = &mut Sinks { gradients: &mut gradients, probe: &mut Blind };
    model.backward(&engine, &inputs, &needs, logits, &mut tape, sinks);
    assert!(tape.is_empty(), "forward saved what backward did not read");
    let (mut executed, mut planned) = (engine.recorded(), model.products(&inputs.extent(), &needs));
    executed.sort_unstable();
    planned.sort_unstable();
    assert_eq!(executed, planned);
    (loss, gradients, executed)
}
