//! What the operating system knows about this process.

use std::time::Duration;

/// Forgets the largest resident set so far, where the system can (Linux), so that each of several runs in one
/// process is measured by itself.
pub(crate) fn reset_peak_rss() {
    if cfg!(target_os = "linux") {
        // `5` resets VmHWM, see proc(5); where it is not allowed, the peak stays that of the process.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// A size that Linux tells of a process, in bytes.
fn told(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The resident set as it is, in bytes, where the system tells.
pub(crate) fn rss_bytes() -> Option<u64> {
    told("self", "VmRSS:")
}

/// The largest resident set of another process so far, in bytes, where the system tells (Linux).
pub fn peak_rss_bytes_of(process: u32) -> Option<u64> {
    told(&process.to_string(), "VmHWM:")
}

/// The largest resident set, in bytes, where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    if let Some(bytes) = told("self", "VmHWM:") {
        return Some(bytes);
    }
    #[cfg(unix)]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
        // Kibibytes on Linux, bytes on macOS.
        Some(if cfg!(target_os = "macos") { peak } else { peak * 1024 })
    }
    #[cfg(not(unix))]
    {
        None
    }
}

/// What the processor spent on this process so far, all threads together; zero where the system does not tell.
pub(crate) fn processor_time() -> Duration {
    #[cfg(unix)]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeValLike;
        let spent = getrusage(UsageWho::RUSAGE_SELF)
            .map_or(0, |usage| (usage.user_time() + usage.system_time()).num_microseconds());
        Duration::from_micros(u64::try_from(spent).unwrap_or_default())
    }
    #[cfg(not(unix))]
    {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(unix)]
    fn a_process_has_a_size_and_takes_time_when_it_works() {
        assert!(super::peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 20));
        let before = super::processor_time();
        let begun = std::time::Instant::now();
        while super::processor_time() == before {
            assert!(begun.elapsed().as_secs() < 60, "no time is counted");
        }
    }
}
