//! What a look costs, before it is taken.

use rgft_core::{Axis, Extent, Signal, Slices};
use rgft_nn::models::{Model, SiteKind};
use rgft_nn::{Pass, Product};

use super::{Tracker, reads_dw};

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
        let once = model.products_once(extent, &needs);
        let forward = once.iter().filter(|product| product.pass == Pass::Forward);
        let own: u64 = forward.map(|product| self.of_site(model, product)).sum();
        let passes = model.products(extent, &needs);
        own + passes.iter().map(Product::flops).sum::<u64>()
    }

    /// The FLOPs of looking at an example, the mean over batches of these extents.
    pub fn forecast_each(&self, model: &Model, batches: &[Extent]) -> f64 {
        let flops: u64 = batches.iter().map(|extent| self.forecast(model, extent)).sum();
        let examples: usize = batches.iter().map(|extent| model.rows_at(extent, 0).len()).sum();
        flops as f64 / examples.max(1) as f64
    }

    /// FLOPs of the signal's product at a site that runs `forward`.
    fn of_site(&self, model: &Model, forward: &Product) -> u64 {
        let kind = model.sites()[forward.site].kind;
        let columns = usize::from(self.ownership.along(kind.weight(), Axis::Cols).next().is_some());
        let groups = self.ownership.along(kind.weight(), Axis::Rows).count() + columns;
        match (kind, self.signal) {
            (_, Signal::Covariance) | (SiteKind::Norm { .. } | SiteKind::Embedding { .. }, _) => 0,
            (_, signal) if reads_dw(signal) => forward.flops(),
            // Of channels in groups, which are a batch of products, dW is taken.
            (SiteKind::Conv { .. }, _) if forward.batch > 1 => forward.flops(),
            (_, Signal::Gram) => 0,
            _ => forward.flops() * groups as u64 / forward.n.max(1) as u64,
        }
    }
}
