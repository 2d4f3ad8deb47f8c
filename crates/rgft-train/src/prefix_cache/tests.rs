//! The cache against computing without it, over any sequence of cuts, with levels that are trained in between.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use rgft_core::{Extent, Images, Inputs, Series, Tokens};
use rgft_data::{Augmentation, PackedBatch, Targets};
use rgft_kernels::Precision;
use rgft_nn::models::{self, HeadRequest};
use serde_json::{Value, json};

use super::spill::Spill;
use super::*;

/// Examples of one kind, made of their numbers: texts of unequal length, pictures, or windows.
#[derive(Clone, Copy, Debug)]
enum Toy {
    Texts,
    Pictures,
    Windows,
}

const EXAMPLES: usize = 9;

impl Dataset for Toy {
    fn len(&self) -> usize {
        EXAMPLES
    }

    fn size(&self, example: usize) -> usize {
        match self {
            Self::Texts => 2 + example * 5 % 7,
            Self::Pictures => 64,
            Self::Windows => 12,
        }
    }

    fn extent(&self, examples: &[usize]) -> Extent {
        self.pack(examples, None).inputs.extent()
    }

    fn pack(&self, examples: &[usize], _: Option<Augmentation>) -> PackedBatch {
        let values = |n: usize| {
            let of = |e: usize| (0..n).map(move |i| ((i * 13 + e * 101) as f32 * 0.37).sin());
            examples.iter().flat_map(|&e| of(e)).collect::<Vec<f32>>()
        };
        let inputs = match self {
            Self::Texts => {
                let mut tokens = Tokens::default();
                for &e in examples {
                    tokens.ids.extend((0..self.size(e)).map(|i| ((i * 7 + e * 11) % 20) as u32));
                    tokens.lengths.push(self.size(e));
                }
                tokens.types = vec![0; tokens.ids.len()];
                Inputs::Tokens(tokens)
            }
            Self::Pictures => {
                Inputs::Images(Images { pixels: values(8 * 8 * 3), height: 8, width: 8, channels: 3 })
            }
            Self::Windows => Inputs::Series(Series { values: values(12), steps: 12 }),
        };
        PackedBatch { inputs, targets: Targets::Unknown, rows: examples.to_vec() }
    }

    fn outputs(&self) -> usize {
        3
    }
}

fn build(config: Value, outputs: Option<usize>) -> Model {
    let request = HeadRequest { outputs, random: true, seed: 3, ..HeadRequest::default() };
    models::build(Path::new("."), config, &request).unwrap()
}

/// A model of each kind of hidden state: tokens, pixels, steps, patches. Those of the first kind and the last are so wide
/// that no product is of a size (one row, or 256 results) that the library sums in another order.
fn model(which: usize) -> (Model, Toy) {
    match which {
        0 => {
            let bert = json!({
                "model_type": "bert", "hidden_size": 264, "num_hidden_layers": 2, "num_attention_heads": 3,
                "intermediate_size": 288, "vocab_size": 20, "max_position_embeddings": 12, "initializer_range": 0.3,
                "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5,
            });
            (build(bert, Some(3)), Toy::Texts)
        }
        1 => {
            let resnet = json!({ "model_type": "resnet-cifar", "depth": 8 });
            (build(resnet, Some(3)), Toy::Pictures)
        }
        GRU => {
            let gru = json!({
                "model_type": "gru-classifier", "num_layers": 2, "hidden_size": 7, "embedding_size": 5,
                "vocab_size": 20, "bidirectional": true,
            });
            (build(gru, Some(3)), Toy::Texts)
        }
        _ => {
            let patches = json!({
                "model_type": "patch-transformer", "context": 12, "horizon": 4, "patch": 4, "stride": 3,
                "hidden_size": 264, "num_layers": 2, "num_heads": 3, "ffn": 288, "initializer_range": 0.3,
            });
            (build(patches, None), Toy::Windows)
        }
    }
}

const MODELS: usize = 4;

/// Its products have a row per sequence that still goes on.
const GRU: usize = 2;

fn without_cache(model: &Model, engine: &Engine, set: &Toy, examples: &[usize], cut: usize) -> Vec<f32> {
    let inputs = set.pack(examples, None).inputs;
    let needs = model.no_needs();
    model.forward_between(engine, &inputs, None, cut, &needs, &mut Tape::default()).data().to_vec()
}

/// Changes every parameter at level `cut` and above it, as a step of training with this cut may.
fn train(model: &mut Model, cut: usize) {
    let mut trained: Vec<usize> = Vec::new();
    for component in model.components(Default::default()).iter().filter(|c| c.depth >= cut) {
        trained.extend(component.slices.iter().map(|slice| slice.parameter));
    }
    for (i, parameter) in model.parameters_mut().iter_mut().enumerate().filter(|(i, _)| trained.contains(i)) {
        parameter.data.iter_mut().for_each(|x| *x += 0.01 * (i as f32 + 1.0).sin());
    }
}

