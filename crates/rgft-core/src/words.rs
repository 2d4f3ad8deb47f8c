//! Settings that are one word out of a few: the same table parses the word and prints it.

use crate::CoreError;

/// Value of the word `found` in `table`.
pub(crate) fn parse<T: Clone>(
    setting: &'static str,
    table: &[(&'static str, T)],
    found: &str,
) -> Result<T, CoreError> {
    table.iter().find(|(word, _)| *word == found).map(|(_, value)| value.clone()).ok_or_else(|| {
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        CoreError::UnknownWord { setting, found: found.to_owned(), expected: words.join(", ") }
    })
}

/// Gives a plain enum `FromStr` and `Display` from one table of words.
macro_rules! words {
    ($type:ty, $setting:literal, { $($word:literal => $value:expr),+ $(,)? }) => {
        impl std::str::FromStr for $type {
            type Err = $crate::CoreError;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                $crate::words::parse($setting, &[$(($word, $value)),+], word)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let table = [$(($word, $value)),+];
                let word = table.iter().find(|(_, value)| value == self).map_or("?", |(word, _)| *word);
                f.pad(word)
            }
        }
    };
}
pub(crate) use words;
