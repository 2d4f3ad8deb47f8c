//! Numbers as people read them: FLOPs, seconds, bytes, shares, and round axis ticks.

/// FLOPs with the unit that leaves one to three digits before the point: `12.3 TFLOP`.
pub(crate) fn flops(value: u64) -> String {
    let unit = FlopUnit::for_max(value as f64);
    format!("{} {}", significant(value as f64 / unit.scale), unit.name)
}

/// One unit for a whole axis or column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlopUnit {
    pub(crate) scale: f64,
    pub(crate) name: &'static str,
}

impl FlopUnit {
    /// The largest unit in which `max` is at least 1.
    pub(crate) fn for_max(max: f64) -> Self {
        const UNITS: [(f64, &str); 6] = [
            (1e18, "EFLOP"),
            (1e15, "PFLOP"),
            (1e12, "TFLOP"),
            (1e9, "GFLOP"),
            (1e6, "MFLOP"),
            (1e3, "kFLOP"),
        ];
        let (scale, name) = UNITS.into_iter().find(|(scale, _)| max >= *scale).unwrap_or((1.0, "FLOP"));
        Self { scale, name }
    }
}

/// A duration: `4.2 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return "n/a".into();
    }
    if value < 99.95 {
        return format!("{} s", significant(value));
    }
    let whole = value.round() as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// Bytes in binary units: `1.21 GiB`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(scaled), UNITS[unit])
}

/// A share or ratio as a percentage with about three significant digits.
pub(crate) fn percent(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".into();
    }
    if value > 0.0 && value < 1e-5 {
        return "≈ 0 %".into();
    }
    format!("{} %", significant(value * 100.0))
}

/// A round share without decimals that carry nothing: `30 %`, `0.1 %`.
pub(crate) fn percent_round(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".into();
    }
    format!("{} %", rounded(value * 100.0))
}

/// Up to six decimals, as many as are needed: `3`, `1.25`.
pub(crate) fn rounded(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// A count with thin groups of three: `22 713 216`.
pub(crate) fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits, no trailing noise; very small numbers in scientific notation.
pub(crate) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".into();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        "0".into()
    } else if magnitude < 1e-3 {
        format!("{value:.1e}")
    } else if magnitude < 0.1 {
        format!("{value:.4}")
    } else if magnitude < 9.995 {
        format!("{value:.2}")
    } else if magnitude < 99.95 {
        format!("{value:.1}")
    } else if magnitude < 1e15 {
        format!("{value:.0}")
    } else {
        format!("{value:.2e}")
    }
}

/// A number of unknown kind: counts without decimals, others with three significant digits.
pub(crate) fn number(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e9 {
        format!("{value:.0}")
    } else {
        significant(value)
    }
}

/// Whether a metric is better when larger; losses and errors are not.
pub fn larger_is_better(metric: &str) -> bool {
    !["loss", "mse", "mae", "rmse", "bits_per_byte", "perplexity"]
        .iter()
        .any(|smaller| metric.contains(smaller))
}

/// A metric's value: percentages for scores in `[0, 1]`, plain numbers for losses and errors.
pub(crate) fn metric(name: &str, value: f64) -> String {
    if larger_is_better(name) && name != "pearson" && (0.0..=1.0).contains(&value) {
        format!("{:.2} %", value * 100.0)
    } else if value.is_finite() && (0.001..10.0).contains(&value.abs()) {
        format!("{value:.3}")
    } else {
        significant(value)
    }
}

/// A metric's name as words: `macro_f1` reads `macro F1`.
pub(crate) fn metric_name(name: &str) -> String {
    name.split('_')
        .map(|word| match word {
            "f1" => "F1".to_string(),
            "mse" | "mae" | "rmse" => word.to_uppercase(),
            _ => word.to_string(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Round ticks that cover `[low, high]` with about `wanted` steps of 1, 2 or 5 × 10ⁿ, and the
/// number of decimals that tells them apart.
pub(crate) fn ticks(low: f64, high: f64, wanted: usize) -> (Vec<f64>, usize) {
    let span = high - low;
    if !(span.is_finite() && span > 0.0 && low.is_finite()) || wanted == 0 {
        return (vec![if low.is_finite() { low } else { 0.0 }], 0);
    }
    let raw = span / wanted as f64;
    let power = 10f64.powf(raw.log10().floor());
    let distance = |factor: f64| (factor * power / raw).ln().abs();
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .unwrap_or(10.0);
    let step = factor * power;
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    let count = (last - first).clamp(0.0, 50.0) as usize;
    let ticks = (0..=count).map(|i| (first + i as f64) * step).collect();
    let decimals = (0..12)
        .find(|&decimals| {
            let scaled = step * 10f64.powi(decimals);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0) && scaled.round() >= 1.0
        })
        .unwrap_or(12) as usize;
    (ticks, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_magnitude() {
        assert_eq!(flops(0), "0 FLOP");
        assert_eq!(flops(1_250_000_000), "1.25 GFLOP");
        assert_eq!(flops(43_500_000_000_000), "43.5 TFLOP");
        assert_eq!(seconds(4.2), "4.20 s");
        assert_eq!(seconds(185.0), "3 min 05 s");
        assert_eq!(seconds(f64::NAN), "n/a");
        assert_eq!(bytes(1 << 30), "1.00 GiB");
        assert_eq!(percent(0.2987), "29.9 %");
        assert_eq!(count(22_713_216), "22\u{202f}713\u{202f}216");
        assert_eq!(metric("macro_f1", 0.9325), "93.25 %");
        assert_eq!(metric("mse", 0.5), "0.500");
        assert_eq!(percent_round(0.3), "30 %");
        assert_eq!(rounded(2.0 / 3.0), "0.666667");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let (values, decimals) = ticks(0.0, 13.05, 5);
        assert_eq!((values, decimals), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0], 0));
        let (values, decimals) = ticks(0.83, 0.94, 4);
        assert_eq!(decimals, 2);
        assert!(values.iter().all(|v| (0.829..=0.941).contains(v)) && values.len() >= 3);
        for odd in [(f64::NAN, 1.0), (1.0, 1.0), (0.0, f64::INFINITY)] {
            assert_eq!(ticks(odd.0, odd.1, 5).0.len(), 1);
        }
    }
}
