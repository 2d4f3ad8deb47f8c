//! Comparisons small enough to be summed up by hand.

#![allow(clippy::unwrap_used)]

use super::*;

fn row(method: &str, budget: f64, qualities: &[f64]) -> Row {
    let point = |(seed, &quality): (usize, &f64)| Point {
        seed: seed as u64,
        quality,
        flops_ratio: budget,
        seconds: 10.0 * budget,
        machine: "one".into(),
        curve: vec![(0.5 * budget, 0.5 * quality), (budget, quality)],
    };
    let points = qualities.iter().enumerate().map(point).collect();
    Row { method: method.into(), budget, chosen: "1e-4".into(), points, ..Row::default() }
}

fn comparison() -> Comparison {
    let task = |name: &str, metric: &str, rows| TaskResults {
        name: name.into(),
        group: "small".into(),
        metric: metric.into(),
        on_test: true,
        rows,
    };
    let score = [
        row("full", 1.0, &[0.8, 0.8]),
        row("full-short", 0.3, &[0.72, 0.72]),
        row("rgft", 0.3, &[0.84, 0.88]),
    ];
    let loss =
        [row("full", 1.0, &[2.0, 2.0]), row("full-short", 0.3, &[2.0, 2.0]), row("rgft", 0.3, &[2.5, 2.5])];
    let mut third = row("rgft", 0.3, &[]);
    third.missing = vec![(0, "training diverged".into())];
    let incomplete = [row("full", 1.0, &[0.5]), row("full-short", 0.3, &[0.4]), third];
    Comparison {
        title: "three <tasks>".into(),
        conditions: "by hand".into(),
        tasks: vec![
            task("score", "accuracy", score.to_vec()),
            task("loss", "mse", loss.to_vec()),
            task("incomplete", "accuracy", incomplete.to_vec()),
        ],
    }
}

#[test]
fn the_summary_by_hand() {
    let summaries = Summary::of(&comparison(), None);
    assert_eq!(summaries.len(), 1, "full's budget is no line of its own");
    let summary = &summaries[0];
    assert_eq!(
        (summary.budget, summary.tasks, &summary.left_out[..]),
        (0.3, 2, &["incomplete".to_owned()][..])
    );
    let [short, rgft] = &summary.standings[..] else { panic!("{summary:?}") };
    // 0.72/0.8 = 0.9 and 2/2 = 1; 0.86/0.8 = 1.075 and 2/2.5 = 0.8.
    assert!((short.relative.unwrap().mean - 0.95).abs() < 1e-12);
    assert!((rgft.relative.unwrap().mean - 0.9375).abs() < 1e-12);
    // Seeds 0.84 and 0.88: standard error 0.02, relative 0.025, over two tasks half of that.
    assert!((rgft.relative.unwrap().error.unwrap() - 0.0125).abs() < 1e-12);
    // First and second place on either side.
    assert_eq!((short.rank.mean, rgft.rank.mean), (1.5, 1.5));
    assert_eq!(short.rank.error, Some(0.5));
    assert_eq!(short.points, None, "an error has no points");
}

#[test]
fn points_are_differences_to_full() {
    let mut comparison = comparison();
    comparison.tasks.truncate(1);
    comparison.tasks[0].rows[0] = row("full", 1.0, &[0.785, 0.815]);
    let summary = &Summary::of(&comparison, Some("small"))[0];
    let points = summary.standings[1].points.unwrap();
    // Standard errors of 2 and 1.5 points.
    assert!((points.mean - 6.0).abs() < 1e-9 && (points.error.unwrap() - 2.5).abs() < 1e-9);
    assert_eq!(Summary::of(&comparison, Some("large")), []);
}

#[test]
fn a_task_with_a_seed_missing_is_left_out_for_all() {
    let mut comparison = comparison();
    comparison.tasks[0].rows[2].missing = vec![(2, "training diverged".into())];
    let summary = &Summary::of(&comparison, None)[0];
    assert_eq!((summary.tasks, &summary.left_out[..]), (1, &["score".to_owned(), "incomplete".into()][..]));
}

#[test]
fn without_full_there_is_no_relative_quality() {
    let mut comparison = comparison();
    comparison.tasks.iter_mut().for_each(|task| task.rows.retain(|row| row.method != "full"));
    let summary = &Summary::of(&comparison, None)[0];
    assert!(summary.standings.iter().all(|line| line.relative.is_none() && line.rank.count == 2));
}

