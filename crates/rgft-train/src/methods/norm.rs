//! `norm`: the task head, and scale and shift of every normalisation.
//!
//! No weight gradient is computed but the head's; `δ` goes all the way down. A language model's output map stays frozen.
//!
//! Source: Zhao et al., *Tuning LayerNorm in attention* (2024); Frankle et al., *Training BatchNorm and only BatchNorm*
//! (2021), whose nets are random.

use rgft_core::Component;
use rgft_nn::models::SiteKind;

use super::fixed::Fixed;
use crate::{TrainError, Workload};

pub(super) fn norm(work: &Workload) -> Result<Fixed, TrainError> {
    let sites = work.model.sites().iter();
    let norms = sites.filter(|site| matches!(site.kind, SiteKind::Norm { .. }));
    let norms: Vec<usize> =
        norms.flat_map(|site| [Some(site.kind.weight()), site.kind.bias()]).flatten().collect();
    if norms.is_empty() {
        return Err(TrainError::Mismatch {
            problem: "norm updates normalisations, and the model has none".into(),
            hint: "use --method bitfit, or another one",
        });
    }
    let is_norm = |component: &Component| component.slices.iter().all(|s| norms.contains(&s.parameter));
    Ok(Fixed::with_new_heads(work, |_, component| is_norm(component)))
}
