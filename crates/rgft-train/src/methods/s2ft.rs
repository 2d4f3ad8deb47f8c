//! `s2ft`: the task head, and a few attention heads and groups of neurons, channels or gates, drawn once for the whole run.
//!
//! Source: Yang et al., *S2FT: efficient, scalable and generalizable LLM fine-tuning by structured sparsity* (2024). There a
//! drawn head or channel has its columns of the output or down projection updated; here all that makes it up is, its rows
//! of the other projections too, as the paper allows. Its code draws 5.2 % of the heads and 2 % of the channels of a large
//! model; of a small model's that would be next to nothing, so one part (`s2ft-part`) serves both, and one of each kind is
//! drawn at least.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rgft_core::ComponentKind;

use super::fixed::Fixed;
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

/// What is drawn from.
const KINDS: [ComponentKind; 4] =
    [ComponentKind::AttentionHead, ComponentKind::Neurons, ComponentKind::Channels, ComponentKind::Gate];

pub(super) fn s2ft(recipe: &Recipe, work: &Workload) -> Result<Fixed, TrainError> {
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed ^ 0x7332_6674);
    let components = &work.components;
    let mut drawn = vec![false; components.len()];
    for kind in KINDS {
        let all: Vec<usize> = (0..components.len()).filter(|&i| components[i].kind == kind).collect();
        let wanted = (recipe.s2ft_part * all.len() as f64).round().max(1.0) as usize;
        let chosen = index::sample(&mut random, all.len(), wanted.min(all.len()));
        chosen.into_iter().for_each(|i| drawn[all[i]] = true);
    }
    if !drawn.contains(&true) {
        return Err(TrainError::Mismatch {
            problem: "s2ft draws heads and groups of neurons, channels or gates, and the model has none"
                .into(),
            hint: "use another method",
        });
    }
    Ok(Fixed::with_new_heads(work, |i, _| drawn[i]))
}
