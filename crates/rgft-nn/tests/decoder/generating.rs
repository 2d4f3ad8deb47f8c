//! Token by token with a memory, the logits are those of the whole sequence; stories260k goes on as in PyTorch.

use std::path::{Path, PathBuf};

use rgft_kernels::Precision;
use rgft_nn::Engine;

use super::{goldens, json, load, logits, next_tokens, packed};

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() < 1e-4, "{what}: {f} against {e}");
    }
}

#[test]
fn cached_logits_are_those_of_the_whole_sequence() {
    for name in ["llama", "llama3", "qwen2", "qwen3", "gpt2"] {
        let model = load(&goldens().join(name));
        let ids: Vec<u32> = (0..15).map(|i| (i * 7 + 2) % 24).collect();
        let all = logits(&model, &packed(std::slice::from_ref(&ids)));
        let engine = Engine::new(Precision::F32);
        // By ones, by several, and all at once.
        for sizes in [&[1; 15][..], &[4, 1, 7, 3], &[15]] {
            let mut decoder = model.decoder().unwrap();
            let mut fed = 0;
            for size in sizes {
                let found = decoder.feed(&engine, &ids[fed..fed + size]).unwrap();
                fed += size;
                close(&found, &all[(fed - 1) * 24..fed * 24], &format!("{name} after {fed} tokens"));
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let model = load(&goldens().join("llama"));
    let engine = Engine::new(Precision::F32);
    let mut decoder = model.decoder().unwrap();
    decoder.feed(&engine, &[1; 30]).unwrap();
    let error = |result: Result<Vec<f32>, rgft_nn::NnError>| result.unwrap_err().to_string();
    assert_eq!(
        error(decoder.feed(&engine, &[1; 3])),
        "sequence length 33 does not fit the model, which has 32"
    );
    assert_eq!(error(decoder.feed(&engine, &[24])), "token id 24 does not fit the model, which has 24");
    // A refusal leaves the sequence as it was.
    assert!(decoder.feed(&engine, &[1, 2]).is_ok());
}

/// The folder of a published model, where it is there.
fn stories() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/models/stories260k");
    #[allow(clippy::print_stderr)]
    if !folder.is_dir() {
        eprintln!("skipped: no {}", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn stories_are_told_as_pytorch_tells_them() {
    let Some(folder) = stories() else { return };
    let (model, golden) = (load(&folder), json(&goldens().join("stories260k.json")));
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(golden[key].clone()).unwrap() };
    let engine = Engine::new(Precision::F32);
    let mut decoder = model.decoder().unwrap();
    let mut logits_now = decoder.feed(&engine, &ids("prompt_ids")).unwrap();
    let mut found = Vec::new();
    for _ in 0..ids("new_ids").len() {
        let best = logits_now
            .iter()
            .enumerate()
            .fold((0, f32::MIN), |best, (i, z)| if *z > best.1 { (i, *z) } else { best });
        found.push(best.0 as u32);
        logits_now = decoder.feed(&engine, &found[found.len() - 1..]).unwrap();
    }
    assert_eq!(found, ids("new_ids"));

    let sentence = vec![ids("sentence_ids")];
    let mut z = logits(&model, &packed(&sentence));
    let nats = engine.kernels.cross_entropy(&mut z, &next_tokens(&sentence), 1.0);
    assert!((nats - golden["nats_per_token"].as_f64().unwrap()).abs() < 1e-4, "{nats}");
    assert!(nats <= 0.11);
}
