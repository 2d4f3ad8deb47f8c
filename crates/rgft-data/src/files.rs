//! Which files hold the data: `--data FILE|DIR`, `--validation FILE`, `--test FILE` to three paths.
//! Nothing is read here.

use std::path::{Path, PathBuf};

use crate::error::{DataError, listed};

/// File names (without extension) that mean validation data.
pub(crate) const VALIDATION_STEMS: [&str; 4] = ["dev", "validation", "valid", "val"];

/// Extensions of tables, lower case.
const EXTENSIONS: [&str; 5] = ["csv", "tsv", "jsonl", "json", "parquet"];

/// The files of one data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Training rows.
    pub train: PathBuf,
    /// Validation rows; where there are none, a part of the training rows is split off.
    pub validation: Option<PathBuf>,
    /// Test rows.
    pub test: Option<PathBuf>,
}

/// Finds the files of a data set.
///
/// `data` is the training file, or a folder with `train.*` and perhaps `dev.*` (or `validation`, `valid`,
/// `val`) and `test.*`, where `*` is `csv`, `tsv`, `jsonl`, `json` or `parquet`, in any case. `test` and `validation`
/// name files that replace those of the folder.
///
/// # Errors
/// [`DataError::Io`] for a path that does not exist, [`DataError::NoTrainFile`] and [`DataError::Ambiguous`]
/// for a folder with none or several candidates.
pub fn locate(data: &Path, test: Option<&Path>, validation: Option<&Path>) -> Result<Files, DataError> {
    for path in [Some(data), test, validation].into_iter().flatten() {
        std::fs::metadata(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
    }
    let (test, validation) = (test.map(Path::to_owned), validation.map(Path::to_owned));
    if !data.is_dir() {
        return Ok(Files { train: data.to_owned(), validation, test });
    }
    let tables = tables_in(data)?;
    let train = one_of(data, &tables, "train", &["train"])?.ok_or_else(|| DataError::NoTrainFile {
        folder: data.to_owned(),
        found: match tables.is_empty() {
            true => "no table".to_owned(),
            false => listed(tables.iter().map(|t| file_name(t)), 8),
        },
    })?;
    let validation = match validation {
        Some(path) => Some(path),
        None => one_of(data, &tables, "validation", &VALIDATION_STEMS)?,
    };
    let test = match test {
        Some(path) => Some(path),
        None => one_of(data, &tables, "test", &["test"])?,
    };
    Ok(Files { train, validation, test })
}

/// The tables of a folder, by name.
fn tables_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    files_in(folder, is_table)
}

/// Whether the extension is that of a table.
pub(crate) fn is_table(path: &Path) -> bool {
    EXTENSIONS.contains(&extension(path).as_str())
}

/// The files of a folder that are `wanted`, by name.
pub(crate) fn files_in(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let io = |reason| DataError::Io { path: folder.to_owned(), reason };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if wanted(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The only file whose stem is one of `stems`.
pub(crate) fn one_of(
    folder: &Path,
    tables: &[PathBuf],
    part: &'static str,
    stems: &[&str],
) -> Result<Option<PathBuf>, DataError> {
    let found: Vec<&PathBuf> = tables
        .iter()
        .filter(|t| t.file_stem().is_some_and(|s| stems.iter().any(|stem| s.eq_ignore_ascii_case(stem))))
        .collect();
    match found[..] {
        [] => Ok(None),
        [path] => Ok(Some(path.clone())),
        _ => Err(DataError::Ambiguous {
            folder: folder.to_owned(),
            part,
            found: listed(found.iter().map(|t| file_name(t)), 8),
        }),
    }
}

/// The extension in lower case, empty where there is none.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
