//! RGFT's method without tensors: which parts of a model cause its errors, what updating them costs, what to
//! compute next, and what was computed so far.
//!
//! One refresh flows through the modules like this:
//!
//! ```text
//! signal per component ─► error_map ─► planner (cut + active set, examples, within what is left of the budget)
//!                             │            │
//!                             └─► lr_rule ─┴─► the step ─► ledger, guard, events
//! ```
//!
//! Nothing here knows a tensor, a file or a thread: everything is a pure function or a small state machine over
//! numbers, so it can be tested in microseconds and driven from another framework.

pub mod alpha;
pub mod certificate;
pub mod component;
pub mod coverage;
pub mod error;
pub mod error_map;
pub mod events;
pub mod guard;
pub mod inputs;
pub mod ledger;
pub mod lr_rule;
pub mod planner;
pub mod probe_interval;
pub mod ranges;
mod rank_correlation;
pub mod sampler;
pub mod schedule;
mod summary;
pub mod theory;
mod words;

pub use alpha::Alpha;
pub use certificate::{Certificate, Condition, Status};
pub use component::{Axis, Component, ComponentKind, Granularity, Slice};
pub use coverage::Coverage;
pub use error::CoreError;
pub use error_map::{ErrorMap, ErrorMapSettings, Signal};
pub use events::{ComponentInfo, Event, Level};
pub use guard::{Guard, GuardSettings, UpdateRule};
pub use inputs::{Extent, Images, Inputs, Series, Tokens};
pub use ledger::{Account, Ledger};
pub use lr_rule::LrRule;
pub use planner::{Candidate, Choice, Cut, Problem};
pub use probe_interval::ProbeInterval;
pub use ranges::{Ranges, Slices};
pub use rank_correlation::rank_correlation;
pub use sampler::{Sampler, Sampling};
pub use schedule::{Schedule, ScheduleKind};
pub use summary::{Convergence, Flops, Memory, Metrics, RunSummary, Seconds};
