//! `rgft bench gemm`: matrix products at the shapes of a transformer's forward, dX and dW, as shares of the
//! machine's measured peak.

use std::time::Duration;

use anyhow::Result;
use rgft_kernels::{Mat, MatMut, Precision, gemm, peak};
use serde::Serialize;
use serde_json::json;

use super::{Patience, seconds};
use crate::pool;
use crate::printer::Printer;

/// Which operands are transposed.
#[derive(Clone, Copy, Debug, Serialize)]
enum Pass {
    /// `x·Wᵀ`.
    Forward,
    /// `δ·W`.
    Dx,
    /// `δᵀ·x`.
    Dw,
}

/// `(pass, m, k, n)` with 2048 tokens: MiniLM's projections and feed-forward, then BERT-base's with 1024.
const SHAPES: [(Pass, usize, usize, usize); 12] = [
    (Pass::Forward, 2048, 384, 384),
    (Pass::Forward, 2048, 384, 1536),
    (Pass::Forward, 2048, 1536, 384),
    (Pass::Dx, 2048, 1536, 384),
    (Pass::Dx, 2048, 384, 1536),
    (Pass::Dw, 384, 2048, 384),
    (Pass::Dw, 1536, 2048, 384),
    (Pass::Dw, 384, 2048, 1536),
    (Pass::Forward, 1024, 768, 3072),
    (Pass::Dw, 3072, 1024, 768),
    (Pass::Forward, 1024, 768, 768),
    (Pass::Forward, 400, 384, 1536),
];

#[derive(Serialize)]
struct Row {
    precision: &'static str,
    pass: Pass,
    m: usize,
    k: usize,
    n: usize,
    gflops: f64,
    share_of_peak: f64,
}

pub(crate) fn run(quick: bool, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    let patience = Patience { time: Duration::from_millis(if quick { 50 } else { 600 }), runs: 7 };
    let (peaks, rows) = pool::run(
        threads.unwrap_or(0),
        |say| {
            let mut peaks = vec![("f32", Precision::F32, peak::f32_flops_per_second())];
            peaks.extend(peak::bf16_flops_per_second().map(|peak| ("bf16", Precision::Bf16, peak)));
            let mut rows = Vec::new();
            for &(name, precision, peak) in &peaks {
                for shape in SHAPES {
                    rows.push(measure(name, precision, peak, shape, patience));
                }
                say(format!("{name} done"));
            }
            Ok((peaks, rows))
        },
        |message| printer.note(&message),
    )?;
    let mut summary = Vec::new();
    for (name, _, peak) in &peaks {
        let shares: Vec<f64> =
            rows.iter().filter(|row| row.precision == *name).map(|row| row.share_of_peak).collect();
        let mean = (shares.iter().map(|share| share.ln()).sum::<f64>() / shares.len() as f64).exp();
        summary.push(json!({ "precision": name, "peak_gflops": peak / 1e9, "geometric_mean_share": mean }));
        printer.text(&format!(
            "{name}: measured peak {:.0} GFLOP/s; geometric mean {:.1} % of it",
            peak / 1e9,
            100.0 * mean
        ))?;
    }
    if peaks.len() == 1 {
        printer.text("bf16: no native products on this processor; --precision bf16 computes in f32")?;
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let shape = format!("{} {:?} {}x{}x{}", row.precision, row.pass, row.m, row.k, row.n);
            vec![shape, format!("{:.1}", row.gflops), format!("{:.1} %", 100.0 * row.share_of_peak)]
        })
        .collect();
    printer.table(&["product", "GFLOP/s", "of peak"], &lines)?;
    printer.document(&json!({ "summary": summary, "products": rows }))?;
    Ok(())
}

fn measure(
    name: &'static str,
    precision: Precision,
    peak: f64,
    (pass, m, k, n): (Pass, usize, usize, usize),
    patience: Patience,
) -> Row {
    let numbers =
        |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 7919) % 1000) as f32 * 1e-3 - 0.5).collect() };
    let (a, b) = (numbers(m * k), numbers(k * n));
    let mut c = vec![0.0; m * n];
    let a = if matches!(pass, Pass::Dw) { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
    let b = if matches!(pass, Pass::Forward) { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
    let seconds = seconds(patience, || gemm::gemm(a, b, MatMut::new(&mut c, m, n), false, precision)).median;
    let flops = 2.0 * (m * k * n) as f64 / seconds;
    Row { precision: name, pass, m, k, n, gflops: flops / 1e9, share_of_peak: flops / peak }
}
