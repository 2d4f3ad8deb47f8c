//! A small example of every registered model: what its `config.json` says, and inputs that it reads.

use std::path::Path;

use rgft_core::{Images, Inputs, Series, Tokens};
use rgft_nn::models::{self, HeadRequest, Model};
use serde_json::{Value, json};

/// A model and a batch.
pub(crate) struct Example {
    pub(crate) config: Value,
    pub(crate) inputs: Inputs,
    /// Outputs to ask for; `None` where the model itself says.
    pub(crate) outputs: Option<usize>,
}

/// Three sequences of unequal length.
fn tokens(vocabulary: u32) -> Inputs {
    let lengths = vec![4, 1, 6];
    let ids = (0..11).map(|i| (i * 7 + 3) % vocabulary).collect();
    Inputs::Tokens(Tokens { ids, types: vec![0; 11], lengths })
}

/// Two colour pictures of `size` × `size`.
fn images(size: usize) -> Inputs {
    let pixels = (0..2 * size * size * 3).map(|i| (i as f32 * 0.37).sin()).collect();
    Inputs::Images(Images { pixels, height: size, width: size, channels: 3 })
}

/// Three windows.
fn series(steps: usize) -> Inputs {
    let values = (0..3 * steps).map(|i| (i as f32 * 0.61).sin() + 0.01 * i as f32).collect();
    Inputs::Series(Series { values, steps })
}

/// The example of `model_type`.
pub(crate) fn example(model_type: &str) -> Example {
    let (config, inputs, outputs) = match model_type {
        "bert" | "roberta" => (
            json!({
                "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
                "vocab_size": 30, "max_position_embeddings": 12, "type_vocab_size": 2, "initializer_range": 0.3,
            }),
            tokens(30),
            Some(3),
        ),
        "distilbert" => (
            json!({
                "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20, "vocab_size": 30,
                "max_position_embeddings": 12, "initializer_range": 0.3,
            }),
            tokens(30),
            Some(3),
        ),
        "vit" => (
            json!({
                "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
                "image_size": 8, "patch_size": 4, "initializer_range": 0.3,
            }),
            images(8),
            Some(3),
        ),
        "patch-transformer" => (
            json!({
                "context": 12, "horizon": 4, "patch": 4, "stride": 3, "hidden_size": 12, "num_layers": 2,
                "num_heads": 3, "ffn": 20, "initializer_range": 0.3,
            }),
            series(12),
            None,
        ),
        "gru-lm" | "lstm-lm" => (
            json!({ "num_layers": 2, "hidden_size": 7, "embedding_size": 5, "vocab_size": 20 }),
            tokens(20),
            None,
        ),
        "gru-classifier" | "lstm-classifier" => (
            json!({
                "num_layers": 2, "hidden_size": 7, "embedding_size": 5, "vocab_size": 20, "bidirectional": true,
                "pooling": if model_type == "gru-classifier" { "last" } else { "mean" },
            }),
            tokens(20),
            Some(3),
        ),
        "gru-forecaster" | "lstm-forecaster" => (
            json!({
                "num_layers": 2, "hidden_size": 7, "context": 12, "horizon": 4, "instance_norm": true,
                "patch": if model_type == "gru-forecaster" { 1 } else { 3 },
            }),
            series(12),
            None,
        ),
        "llama" | "qwen2" | "qwen3" => (
            json!({
                "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "head_dim": 4, "intermediate_size": 20, "vocab_size": 30, "max_position_embeddings": 12,
                "tie_word_embeddings": model_type == "llama", "initializer_range": 0.3,
            }),
            tokens(30),
            None,
        ),
        "gpt2" => (
            json!({
                "n_embd": 12, "n_layer": 2, "n_head": 3, "vocab_size": 30, "n_positions": 12, "initializer_range": 0.3,
            }),
            tokens(30),
            None,
        ),
        "resnet-cifar" => (json!({ "depth": 8, "widths": [4, 8, 8], "image_size": 9 }), images(9), Some(3)),
        "resnet" => (
            json!({ "block": "bottleneck", "depths": [1, 2], "widths": [4, 8], "image_size": 17 }),
            images(17),
            Some(3),
        ),
        "mobilenet_v2" => (
            json!({
                "inverted_residual_setting": [[1, 8, 1, 1], [2, 8, 2, 2]], "stem_channels": 8, "last_channel": 16,
                "image_size": 16,
            }),
            images(16),
            Some(3),
        ),
        other => panic!("{other}: give it an example here"),
    };
    let mut config = config;
    config["model_type"] = json!(model_type);
    Example { config, inputs, outputs }
}

/// A model of this type with small random weights.
pub(crate) fn build(name: &str) -> (Model, Example) {
    let example = example(name);
    let request = HeadRequest { outputs: example.outputs, random: true, seed: 3, ..HeadRequest::default() };
    let mut model = models::build(Path::new("."), example.config.clone(), &request).unwrap();
    // What starts as a constant (norms, biases, running statistics) varies here, so that a slip in it shows.
    for (i, parameter) in model.parameters_mut().iter_mut().enumerate() {
        for (j, x) in parameter.data.iter_mut().enumerate() {
            *x += 0.1 * (0.7 + i as f32 + 1.3 * j as f32).sin().abs();
        }
    }
    (model, example)
}
