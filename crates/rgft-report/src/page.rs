//! The page of a run: one self-contained HTML file, readable without script, in light and dark.
//!
//! Sections appear where the run has something to show in them. Every text from outside goes through `escape`.

use std::fmt::Write as _;

use rgft_core::certificate::{Certificate, Status};
use rgft_core::events::Event;

use crate::heat_map::{HeatMap, Scale, share_words};
use crate::run::Run;
use crate::svg::escape;
use crate::{curves, findings, header, ledger, style, timeline, units};

/// Earlier maps that are shown beside the last one.
const EARLIER_MAPS: usize = 6;
/// Components in the table of the largest shares.
const LARGEST: usize = 10;

/// The report of a run as one HTML page. It needs the events alone; a certificate adds its section.
///
/// Any list of events gives a page: empty, of a run that broke off, of a method without maps.
pub fn html(events: &[Event], certificate: Option<&Certificate>) -> String {
    let run = Run::new(events);
    let title = if run.model.is_empty() {
        "RGFT run".to_string()
    } else {
        format!("{} on {}", short_name(run.model), short_name(run.data))
    };
    let mut page = String::with_capacity(256 * 1024);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} – RGFT</title>\
         <style>{}{}</style></head>\n<body><main>",
        escape(&title),
        style::PICTURE,
        style::PAGE
    );
    header::write(&mut page, &run, &title);
    error_map(&mut page, &run);
    trained(&mut page, &run);
    learning(&mut page, &run);
    compute(&mut page, &run);
    if let Some(certificate) = certificate {
        conditions(&mut page, certificate);
    }
    settings(&mut page, &run);
    let _ = writeln!(
        page,
        "<footer>Residual-Guided Fine-Tuning. One FLOP is one multiplication or addition of a matrix product or an \
         update; every account of the ledger is in the total.</footer></main><script>{}</script></body></html>",
        style::SCRIPT
    );
    page
}

fn error_map(page: &mut String, run: &Run<'_>) {
    let Some(last) = run.maps.last() else {
        return;
    };
    let before = &run.maps[..run.maps.len() - 1];
    let shown = EARLIER_MAPS.min(before.len());
    let earlier: Vec<_> = (0..shown).map(|i| &before[i * before.len() / shown]).collect();
    let every = earlier.iter().flat_map(|map| map.shares).chain(last.shares);
    let scale = Scale::shares(every);
    let draw = |shares, title: &str, small: bool| {
        let map = HeatMap {
            components: run.components,
            values: shares,
            scale,
            title,
            description: "Colour is a component's share of the error map, on a log scale; rows are layers",
            say: &|i| share_words(shares, i),
        };
        if small { map.draw_small() } else { map.draw(None) }
    };
    let _ = write!(
        page,
        "<section><h2>Where the errors come from</h2><p class=\"lead\">{}</p><figure class=\"wide\">{}\
         <figcaption>Error map at step {}, the last of {}. Each cell is one component; its colour is its share \
         p = E / ΣE.</figcaption></figure>",
        findings::concentration(run.components, last.shares),
        draw(last.shares, "Error map", false),
        last.step,
        run.maps.len()
    );
    if !earlier.is_empty() {
        page.push_str("<h3>Earlier maps, on the same scale; rank corr. is Spearman's with the map before</h3><div class=\"small\">");
        for map in earlier {
            let correlation = map
                .rank_correlation
                .filter(|correlation| correlation.is_finite())
                .map(|correlation| format!(" · rank corr. {correlation:.2}"))
                .unwrap_or_default();
            let _ = write!(
                page,
                "<figure>{}<figcaption>step {}{correlation}</figcaption></figure>",
                draw(map.shares, &format!("Error map at step {}", map.step), true),
                map.step
            );
        }
        page.push_str("</div>");
    }
    largest(page, run, last.shares);
    page.push_str("</section>");
}

