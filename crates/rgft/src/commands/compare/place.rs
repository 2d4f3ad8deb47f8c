//! Where runs are made: processor, commit, this program; and files that several processes write.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rgft_train::TrainError;

/// Waits until no other process changes files in `folder`, and keeps others waiting while the file is held.
pub(super) fn lock(folder: &Path) -> Result<File, TrainError> {
    let path = folder.join(".lock");
    let failed = |source| TrainError::Write { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Writes a file whole or not at all, under the [`lock`] of its folder.
pub(super) fn write(path: &Path, text: &str) -> Result<(), TrainError> {
    rgft_nn::weights::write_whole(path, text.as_bytes())
        .map_err(|source| TrainError::Write { path: path.to_path_buf(), source })
}

/// The processor, as it calls itself, and the widest vectors that it has: one name covers several generations.
pub(crate) fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim())
    };
    let Some(named) = value("model name") else {
        return format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    };
    let flags: Vec<&str> = value("flags").unwrap_or_default().split_whitespace().collect();
    let widest =
        [("avx512f", ", AVX-512"), ("avx2", ", AVX2")].into_iter().find(|(flag, _)| flags.contains(flag));
    format!("{named}{}", widest.map_or("", |(_, vectors)| vectors))
}

/// The commit of the working directory, with a mark where its sources were changed; `None` outside of this project.
pub(crate) fn commit() -> Option<String> {
    if !Path::new("crates/rgft/Cargo.toml").is_file() {
        return None;
    }
    let head = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output().ok()?;
    let head = String::from_utf8(head.stdout).ok().filter(|_| head.status.success())?;
    let changed =
        Command::new("git").args(["diff", "--quiet", "HEAD", "--", "crates", "Cargo.lock"]).status().ok()?;
    Some(format!("{}{}", head.trim(), if changed.success() { "" } else { "+" }))
}

/// A path by which this very program can be started, even after its file was replaced by a newer build.
pub(super) fn program() -> std::io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.into()) } else { std::env::current_exe() }
}

/// A word that is safe as the name of a file.
pub(super) fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.chars().map(safe).collect();
    if name.trim_matches('.').is_empty() { "task".into() } else { name }
}
