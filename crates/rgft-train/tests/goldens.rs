//! MiniLM against PyTorch: logits, gradients, and the first twenty steps of fine-tuning on real questions.
//!
//! The goldens and the script that made them are in `crates/rgft/tests/goldens`. Weights and data are not part of this
//! repository: where they are absent, these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::path::{Path, PathBuf};

use rgft_core::{Inputs, Slices, Tokens};
use rgft_data::{
    Dataset, LabelMap, Labels, Objective, TableSpec, Targets, TextDataset, TextTokenizer, read_table,
};
use rgft_kernels::Precision;
use rgft_nn::models::{self, Grain, HeadRequest, Model, Pooling};
use rgft_nn::{Blind, Engine, Gradients, Tape};
use rgft_train::recipe::{RawRecipe, Recipe};
use rgft_train::{Optimizer, StepSize};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden(name: &str) -> Value {
    let path = repository().join("crates/rgft/tests/goldens").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A path beside the repository, or a reason to skip.
fn asset(path: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/assets").join(path);
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
    }
    path.exists().then_some(path)
}

/// MiniLM with mean pooling, no dropout, and the head that the goldens have.
fn minilm(folder: &Path) -> Model {
    let request = HeadRequest {
        outputs: Some(6),
        pooling: Pooling::Mean,
        dropout: Some(0.0),
        ..HeadRequest::default()
    };
    let mut model = models::load(folder, &request).unwrap();
    let parameters = model.parameters_mut();
    let (weight, bias) =
        (parameters.find("classifier.weight").unwrap(), parameters.find("classifier.bias").unwrap());
    let cols = parameters[weight].cols();
    for (at, w) in parameters[weight].data.iter_mut().enumerate() {
        let (c, j) = ((at / cols) as f64, (at % cols) as f64);
        *w = (0.02 * (1.0 + 0.37 * c + 0.11 * j).sin()) as f32;
    }
    parameters[bias].data.fill(0.0);
    model
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn logits_are_pytorchs() {
    let Some(folder) = asset("models/minilm") else { return };
    let (model, golden) = (minilm(&folder), golden("minilm.json"));
    let sentences: Vec<String> = serde_json::from_value(golden["sentences"].clone()).unwrap();
    let expected: Vec<Vec<u32>> = serde_json::from_value(golden["ids"].clone()).unwrap();

    // The ids first: a wrong token would show in the logits, but not where it came from.
    let rows: String =
        sentences.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    let table = rgft_data::parse_table(
        Path::new("golden.jsonl"),
        rows.as_bytes(),
        &TableSpec::default(),
        Labels::Optional,
    );
    let encoded = TextTokenizer::from_folder(&folder, 128).unwrap().encode(&table.unwrap()).unwrap();
    let ids: Vec<Vec<u32>> = encoded.into_iter().map(|text| text.ids).collect();
    assert_eq!(ids, expected);

    let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
    let (ids, types) = (ids.concat(), vec![0; lengths.iter().sum()]);
    let nothing = vec![Slices::None; model.parameters().len()];
    let needs = model.needs(&nothing, model.levels(), false);
    let engine = Engine::new(Precision::F32);
    let batch = Inputs::Tokens(Tokens { ids, types, lengths });
    let logits = model.forward(&engine, &batch, &needs, &mut Tape::default());
    let expected: Vec<Vec<f64>> = serde_json::from_value(golden["logits"].clone()).unwrap();
    for (found, expected) in logits.data().iter().zip(expected.concat()) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} against {expected}");
    }
}

fn recipe_of(golden: &Value) -> Recipe {
    let mut raw = RawRecipe::default();
    for setting in [
        "model=minilm".into(),
        "data=trec6".into(),
        "task=text-classification".into(),
        format!("learning-rate={}", golden["learning_rate"]),
        format!("head-learning-rate={}", golden["head_learning_rate"]),
        "weight-decay=0.01".into(),
        "schedule=constant".into(),
        "warmup=0".into(),
        "clip=1".into(),
    ] {
        raw.assign(&setting).unwrap();
    }
    raw.check().unwrap()
}

