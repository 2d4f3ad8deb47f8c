//! The program under test, and the demo's model and data that it is fed with.

#![allow(clippy::unwrap_used, dead_code)] // Each test program uses its part.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// `rgft`, at a low verbosity and without the caller's environment.
pub(crate) fn rgft() -> Command {
    let mut command = Command::new(program());
    command.env_remove("RGFT_YARDSTICK_PYTHON").env("RUST_BACKTRACE", "0");
    command
}

/// Where the program is.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_rgft")
}

/// The folder of the demo's model and data.
pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo").canonicalize().unwrap()
}

/// The demo's file `name`, as an argument.
pub(crate) fn asset(name: &str) -> String {
    demo().join(name).display().to_string()
}

/// Copies the demo's model (weights, configuration, tokenizer) to `folder`.
pub(crate) fn copy_model(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(demo().join(name), folder.join(name)).unwrap();
    }
}

/// The arguments of a short run on the demo's faded digits that writes to `out`; `changes` replace or join them, and
/// an empty value takes one away.
pub(crate) fn train_flags(out: &Path, changes: &[(&str, &str)]) -> Vec<String> {
    let mut flags = vec![
        ("--model", demo().display().to_string()),
        ("--data", asset("shift-train.csv")),
        ("--validation", asset("shift-validation.csv")),
        ("--task", "text-classification".into()),
        ("--max-length", "66".into()),
        ("--learning-rate", "1e-3".into()),
        ("--epochs", "2".into()),
        ("--out", out.display().to_string()),
    ];
    for &(flag, value) in changes {
        flags.retain(|(known, _)| *known != flag);
        if !value.is_empty() {
            flags.push((flag, value.into()));
        }
    }
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// Names of the files of `folder`, sorted.
pub(crate) fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below `folder` with its bytes.
pub(crate) fn tree(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for name in files_in(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            found.push((path.clone(), None));
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), Some(std::fs::read(&path).unwrap())));
        }
    }
    found
}
