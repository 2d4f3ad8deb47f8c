//! A network that is trained selectively: one stem, then blocks, the last of which makes the outputs.
//!
//! Cut levels count from 0, the stem; block `i` is level `1 + i`. Selectivity is decided here, once for every
//! architecture: [`Model::needs`] puts each parameter's slices on its site and walks down from the outputs to the cut;
//! the passes through the chain (`passes.rs`) all look at the same [`Needs`].

use std::collections::BTreeMap;

use rgft_core::{Component, ComponentKind, Granularity, Inputs, Slice, Slices};
use serde_json::Value;

use crate::NnError;
use crate::adapter::Adapter;
use crate::decoding::CachedDecoder;
use crate::layers::{Block, Part, Stem, whole};
use crate::models::{Decoder, Grain, Site, SiteKind};
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::weights::Checkpoint;

/// A level of a model and what it is called.
#[derive(Debug)]
pub struct Level<B> {
    /// Its path: `encoder.layer.3.attention`. Its components' names begin with it.
    pub name: String,
    /// What all of it is, as one component.
    pub kind: ComponentKind,
    /// The layer that it belongs to, number and path: levels of one layer are one component at granularity `layer`.
    pub layer: Option<(usize, String)>,
    /// What computes it.
    pub block: B,
}

/// A network with its numbers.
#[derive(Debug)]
pub struct Model {
    pub(crate) parameters: Parameters,
    pub(crate) sites: Vec<Site>,
    pub(crate) stem: Level<Box<dyn Stem>>,
    pub(crate) blocks: Vec<Level<Box<dyn Block>>>,
    /// Rows of the longest sequence that it reads.
    pub(crate) longest: usize,
    pub(crate) config: Value,
    /// Whether blocks are run forward a second time instead of saving what backward reads.
    pub(crate) recompute: bool,
    /// By the index of the weight that they stand beside.
    pub(crate) adapters: BTreeMap<usize, Adapter>,
    /// Tensors of the folder that this model does not use: written back as they came.
    pub(crate) unused: Checkpoint<'static>,
}

/// A level's parts, before the granularity decides what becomes one component.
struct Parts<'a> {
    name: &'a str,
    kind: ComponentKind,
    layer: Option<&'a (usize, String)>,
    depth: usize,
    parts: Vec<Part>,
}

impl Model {
    /// Its numbers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its numbers, writable.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Its sites, in forward order; needs and probes refer to them by index.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Number of cut levels. Level 0 is the lowest; with the cut at the last one only the head is computed backward.
    pub fn levels(&self) -> usize {
        1 + self.blocks.len()
    }

    /// Tokens of the longest text that it can read.
    pub fn positions(&self) -> usize {
        self.longest
    }

    /// Whether from now on every block keeps only what enters it and runs forward a second time, just before backward goes
    /// through it (Chen et al. 2016, "Training deep nets with sublinear memory cost", with a segment per block). Bits stay
    /// the same; the second pass is computed, and counted.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Whether parameter `index` is an embedding table, whose gradient holds looked-up rows only. A table that is a
    /// linear map's weight too (tied embeddings) is none.
    pub fn is_table(&self, index: usize) -> bool {
        let uses = |site: &&Site| site.kind.weight() == index;
        let mut used = self.sites.iter().filter(uses).peekable();
        used.peek().is_some() && used.all(|site| matches!(site.kind, SiteKind::Embedding { .. }))
    }

    /// Which parameters are embedding tables.
    pub fn tables(&self) -> Vec<bool> {
        (0..self.parameters.len()).map(|i| self.is_table(i)).collect()
    }

    /// Needs of each site when the slices in `update` (one entry per parameter) are computed, `δ` is carried back
    /// to `cut`, and, where `observe`, a probe sees every site at and above it. A weight that is updated is taken without
    /// its adapter.
    pub fn needs(&self, update: &[Slices], cut: usize, observe: bool) -> Vec<Needs> {
        // Parameter gradients first: the blocks derive from them what must be carried where.
        let own = |site: &Site| {
            let weight = &update[site.kind.weight()];
            let adapter = self.adapters.get(&site.kind.weight()).filter(|_| weight.is_none()).copied();
            let learns = |adapter: Adapter| !(update[adapter.a].is_none() && update[adapter.b].is_none());
            Needs {
                dw: if adapter.is_some_and(learns) { Slices::All } else { weight.clone() },
                db: site.kind.bias().map_or(Slices::None, |bias| update[bias].clone()),
                adapter,
                ..Needs::default()
            }
        };
        let mut needs: Vec<Needs> = self.sites.iter().map(own).collect();
        for (i, level) in self.blocks.iter().enumerate().rev().filter(|(i, _)| cut <= i + 1) {
            level.block.set_needs(&mut needs, update, cut <= i, observe);
        }
        if cut == 0 {
            self.stem.block.set_needs(&mut needs, update, observe);
        }
        needs
    }

    /// Refuses inputs that do not fit: token ids outside the vocabulary, sequences longer than the positions,
    /// pictures of another size.
    ///
    /// # Errors
    /// [`NnError::OutOfRange`], [`NnError::Inputs`].
    pub fn check(&self, inputs: &Inputs) -> Result<(), NnError> {
        self.stem.block.check(&self.parameters, inputs)
    }

