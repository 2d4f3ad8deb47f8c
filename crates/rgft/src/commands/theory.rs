//! `rgft theory`: THEORY.md, measured.

mod predict;
mod verify;

use anyhow::Result;

use crate::args::Theory;
use crate::printer::Printer;

pub(crate) fn run(theory: &Theory, threads: Option<usize>, printer: &mut Printer) -> Result<()> {
    match theory {
        Theory::Verify(args) => verify::run(args, threads, printer),
        Theory::Predict(args) => predict::run(args, threads, printer),
    }
}
