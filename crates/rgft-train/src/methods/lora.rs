//! `lora` and `rslora`: the task head, and a low-rank adapter beside each linear map of attention and feed-forward blocks,
//! each convolution whose channels all meet, and both maps of each recurrent layer.
//!
//! `W + s·B·A`, W frozen, with `s = α/r` (`lora`) or `s = α/√r` (`rslora`); r is `lora-rank`, α `lora-alpha`. When the run is
//! over the adapters are merged into the weights.
//!
//! Source: Hu et al., *LoRA: low-rank adaptation of large language models* (2022); Kalajdzievski, *A rank stabilization
//! scaling factor for fine-tuning with LoRA* (2023). The paper adapts queries and values alone; all linear maps, as here, is
//! what QLoRA (Dettmers et al. 2023) found to be needed to reach full fine-tuning. Of a convolution A is one to `rank`
//! channels and B mixes these, as in PEFT. Dropout on adapters is left out. The output map of a language model stays frozen and
//! has none.

use rgft_core::ComponentKind;
use rgft_nn::models::Model;

use super::fixed::Fixed;
use crate::recipe::{MethodName, Recipe};
use crate::{TrainError, Workload};

pub(super) fn prepare(recipe: &Recipe, model: &mut Model) -> Result<(), TrainError> {
    let rank = recipe.lora_rank as f64;
    let divisor = if recipe.method == MethodName::RsLora { rank.sqrt() } else { rank };
    match model.add_adapters(recipe.lora_rank, (recipe.lora_alpha / divisor) as f32, recipe.seed) {
        0 => Err(TrainError::Mismatch {
            problem: format!(
                "{} adapts linear maps and convolutions, and below its head the model has none",
                recipe.method
            ),
            hint: "use another method",
        }),
        _ => Ok(()),
    }
}

pub(super) fn lora(work: &Workload) -> Fixed {
    Fixed::with_new_heads(work, |_, component| component.kind == ComponentKind::Adapter)
}
