//! What was measured as tables: on the terminal, and as a page.

use std::io;

use super::super::peak::Peak;
use super::super::subject::KernelTime;
use super::Row;
use super::beside::{self, Other, Peer};
use crate::args::StepsArgs;
use crate::bench::{markdown, origin};
use crate::printer::Printer;

/// Heads of [`line`]'s columns; the last ones are of the programs beside this one: their times, in ours.
fn header(peers: &[Peer], scaling: bool) -> Vec<String> {
    let mut header =
        vec!["work", "ms", "floor", "GFLOP", "GFLOP/s", "FLOP ratio", "s ratio", "s follow FLOPs"];
    if scaling {
        header.extend(["1 thread", "speed-up"]);
    }
    header.extend(["of PyTorch's best", "least of least"]);
    let beside = peers.iter().map(|peer| format!("{} ÷ ours", peer.name));
    header.into_iter().map(String::from).chain(beside).collect()
}

/// A row as it is shown, beside PyTorch's fastest setting for the same, and every peer's.
fn line(row: &Row, torch: &[Other], peers: &[Peer], scaling: bool) -> Vec<String> {
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
    let mut line = vec![
        format!("{} {} {}", row.work, row.what, row.precision),
        format!("{:.1}", row.milliseconds),
        format!("{:.1}", row.floor_milliseconds),
        format!("{:.1}", row.gflop),
        format!("{:.0}", row.gflop / row.milliseconds * 1e3),
        format!("{:.3}", row.flop_ratio),
        format!("{:.3}", row.seconds_ratio),
        row.follows().map_or_else(|| "-".into(), |follows| format!("{follows:.2}")),
    ];
    if scaling {
        line.extend(match &row.one_thread {
            Some(one) => [format!("{:.1}", one.milliseconds), format!("{:.2}", one.speed_up)],
            None => ["-".into(), "-".into()],
        });
    }
    line.push(of_torch(row.milliseconds, |other| other.median_ms));
    line.push(of_torch(row.best_milliseconds, |other| other.best_ms));
    line.extend(peers.iter().map(of_peer));
    line
}

/// What all threads and one do at most: a sentence.
pub(super) fn in_words([all, one]: [Option<Peak>; 2]) -> String {
    let all = all.map_or_else(String::new, |peak| format!("Peak in registers: {}", peak.in_words()));
    one.map_or(all.clone(), |peak| format!("{all}; on one thread {}", peak.in_words()))
}

/// The table as a page of Markdown; the peaks are those of all threads and of one.
pub(super) fn page(
    rows: &[Row],
    torch: &[Other],
    peers: &[Peer],
    scaling: bool,
    peaks: [Option<Peak>; 2],
) -> String {
    let mut page = format!("# Steps\n\n{}\n\n", origin());
    page += &format!(
        "{}. Medians in milliseconds; the floor is what it takes at the peak, and memory's rate for all other passes; *least of least* compares the fastest runs of both",
        in_words(peaks),
    );
    page += if scaling { ", and so does *speed-up*, one thread with all." } else { "." };
    for peer in peers {
        page += &format!(" *{0} ÷ ours* is how much longer {0}{1} takes.", peer.name, peer.version());
    }
    page += "\n\n";
    let lines: Vec<_> = rows.iter().map(|row| line(row, torch, peers, scaling)).collect();
    let header = header(peers, scaling);
    page + &markdown(&header.iter().map(String::as_str).collect::<Vec<_>>(), &lines)
}

pub(super) fn print(
    rows: &[Row],
    torch: &[Other],
    peers: &[Peer],
    args: &StepsArgs,
    printer: &mut Printer,
) -> io::Result<()> {
    let lines: Vec<_> = rows.iter().map(|row| line(row, torch, peers, args.scaling)).collect();
    let header = header(peers, args.scaling);
    printer.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &lines)?;
    for row in rows.iter().filter(|_| args.profile) {
        printer.text(&format!(
            "\n{} {} {}: {:.1} MB saved for backward",
            row.work, row.what, row.precision, row.saved_megabytes
        ))?;
        let (header, lines) = profile(row);
        printer.table(&header, &lines)?;
    }
    Ok(())
}

