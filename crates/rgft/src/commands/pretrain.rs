//! `rgft pretrain`: a starting point that does not exist yet, trained from random weights by `full`.

use anyhow::Result;
use rgft_train::recipe::{Init, MethodName, RawRecipe, RecipeError};

use super::train;
use crate::args::RecipeArgs;
use crate::printer::Printer;

pub(crate) fn run(args: &RecipeArgs, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    train::run_raw(from_scratch(args.recipe(threads)?)?, printer)
}

/// What is fixed here: everything is trained, from random weights.
fn from_scratch(raw: RawRecipe) -> Result<RawRecipe, RecipeError> {
    let conflict = |key, found: &dyn ToString| RecipeError::Conflict {
        key,
        found: found.to_string(),
        reason: "pre-training trains everything, from random weights".into(),
        hint: "leave it out, or use rgft train".into(),
    };
    match &raw {
        RawRecipe { method: Some(found), .. } if *found != MethodName::Full => Err(conflict("method", found)),
        RawRecipe { init: Some(found), .. } if *found != Init::Random => Err(conflict("init", found)),
        RawRecipe { budget: Some(found), .. } if *found != 1.0 => Err(conflict("budget", found)),
        _ => {
            let (method, init, budget) = (Some(MethodName::Full), Some(Init::Random), Some(1.0));
            Ok(RawRecipe { method, init, budget, ..raw })
        }
    }
}
