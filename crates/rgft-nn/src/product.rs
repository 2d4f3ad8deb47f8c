//! The list of matrix products: what a plan predicts, and what an engine executed.

/// On behalf of what a product runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// The forward pass.
    Forward,
    /// A gradient with respect to an input.
    Dx,
    /// A gradient with respect to a weight.
    Dw,
    /// Statistics of a signal.
    Tracking,
}

/// `batch` products `[m, k]·[k, n]` of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Product {
    /// The site.
    pub site: usize,
    /// What for.
    pub pass: Pass,
    /// How many of this shape.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
}

impl Product {
    /// `2·batch·m·k·n`: a multiply and an add each.
    pub fn flops(&self) -> u64 {
        2 * self.batch as u64 * self.m as u64 * self.k as u64 * self.n as u64
    }
}

/// FLOPs by pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flops {
    /// Forward.
    pub forward: u64,
    /// Gradients with respect to inputs.
    pub dx: u64,
    /// Gradients with respect to weights.
    pub dw: u64,
    /// Statistics.
    pub tracking: u64,
}

impl Flops {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.forward + self.dx + self.dw + self.tracking
    }

    /// Counts one product.
    pub fn add(&mut self, product: &Product) {
        let account = match product.pass {
            Pass::Forward => &mut self.forward,
            Pass::Dx => &mut self.dx,
            Pass::Dw => &mut self.dw,
            Pass::Tracking => &mut self.tracking,
        };
        *account += product.flops();
    }
}

impl<'a> FromIterator<&'a Product> for Flops {
    fn from_iter<I: IntoIterator<Item = &'a Product>>(products: I) -> Self {
        let mut flops = Self::default();
        products.into_iter().for_each(|product| flops.add(product));
        flops
    }
}
