//! Convolutions in bf16 on tile registers. Maps are rounded once, padding written out, and read where they lie: a tap sees
//! the pixels of all places at one constant way behind them, so no patch is ever copied.

mod correlate;
mod planes;
mod weight_gradient;

pub(super) use self::correlate::correlate;
pub(super) use self::weight_gradient::add_weight_gradient;

/// Numbers of rounded maps that stay in the second-level cache beside packed weights.
const SLAB: usize = 160 * 1024;
