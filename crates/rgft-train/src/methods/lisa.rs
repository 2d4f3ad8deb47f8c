//! `lisa`: embeddings, the task head and whatever else belongs to no layer, and γ layers (`lisa-layers`) drawn at random
//! every K steps (`lisa-interval`).
//!
//! `δ` goes all the way down to the embeddings; no weight gradient of the other layers is computed. Moments of a layer stand
//! still until it is drawn again.
//!
//! Source: Pan et al., *LISA: layerwise importance sampling for memory-efficient large language model fine-tuning* (2024):
//! γ = 2, K from 1 to 50; 20 in its code. A run that is too short for each layer to have a turn has shorter ones.

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::turns::{Turns, layers};
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

pub(super) fn lisa(recipe: &Recipe, work: &Workload) -> Result<Turns, TrainError> {
    let components = &work.components;
    let always = (0..components.len()).filter(|&i| components[i].layer.is_none()).collect();
    let layers = layers(components);
    let together = recipe.lisa_layers.min(layers.len().max(1));
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed ^ 0x6c69_7361);
    let turns = std::iter::repeat_with(move || {
        index::sample(&mut random, layers.len(), together).into_iter().map(|i| layers[i]).collect()
    });
    Turns::new(recipe, work, always, together, recipe.lisa_interval, false, turns)
}
