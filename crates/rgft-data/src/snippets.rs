//! Whether generated code parses: Python by the `ast` module of the `python3` that is on the path, Rust by `syn`.
//!
//! A snippet is a prompt with its continuation, cut behind the last line that is whole ([`whole_lines`]). It parses if
//! all of it does; no attempt is made to save a part. Code is parsed, never run.

mod python;
mod rust;

use std::path::Path;
use std::str::FromStr;

/// A language whose code can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// As the Python that is installed reads it.
    Python,
    /// As a file of a crate.
    Rust,
}

impl Language {
    /// The language of a source file, by its extension.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        match crate::files::extension(path).as_str() {
            "py" => Some(Self::Python),
            "rs" => Some(Self::Rust),
            _ => None,
        }
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "python" => Ok(Self::Python),
            "rust" => Ok(Self::Rust),
            _ => Err(format!("`{name}`, expected python or rust")),
        }
    }
}

/// The snippet up to its last line break; nothing where it has none. Generation stops anywhere, and a line that it cuts
/// says nothing about the code.
#[must_use]
pub fn whole_lines(snippet: &str) -> &str {
    snippet.rfind('\n').map_or("", |end| &snippet[..=end])
}

/// Whether each snippet parses, in their order. `None` where the language's parser is not there.
///
/// A snippet that takes longer than some seconds, or more memory than a parser should, does not parse.
#[must_use]
pub fn parse_all<S: AsRef<str>>(language: Language, snippets: &[S]) -> Option<Vec<bool>> {
    let snippets: Vec<&str> = snippets.iter().map(AsRef::as_ref).collect();
    match language {
        Language::Python => python::parse_all(&snippets),
        Language::Rust => rust::parse_all(&snippets),
    }
}

/// Whether a snippet parses. `None` where the language's parser is not there.
#[must_use]
pub fn parses(language: Language, snippet: &str) -> Option<bool> {
    parse_all(language, &[snippet])?.first().copied()
}

/// The share of snippets that parse, 0 to 1. `None` without snippets, or without a parser.
#[must_use]
pub fn share_that_parse<S: AsRef<str>>(language: Language, snippets: &[S]) -> Option<f64> {
    let parsed = parse_all(language, snippets)?;
    let right = parsed.iter().filter(|parsed| **parsed).count();
    (!parsed.is_empty()).then(|| right as f64 / parsed.len() as f64)
}