/// Steps: a fraction of the levels, which examples, and whether states on the way are kept.
fn steps() -> impl Strategy<Value = Vec<(f64, Vec<usize>, bool)>> {
    let examples =
        proptest::sample::subsequence((0..EXAMPLES).collect::<Vec<_>>(), 1..=EXAMPLES).prop_shuffle();
    proptest::collection::vec((0.0..1.0f64, examples, prop::bool::weighted(0.3)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_cuts_gives_the_states_without_a_cache(
        steps in steps(),
        which in 0..MODELS,
        limit in prop_oneof![Just(0u64), Just(20_000), Just(1 << 30)],
    ) {
        let (mut model, set) = model(which);
        let engine = Engine::new(Precision::F32);
        let mut cache = PrefixCache::new(CacheDtype::F32, limit);
        let mut seen = BTreeSet::new();
        let mut kept = false;
        for (at, examples, keeps) in steps {
            let cut = 1 + (at * (model.levels() - 1) as f64) as usize;
            kept |= keeps;
            cache.keep_on_the_way(if keeps { (1..cut).collect() } else { Vec::new() });
            cache.drop_above(cut);
            let cost = cache.cost(&model, &set, &examples, cut);
            let missing = cache.standing(&examples, cut).remove(&None);
            let missing: Vec<usize> = missing.unwrap_or_default().iter().map(|&place| examples[place]).collect();
            // A training step is under way: fills must not see its dropout.
            engine.set_dropout(Some(5));
            engine.take_flops();
            let found = cache.fill(&model, &engine, &set, &examples, cut).unwrap();
            prop_assert_eq!(engine.take_flops().total(), cost, "what is predicted is what runs");
            prop_assert_eq!(found.level, cut);
            let expected = without_cache(&model, &engine, &set, &examples, cut);
            if which == GRU {
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                prop_assert!(found.state.data().iter().zip(&expected).all(near), "GRU at {}", cut);
            } else {
                prop_assert!(found.state.data() == expected, "model {} at {}", which, cut);
            }
            prop_assert!(cache.memory_bytes() <= limit);
            for &example in &examples {
                prop_assert_eq!(cache.level(example, model.levels()), Some(cut));
                seen.insert(example);
            }
            if keeps {
                for (&example, level) in missing.iter().flat_map(|e| (1..=cut).map(move |level| (e, level))) {
                    prop_assert_eq!(cache.level(example, level), Some(level));
                }
            } else if !kept {
                prop_assert!(cache.levels().iter().sum::<usize>() <= seen.len(), "one state per example");
            }
            prop_assert!(cache.levels().iter().skip(cut + 1).all(|&count| count == 0));
            prop_assert_eq!(cache.cost(&model, &set, &examples, cut), 0, "a second time costs nothing");
            train(&mut model, cut);
            if keeps && examples.len().is_multiple_of(2) {
                cache.drop_below(cut);
                for &example in &examples {
                    prop_assert_eq!(cache.level(example, cut), Some(cut));
                    prop_assert_eq!(cache.level(example, cut - 1), None);
                }
            }
        }
    }

    #[test]
    fn slots_hold_what_was_written_and_never_overlap(
        actions in proptest::collection::vec((0..12usize, 0..50usize, any::<u8>()), 1..200),
    ) {
        let mut spill = Spill::new(std::env::temp_dir());
        let mut held: BTreeMap<usize, (super::spill::Slot, Vec<u8>)> = BTreeMap::new();
        let (mut now, mut most) = (0, 0);
        for (key, len, fill) in actions {
            if let Some((slot, bytes)) = held.remove(&key) {
                now -= bytes.len();
                spill.free(slot);
            }
            if len > 0 {
                let bytes = vec![fill; len];
                held.insert(key, (spill.write(&bytes).unwrap(), bytes));
                now += len;
            }
            most = most.max(now);
            for (slot, bytes) in held.values() {
                let mut found = vec![0; slot.len];
                spill.read(slot, &mut found).unwrap();
                prop_assert_eq!(&found, bytes);
            }
        }
        prop_assert!(spill.len() >= now as u64);
    }
}

#[test]
fn states_go_to_memory_first_and_then_to_a_file_whose_slots_are_used_again() {
    let (mut model, set) = model(0);
    let engine = Engine::new(Precision::F32);
    let all: Vec<usize> = (0..EXAMPLES).collect();
    let rows: usize = all.iter().map(|&e| set.size(e)).sum();
    for (dtype, bytes) in [(CacheDtype::F32, 4), (CacheDtype::Bf16, 2)] {
        let total = (rows * 264 * bytes) as u64;
        let limit = total / 2;
        let mut cache = PrefixCache::new(dtype, limit);
        for cut in [2, 3, 5, 1, 3] {
            cache.fill(&model, &engine, &set, &all, cut).unwrap();
            assert_eq!(cache.memory_bytes() + cache.file_bytes(), total, "{dtype:?} at {cut}");
            assert!((1..=limit).contains(&cache.memory_bytes()) && cache.file_bytes() > 0);
            train(&mut model, cut);
        }
        cache.clear();
        assert_eq!((cache.memory_bytes(), cache.file_bytes(), cache.level(0, 9)), (0, 0, None));
    }
}

#[test]
fn states_in_bf16_are_rounded_the_same_whether_computed_or_read() {
    for which in 0..MODELS {
        let (model, set) = model(which);
        let engine = Engine::new(Precision::F32);
        let examples = [4, 0, 7];
        for cut in 1..model.levels() {
            let exact = without_cache(&model, &engine, &set, &examples, cut);
            let mut cache = PrefixCache::new(CacheDtype::Bf16, 300);
            let computed = cache.fill(&model, &engine, &set, &examples, cut).unwrap().state;
            let read = cache.fill(&model, &engine, &set, &examples, cut).unwrap().state;
            assert_eq!(computed.data(), read.data());
            assert_ne!(computed.data(), exact, "model {which} at {cut}");
            for (found, exact) in computed.data().iter().zip(&exact) {
                assert!((found - exact).abs() <= exact.abs() / 256.0, "{found} for {exact}");
            }
        }
    }
}

#[test]
fn a_batch_of_mixed_standing_advances_what_is_stored_and_computes_the_rest() {
    let (model, set) = model(0);
    let engine = Engine::new(Precision::F32);
    let mut cache = PrefixCache::new(CacheDtype::F32, 1 << 20);
    cache.fill(&model, &engine, &set, &[1, 2], 2).unwrap();
    cache.fill(&model, &engine, &set, &[5], 4).unwrap();
    let standing = cache.standing(&[5, 3, 2, 1], 4);
    assert_eq!(standing, Standing::from([(None, vec![1]), (Some(2), vec![2, 3]), (Some(4), vec![0])]));
    let needs = model.no_needs();
    let flops = |examples: &[usize], from: usize| {
        let products = model.products_between(&set.extent(examples), &needs, from..4);
        products.iter().collect::<Flops>().total()
    };
    assert_eq!(cache.cost(&model, &set, &[5, 3, 2, 1], 4), flops(&[3], 0) + flops(&[2, 1], 2));
    // Above the cut nothing is of use.
    assert_eq!(cache.standing(&[5, 2], 3), Standing::from([(None, vec![0]), (Some(2), vec![1])]));
    cache.fill(&model, &engine, &set, &[2], 3).unwrap();
    assert_eq!([5, 1, 2].map(|example| cache.level(example, 9)), [None, Some(2), Some(3)]);
}

#[test]
fn states_kept_on_the_way_serve_any_lower_cut() {
    let (model, set) = model(1);
    let engine = Engine::new(Precision::F32);
    let mut cache = PrefixCache::new(CacheDtype::F32, 1 << 20);
    cache.keep_on_the_way(vec![1, 3]);
    cache.fill(&model, &engine, &set, &[0, 1], 4).unwrap();
    assert_eq!(cache.levels(), [0, 2, 0, 2, 2]);
    assert_eq!((cache.level(0, 2), cache.level(0, 3), cache.level(0, 4)), (Some(1), Some(3), Some(4)));
    cache.keep_on_the_way(Vec::new());
    engine.take_flops();
    let found = cache.fill(&model, &engine, &set, &[1, 0], 3).unwrap();
    assert_eq!(engine.take_flops().total(), 0, "what is kept is read");
    assert_eq!(found.state.data(), without_cache(&model, &engine, &set, &[1, 0], 3));
    assert_eq!(cache.levels(), [0, 2, 0, 2, 0], "what lies above the cut is dropped");
    cache.drop_below(3);
    assert_eq!(cache.levels(), [0, 0, 0, 2, 0]);
}

#[test]
fn without_room_for_a_file_everything_is_computed_and_the_reason_kept() {
    let (model, set) = model(0);
    let engine = Engine::new(Precision::F32);
    let mut cache = PrefixCache::new(CacheDtype::F32, 20_000);
    cache.store = Store::new(20_000, "/no such folder".into());
    let all: Vec<usize> = (0..EXAMPLES).collect();
    for cut in [2, 2, 4, 3] {
        let found = cache.fill(&model, &engine, &set, &all, cut).unwrap();
        assert_eq!(found.state.data(), without_cache(&model, &engine, &set, &all, cut));
    }
    assert!(
        cache.stopped().unwrap().starts_with("a temporary file in /no such folder could not be written: ")
    );
    assert!(cache.memory_bytes() > 0 && cache.file_bytes() == 0);
    cache.clear();
    assert_eq!(cache.stopped(), None);
}
