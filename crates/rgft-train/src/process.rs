//! What the operating system knows about this process.

/// The largest resident set so far, in bytes, where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
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

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(unix)]
    fn a_process_has_a_size() {
        assert!(super::peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