#[test]
fn the_first_twenty_steps_are_pytorchs() {
    let (Some(folder), Some(data)) = (asset("models/minilm"), asset("data/text/trec6/train.csv")) else {
        return;
    };
    let golden = golden("minilm_losses.json");
    let recipe = recipe_of(&golden);
    let mut model = minilm(&folder);
    let table = read_table(&data, &TableSpec::default(), Labels::Required).unwrap();
    let labels = LabelMap::from_table(&table, Objective::Classification).unwrap();
    assert_eq!(labels.names(), serde_json::from_value::<Vec<String>>(golden["labels"].clone()).unwrap());
    let tokenizer = TextTokenizer::from_folder(&folder, 64).unwrap();
    let set = TextDataset::labelled(&table, Objective::Classification, &labels, &tokenizer).unwrap();

    let engine = Engine::new(Precision::F32);
    let components = model.components(Grain::default());
    let everything = model.parameters().everything();
    let needs = model.needs(&everything, 0, false);
    let mut gradients = Gradients::new(&engine, model.parameters(), &everything, &model.tables());
    let mut optimizer = Optimizer::new(&recipe, model.parameters(), &components);
    let sizes: Vec<StepSize> = components
        .iter()
        .map(|component| {
            // The goldens' head is the classifier alone, which is new in this folder.
            let rate = if component.fresh { recipe.head_learning_rate(true) } else { recipe.learning_rate };
            StepSize { learning_rate: rate, active: true }
        })
        .collect();
    assert_eq!(components.iter().filter(|component| component.fresh).count(), 1);

    let losses = numbers(&golden["loss_f64"]);
    let (norms, tokens) = (numbers(&golden["gradient_norm_f64"]), numbers(&golden["tokens"]));
    assert_eq!(losses.len(), 20);
    for (step, expected) in losses.iter().enumerate() {
        let rows: Vec<usize> = (step * 32..(step + 1) * 32).collect();
        let batch = set.pack(&rows, None);
        assert_eq!(batch.inputs.extent().rows() as f64, tokens[step]);
        let Targets::Classes(targets) = &batch.targets else { panic!("classes") };
        gradients.clear();
        let loss = model.forward_backward(&engine, &batch.inputs, &needs, &mut gradients, &mut Blind, |z| {
            engine.kernels.cross_entropy(z.data_mut(), targets, 1.0)
        });
        assert!((loss / expected - 1.0).abs() < 1e-4, "step {step}: loss {loss} against {expected}");
        if step == 0 {
            first_gradients(&model, &gradients, &golden["first_gradient_norms_f64"]);
        }
        let norm = gradients.squared_norm(&engine).sqrt();
        assert!((norm / norms[step] - 1.0).abs() < 1e-3, "step {step}: norm {norm} against {}", norms[step]);
        let scale = (recipe.clip / (norm + 1e-6)).min(1.0);
        optimizer.step(&*engine.kernels, model.parameters_mut(), &gradients, &sizes, scale as f32);
    }
}

/// The norm of every parameter's gradient in the first step. A key's bias cancels in the softmax: its gradient is 0
/// but for rounding, so it has an absolute tolerance.
fn first_gradients(model: &Model, gradients: &Gradients, golden: &Value) {
    let golden = golden.as_object().unwrap();
    let mut seen = 0;
    for (i, parameter) in model.parameters().iter().enumerate() {
        let name = parameter.name.strip_prefix("bert.").unwrap_or(&parameter.name);
        let expected = golden[name].as_f64().unwrap();
        let dense = gradients.dense(i, parameter.rows(), parameter.cols());
        let found = dense.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        if name.ends_with("key.bias") {
            assert!(found < 1e-6 && expected < 1e-6, "{name}: {found} against {expected}");
        } else {
            assert!((found / expected - 1.0).abs() < 1e-4, "{name}: {found} against {expected}");
        }
        seen += 1;
    }
    assert_eq!(seen, golden.len());
}