    /// The components of the given grain; their slices cover every parameter exactly once.
    pub fn components(&self, grain: Grain) -> Vec<Component> {
        let stem = std::iter::once(Parts {
            name: &self.stem.name,
            kind: self.stem.kind,
            layer: self.stem.layer.as_ref(),
            depth: 0,
            parts: self.stem.block.parts(&self.parameters, grain),
        });
        let blocks = self.blocks.iter().enumerate().map(|(i, level)| Parts {
            name: &level.name,
            kind: level.kind,
            layer: level.layer.as_ref(),
            depth: 1 + i,
            parts: level.block.parts(&self.parameters, grain),
        });
        let mut components: Vec<Component> = Vec::new();
        for Parts { name, kind, layer, depth, parts } in stem.chain(blocks) {
            let number = layer.map(|(number, _)| *number);
            // A task head's parts stay apart at every grain: fresh ones are treated differently.
            let (heads, others): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| part.kind == ComponentKind::TaskHead);
            let merged =
                |parts: Vec<Part>| parts.into_iter().flat_map(|part| part.slices).collect::<Vec<_>>();
            match (grain.granularity, layer) {
                _ if others.is_empty() => {}
                (Granularity::Group, _) => {
                    for part in others {
                        let name = joined(name, &part.name);
                        components.push(self.component(name, part.kind, number, depth, part.slices));
                    }
                }
                (Granularity::Tensor, _) => {
                    for (parameter, kind) in tensors(&others) {
                        let (name, slices) =
                            (&self.parameters[parameter].name, whole(&self.parameters, parameter));
                        components.push(self.component(name.clone(), kind, number, depth, vec![slices]));
                    }
                }
                (Granularity::Layer, Some((_, path))) => match components.last_mut() {
                    Some(last) if last.kind == ComponentKind::Layer && last.name == *path => {
                        let slices = [std::mem::take(&mut last.slices), merged(others)].concat();
                        let (name, depth) = (last.name.clone(), last.depth);
                        *last = self.component(name, ComponentKind::Layer, number, depth, slices);
                    }
                    _ => {
                        let kind = ComponentKind::Layer;
                        components.push(self.component(path.clone(), kind, number, depth, merged(others)));
                    }
                },
                _ => components.push(self.component(name.into(), kind, number, depth, merged(others))),
            }
            for part in heads {
                let name = joined(name, &part.name);
                components.push(self.component(name, part.kind, number, depth, part.slices));
            }
        }
        // Last, so that all others have the same places without them.
        for (depth, site) in self.adaptable() {
            let Some(adapter) = self.adapters.get(&self.sites[site].kind.weight()) else { continue };
            let name = format!("{}.lora", self.sites[site].name);
            let level = depth.checked_sub(1).map_or(&self.stem.layer, |block| &self.blocks[block].layer);
            let layer = level.as_ref().map(|(number, _)| *number);
            let slices = [adapter.a, adapter.b].map(|parameter| whole(&self.parameters, parameter));
            components.push(self.component(name, ComponentKind::Adapter, layer, depth, slices.to_vec()));
        }
        components
    }

    fn component(
        &self,
        name: String,
        kind: ComponentKind,
        layer: Option<usize>,
        depth: usize,
        slices: Vec<Slice>,
    ) -> Component {
        let parameters = &self.parameters;
        let scalars = |slice: &Slice| {
            Slices::from(slice)
                .elements(parameters[slice.parameter].rows(), parameters[slice.parameter].cols())
        };
        let count = slices.iter().map(scalars).sum();
        let fresh = !slices.is_empty() && slices.iter().all(|slice| parameters[slice.parameter].fresh);
        Component { name, kind, layer, depth, slices, parameters: count, fresh }
    }

    /// An empty sequence to go on with; `None` where the model makes no language.
    pub fn decoder(&self) -> Option<Box<dyn Decoder + '_>> {
        CachedDecoder::new(self).map(|decoder| Box::new(decoder) as Box<dyn Decoder>)
    }

    /// `config.json` as it should be written back.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The tensors to write back: name, shape, scalars.
    pub fn checkpoint(&self) -> Checkpoint<'_> {
        let mut checkpoint = self.unused.clone();
        for (i, parameter) in self.parameters.iter().enumerate().filter(|(_, parameter)| !parameter.adapter) {
            match self.merged(i) {
                Some(merged) => checkpoint.push_merged(&merged),
                None => checkpoint.push_parameter(parameter),
            }
        }
        checkpoint
    }
}

/// The parameters that these parts share out, in the order of their first slices, and of what kind each is.
fn tensors(parts: &[Part]) -> Vec<(usize, ComponentKind)> {
    let mut found: Vec<(usize, ComponentKind)> = Vec::new();
    for (part, slice) in parts.iter().flat_map(|part| part.slices.iter().map(move |slice| (part, slice))) {
        if found.iter().all(|(known, _)| *known != slice.parameter) {
            let kind = match part.kind {
                ComponentKind::AttentionHead => ComponentKind::Attention,
                ComponentKind::Neurons => ComponentKind::FeedForward,
                kind => kind,
            };
            found.push((slice.parameter, kind));
        }
    }
    found
}

fn joined(level: &str, part: &str) -> String {
    if part.is_empty() { level.into() } else { format!("{level}.{part}") }
}
