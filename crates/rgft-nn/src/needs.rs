//! What backward must compute at each site, decided by the plan before forward runs.
//!
//! Forward saves only what these needs will read, and backward computes nothing that they do not ask for. Norms and
//! embedding tables are needed whole or not at all; linear maps in any part.

use rgft_core::{Ranges, Slices};

use crate::adapter::Adapter;

/// What one site needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// The gradient with respect to the site's input `[rows, in]`: not at all, whole, or some columns.
    pub dx: Slices,
    /// The gradient of the weight `[out, in]`: not at all, whole, some rows or some columns.
    pub dw: Slices,
    /// The gradient of the bias `[out, 1]`.
    pub db: Slices,
    /// Whether a probe wants to see the site's input and carried-back residual.
    pub observe: bool,
    /// What stands beside the weight. Then `dw` asks for its gradient, not the weight's.
    pub adapter: Option<Adapter>,
}

impl Needs {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.dx.is_none() && self.dw.is_none() && self.db.is_none() && !self.observe
    }

    /// Whether backward will read the site's input, or columns of it.
    pub fn reads_some_input(&self) -> bool {
        self.observe || !self.dw.is_none()
    }

    /// Whether backward will read the site's whole input.
    pub fn reads_input(&self) -> bool {
        self.observe || matches!(self.dw, Slices::All | Slices::Rows(_))
    }
}

/// The columns that `slices` selects out of `cols`, as runs. Rows cannot be meant here.
pub(crate) fn runs(slices: &Slices, n: usize) -> Vec<std::ops::Range<usize>> {
    match slices {
        Slices::None => Vec::new(),
        Slices::All => Ranges::full(n).iter().collect(),
        Slices::Rows(ranges) | Slices::Cols(ranges) => ranges.iter().collect(),
    }
}
