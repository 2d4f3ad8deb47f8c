//! `badam`: block coordinate descent by Adam. The task head, and one layer after the other from the last to the first, each
//! for K steps (`badam-interval`) with moments that begin at zero.
//!
//! Backward ends at the layer whose turn it is.
//!
//! Source: Luo et al., *BAdam: a memory efficient full parameter optimization method for large language models* (2024). As in
//! its code: descending order, embeddings left out, the task head always active, K = 50. A run that is too short for each
//! layer to have a turn has shorter ones. Moments of the head begin anew too. Here the prefix cache serves what lies below
//! the cut.

use super::new_heads;
use super::turns::{Turns, layers};
use crate::recipe::Recipe;
use crate::{TrainError, Workload};

pub(super) fn badam(recipe: &Recipe, work: &Workload) -> Result<Turns, TrainError> {
    let mut layers = layers(&work.components);
    layers.reverse();
    let turns = layers.into_iter().map(|layer| vec![layer]).cycle();
    Turns::new(recipe, work, new_heads(work), 1, recipe.badam_interval, true, turns)
}
