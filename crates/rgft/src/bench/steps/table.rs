//! The steps as a table, on the terminal and as a page of a record.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::beside::{self, Other, Peer};
use super::{KernelRow, Peak, Row};
use crate::commands::compare::place;
use crate::printer::Printer;

/// Heads of the columns that are there in any case.
const HEADER: [&str; 10] = [
    "work",
    "ms",
    "floor",
    "GFLOP",
    "GFLOP/s",
    "FLOP ratio",
    "s ratio",
    "s follow FLOPs",
    "of PyTorch's best",
    "least of least",
];

/// A column more for each program beside this one: its time, in ours.
fn header(peers: &[Peer]) -> Vec<String> {
    let beside = peers.iter().map(|peer| format!("{} ÷ ours", peer.name));
    HEADER.map(String::from).into_iter().chain(beside).collect()
}

/// A row as it is shown, beside PyTorch's fastest setting for the same, and every peer's.
fn line(row: &Row, torch: &[Other], peers: &[Peer]) -> Vec<String> {
    let of_torch = |own: f64, time: fn(&Other) -> f64| {
        beside::best(torch, row.work, row.what, time).map_or_else(
            || "-".into(),
            |other| format!("{:.2} ({:.1} ms, {})", own / time(other), time(other), other.setting()),
        )
    };
    let of_peer = |peer: &Peer| {
        let best = |time| beside::best(&peer.steps, row.work, row.what, time);
        let (median, least) = (best(|other| other.median_ms), best(|other| other.best_ms));
        median.zip(least).map_or_else(
            || "-".into(),
            |(median, least)| {
                format!(
                    "{:.2} ({:.1} ms, {}), least {:.2}",
                    median.median_ms / row.milliseconds,
                    median.median_ms,
                    median.setting(),
                    least.best_ms / row.best_milliseconds,
                )
            },
        )
    };
    let mut cells = vec![
        format!("{} {} {}", row.work, row.what, row.precision),
        format!("{:.1}", row.milliseconds),
        format!("{:.1}", row.floor_milliseconds),
        format!("{:.1}", row.gflop),
        format!("{:.0}", row.gflop / row.milliseconds * 1e3),
        format!("{:.3}", row.flop_ratio),
        format!("{:.3}", row.seconds_ratio),
        row.follows().map_or_else(|| "-".into(), |follows| format!("{follows:.2}")),
        of_torch(row.milliseconds, |other| other.median_ms),
        of_torch(row.best_milliseconds, |other| other.best_ms),
    ];
    cells.extend(peers.iter().map(of_peer));
    cells
}

/// The table of `rows`, and with `profile` what each kernel of them took.
pub(super) fn print(
    rows: &[Row],
    torch: &[Other],
    peers: &[Peer],
    profile: bool,
    printer: &mut Printer,
) -> Result<()> {
    let header = header(peers);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    printer.table(&header, &rows.iter().map(|row| line(row, torch, peers)).collect::<Vec<_>>())?;
    for row in rows.iter().filter(|_| profile) {
        printer.text(&format!(
            "\n{} {} {}: {:.1} MB saved for backward",
            row.work, row.what, row.precision, row.saved_megabytes
        ))?;
        let total: f64 = row.kernels.iter().map(|kernel| kernel.milliseconds).sum();
        let line = |kernel: &KernelRow| {
            vec![
                kernel.kernel.to_string(),
                format!("{:.0}", kernel.calls),
                format!("{:.2}", kernel.milliseconds),
                format!("{:.1} %", 100.0 * kernel.milliseconds / total),
                format!("{:.1}", kernel.megabytes),
                format!("{:.1}", kernel.megabytes / kernel.milliseconds),
            ]
        };
        let kernels: Vec<_> = row.kernels.iter().map(line).collect();
        printer.table(&["kernel", "calls", "ms", "share", "MB", "GB/s"], &kernels)?;
    }
    Ok(())
}

/// `steps.json`, and the table as `steps.md`, in `folder`.
pub(super) fn record(
    folder: &Path,
    document: &Value,
    rows: &[Row],
    torch: &[Other],
    peers: &[Peer],
    peak: Option<Peak>,
) -> Result<()> {
    let page = page(rows, torch, peers, peak);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(document)? + "\n";
    for (name, text) in [("steps.json", &json), ("steps.md", &page)] {
        let path = folder.join(name);
        rgft_nn::weights::write_whole(&path, text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn page(rows: &[Row], torch: &[Other], peers: &[Peer], peak: Option<Peak>) -> String {
    let row_of = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut page = String::from("# Steps\n\n");
    page += &format!("{}. {}.\n\n", place::machine(), place::commit().unwrap_or_else(|| "no commit".into()));
    if let Some(peak) = peak {
        let bf16 = peak.bf16_gflops.map_or_else(|| "none".into(), |gflops| format!("{gflops:.0} GFLOP/s"));
        page += &format!(
            "Peak in registers: f32 {:.0} GFLOP/s, bf16 {bf16}; memory {:.1} GB/s. Medians in milliseconds; the floor is what it takes at the peak, and memory's rate for all other passes; *least of least* compares the fastest runs of both.",
            peak.f32_gflops, peak.gigabytes_per_second,
        );
        for peer in peers {
            page += &format!(" *{0} ÷ ours* is how much longer {0}{1} takes.", peer.name, peer.version());
        }
        page += "\n\n";
    }
    let header = header(peers);
    page += &row_of(&header);
    page += &format!("|---{}\n", "|---:".repeat(header.len() - 1) + "|");
    rows.iter().for_each(|row| page += &row_of(&line(row, torch, peers)));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(what: &str, setting: &str, median_ms: f64, best_ms: f64) -> Other {
        Other::of("lstm", what, setting, median_ms, best_ms)
    }

    #[test]
    fn each_program_has_its_fastest_setting_beside_ours() {
        let row = Row {
            work: "lstm",
            what: "full step",
            precision: "f32",
            milliseconds: 20.0,
            best_milliseconds: 10.0,
            gflop: 1.0,
            flop_ratio: 1.0,
            seconds_ratio: 1.0,
            floor_milliseconds: 5.0,
            saved_megabytes: 0.0,
            kernels: Vec::new(),
        };
        let torch = [other("full step", "f32", 40.0, 40.0), other("forward", "f32", 1.0, 1.0)];
        let steps = vec![other("full step", "f32", 70.0, 45.0), other("full step", "f16", 60.0, 50.0)];
        let peers = [Peer { name: "candle".into(), steps }, Peer { name: "burn".into(), steps: Vec::new() }];
        let (header, cells) = (header(&peers), line(&row, &torch, &peers));
        assert_eq!(header.len(), cells.len());
        assert_eq!(header[8..], ["of PyTorch's best", "least of least", "candle ÷ ours", "burn ÷ ours"]);
        assert_eq!(
            cells[8..],
            ["0.50 (40.0 ms, f32)", "0.25 (40.0 ms, f32)", "3.00 (60.0 ms, f16), least 4.50", "-"]
        );
        let page = page(&[row], &torch, &peers, None);
        assert!(page.ends_with("| 3.00 (60.0 ms, f16), least 4.50 | - |\n"), "{page}");
    }
}
