//! The ledger of a run as a bar beside full fine-tuning's, and as a table.

use std::fmt::Write as _;

use rgft_core::events::Flops;

use crate::svg::{Anchor, Svg};
use crate::units;

const WIDTH: f64 = 1040.0;

/// Name, what it is, FLOPs: in the order of the ledger.
pub(crate) fn accounts(flops: &Flops) -> [(&'static str, &'static str, u64); 7] {
    [
        ("forward", "forward passes of training steps", flops.forward),
        ("dX", "gradients of activations", flops.dx),
        ("dW", "gradients of weights", flops.dw),
        ("update", "optimizer steps", flops.update),
        ("probe", "looks at the whole depth", flops.probe),
        ("cache", "filling and advancing the prefix cache", flops.cache),
        ("tracking", "signals, from what probes see", flops.tracking),
    ]
}

/// What was computed, coloured by account, inside what full fine-tuning computes.
pub(crate) fn bar(flops: &Flops, budget: Option<f64>) -> String {
    let whole = flops.full_equivalent.max(flops.total).max(1) as f64;
    let scale = |value: f64| WIDTH * value / whole;
    let words = format!(
        "{} computed, {} for full fine-tuning",
        units::flops(flops.total),
        units::flops(flops.full_equivalent)
    );
    let mut svg = Svg::new(WIDTH, 70.0, "Compute beside full fine-tuning", &words);
    svg.rect([0.5, 18.5, WIDTH - 1.0, 25.0], 3.0, "track", &format!("full fine-tuning: {words}"));
    let mut x = 0.0;
    for (i, (name, description, value)) in accounts(flops).into_iter().enumerate() {
        if value == 0 {
            continue;
        }
        let width = scale(value as f64);
        let share = units::percent(value as f64 / flops.total.max(1) as f64);
        let title = format!("{name}: {description}\n{}, {share} of the total", units::flops(value));
        let gap = if width > 3.0 { 1.0 } else { 0.0 };
        svg.rect([x, 18.0, width - gap, 26.0], 0.0, &format!("l{i}"), &title);
        x += width;
    }
    let left_over = flops.full_equivalent.saturating_sub(flops.total);
    let words = format!("not computed: {}", units::flops(left_over));
    if WIDTH - x > 180.0 {
        svg.text((x + WIDTH) / 2.0, 35.5, Anchor::Middle, "note", &words);
    }
    if let Some(budget) = budget.filter(|budget| *budget < 1.0 && flops.full_equivalent > 0) {
        let x = scale(budget * flops.full_equivalent as f64);
        svg.line([x, 12.0], [x, 50.0], "limit");
        let (anchor, shift) = if x < WIDTH * 0.8 { (Anchor::Start, 0.0) } else { (Anchor::End, 0.0) };
        svg.text(x + shift, 9.0, anchor, "note", &format!("budget {}", units::percent_round(budget)));
    }
    let full = flops.full_equivalent as f64;
    for (i, share) in [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
        if full > 0.0 {
            let anchor = match i {
                0 => Anchor::Start,
                4 => Anchor::End,
                _ => Anchor::Middle,
            };
            let x = scale(full * share).clamp(0.5, WIDTH - 0.5);
            svg.line([x, 46.0], [x, 50.0], "axis");
            svg.text(x, 64.0, anchor, "tick", &units::percent_round(share));
        }
    }
    svg.finish()
}

/// The accounts as rows of an HTML table.
pub(crate) fn table(flops: &Flops) -> String {
    let mut out = String::from(
        "<table><thead><tr><th>account</th><th></th><th class=\"n\">compute</th><th class=\"n\">of the total</th>\
         <th class=\"n\">of full fine-tuning</th><th></th></tr></thead><tbody>",
    );
    let rows = accounts(flops);
    let most = rows.iter().map(|(_, _, value)| *value).max().unwrap_or(0).max(1) as f64;
    let ratio = |value: u64, whole: u64| {
        if whole == 0 { "n/a".to_string() } else { units::percent(value as f64 / whole as f64) }
    };
    for (i, (name, description, value)) in rows.into_iter().enumerate() {
        let _ = write!(
            out,
            "<tr><td><span class=\"swatch l{i}\"></span>{name}</td><td>{description}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"g\"><i class=\"l{i}\" style=\"width:{:.1}%\"></i></td></tr>",
            units::flops(value),
            ratio(value, flops.total),
            ratio(value, flops.full_equivalent),
            100.0 * value as f64 / most,
        );
    }
    let _ = write!(
        out,
        "<tr class=\"sum\"><td>total</td><td></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td></td></tr>\
         <tr class=\"apart\"><td>evaluation</td><td>validation and test data, not part of the total</td><td class=\"n\">{}</td>\
         <td class=\"n\"></td><td class=\"n\"></td><td></td></tr></tbody></table>",
        units::flops(flops.total),
        ratio(flops.total, flops.total),
        ratio(flops.total, flops.full_equivalent),
        units::flops(flops.evaluation),
    );
    out
}
