//! Which files hold series: one, those of a folder, or those that a pattern matches.

use std::path::{Path, PathBuf};

use crate::DataError;
use crate::files::{extension, files_in};

/// The files of series that `data` names: a file; a folder, for all its .csv files; or a path whose last part holds
/// `*`, which stands for any text, for the files that match.
///
/// # Errors
/// [`DataError::Io`] for a path that does not exist, [`DataError::NoSeriesFiles`] where nothing matches.
pub fn series_files(data: &Path) -> Result<Vec<PathBuf>, DataError> {
    let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found = if data.is_dir() {
        files_in(data, |path| extension(path) == "csv")?
    } else if name.contains('*') {
        let folder = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named =
            |path: &Path| path.file_name().is_some_and(|found| matches(&name, &found.to_string_lossy()));
        files_in(folder, named)?
    } else {
        return Ok(vec![data.to_owned()]);
    };
    if found.is_empty() { Err(DataError::NoSeriesFiles { path: data.to_owned() }) } else { Ok(found) }
}

/// Whether `name` is the pattern with some text for each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*_hourly.csv", "AEP_hourly.csv", true),
            ("*_hourly.csv", "AEP_daily.csv", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-bc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
