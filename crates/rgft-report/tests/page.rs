//! The page as a file: well-formed pictures, nothing from outside, hostile names, odd runs.

#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use rgft_core::component::ComponentKind;
use rgft_core::events::{ComponentInfo, Event};
use rgft_report::{heat_map_svg, html};

/// Every `<svg>` of a page, parsed by an XML parser.
fn pictures(page: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find("<svg") {
        let end = start + rest[start..].find("</svg>").expect("an open picture") + "</svg>".len();
        let picture = &rest[start..end];
        if let Err(error) = roxmltree::Document::parse(picture) {
            panic!("{error} in {picture}");
        }
        out.push(picture);
        rest = &rest[end..];
    }
    out
}

/// What holds for every page, whatever the events were.
fn check(page: &str) {
    for picture in pictures(page) {
        assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{picture}");
    }
    let own = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "//cdn", "src=", "href=", "url(", "@import"] {
        assert!(!own.contains(outside), "{outside} reaches outside");
    }
    for tag in
        ["html", "head", "body", "main", "section", "table", "figure", "div", "ul", "dl", "script", "style"]
    {
        let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "<{tag}> is not balanced");
    }
}

#[test]
fn a_whole_run_fills_every_section() {
    let page = html(&synthetic::events(), Some(&synthetic::certificate()));
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/synthetic.html"), &page).unwrap();
    check(&page);
    for heading in [
        "MiniLM-L6-H384-uncased on banking77",
        "Where the errors come from",
        "What was updated",
        "Learning per compute",
        "What was computed",
        "Convergence certificate",
        "Settings",
    ] {
        assert!(page.contains(heading), "no {heading:?}");
    }
    // Two large maps, six earlier ones, the timeline, two curves, the ledger.
    let pictures = pictures(&page);
    assert_eq!(pictures.len(), 12);
    for index in [0, 7] {
        let cells = pictures[index].matches("<rect class=\"cell").count();
        let legend = 1;
        assert_eq!(cells, synthetic::components().len() + legend);
    }
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn the_hottest_class_is_where_the_greatest_share_is() {
    let components = synthetic::components();
    let mut shares = vec![0.001; components.len()];
    let hot = components.iter().position(|c| c.name == "encoder.layer.3.attention.head.5").unwrap();
    shares[hot] = 0.5;
    let picture = heat_map_svg(&components, &shares);
    let document = roxmltree::Document::parse(&picture).unwrap();
    let hottest: Vec<_> = document
        .descendants()
        .filter(|node| node.attribute("class") == Some("cell e11"))
        .filter_map(|node| node.first_element_child()?.text().map(str::to_string))
        .collect();
    assert_eq!(hottest.len(), 1);
    assert!(hottest[0].starts_with("encoder.layer.3.attention.head.5\nshare 50.0 %"), "{hottest:?}");
}

#[test]
fn hostile_names_are_shown_not_obeyed() {
    const EVIL: &str = "</title></svg><script>alert(1)</script>&\"'<img onerror=x>\u{0}\u{1b}[31m";
    let mut events = synthetic::events();
    for event in &mut events {
        match event {
            Event::RunStarted {
                method, model, data, task, components, labels, precision, version, ..
            } => {
                for name in [method, model, data, task, precision, version, &mut labels[0]] {
                    *name = EVIL.into();
                }
                for component in components {
                    component.name = EVIL.into();
                }
            }
            Event::Note { message, .. } => *message = EVIL.into(),
            Event::Validation { metrics, .. } => {
                metrics.clear();
                metrics.insert(EVIL.into(), 0.5);
            }
            Event::Finished { summary } => {
                summary.convergence.metric = EVIL.into();
                summary.metrics.test.insert(EVIL.into(), 0.5);
            }
            _ => {}
        }
    }
    let mut certificate = synthetic::certificate();
    certificate.conditions[0].detail = EVIL.into();
    certificate.conditions[0].condition = EVIL.into();
    let page = html(&events, Some(&certificate));
    check(&page);
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img") && !page.contains('\u{0}') && !page.contains('\u{1b}'));
}

#[test]
fn odd_runs_give_a_page() {
    let whole = synthetic::events();
    check(&html(&[], None));
    check(&html(&[], Some(&synthetic::certificate())));
    check(&html(&whole[..1], None));
    check(&html(&whole[1..], None));
    check(&html(&whole[whole.len() - 1..], None));
    check(&html(&whole[..whole.len() / 2], None));
    check(&html(&whole.iter().chain(&whole).cloned().collect::<Vec<_>>(), None));

    // A method without maps and plans.
    let full: Vec<_> =
        whole.iter().filter(|e| !matches!(e, Event::Map { .. } | Event::Plan { .. })).cloned().collect();
    let page = html(&full, None);
    check(&page);
    assert!(!page.contains("Where the errors come from") && page.contains("Learning per compute"));
}

#[test]
fn numbers_that_are_not_finite_stay_out_of_pictures() {
    let mut events = synthetic::events();
    for event in &mut events {
        match event {
            Event::Step { step, loss, .. } if *step > 200 => *loss = f64::NAN,
            Event::Map { shares, .. } => {
                shares[0] = f64::NAN;
                shares[1] = f64::INFINITY;
                shares[2] = -1.0;
            }
            Event::Plan { active, step_flops_ratio, .. } => {
                active.push(9999);
                *step_flops_ratio = f64::NAN;
            }
            Event::Validation { metrics, step, .. } if *step > 200 => {
                metrics.insert("accuracy".into(), f64::NAN);
            }
            Event::Finished { summary } => {
                summary.flops = Default::default();
                summary.seconds.total = f64::NAN;
            }
            _ => {}
        }
    }
    let page = html(&events, None);
    check(&page);
    assert!(page.contains("299 of 500 steps"));
}

#[test]
fn a_map_of_another_length_is_left_out() {
    let mut events = vec![synthetic::started()];
    events.push(Event::Map {
        step: 0,
        energies: vec![1.0],
        shares: vec![1.0],
        probe_flops: 0,
        rank_correlation: None,
        next_interval: 1,
    });
    assert!(!html(&events, None).contains("Where the errors come from"));
}

#[test]
fn a_heat_map_stands_alone_at_any_size() {
    for layers in [0, 1, 48] {
        let components: Vec<_> = (0..layers)
            .flat_map(|layer| (0..40).map(move |head| (layer, head)))
            .map(|(layer, head)| ComponentInfo {
                name: format!("layer.{layer}.head.{head}"),
                kind: ComponentKind::AttentionHead,
                layer: Some(layer),
                depth: layer,
                parameters: 1,
            })
            .collect();
        let picture = heat_map_svg(&components, &synthetic::shares(&components, 10));
        let document = roxmltree::Document::parse(&picture).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("role"), Some("img"));
        assert!(picture.contains("<style>") && !picture.contains("NaN"));
    }
    // Fewer shares than components, and none.
    let components = synthetic::components();
    for shares in [&[][..], &[0.5, 0.5]] {
        roxmltree::Document::parse(&heat_map_svg(&components, shares)).unwrap();
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever the model is made of, each component has exactly one cell.
    #[test]
    fn each_component_has_one_cell(
        model in proptest::collection::vec((0usize..8, proptest::option::of(0usize..5), 0usize..9, ".{0,12}"), 0..60),
        shares in proptest::collection::vec(proptest::num::f64::ANY, 0..60),
    ) {
        use ComponentKind::{
            Attention, AttentionHead, Embedding, FeedForward, Layer, Neurons, Norm, TaskHead,
        };
        let kinds = [Attention, AttentionHead, Embedding, FeedForward, Layer, Neurons, Norm, TaskHead];
        let components: Vec<_> = model
            .into_iter()
            .map(|(kind, layer, depth, name)| ComponentInfo { name, kind: kinds[kind], layer, depth, parameters: 3 })
            .collect();
        let picture = heat_map_svg(&components, &shares);
        let document = roxmltree::Document::parse(&picture).unwrap();
        let cells = document.descendants().filter(|node| {
            node.has_tag_name(("http://www.w3.org/2000/svg", "rect")) && node.has_children()
        });
        proptest::prop_assert_eq!(cells.count(), components.len());
    }
}