/// The components with the largest shares, as a table.
fn largest(page: &mut String, run: &Run<'_>, shares: &[f64]) {
    let mut order: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 0.0).collect();
    order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
    order.truncate(LARGEST);
    let Some(most) = order.first().map(|&i| shares[i]) else {
        return;
    };
    let fractions = run.active_fractions();
    page.push_str(
        "<h3>Largest shares</h3><div class=\"wide\"><table><thead><tr><th class=\"n\"></th><th>component</th>\
         <th class=\"n\">parameters</th><th class=\"n\">share</th><th></th>",
    );
    if fractions.is_some() {
        page.push_str("<th class=\"n\">updated in</th>");
    }
    page.push_str("</tr></thead><tbody>");
    for (rank, &index) in order.iter().enumerate() {
        let component = &run.components[index];
        let _ = write!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"mono\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"g\"><i class=\"share\" style=\"width:{:.1}%\"></i></td>",
            rank + 1,
            escape(&component.name),
            units::count(component.parameters),
            units::percent(shares[index]),
            100.0 * shares[index] / most
        );
        if let Some(fractions) = &fractions {
            let _ = write!(page, "<td class=\"n\">{} of steps</td>", units::percent(fractions[index]));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

fn trained(page: &mut String, run: &Run<'_>) {
    let Some(fractions) = run.active_fractions() else {
        return;
    };
    let map = HeatMap {
        components: run.components,
        values: &fractions,
        scale: Scale::Fraction,
        title: "What was updated",
        description: "Colour is the fraction of steps in which a component was updated; rows are layers",
        say: &|i| format!("updated in {} of the steps", units::percent(fractions[i])),
    };
    let _ = write!(
        page,
        "<section><h2>What was updated</h2><p class=\"lead\">{}</p><figure class=\"wide\">{}<figcaption>Fraction of \
         the steps in which each component was updated.</figcaption></figure>",
        findings::coverage(run.components, &fractions),
        map.draw(None)
    );
    if let Some(timeline) = timeline::draw(run) {
        let _ = write!(
            page,
            "<h3>Over time</h3><figure class=\"wide\">{timeline}<figcaption>Colour is the fraction of a layer's \
             components that were updated. {}</figcaption></figure>",
            if run.plans.iter().any(|plan| plan.cut > 0) {
                "Above the line, the cut, there is no backward pass at all."
            } else {
                "Backward went through the whole depth."
            }
        );
    }
    page.push_str("</section>");
}

fn learning(page: &mut String, run: &Run<'_>) {
    let (loss, validation) = (curves::loss(run), curves::validation(run));
    if loss.is_none() && validation.is_none() && run.steps.is_empty() {
        return;
    }
    page.push_str("<section><h2>Learning per compute</h2><div class=\"charts\">");
    if let Some(loss) = loss {
        let _ = write!(page, "<div><h3>Training loss</h3><figure>{loss}</figure></div>");
    }
    if let Some(validation) = validation {
        let name = units::metric_name(run.metric().unwrap_or_default());
        let _ = write!(page, "<div><h3>Validation {}</h3><figure>{validation}</figure></div>", escape(&name));
    }
    page.push_str("</div>");
    let broken = curves::broken_steps(run);
    if broken > 0 {
        let _ = write!(
            page,
            "<p class=\"notes\"><span class=\"status bad\">✗ {broken} of {} steps</span> had a loss that is not a \
             number.</p>",
            run.steps.len()
        );
    }
    page.push_str("</section>");
}

fn compute(page: &mut String, run: &Run<'_>) {
    let Some(summary) = run.summary else {
        return;
    };
    let flops = &summary.flops;
    let _ = write!(
        page,
        "<section><h2>What was computed</h2><p class=\"lead\">{}</p><figure class=\"wide\">{}</figure>\
         <div class=\"wide\">{}</div></section>",
        findings::spending(flops, run.budget),
        ledger::bar(flops, run.budget),
        ledger::table(flops)
    );
}

fn conditions(page: &mut String, certificate: &Certificate) {
    let of = |status| certificate.conditions.iter().filter(|entry| entry.status == status).count();
    let _ = write!(
        page,
        "<section><h2>Convergence certificate</h2><p class=\"lead\"><b>{}</b> of {} conditions of the theory held, \
         <b>{}</b> did not; not covered: {}.</p><div class=\"wide\"><table><thead><tr><th>status</th>\
         <th>condition</th><th>observed</th><th class=\"n\">value</th></tr></thead><tbody>",
        of(Status::Holds),
        certificate.conditions.len(),
        of(Status::DoesNotHold),
        of(Status::NotCovered)
    );
    for entry in &certificate.conditions {
        let (class, words) = match entry.status {
            Status::Holds => ("good", "✓ holds"),
            Status::DoesNotHold => ("bad", "✗ does not hold"),
            Status::NotCovered => ("open", "○ not covered"),
        };
        let value = entry.value.map(units::number).unwrap_or_default();
        let _ = write!(
            page,
            "<tr><td class=\"status {class}\">{words}</td><td>{}</td><td>{}</td><td class=\"n\">{value}</td></tr>",
            escape(&entry.condition),
            escape(&entry.detail)
        );
    }
    page.push_str("</tbody></table></div></section>");
}

fn settings(page: &mut String, run: &Run<'_>) {
    let mut entries = run.settings.clone();
    if let Some(summary) = run.summary {
        let seconds = &summary.seconds;
        entries.push(("seconds in probes", units::seconds(seconds.probe)));
        entries.push(("seconds in evaluation", units::seconds(seconds.eval)));
    }
    if !entries.is_empty() {
        page.push_str("<section><h2>Settings</h2><dl>");
        for (name, value) in &entries {
            let _ = write!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
        }
        page.push_str("</dl>");
        metrics(page, run);
        page.push_str("</section>");
    }
}

/// Every metric of the summary.
fn metrics(page: &mut String, run: &Run<'_>) {
    let Some(metrics) = run.summary.map(|summary| &summary.metrics) else {
        return;
    };
    let sets = [("validation", &metrics.validation), ("test", &metrics.test)];
    if sets.iter().all(|(_, values)| values.is_empty()) {
        return;
    }
    page.push_str("<h3>All metrics</h3><dl>");
    for (set, values) in sets {
        for (name, value) in values {
            let _ = write!(
                page,
                "<div><dt>{set} {}</dt><dd>{}</dd></div>",
                escape(&units::metric_name(name)),
                units::metric(name, *value)
            );
        }
    }
    page.push_str("</dl>");
}

/// The last part of a path or hub name.
fn short_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches(['/', '\\']);
    trimmed.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or(path)
}