#[test]
fn tables_say_what_is_missing() {
    let text = comparison_text(&comparison());
    for expected in [
        "missing: rgft at 30 % seed 0: training diverged",
        "at 30 % without incomplete: a method has no result there",
        "86.00 ± 2.00",
        "+6.00",
        "rgft's lead",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(comparison_text(&Comparison::default()), "no runs to compare\n");
}

#[test]
fn the_page_is_well_formed_whatever_the_names() {
    let mut hostile = comparison();
    hostile.tasks[0].name = "</svg><script>".into();
    hostile.tasks[0].rows[1].settings = "alpha={\"*\"=2}\u{1b}[31m".into();
    hostile.tasks[1].rows[2].points[0].quality = f64::NAN;
    hostile.tasks[1].rows[2].points[0].curve = vec![(f64::NAN, f64::INFINITY)];
    for comparison in [hostile, comparison(), Comparison::default()] {
        let page = comparison_page(&comparison);
        assert!(!page.contains("<script>:") && page.ends_with("</html>\n"));
        for svg in page.split("<svg").skip(1).map(|rest| rest.split("</svg>").next().unwrap()) {
            roxmltree::Document::parse(&format!("<svg{svg}</svg>")).unwrap();
        }
    }
    let page = comparison_page(&comparison());
    assert!(page.contains("three &lt;tasks&gt;") && page.contains("<svg"));
}

#[test]
fn seconds_are_compared_on_one_machine_alone() {
    let (full, mut ours) = (row("full", 1.0, &[0.8, 0.8]), row("rgft", 0.3, &[0.7, 0.7]));
    assert!((ours.seconds_of(&full).unwrap() - 0.3).abs() < 1e-12);
    // Another machine, three times as fast.
    (ours.points[1].machine, ours.points[1].seconds) = ("two".into(), 1.0);
    assert!((ours.seconds_of(&full).unwrap() - 0.3).abs() < 1e-12);
    ours.points[0].machine = "two".into();
    assert_eq!(ours.seconds_of(&full), None);
}

#[test]
fn paired_differences_by_hand() {
    let paired = Paired::of(&comparison(), None, 0.3, "rgft", "full-short").unwrap();
    // Of the score (0.84 − 0.72)/0.8 = 0.15 and (0.88 − 0.72)/0.8 = 0.2, of the loss 2/2.5 − 1 = −0.2 twice.
    assert!((paired.mean - (0.175 - 0.2) / 2.0).abs() < 1e-12, "{paired:?}");
    assert_eq!((paired.tasks, paired.seeds), (2, 2), "what lacks a result is left out");
    // Seeds of the score drawn anew: both 0.15 or both 0.2 at the ends.
    let [low, high] = paired.interval;
    assert!((low - (0.15 - 0.2) / 2.0).abs() < 1e-12 && (high - 0.0).abs() < 1e-12, "{paired:?}");
    assert!(!paired.is_above());
    assert_eq!(Paired::of(&comparison(), Some("none"), 0.3, "rgft", "full-short"), None);
}

#[test]
fn compute_to_quality_is_told_and_judged() {
    let mut comparison = comparison();
    comparison.tasks.truncate(2);
    assert!(!comparison_text(&comparison).contains("to come"), "a single budget tells nothing");
    // Score: 0.797 is needed, of 0.7 at 0.1 and 0.86 at 0.3. Loss: never.
    comparison.tasks[0].rows.insert(2, row("rgft", 0.1, &[0.7, 0.7]));
    let [score, geometric] = [0.1 + 0.2 * 0.097 / 0.16, (0.1 + 0.2 * 0.097 / 0.16f64).sqrt()];
    let text = comparison_text(&comparison);
    for expected in [format!("{geometric:.3} (1 of 2)"), format!("{score:.3}")] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    assert!(comparison_page(&comparison).contains("within 0.3 points"));
    let bar = |compute| Bar { compute: Some(compute), ..Bar::default() };
    let reached = |bar: Bar| bar.outcome(&comparison).reached;
    assert_eq!((reached(bar(geometric + 0.01)), reached(bar(geometric - 0.01))), (Some(true), Some(false)));
    let each = Bar { each: true, ..bar(0.9) };
    assert_eq!(each.outcome(&comparison).measured, "on 1 of 2 tasks, of 2 known; 1.000 at most (loss)");
    assert_eq!(reached(each), Some(false));
    // full-short: never on the score, with its first budget on the loss.
    let other = 0.3f64.sqrt();
    let than = |compute| Bar { than: vec!["full-short".into()], ..bar(compute) };
    assert_eq!(reached(than(geometric / other + 0.01)), Some(true));
    assert_eq!(reached(than(geometric / other - 0.01)), Some(false));
    assert_eq!(reached(Bar { than: vec!["lora".into()], ..bar(0.6) }), None);
    let with = |change: &dyn Fn(&mut Comparison)| {
        let mut changed = comparison.clone();
        change(&mut changed);
        changed
    };
    let scores = with(&|changed| {
        changed.tasks.truncate(1);
        changed.tasks[0].rows.remove(2);
    });
    let each = |compute| Bar { each: true, ..bar(compute) }.outcome(&scores).reached;
    assert_eq!((each(0.31), each(0.29)), (Some(true), None), "less than the least budget may be enough");
    let open = with(&|changed| {
        let row = Row { method: "rgft".into(), budget: 0.5, ..Row::default() };
        changed.tasks.iter_mut().for_each(|task| task.rows.push(row.clone()));
    });
    assert_eq!(bar(0.9).outcome(&open).reached, None, "what another budget gives is not known");
    assert!(Bar { budgets: vec![0.3], ..bar(0.9) }.check().is_err());
    assert!(
        than(0.6).check().is_ok() && Bar { each: true, points: Some(1.0), ..Bar::default() }.check().is_err()
    );
}

#[test]
fn bars_are_reached_missed_or_open() {
    let mut whole = comparison();
    whole.tasks.truncate(2);
    let reached = |comparison: &Comparison, bar: Bar| bar.outcome(comparison).reached;
    let above = |surely| Bar { above: vec!["full-short".into()], surely, ..Bar::default() };
    assert_eq!(reached(&whole, above(false)), Some(false));
    assert_eq!(reached(&comparison(), above(false)), None, "a task is missing");
    whole.tasks.truncate(1);
    assert_eq!((reached(&whole, above(false)), reached(&whole, above(true))), (Some(true), Some(true)));
    // 0.86 is six points above 0.8.
    for (least, expected) in [(5.9, true), (6.1, false)] {
        assert_eq!(reached(&whole, Bar { points: Some(least), ..Bar::default() }), Some(expected));
        assert_eq!(reached(&whole, Bar { quality: Some(80.0 + least), ..Bar::default() }), Some(expected));
    }
    for (most, expected) in [(0.31, true), (0.29, false)] {
        assert_eq!(reached(&whole, Bar { seconds: Some(most), ..Bar::default() }), Some(expected));
    }
    assert_eq!(reached(&whole, Bar { spent: Some(0.02), ..Bar::default() }), Some(true));
    whole.tasks[0].rows[2].points[1].flops_ratio = 0.31;
    assert_eq!(reached(&whole, Bar { spent: Some(0.02), ..Bar::default() }), Some(false));
    assert_eq!(reached(&whole, Bar { points: Some(0.0), budgets: vec![0.1], ..Bar::default() }), None);
    let first = Bar { first: true, ..Bar::default() };
    assert_eq!(reached(&whole, first.clone()), Some(true));
    assert_eq!(reached(&comparison(), first.clone()), None);
    let some = Bar { above: vec!["full-short".into(), "none".into()], ..Bar::default() };
    whole.tasks[0].rows[2].points.iter_mut().for_each(|point| point.quality = 0.1);
    assert_eq!(reached(&whole, first), Some(false), "second of two");
    assert_eq!(reached(&whole, some), Some(false), "a miss stays one, whatever is not measured");
    assert_eq!(reached(&comparison(), Bar { spent: Some(0.02), ..Bar::default() }), None);
    let elsewhere = Bar { spent: Some(0.02), budgets: vec![0.5], ..Bar::default() };
    assert_eq!(elsewhere.outcome(&whole).measured, "not measured");
    assert!(Bar { surely: true, points: Some(1.0), ..Bar::default() }.check().is_err());
    assert!(Bar::default().check().is_err() && above(true).check().is_ok());
    assert!(Bar { points: Some(0.0), ..above(true) }.check().is_err());
}

#[test]
fn a_part_of_the_results_shows_every_task_and_its_pictures_are_files() {
    let bar = Bar { what: "above | beside".into(), above: vec!["full-short".into()], ..Bar::default() };
    let part = results_part(&comparison(), &[bar], &["Made by hand.".into()], "results", "small");
    for expected in [
        "## three &lt;tasks>",
        "Made by hand.",
        "| above \\| beside |",
        "| open |",
        "### score",
        "![Mean quality",
        "| rgft | 1e-4 | 30 % | 2 | 86.00 ± 2.00 | +6.00 | 0.3000 | 3.00 | 0.30 |",
        "missing: rgft at 30 % seed 0: training diverged",
    ] {
        assert!(part.markdown.contains(expected), "{expected} in\n{}", part.markdown);
    }
    let shown = part.markdown.matches("](results/small").count();
    assert_eq!(part.pictures.len(), shown);
    for (name, picture) in &part.pictures {
        let read = roxmltree::Document::parse(picture).unwrap();
        assert!(read.descendants().any(|node| node.has_tag_name("style")), "{name}");
    }
    let headers = part.markdown.lines().filter(|line| line.starts_with("|---")).count();
    assert!(headers >= 5, "{headers} tables");
}
