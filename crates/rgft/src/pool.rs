//! Runs work inside a thread pool while this thread listens: a parallel pass that starts on a pool's own thread
//! need not wake another one first.

use std::sync::mpsc;

use anyhow::Result;
use rgft_train::TrainError;

/// More threads than this are a typing error.
const MOST_THREADS: usize = 1024;

/// Runs `work` on a pool of `threads` threads (0: every core) and hands what it says to `listen`, on this thread.
pub(crate) fn run<T: Send, M: Send>(
    threads: usize,
    work: impl FnOnce(&mut dyn FnMut(M)) -> Result<T> + Send,
    mut listen: impl FnMut(M),
) -> Result<T> {
    if threads > MOST_THREADS {
        return Err(TrainError::Mismatch {
            problem: format!("threads = {threads}: expected at most {MOST_THREADS}"),
            hint: "leave it out to use every core",
        }
        .into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| TrainError::Threads { threads, reason: error.to_string() })?;
    let (say, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            pool.install(|| {
                work(&mut |message| {
                    // If nobody listens any more, there is nobody to tell.
                    let _ = say.send(message);
                })
            })
        });
        hear.iter().for_each(&mut listen);
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// As [`run`], for work that says nothing.
pub(crate) fn quietly<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    run(threads, |_: &mut dyn FnMut(())| work(), |()| {})
}
