//! A folder of text or source files, with those in its folders.
//!
//! A folder holds what its owner forgot about as well, so one odd file is no error: hidden files and folders, links,
//! large files and files that are no UTF-8 text are passed over, and the last two are told.

use std::path::{Path, PathBuf};

use super::{Corpus, CorpusSpec, Document, grouped};
use crate::DataError;
use crate::files::{Files, VALIDATION_STEMS, extension, files_in, is_table, one_of};
use crate::table::decode;

/// Finds the files of a corpus. `data` is a file; or a folder with `train.*` and perhaps `dev.*` (or `validation`,
/// `valid`, `val`) and `test.*`, tables or `.txt`; or any other folder, which is itself the corpus to train on. `test`
/// and `validation` name files or folders that replace those of the folder.
///
/// # Errors
/// [`DataError::Io`] for a path that does not exist, [`DataError::Ambiguous`] for several candidates.
pub fn locate_corpus(
    data: &Path,
    test: Option<&Path>,
    validation: Option<&Path>,
) -> Result<Files, DataError> {
    for path in [Some(data), test, validation].into_iter().flatten() {
        std::fs::metadata(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    }
    let mut files = Files {
        train: data.to_owned(),
        validation: validation.map(Path::to_owned),
        test: test.map(Path::to_owned),
    };
    if data.is_dir() {
        let found = files_in(data, |path| is_table(path) || extension(path) == "txt")?;
        if let Some(train) = one_of(data, &found, "train", &["train"])? {
            files.train = train;
            if files.validation.is_none() {
                files.validation = one_of(data, &found, "validation", &VALIDATION_STEMS)?;
            }
            if files.test.is_none() {
                files.test = one_of(data, &found, "test", &["test"])?;
            }
        }
    }
    Ok(files)
}

/// Reads the text files of a folder and of those in it.
pub(super) fn read(folder: &Path, spec: &CorpusSpec) -> Result<Corpus, DataError> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let wanted: Vec<String> =
        spec.extensions.iter().map(|e| e.trim_start_matches('.').to_ascii_lowercase()).collect();
    while let Some(at) = folders.pop() {
        let io = |reason| DataError::Io { path: at.clone(), reason };
        for entry in std::fs::read_dir(&at).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && (wanted.is_empty() || wanted.contains(&extension(&path))) {
                paths.push(path);
            }
        }
    }
    paths.sort();

    let mut documents = Vec::new();
    let (mut large, mut binary) = (Passed::default(), Passed::default());
    for path in paths {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let io = |reason| DataError::Io { path: path.clone(), reason };
        if std::fs::metadata(&path).map_err(io)?.len() > spec.max_file_bytes {
            large.add(name);
            continue;
        }
        let bytes = std::fs::read(&path).map_err(io)?;
        let text = match decode(&path, &bytes) {
            Ok(text) => text.to_owned(),
            Err(DataError::Empty { .. }) => String::new(),
            Err(_) => {
                binary.add(name);
                continue;
            }
        };
        documents.push(Document { name, path, line: 1, text, prompt: 0 });
    }
    let limit = format!("larger than {} bytes", grouped(spec.max_file_bytes as usize));
    let notes = [large.note(&limit), binary.note("no UTF-8 text")].into_iter().flatten().collect();
    Ok(Corpus { path: PathBuf::from(folder), documents, running: false, notes })
}

/// Files that are passed over for one reason.
#[derive(Default)]
struct Passed {
    files: usize,
    first: String,
}

impl Passed {
    fn add(&mut self, name: String) {
        if self.files == 0 {
            self.first = name;
        }
        self.files += 1;
    }

    fn note(&self, reason: &str) -> Option<String> {
        match self.files {
            0 => None,
            1 => Some(format!("passed over {}: {reason}", self.first)),
            more => Some(format!(
                "passed over {} files, {} the first of them: {reason}",
                grouped(more),
                self.first
            )),
        }
    }
}
