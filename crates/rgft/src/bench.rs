//! `rgft bench`: figures about this machine, always beside its measured peak or another program's in the same run.

pub(crate) mod gemm;
pub(crate) mod localize;
pub(crate) mod steps;

use std::time::{Duration, Instant};

/// What a piece of work takes, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds {
    /// The median.
    pub(crate) median: f64,
    /// The least: what it takes when nobody else uses the machine.
    pub(crate) best: f64,
}

/// The times of `work`, after warming up, over at least `time` or seven runs.
pub(crate) fn seconds(time: Duration, mut work: impl FnMut()) -> Seconds {
    (0..3).for_each(|_| work());
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 7 || start.elapsed() < time {
        let begun = Instant::now();
        work();
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Seconds { median: times[times.len() / 2], best: times[0] }
}
