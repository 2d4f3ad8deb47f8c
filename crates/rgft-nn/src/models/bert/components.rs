//! The components of an encoder: attention heads, groups of neurons, norms, embeddings, the task head.
//!
//! The bias of an output projection acts on the norm's input alone, so it belongs to the norm.

use rgft_core::{Axis, Component, ComponentKind, Granularity, Slice};

use super::Bert;
use crate::layers::linear::Linear;
use crate::layers::norm::Norm;
use crate::models::Grain;

/// Slices of one component, collected.
struct Builder<'a> {
    model: &'a Bert,
    components: Vec<Component>,
}

impl Builder<'_> {
    fn whole(&self, parameter: usize) -> Slice {
        Slice { parameter, axis: Axis::Rows, range: 0..self.model.parameters[parameter].rows() }
    }

    fn linear(&self, linear: &Linear) -> [Slice; 2] {
        [self.whole(linear.weight), self.whole(linear.bias)]
    }

    fn norm(&self, norm: &Norm, branch: &Linear) -> [Slice; 3] {
        [self.whole(norm.weight), self.whole(norm.bias), self.whole(branch.bias)]
    }

    fn push(
        &mut self,
        name: String,
        kind: ComponentKind,
        layer: Option<usize>,
        depth: usize,
        slices: Vec<Slice>,
    ) {
        let parameters = &self.model.parameters;
        let scalars = |slice: &Slice| {
            let parameter = &parameters[slice.parameter];
            slice.range.len() * if slice.axis == Axis::Rows { parameter.cols() } else { parameter.rows() }
        };
        let count = slices.iter().map(scalars).sum();
        let fresh = !slices.is_empty() && slices.iter().all(|slice| parameters[slice.parameter].fresh);
        self.components.push(Component { name, kind, layer, depth, slices, parameters: count, fresh });
    }
}

fn rows(parameter: usize, range: std::ops::Range<usize>) -> Slice {
    Slice { parameter, axis: Axis::Rows, range }
}

fn columns(parameter: usize, range: std::ops::Range<usize>) -> Slice {
    Slice { parameter, axis: Axis::Cols, range }
}

pub(super) fn components(model: &Bert, grain: Grain) -> Vec<Component> {
    let mut builder = Builder { model, components: Vec::new() };
    embeddings(&mut builder, grain.granularity);
    for l in 0..model.layers.len() {
        match grain.granularity {
            Granularity::Layer => whole_layer(&mut builder, l),
            Granularity::Module => modules(&mut builder, l),
            Granularity::Group => groups(&mut builder, l, grain.neuron_group),
        }
    }
    head(&mut builder);
    builder.components
}

fn embeddings(builder: &mut Builder, granularity: Granularity) {
    let e = &builder.model.embeddings;
    let words = vec![builder.whole(e.words.weight)];
    let mut places = vec![builder.whole(e.positions.weight)];
    places.extend(e.types.as_ref().map(|table| builder.whole(table.weight)));
    let norm = vec![builder.whole(e.norm.weight), builder.whole(e.norm.bias)];
    if granularity == Granularity::Group {
        builder.push("embeddings.words".into(), ComponentKind::Embedding, None, 0, words);
        builder.push("embeddings.positions".into(), ComponentKind::Embedding, None, 0, places);
        builder.push("embeddings.norm".into(), ComponentKind::Norm, None, 0, norm);
    } else {
        let all = [words, places, norm].concat();
        builder.push("embeddings".into(), ComponentKind::Embedding, None, 0, all);
    }
}

fn attention_slices(builder: &Builder, l: usize) -> Vec<Slice> {
    let attention = &builder.model.layers[l].0;
    let inputs = [&attention.query, &attention.key, &attention.value];
    let mut slices: Vec<_> = inputs.into_iter().flat_map(|linear| builder.linear(linear)).collect();
    slices.push(builder.whole(attention.output.weight));
    slices.extend(builder.norm(&attention.norm, &attention.output));
    slices
}

