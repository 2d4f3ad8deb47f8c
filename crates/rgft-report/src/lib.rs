//! RGFT's reports: pure consumers of a run's events.
//!
//! * [`html`]: one self-contained page per run, with the error map, what was updated, the learning curves, the
//!   ledger and the certificate as inline SVG;
//! * [`heat_map_svg`]: the error map as a picture of its own;
//! * [`bounds_svg`]: bounds of theorems beside what they bound;
//! * [`scatter_svg`]: what was foretold against what was measured;
//! * [`growth_svg`]: how a cost grows with a model, above its floor;
//! * [`terminal_summary`], [`comparison_table`]: plain text;
//! * [`compare`]: methods over budgets, seeds and tasks, as tables and one page.
//!
//! Everything is a function from data to `String`: no file is read or written here, nothing is printed, and no
//! list of events makes it fail.

mod bounds;
pub mod compare;
mod curves;
mod findings;
mod grid;
mod growth;
mod header;
mod heat_map;
mod ledger;
mod page;
mod run;
mod scatter;
mod style;
mod svg;
mod terminal;
mod timeline;
mod units;

pub use bounds::{Panel, bounds_svg};
pub use growth::{GrowthCurve, GrowthPanel, growth_svg};
pub use heat_map::heat_map_svg;
pub use page::html;
pub use scatter::scatter_svg;
pub use terminal::{comparison_table, terminal_summary};
pub use units::larger_is_better;
