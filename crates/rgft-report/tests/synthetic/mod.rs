//! A made-up run with the shape of a real one: MiniLM (6 layers of 12 heads, two norms and 12 groups of
//! neurons) on a 77-way classification, 500 steps, 20 maps.

#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;

use rgft_core::certificate::{Certificate, Condition, Status};
use rgft_core::component::ComponentKind;
use rgft_core::events::{
    ComponentInfo, Convergence, Event, Flops, Level, Memory, Metrics, RunSummary, Seconds,
};

const STEPS: usize = 500;
const LAYERS: usize = 6;
const FULL: u64 = 43_200_000_000_000;

/// A number in [0, 1) that depends on its arguments alone.
pub(crate) fn noise(a: usize, b: usize) -> f64 {
    let mut x =
        (a as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (b as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

pub(crate) fn components() -> Vec<ComponentInfo> {
    let mut out = Vec::new();
    let mut push = |name: String, kind, layer, depth, parameters| {
        out.push(ComponentInfo { name, kind, layer, depth, parameters });
    };
    push("embeddings".into(), ComponentKind::Embedding, None, 0, 11_918_592);
    for layer in 0..LAYERS {
        let path = format!("encoder.layer.{layer}");
        let depth = 1 + 2 * layer;
        for head in 0..12 {
            push(
                format!("{path}.attention.head.{head}"),
                ComponentKind::AttentionHead,
                Some(layer),
                depth,
                49_248,
            );
        }
        push(format!("{path}.attention.output.norm"), ComponentKind::Norm, Some(layer), depth, 1152);
        for group in 0..12 {
            push(format!("{path}.neurons.{group}"), ComponentKind::Neurons, Some(layer), depth + 1, 98_432);
        }
        push(format!("{path}.output.norm"), ComponentKind::Norm, Some(layer), depth + 1, 1152);
    }
    push("classifier".into(), ComponentKind::TaskHead, None, 1 + 2 * LAYERS, 29_645);
    out
}

pub(crate) fn shares(components: &[ComponentInfo], step: usize) -> Vec<f64> {
    let settled = 1.0 - (-(step as f64) / 120.0).exp();
    let energies: Vec<f64> = components
        .iter()
        .enumerate()
        .map(|(i, component)| {
            let layer = component.layer.map_or(0.0, |layer| layer as f64);
            let lasting = (noise(i, 7) * 3.4 - 1.7).exp();
            let passing = (noise(i, 1000 + step) * 2.0 - 1.0).exp();
            let depth = (layer * (0.25 + 0.35 * settled)).exp();
            let kind = match component.kind {
                ComponentKind::Norm => 2.4,
                ComponentKind::Neurons => 0.55,
                ComponentKind::Embedding => 0.02,
                ComponentKind::TaskHead => 25.0,
                _ => 1.0,
            };
            kind * depth * lasting.powf(settled) * passing.powf(1.0 - 0.7 * settled)
        })
        .collect();
    let sum: f64 = energies.iter().sum();
    energies.into_iter().map(|energy| energy / sum).collect()
}

pub(crate) fn started() -> Event {
    Event::RunStarted {
        method: "rgft".into(),
        model: "models/MiniLM-L6-H384-uncased".into(),
        data: "data/banking77".into(),
        task: "text-classification".into(),
        budget: 0.3,
        seed: 0,
        version: "0.1.0".into(),
        precision: "bf16".into(),
        threads: 2,
        total_steps: STEPS,
        parameters: 22_742_861,
        trainable_parameters: 22_742_861,
        full_equivalent_flops: FULL,
        components: components(),
        train_examples: 9002,
        validation_examples: 1001,
        test_examples: 3080,
        labels: (0..77).map(|i| format!("intent_{i}")).collect(),
    }
}

pub(crate) fn summary() -> RunSummary {
    let metrics = |accuracy: f64| {
        BTreeMap::from([
            ("accuracy".to_string(), accuracy),
            ("macro_f1".to_string(), accuracy - 0.004),
            ("loss".to_string(), 0.271),
        ])
    };
    let (forward, dx, dw, update, probe, cache, tracking) =
        (4_310, 3_020, 2_480, 160, 420, 2_430, 110).map_all(|giga: u64| giga * 1_000_000_000);
    let total = forward + dx + dw + update + probe + cache + tracking;
    RunSummary {
        method: "rgft".into(),
        model: "models/MiniLM-L6-H384-uncased".into(),
        data: "data/banking77".into(),
        task: "text-classification".into(),
        budget: 0.3,
        seed: 0,
        metrics: Metrics { validation: metrics(0.9361), test: metrics(0.9344) },
        flops: Flops {
            total,
            forward,
            dx,
            dw,
            update,
            probe,
            cache,
            tracking,
            evaluation: 1_950_000_000_000,
            full_equivalent: FULL,
            ratio: total as f64 / FULL as f64,
        },
        seconds: Seconds { total: 31.9, train: 27.4, processor: Some(27.1), probe: 0.9, eval: 3.6 },
        memory: Memory { peak_rss_bytes: Some(412 << 20) },
        convergence: Convergence {
            metric: "accuracy".into(),
            flops_to_95: Some(4_400_000_000_000),
            flops_to_98: Some(7_400_000_000_000),
            flops_to_100: Some(12_930_000_000_000),
        },
        steps: STEPS,
        epochs: 3.0,
        threads: 2,
        precision: "bf16".into(),
        version: "0.1.0".into(),
    }
}

trait MapAll {
    fn map_all(self, f: impl Fn(u64) -> u64) -> Self;
}

impl MapAll for (u64, u64, u64, u64, u64, u64, u64) {
    fn map_all(self, f: impl Fn(u64) -> u64) -> Self {
        (f(self.0), f(self.1), f(self.2), f(self.3), f(self.4), f(self.5), f(self.6))
    }
}

/// The whole run.
pub(crate) fn events() -> Vec<Event> {
    let components = components();
    let mut events = vec![
        started(),
        Event::Note {
            level: Level::Info,
            message: "the classifier is new: it is trained on cached features first".into(),
        },
        Event::Note {
            level: Level::Warning,
            message: "37 of 9002 training texts are longer than 128 tokens and were cut".into(),
        },
    ];
    let total = summary().flops.total as f64;
    let (mut map, mut flops) = (Vec::new(), 2_430e9);
    let weight: f64 = (0..STEPS).map(|step| 1.6 - 1.2 * step as f64 / STEPS as f64).sum();
    for step in 0..STEPS {
        let progress = step as f64 / STEPS as f64;
        if step % 25 == 0 {
            map = shares(&components, step);
            events.push(Event::Map {
                step,
                energies: map.iter().map(|share| share * 3e-4).collect(),
                shares: map.clone(),
                probe_flops: 21_000_000_000,
                rank_correlation: (step > 0).then(|| 0.62 + 0.35 * progress.sqrt()),
                next_interval: 25,
            });
        }
        if step % 10 == 0 {
            let cut = match step {
                0..60 => 0,
                60..150 => 3,
                150..330 => 7,
                330..400 => 5,
                _ => 9,
            };
            let active: Vec<usize> = (0..components.len())
                .filter(|&i| components[i].depth >= cut && i > 0)
                .filter(|&i| {
                    components[i].kind == ComponentKind::TaskHead
                        || map[i] * (1.2 - 0.5 * progress) > 0.004 + 0.004 * noise(i, step)
                })
                .collect();
            let weights = (0..components.len()).map(|i| f64::from(active.contains(&i))).collect();
            let ratio = 0.55 - 0.45 * progress;
            events.push(Event::Plan { step, cut, active, weights, step_flops_ratio: ratio, examples: 1000 });
        }
        flops += (total - 2_430e9) * (1.6 - 1.2 * progress) / weight;
        let loss = 0.16 + 4.1 * (-progress * 6.0).exp() + 0.35 * (noise(step, 3) - 0.5) * (1.3 - progress);
        events.push(Event::Step {
            step,
            epoch: 3.0 * (step + 1) as f64 / STEPS as f64,
            loss,
            learning_rate: 1e-4 * (1.0 - progress),
            gradient_norm: 1.0 + noise(step, 5),
            examples: 32,
            tokens: 430,
            flops: flops as u64,
            seconds: 27.4 * (step + 1) as f64 / STEPS as f64,
        });
        if (step + 1) % 50 == 0 {
            let accuracy = 0.9361 - 0.3 * (-6.0 * (progress + 0.002)).exp() + 0.004 * (noise(step, 9) - 0.5);
            events.push(Event::Validation {
                step: step + 1,
                epoch: 3.0 * (step + 1) as f64 / STEPS as f64,
                metrics: BTreeMap::from([
                    ("accuracy".into(), accuracy),
                    ("loss".into(), 0.9 - 0.6 * progress),
                ]),
                flops: flops as u64,
                seconds: 27.4 * (step + 1) as f64 / STEPS as f64,
                best: true,
            });
        }
    }
    events.push(Event::Finished { summary: Box::new(summary()) });
    events
}

pub(crate) fn certificate() -> Certificate {
    let entry = |condition: &str, status, detail: &str, value| Condition {
        condition: condition.into(),
        status,
        detail: detail.into(),
        value,
    };
    Certificate {
        conditions: vec![
            entry(
                "energies finite, non-negative, bounded",
                Status::Holds,
                "20 maps, greatest energy 2.1e-5",
                Some(2.1e-5),
            ),
            entry("weights within [0, w_max]", Status::Holds, "50 plans, greatest weight 1", Some(1.0)),
            entry("predictable weights", Status::Holds, "each plan used a map of an earlier step", None),
            entry(
                "coverage window",
                Status::DoesNotHold,
                "embeddings were neither updated nor probed for 23 refreshes, allowed are 20",
                Some(23.0),
            ),
            entry("gain A_k", Status::Holds, "mean 3.4, between 1.2 and 7.9", Some(3.4)),
            entry("loss finite, no spikes", Status::Holds, "500 losses, 0 spikes", Some(0.0)),
            entry(
                "optimizer within T1 to T3",
                Status::NotCovered,
                "AdamW is outside of the theorems as stated",
                None,
            ),
        ],
    }
}
