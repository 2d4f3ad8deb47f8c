//! RGFT's method without tensors: which parts of a model cause its errors, what updating them costs, what to
//! compute next, and what was computed so far.
//!
//! One refresh flows through the modules like this:
//!
//! ```text
//! signal per component ─► error_map ─► planner (cut + active set, under pacing's allowance)
//!                             │            │
//!                             └─► lr_rule ─┴─► the step ─► ledger, guard, events
//! ```
//!
//! Nothing here knows a tensor, a file or a thread: everything is a pure function or a small state machine over
//! numbers, so it can be tested in microseconds and driven from another framework.

pub mod component;
pub mod error;
pub mod events;
pub mod ledger;
pub mod ranges;
mod summary;
mod words;

pub use component::{Axis, Component, ComponentKind, Granularity, Slice};
pub use error::CoreError;
pub use events::{ComponentInfo, Convergence, Event, Flops, Level, Memory, Metrics, RunSummary, Seconds};
pub use ledger::{Account, Ledger};
pub use ranges::{Ranges, Slices};
