//! What a terminal shows, to the character.

#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use rgft_core::events::RunSummary;
use rgft_report::{comparison_table, terminal_summary};

fn run(method: &str, budget: f64, seed: u64, accuracy: f64, giga: u64) -> RunSummary {
    let mut run = synthetic::summary();
    run.method = method.into();
    run.budget = budget;
    run.seed = seed;
    run.metrics.test.insert("accuracy".into(), accuracy);
    run.flops.total = giga * 1_000_000_000;
    run.flops.ratio = run.flops.total as f64 / run.flops.full_equivalent as f64;
    run.seconds.train = giga as f64 / 470.0;
    run
}

#[test]
fn summary() {
    insta::assert_snapshot!(terminal_summary(&synthetic::summary()));
}

#[test]
fn summary_of_almost_nothing() {
    let mut run = synthetic::summary();
    run.model = "evil\u{1b}[2J\nname".into();
    run.metrics = Default::default();
    run.flops = Default::default();
    run.memory.peak_rss_bytes = None;
    insta::assert_snapshot!(terminal_summary(&run));
}

#[test]
fn comparison() {
    let mut runs = vec![
        run("full", 1.0, 0, 0.934, 43_200),
        run("full", 1.0, 1, 0.936, 43_200),
        run("full-short", 0.3, 0, 0.921, 12_960),
        run("lora", 0.3, 0, f64::NAN, 12_800),
        run("rgft", 0.3, 0, 0.942, 12_930),
        run("rgft", 0.3, 1, 0.946, 12_940),
        run("rgft", 0.1, 0, 0.931, 4_310),
    ];
    runs[2].memory.peak_rss_bytes = None;
    insta::assert_snapshot!(comparison_table(&runs));
}

#[test]
fn comparison_of_errors_and_of_nothing() {
    let mut runs = vec![run("full", 1.0, 0, 0.9, 43_200), run("rgft", 0.3, 0, 0.9, 12_930)];
    for (run, mse) in runs.iter_mut().zip([0.412, 0.397]) {
        run.convergence.metric = "mse".into();
        run.metrics.test = [("mse".to_string(), mse)].into();
    }
    insta::assert_snapshot!(comparison_table(&runs));
    assert_eq!(comparison_table(&[]), "no runs to compare\n");
}
