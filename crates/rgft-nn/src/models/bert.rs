//! The BERT family: BERT and MiniLM (Devlin et al. 2019), RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al. 2019),
//! with a head for classification or regression.
//!
//! `embeddings → [attention block → feed-forward block] × layers → head`. Cut levels: 0 the embeddings, `1 + 2l` and
//! `2 + 2l` the two blocks of layer `l`, `1 + 2·layers` the head.

mod build;
mod components;
mod config;

use rgft_core::{Component, Slices};
use serde_json::Value;

use crate::NnError;
use crate::engine::Engine;
use crate::layers::attention::Attention;
use crate::layers::embedding::{Embeddings, TokenRows};
use crate::layers::feed_forward::FeedForward;
use crate::layers::head::Head;
use crate::layers::{Context, Sinks};
use crate::models::{Grain, Model, Site, SiteKind, TokenBatch};
use crate::needs::Needs;
use crate::parameters::Parameters;
use crate::product::Product;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weights::Checkpoint;

/// An encoder with a task head.
#[derive(Clone, Debug)]
pub struct Bert {
    parameters: Parameters,
    sites: Vec<Site>,
    embeddings: Embeddings,
    layers: Vec<(Attention, FeedForward)>,
    head: Head,
    /// Positions of the first token (RoBERTa counts from `padding_idx + 1`).
    first_position: u32,
    config: Value,
    /// Tensors of the folder that this model does not use: written back as they came.
    unused: Checkpoint<'static>,
}

impl Bert {
    fn context<'a>(&'a self, engine: &'a Engine, needs: &'a [Needs], lengths: &'a [usize]) -> Context<'a> {
        Context { engine, parameters: &self.parameters, needs, lengths }
    }

    fn head_level(&self) -> usize {
        1 + 2 * self.layers.len()
    }

    fn rows(&self, batch: TokenBatch) -> TokenRows {
        let positions = batch.lengths.iter().flat_map(|&n| (0..n as u32).map(|i| i + self.first_position));
        TokenRows { words: batch.ids.to_vec(), positions: positions.collect(), types: batch.types.to_vec() }
    }
}

impl Model for Bert {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn components(&self, grain: Grain) -> Vec<Component> {
        components::components(self, grain)
    }

    fn levels(&self) -> usize {
        self.head_level() + 1
    }

    fn is_table(&self, index: usize) -> bool {
        self.sites.iter().any(|site| site.kind == SiteKind::Embedding { weight: index })
    }

    fn needs(&self, update: &[Slices], cut: usize, observe: bool) -> Vec<Needs> {
        let mut needs = vec![Needs::default(); self.sites.len()];
        let reached = |level: usize| cut <= level;
        // Parameter gradients first: the blocks derive from them what must be carried where.
        for (own, site) in needs.iter_mut().zip(&self.sites) {
            let is_whole = |parameter: usize| update[parameter].is_none() || update[parameter] == Slices::All;
            debug_assert!(
                match site.kind {
                    SiteKind::Linear { .. } => true,
                    SiteKind::Norm { weight, bias } => is_whole(weight) && is_whole(bias),
                    SiteKind::Embedding { weight } => is_whole(weight),
                },
                "{} is updated whole or not at all",
                site.name
            );
            match site.kind {
                SiteKind::Linear { weight, bias } | SiteKind::Norm { weight, bias } => {
                    own.dw = update[weight].clone();
                    own.db = update[bias].clone();
                }
                SiteKind::Embedding { weight } => own.dw = update[weight].clone(),
            }
        }
        self.head.set_needs(&mut needs, cut < self.head_level(), observe);
        for (l, (attention, feed_forward)) in self.layers.iter().enumerate().rev() {
            let level = 2 + 2 * l;
            if reached(level) {
                feed_forward.set_needs(&mut needs, update, cut < level, observe);
            }
            if reached(level - 1) {
                attention.set_needs(&mut needs, update, cut < level - 1, observe);
            }
        }
        if reached(0) {
            let tables = [
                Some(&self.embeddings.words),
                Some(&self.embeddings.positions),
                self.embeddings.types.as_ref(),
            ];
            let mut any = observe;
            for table in tables.into_iter().flatten() {
                needs[table.site].observe = observe;
                any |= !needs[table.site].dw.is_none();
            }
            let norm = &mut needs[self.embeddings.norm.site];
            norm.observe = observe;
            norm.dx = if any { Slices::All } else { Slices::None };
        }
        needs
    }

    fn positions(&self) -> usize {
        self.parameters[self.embeddings.positions.weight].rows() - self.first_position as usize
    }

    fn check(&self, batch: TokenBatch) -> Result<(), NnError> {
        let rows = |table: usize| self.parameters[table].rows();
        let words = rows(self.embeddings.words.weight);
        if let Some(&id) = batch.ids.iter().find(|id| **id as usize >= words) {
            let (what, found) = ("token id", id as usize);
            return Err(NnError::OutOfRange { what, found, limit: words });
        }
        let positions = self.positions();
        if let Some(&found) = batch.lengths.iter().find(|n| **n > positions) {
            return Err(NnError::OutOfRange { what: "sequence length", found, limit: positions });
        }
        let types = self.embeddings.types.as_ref().map_or(usize::MAX, |table| rows(table.weight));
        if let Some(&kind) = batch.types.iter().find(|kind| **kind as usize >= types) {
            let (what, found) = ("segment id", kind as usize);
            return Err(NnError::OutOfRange { what, found, limit: types });
        }
        Ok(())
    }

    fn forward(&self, engine: &Engine, batch: TokenBatch, needs: &[Needs], tape: &mut Tape) -> Tensor {
        let cx = self.context(engine, needs, batch.lengths);
        let mut x = self.embeddings.forward(cx, &self.rows(batch), tape);
        for (attention, feed_forward) in &self.layers {
            x = attention.forward(cx, x, tape);
            x = feed_forward.forward(cx, x, tape);
        }
        self.head.forward(cx, &x, tape)
    }

    fn backward(
        &self,
        engine: &Engine,
        batch: TokenBatch,
        needs: &[Needs],
        residual: Tensor,
        tape: &mut Tape,
        sinks: &mut Sinks,
    ) {
        let cx = self.context(engine, needs, batch.lengths);
        let Some(mut d) = self.head.backward(cx, residual, tape, sinks) else { return };
        for (attention, feed_forward) in self.layers.iter().rev() {
            let Some(below) = feed_forward.backward(cx, d, tape, sinks) else { return };
            let Some(below) = attention.backward(cx, below, tape, sinks) else { return };
            d = below;
        }
        self.embeddings.backward(cx, &self.rows(batch), d, tape, sinks);
    }

    fn products(&self, lengths: &[usize], needs: &[Needs]) -> Vec<Product> {
        let mut products = Vec::new();
        for (attention, feed_forward) in &self.layers {
            attention.products(needs, lengths, &mut products);
            feed_forward.products(needs, lengths, &mut products);
        }
        self.head.products(needs, lengths, &mut products);
        products
    }

    fn config(&self) -> &Value {
        &self.config
    }

    fn checkpoint(&self) -> Checkpoint<'_> {
        let mut checkpoint = self.unused.clone();
        for parameter in self.parameters.iter() {
            checkpoint.push_f32(&parameter.name, &parameter.shape, &parameter.data);
        }
        checkpoint
    }
}
