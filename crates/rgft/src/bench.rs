//! `rgft bench`: figures about this machine, always beside its measured peak or another program's in the same run.

pub(crate) mod gemm;
pub(crate) mod localize;
pub(crate) mod steps;

use std::time::{Duration, Instant};

/// The median time of `work`, in seconds, after warming up, over at least `time` or seven runs.
pub(crate) fn median_seconds(time: Duration, mut work: impl FnMut()) -> f64 {
    (0..3).for_each(|_| work());
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 7 || start.elapsed() < time {
        let begun = Instant::now();
        work();
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
