//! One sentence per section that says what its picture shows. The results are HTML; names in them are escaped.

use rgft_core::events::{ComponentInfo, Flops};

use crate::grid::{Grid, Sizes};
use crate::svg::escape;
use crate::units;

/// How concentrated a map is, and which rows it names.
pub(crate) fn concentration(components: &[ComponentInfo], shares: &[f64]) -> String {
    let mut order: Vec<usize> =
        (0..shares.len().min(components.len())).filter(|&i| shares[i] > 0.0).collect();
    order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
    let total: f64 = order.iter().map(|&i| shares[i]).sum();
    if !(total.is_finite() && total > 0.0) {
        return "No error was seen in any component.".into();
    }
    let mut sum = 0.0;
    let mut half = 0;
    while sum < total / 2.0 && half < order.len() {
        sum += shares[order[half]];
        half += 1;
    }
    let parameters = |indices: &mut dyn Iterator<Item = usize>| -> usize {
        indices.map(|i| components[i].parameters).sum()
    };
    let inside = parameters(&mut order[..half].iter().copied());
    let all = parameters(&mut (0..components.len())).max(1);
    let mut rows: Vec<(String, f64)> = layout(components)
        .rows
        .into_iter()
        .map(|row| (row.label, row.components.iter().map(|&i| shares[i]).filter(|p| *p > 0.0).sum::<f64>()))
        .collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let named: Vec<String> = rows
        .iter()
        .take(2)
        .filter(|(_, share)| *share > 0.0)
        .map(|(label, share)| format!("<b>{}</b> ({})", escape(label), units::percent(share / total)))
        .collect();
    format!(
        "Half of the map lies in <b>{half} of {} components</b>, which hold {} of the parameters. The largest rows: {}.",
        components.len(),
        units::percent(inside as f64 / all as f64),
        named.join(" and ")
    )
}

/// How many components were updated always, sometimes, never.
pub(crate) fn coverage(components: &[ComponentInfo], fractions: &[f64]) -> String {
    let never = fractions.iter().filter(|fraction| **fraction == 0.0).count();
    let always = fractions.iter().filter(|fraction| **fraction == 1.0).count();
    let updated: f64 = components.iter().zip(fractions).map(|(c, f)| c.parameters as f64 * f).sum();
    let all: f64 = components.iter().map(|c| c.parameters as f64).sum();
    let mean = if all > 0.0 { updated / all } else { 0.0 };
    format!(
        "<b>{always}</b> of {} components were updated in every step, <b>{never}</b> in none. In a mean step \
         <b>{}</b> of the parameters were updated.",
        components.len(),
        units::percent(mean)
    )
}

/// What the run cost beside full fine-tuning and its budget.
pub(crate) fn spending(flops: &Flops, budget: Option<f64>) -> String {
    let whole = flops.full_equivalent;
    if whole == 0 {
        return format!("<b>{}</b> were computed.", units::flops(flops.total));
    }
    let ratio = flops.total as f64 / whole as f64;
    let mut out = format!(
        "<b>{}</b> were computed: <b>{}</b> of the {} that full fine-tuning computes for the same epochs on the same \
         examples",
        units::flops(flops.total),
        units::percent(ratio),
        units::flops(whole)
    );
    if let Some(budget) = budget.filter(|budget| *budget > 0.0 && *budget < 1.0) {
        let off = ratio / budget - 1.0;
        let words = if off > 0.0 { "over" } else { "under" };
        out.push_str(&format!(
            ", {} {words} the budget of {}",
            units::percent(off.abs()),
            units::percent_round(budget)
        ));
    }
    let overhead = flops.tracking + flops.probe;
    if overhead > 0 && flops.total > 0 {
        out.push_str(&format!(
            ". Tracking and probes took {} of it",
            units::percent(overhead as f64 / flops.total as f64)
        ));
    }
    out.push('.');
    out
}

/// Rows alone matter here, not sizes.
fn layout(components: &[ComponentInfo]) -> Grid {
    let sizes = Sizes {
        width: 1.0,
        height: 1.0,
        row_height: [1.0, 1.0],
        band_height: 1.0,
        cell_width: 1.0,
        gap: 0.0,
        block_gap: 0.0,
    };
    Grid::new(components, sizes)
}
