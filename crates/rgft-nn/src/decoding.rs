//! Generating token by token: each block remembers what it needs of the tokens so far (keys and values, or a state), so
//! that a new token costs one token's forward.
//!
//! Nothing here is trained and nothing is saved for a backward.

use rgft_core::{Extent, Inputs, Tokens};

use crate::NnError;
use crate::engine::Engine;
use crate::layers::Context;
use crate::models::{Decoder, Model};
use crate::needs::Needs;

/// What one block remembers of one sequence.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Numbers; how many and what they mean is the block's own affair.
    pub state: Vec<Vec<f32>>,
    /// Tokens that went through so far.
    pub tokens: usize,
}

/// A model's memory of one sequence.
#[derive(Debug)]
pub(crate) struct CachedDecoder<'a> {
    model: &'a Model,
    caches: Vec<Cache>,
    needs: Vec<Needs>,
    fed: usize,
}

impl<'a> CachedDecoder<'a> {
    /// An empty memory; `None` where a block can be computed for whole sequences only.
    pub(crate) fn new(model: &'a Model) -> Option<Self> {
        let caches = model.blocks.iter().map(|level| level.block.cache()).collect::<Option<_>>()?;
        Some(Self { model, caches, needs: model.no_needs(), fed: 0 })
    }
}

impl Decoder for CachedDecoder<'_> {
    fn feed(&mut self, engine: &Engine, ids: &[u32]) -> Result<Vec<f32>, NnError> {
        let Self { model, caches, needs, fed } = self;
        let (found, limit) = (*fed + ids.len(), model.longest);
        if found > limit {
            return Err(NnError::OutOfRange { what: "sequence length", found, limit });
        }
        let (types, lengths) = (vec![0; ids.len()], vec![ids.len()]);
        model.check(&Inputs::Tokens(Tokens { ids: ids.to_vec(), types, lengths }))?;
        let extent = Extent::Sequences(vec![ids.len()]);
        let cx = |extent| Context { engine, parameters: &model.parameters, needs, extent, inputs: None };
        let x = model.stem.block.decode(cx(&extent), ids, *fed);
        let Some(mut x) = x.filter(|_| !ids.is_empty()) else {
            return Err(NnError::Inputs { expected: "at least one token" });
        };
        *fed = found;
        let last = Extent::Sequences(vec![1]);
        for (i, (level, cache)) in model.blocks.iter().zip(caches).enumerate() {
            let mut extent = &extent;
            if i + 1 == model.blocks.len() {
                // Of the logits only the last row is asked for.
                let mut row = engine.tensor(1, x.cols());
                row.data_mut().copy_from_slice(&x.data()[x.data().len() - x.cols()..]);
                (x, extent) = (row, &last);
            }
            x = level.block.decode(cx(extent), x, cache);
        }
        Ok(x.data().to_vec())
    }
}
