//! Logits, losses, gradients and ten steps are PyTorch's; the count is the hand count.

use rgft_core::Slices;
use rgft_nn::models::{self, Grain, HeadRequest, Model};
use rgft_nn::weights::{Checkpoint, Init, Weights};
use rgft_nn::{Gradients, Parameter, Product, TensorFiles};
use serde_json::Value;

use super::pytorch::{Optimizer, close, flat};
use super::{goldens, json, load, logits, packed, step};

/// Tied with grouped queries; untied with biases and scaled positions; biases; norms of heads; learnt positions.
const FAMILY: [&str; 5] = ["llama", "llama3", "qwen2", "qwen3", "gpt2"];

fn golden(name: &str) -> (Model, Value, Vec<Vec<u32>>) {
    let folder = goldens().join(name);
    let golden = json(&folder.join("golden.json"));
    let sequences = serde_json::from_value(golden["ids"].clone()).unwrap();
    (load(&folder), golden, sequences)
}

/// The gradients as tensors of a file: what stands there in another layout is brought into it.
fn as_stored(model: &Model, gradients: &Gradients) -> Checkpoint<'static> {
    let of = |(i, parameter): (usize, &Parameter)| Parameter {
        data: gradients.dense(i, parameter.rows(), parameter.cols()),
        ..parameter.clone()
    };
    let all: &'static [Parameter] = Vec::leak(model.parameters().iter().enumerate().map(of).collect());
    let mut checkpoint = Checkpoint::default();
    all.iter().for_each(|parameter| checkpoint.push_parameter(parameter));
    checkpoint
}

fn shape_of(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(values) => std::iter::once(values.len()).chain(shape_of(&values[0])).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn logits_loss_and_all_gradients_are_pytorchs() {
    for name in FAMILY {
        let (model, golden, sequences) = golden(name);
        close(&logits(&model, &packed(&sequences)), &flat(&golden["logits"]), 1e-5, name);
        let (loss, gradients, _) = step(&model, &sequences, &model.parameters().everything(), 0);
        assert!((loss - golden["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}");
        let found = as_stored(&model, &gradients);
        let expected = golden["gradients"].as_object().unwrap();
        assert_eq!(found.names().count(), expected.len(), "{name}: every tensor has a golden gradient");
        let folder = tempfile::tempdir().unwrap();
        found.write(&folder.path().join("model.safetensors")).unwrap();
        let files = TensorFiles::of_folder(folder.path()).unwrap();
        let mut weights = Weights::new(folder.path(), &files, &HeadRequest::default());
        for (tensor, expected) in expected {
            let found = weights.take(&[tensor], &shape_of(expected), Init::Normal(0.0)).unwrap().0;
            close(&found, &flat(expected), 2e-4, &format!("{name} {tensor}"));
        }
    }
}

#[test]
fn ten_steps_are_pytorchs() {
    for name in FAMILY {
        let (mut model, golden, sequences) = golden(name);
        let everything = model.parameters().everything();
        let mut optimizer = Optimizer::default();
        for (i, expected) in flat(&golden["losses"]).into_iter().enumerate() {
            let (loss, gradients, _) = step(&model, &sequences, &everything, 0);
            assert!((loss - expected).abs() < 1e-3, "{name}, step {i}: {loss} against {expected}");
            optimizer.step(&mut model, &gradients, 1e-2);
        }
    }
}

#[test]
fn the_count_is_the_hand_count_on_a_two_layer_decoder() {
    // llama: hidden 8, 2 layers, 4 query heads of width 4 on 2 heads of keys, 12 neurons, 24 words, tied.
    let (model, _, sequences) = golden("llama");
    assert_eq!(sequences.iter().map(Vec::len).collect::<Vec<_>>(), [9, 4]);
    let (tokens, squares) = (13u64, 9 * 9 + 4 * 4u64);
    let flops = |update: &[Slices], cut: usize| -> u64 {
        step(&model, &sequences, update, cut).2.iter().map(Product::flops).sum()
    };
    let linear = |out: u64, input: u64| 2 * tokens * out * input;
    let attention = linear(16, 8) + 2 * linear(8, 8) + linear(8, 16);
    let (feed_forward, of_a_head) = (3 * linear(12, 8), 2 * squares * 4);
    let forward = attention + feed_forward + 4 * 2 * of_a_head;
    let dx = attention + feed_forward + 4 * 4 * of_a_head;
    let (dw, head) = (attention + feed_forward, linear(24, 8));
    assert_eq!(flops(&model.parameters().everything(), 0), 2 * (forward + dx + dw) + 3 * head);

    // The second head of keys in layer 1 and the second of its four neuron groups, cut at that attention block.
    let components = model.components(Grain::default());
    let wanted = ["layers.1.attention.head.1", "layers.1.feed_forward.neurons.1"];
    let active: Vec<usize> =
        wanted.iter().map(|name| components.iter().position(|c| c.name == *name).unwrap()).collect();
    let update = models::update_of(model.parameters(), &components, &active);
    let above = head + feed_forward + 3 * linear(3, 8);
    let inside = linear(8, 8) + 2 * 4 * of_a_head + 2 * linear(8, 8) + 2 * linear(4, 8);
    assert_eq!(flops(&update, 3), 2 * forward + head + above + inside);
}

#[test]
fn a_tied_table_is_one_component_of_both_uses() {
    let (model, ..) = golden("llama");
    let components = model.components(Grain::default());
    let table = model.parameters().find("model.embed_tokens.weight").unwrap();
    let owners: Vec<_> =
        components.iter().filter(|c| c.slices.iter().any(|slice| slice.parameter == table)).collect();
    assert_eq!(owners.len(), 1);
    assert_eq!((&owners[0].name[..], owners[0].depth), ("embeddings", 0));
    assert!(!model.is_table(table), "its gradient is a whole matrix");
    let head = components.last().unwrap();
    assert_eq!((&head.name[..], head.parameters), ("head.norm", 8));
    let (model, ..) = golden("qwen3");
    let components = model.components(Grain::default());
    assert_eq!((&components.last().unwrap().name[..]), "head");
    assert!(model.is_table(model.parameters().find("model.embed_tokens.weight").unwrap()));
}

#[test]
fn bare_checkpoints_of_gpt2_are_read_and_saved_as_whole_ones() {
    let (model, ..) = golden("gpt2");
    let mut bare = Checkpoint::default();
    for parameter in model.parameters().iter() {
        let strip = |name: &str| name.trim_start_matches("transformer.").to_string();
        let mut parameter = parameter.clone();
        parameter.name = strip(&parameter.name);
        if let rgft_nn::Stored::TransposedBlock { tensor, .. } = &mut parameter.stored {
            *tensor = strip(tensor);
        }
        bare.push_parameter(Box::leak(Box::new(parameter)));
    }
    let folder = tempfile::tempdir().unwrap();
    bare.write(&folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), model.config().to_string()).unwrap();
    let again = load(folder.path());
    assert_eq!(again.parameters(), model.parameters());
    let names: Vec<String> = again.checkpoint().names().map(String::from).collect();
    assert!(names.iter().all(|name| name.starts_with("transformer.")), "{names:?}");
    assert!(names.contains(&"transformer.h.1.attn.c_attn.weight".to_string()));
}