fn feed_forward_slices(builder: &Builder, l: usize) -> Vec<Slice> {
    let feed_forward = &builder.model.layers[l].1;
    let mut slices = builder.linear(&feed_forward.up).to_vec();
    slices.push(builder.whole(feed_forward.down.weight));
    slices.extend(builder.norm(&feed_forward.norm, &feed_forward.down));
    slices
}

fn whole_layer(builder: &mut Builder, l: usize) {
    let slices = [attention_slices(builder, l), feed_forward_slices(builder, l)].concat();
    builder.push(format!("encoder.layer.{l}"), ComponentKind::Layer, Some(l), 1 + 2 * l, slices);
}

fn modules(builder: &mut Builder, l: usize) {
    let attention = attention_slices(builder, l);
    let name = format!("encoder.layer.{l}.attention");
    builder.push(name, ComponentKind::Attention, Some(l), 1 + 2 * l, attention);
    let feed_forward = feed_forward_slices(builder, l);
    let name = format!("encoder.layer.{l}.feed_forward");
    builder.push(name, ComponentKind::FeedForward, Some(l), 2 + 2 * l, feed_forward);
}

fn groups(builder: &mut Builder, l: usize, neuron_group: usize) {
    let (attention, feed_forward) = &builder.model.layers[l];
    let layer = Some(l);
    let width = attention.query.output / attention.heads;
    for h in 0..attention.heads {
        let range = h * width..(h + 1) * width;
        let mut slices = Vec::new();
        for linear in [&attention.query, &attention.key, &attention.value] {
            slices.extend([rows(linear.weight, range.clone()), rows(linear.bias, range.clone())]);
        }
        slices.push(columns(attention.output.weight, range));
        let name = format!("encoder.layer.{l}.attention.head.{h}");
        builder.push(name, ComponentKind::AttentionHead, layer, 1 + 2 * l, slices);
    }
    let slices = builder.norm(&attention.norm, &attention.output).to_vec();
    builder.push(format!("encoder.layer.{l}.attention.norm"), ComponentKind::Norm, layer, 1 + 2 * l, slices);

    let neurons = feed_forward.up.output;
    let group = if neuron_group == 0 { neurons.div_ceil(attention.heads) } else { neuron_group };
    for (g, start) in (0..neurons).step_by(group.max(1)).enumerate() {
        let range = start..(start + group).min(neurons);
        let slices = vec![
            rows(feed_forward.up.weight, range.clone()),
            rows(feed_forward.up.bias, range.clone()),
            columns(feed_forward.down.weight, range),
        ];
        let name = format!("encoder.layer.{l}.feed_forward.neurons.{g}");
        builder.push(name, ComponentKind::Neurons, layer, 2 + 2 * l, slices);
    }
    let slices = builder.norm(&feed_forward.norm, &feed_forward.down).to_vec();
    builder.push(
        format!("encoder.layer.{l}.feed_forward.norm"),
        ComponentKind::Norm,
        layer,
        2 + 2 * l,
        slices,
    );
}

fn head(builder: &mut Builder) {
    let (head, level) = (&builder.model.head, builder.model.head_level());
    let is_fresh = |linear: &Linear| builder.model.parameters[linear.weight].fresh;
    let classifier = builder.linear(&head.classifier).to_vec();
    match &head.dense {
        // A pooler that was loaded is tracked like everything else; the fresh classifier above it is not.
        Some((dense, _)) if is_fresh(dense) != is_fresh(&head.classifier) => {
            let slices = builder.linear(dense).to_vec();
            builder.push("head.dense".into(), ComponentKind::TaskHead, None, level, slices);
            builder.push("head.classifier".into(), ComponentKind::TaskHead, None, level, classifier);
        }
        Some((dense, _)) => {
            let slices = [builder.linear(dense).to_vec(), classifier].concat();
            builder.push("head".into(), ComponentKind::TaskHead, None, level, slices);
        }
        None => builder.push("head".into(), ComponentKind::TaskHead, None, level, classifier),
    }
}
