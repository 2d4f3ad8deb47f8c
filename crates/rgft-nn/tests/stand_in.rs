//! Looks that end at the cut: what they compute below it.

#![allow(clippy::unwrap_used, missing_docs)]

use rgft_core::Slices;
use rgft_kernels::Precision;
use rgft_nn::models::MODELS;
use rgft_nn::{Activation, Engine, Probe, Tensor};

mod examples;

/// Which sites were shown, and their δ.
#[derive(Default)]
struct Seen(Vec<(usize, Vec<f32>)>);

impl Probe for Seen {
    fn see(&mut self, _: &Engine, site: usize, _: Activation, delta: &Tensor) {
        self.0.push((site, delta.data().to_vec()));
    }
}

fn look(name: &str, cut: usize) -> Seen {
    let (model, example) = examples::build(name);
    let (engine, mut seen) = (Engine::new(Precision::F32), Seen::default());
    engine.record();
    let loss = |outputs: &mut Tensor| {
        outputs.data_mut().iter_mut().enumerate().for_each(|(i, r)| *r = (i as f32 + 0.3).sin());
        0.0
    };
    model.look_standing_in(&engine, &example.inputs, cut, &mut seen, loss);
    let mut executed = engine.recorded();
    let mut planned = model.products(&example.inputs.extent(), &model.needs_standing_in(cut));
    executed.sort_unstable();
    planned.sort_unstable();
    let count = |products: &[rgft_nn::Product]| products.iter().map(rgft_nn::Product::flops).sum::<u64>();
    assert_eq!(count(&executed), count(&planned), "{name}, cut {cut}");
    seen
}

#[test]
fn every_site_is_seen_from_every_cut_by_the_planned_products() {
    for (name, ..) in MODELS {
        let (model, _) = examples::build(name);
        for cut in 0..model.levels() {
            let mut sites: Vec<usize> = look(name, cut).0.into_iter().map(|(site, _)| site).collect();
            sites.sort_unstable();
            assert_eq!(sites, (0..model.sites().len()).collect::<Vec<_>>(), "{name}, cut {cut}");
        }
    }
}

#[test]
fn with_the_cut_at_the_bottom_needs_are_those_of_a_probe() {
    for (name, ..) in MODELS {
        let (model, _) = examples::build(name);
        let nothing = vec![Slices::None; model.parameters().len()];
        assert_eq!(model.needs_standing_in(0), model.needs(&nothing, 0, true), "{name}");
    }
}

#[test]
fn each_branch_below_the_cut_is_given_the_delta_of_the_cut() {
    let (model, _) = examples::build("vit");
    let site = |layer: usize, end: &str| {
        let end = format!("layer.{layer}.{end}");
        model.sites().iter().position(|site| site.name.ends_with(&end)).unwrap()
    };
    let seen = look("vit", model.levels() - 1);
    let delta = |wanted: usize| &seen.0.iter().find(|(site, _)| *site == wanted).unwrap().1;
    let top = delta(site(1, "output.dense"));
    for (layer, end) in [(1, "attention.output.dense"), (0, "attention.output.dense"), (0, "output.dense")] {
        assert_eq!(delta(site(layer, end)), top, "layer {layer}, {end}");
    }
}
