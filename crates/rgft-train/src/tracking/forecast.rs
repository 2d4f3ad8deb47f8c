//! What a look costs, before it is taken.

use rgft_core::{Axis, Extent, Signal, Slices};
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Pass, Product};

use super::Tracker;

impl Tracker {
    /// The FLOPs of a look at a batch of this extent: forward and dX as they will be counted, the signal's own products
    /// nearly so.
    pub fn forecast(&self, model: &Model, extent: &Extent) -> u64 {
        let nothing = vec![Slices::None; model.parameters().len()];
        let needs = match self.signal {
            Signal::Covariance => model.no_needs(),
            Signal::Depth => model.needs_standing_in(self.cut),
            _ => model.needs(&nothing, 0, true),
        };
        let passes = model.products(extent, &needs);
        let own = |product: &Product| match (product.pass, self.signal) {
            (Pass::Forward, Signal::Gram | Signal::Covariance) => 0,
            (Pass::Forward, _) => self.of_site(model, product),
            _ => 0,
        };
        passes.iter().map(|product| product.flops() + own(product)).sum()
    }

    /// FLOPs of the signal's product at a site that runs `forward`.
    fn of_site(&self, model: &Model, forward: &Product) -> u64 {
        let (weight, out) = match model.sites()[forward.site].kind {
            SiteKind::Linear { weight, .. } => (weight, forward.n),
            // Groups of channels are a batch of products.
            SiteKind::Conv { weight, .. } => (weight, forward.batch * forward.n),
            _ => return 0,
        };
        let columns = usize::from(self.ownership.along(weight, Axis::Cols).next().is_some());
        let groups = self.ownership.along(weight, Axis::Rows).count() + columns;
        let is_exact = matches!(self.signal, Signal::Exact | Signal::Taylor | Signal::Coherent);
        forward.flops() * if is_exact { out } else { groups.min(out) } as u64 / out.max(1) as u64
    }
}
