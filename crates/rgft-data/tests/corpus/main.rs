//! Text for language models: codecs, sources, sequences, parts held out, snippets.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod codecs;
mod columns;
mod real;
mod sequences;
mod snippets;
mod sources;

use std::path::{Path, PathBuf};

use rgft_data::{DataError, TextCodec};

/// `<workspace>/../shared/assets/<name>`, or nothing with the reason printed.
fn asset(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets").join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

/// A model's folder of these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// The codec of a folder with a vocabulary of these characters.
fn characters(characters: &str) -> TextCodec {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        characters.chars().zip(0u32..).map(|(c, id)| (c.to_string(), id.into())).collect();
    let vocabulary = serde_json::to_string(&vocabulary).unwrap();
    TextCodec::from_folder(folder(&[("vocab.json", &vocabulary)]).path()).unwrap()
}

/// The message, without the folder.
fn message<T>(result: Result<T, DataError>, folder: &Path) -> String {
    result.err().unwrap().to_string().replace(&format!("{}/", folder.display()), "")
}