/// Where the time goes, kernel by kernel.
fn profile(row: &Row) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut header = vec!["kernel", "calls", "ms", "share", "MB", "GB/s"];
    if row.one_thread.is_some() {
        header.extend(["1 thread", "speed-up"]);
    }
    let in_kernels = |kernels: &[KernelTime]| kernels.iter().map(|kernel| kernel.milliseconds).sum::<f64>();
    let total = in_kernels(&row.kernels);
    let mut lines: Vec<Vec<String>> = Vec::new();
    for kernel in &row.kernels {
        let mut line = vec![
            kernel.kernel.to_string(),
            format!("{:.0}", kernel.calls),
            format!("{:.2}", kernel.milliseconds),
            format!("{:.1} %", 100.0 * kernel.milliseconds / total),
            format!("{:.1}", kernel.megabytes),
            format!("{:.1}", kernel.megabytes / kernel.milliseconds),
        ];
        if let Some(one) = &row.one_thread {
            let same = one.kernels.iter().find(|other| other.kernel == kernel.kernel);
            let one = same.map_or(f64::NAN, |one| one.milliseconds);
            line.extend([format!("{one:.2}"), format!("{:.2}", one / kernel.milliseconds)]);
        }
        lines.push(line);
    }
    (header, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let kernel = |kernel, milliseconds| KernelTime { kernel, calls: 2.0, milliseconds, megabytes: 8.0 };
        let measured = |times: f64| Row {
            work: "minilm",
            what: "full step",
            precision: "f32",
            milliseconds: 11.0 * times,
            best_milliseconds: 10.0 * times,
            gflop: 2.0,
            flop_ratio: 1.0,
            seconds_ratio: 1.0,
            floor_milliseconds: 8.0,
            saved_megabytes: 1.0,
            kernels: vec![kernel("gemm", 6.0 * times), kernel("adamw", 2.0)],
            one_thread: None,
        };
        let mut row = measured(1.0);
        row.compare(measured(1.9));
        row
    }

    #[test]
    fn what_one_thread_takes_stands_beside_all() {
        let row = row();
        assert_eq!(row.one_thread.as_ref().map(|one| one.speed_up), Some(1.9));
        for scaling in [false, true] {
            assert_eq!(line(&row, &[], &[], scaling).len(), header(&[], scaling).len());
        }
        assert_eq!(line(&row, &[], &[], true)[8..10], ["20.9", "1.90"]);
        let (header, lines) = profile(&row);
        assert!(lines.iter().all(|line| line.len() == header.len()));
        assert_eq!((lines[0][7].as_str(), lines[1][7].as_str()), ("1.90", "1.00"));
        assert!(page(&[row], &[], &[], true, [None; 2]).contains("| 20.9 | 1.90 |"));
    }

    #[test]
    fn each_program_has_its_fastest_setting_beside_ours() {
        let other = |what, setting, median, best| Other::of("minilm", what, setting, median, best);
        let torch = [other("full step", "f32", 44.0, 40.0), other("forward", "f32", 1.0, 1.0)];
        let steps = vec![other("full step", "f32", 70.0, 45.0), other("full step", "f16", 33.0, 50.0)];
        let peers = [Peer { name: "candle".into(), steps }, Peer { name: "burn".into(), steps: Vec::new() }];
        let (header, cells) = (header(&peers, false), line(&row(), &torch, &peers, false));
        assert_eq!(header.len(), cells.len());
        assert_eq!(header[8..], ["of PyTorch's best", "least of least", "candle ÷ ours", "burn ÷ ours"]);
        assert_eq!(
            cells[8..],
            ["0.25 (44.0 ms, f32)", "0.25 (40.0 ms, f32)", "3.00 (33.0 ms, f16), least 4.50", "-"]
        );
        let page = page(&[row()], &torch, &peers, false, [None; 2]);
        assert!(page.ends_with("| 3.00 (33.0 ms, f16), least 4.50 | - |\n"), "{page}");
    }
}
