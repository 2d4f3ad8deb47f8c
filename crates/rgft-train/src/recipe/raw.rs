//! Settings as written: a TOML file, then `--set key=value`, then flags. Each value is given its type here; what
//! the values mean together is for `check()`.

use std::path::Path;

use toml::{Table, Value};

use super::error::{Place, RecipeError};
use super::keys::{KEYS, Key, KeyType, RawRecipe};

impl RawRecipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML; a key that no recipe has; a value of the wrong type.
    pub fn from_file(file: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| RecipeError::Read { file: file.to_path_buf(), source })?;
        Self::from_toml(&text, file)
    }

    /// Reads a recipe from `text`; `file` is the name for messages.
    ///
    /// # Errors
    /// As [`RawRecipe::from_file`].
    pub fn from_toml(text: &str, file: &Path) -> Result<Self, RecipeError> {
        let line = |byte: usize| text.as_bytes().iter().take(byte).filter(|&&b| b == b'\n').count() + 1;
        let syntax = |error: toml::de::Error| RecipeError::Syntax {
            place: Place::line(file, line(error.span().map_or(0, |span| span.start))),
            message: error.message().to_owned(),
        };
        // The spanned table knows the lines, the plain one the values.
        let keys = toml::de::DeTable::parse(text).map_err(syntax)?.into_inner();
        let mut values: Table = text.parse().map_err(syntax)?;
        let mut recipe = RawRecipe::default();
        for key in keys.keys() {
            let place = Place::line(file, line(key.span().start));
            if let Some((name, value)) = values.remove_entry(key.get_ref().as_ref()) {
                recipe.merge(single(place.clone(), known(place, &name)?, value)?);
            }
        }
        Ok(recipe)
    }

    /// How the model in `folder` was trained, as far as that says how it is to be used: nothing where the folder holds no
    /// `recipe.toml`. Where data came from and went to, and how much of it was used, belongs to that run alone.
    ///
    /// # Errors
    /// As [`RawRecipe::from_file`].
    pub fn of_trained(folder: &Path) -> Result<Self, RecipeError> {
        let file = folder.join("recipe.toml");
        if !file.is_file() {
            return Ok(Self::default());
        }
        let stored = Self::from_file(&file)?;
        Ok(Self {
            model: None,
            tokenizer: None,
            data: None,
            test: None,
            validation: None,
            out: None,
            init: None,
            limit_train: None,
            limit_test: None,
            validation_part: None,
            test_part: None,
            ..stored
        })
    }

    /// Sets one key from `key=value`, as after `--set`.
    ///
    /// # Errors
    /// No `=`; an unknown key; a value of the wrong type.
    pub fn assign(&mut self, assignment: &str) -> Result<(), RecipeError> {
        match assignment.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => self.set(key.trim(), value.trim()),
            _ => Err(RecipeError::Assignment { found: assignment.to_owned() }),
        }
    }

    /// Sets one key from a value as typed: words and paths without quotation marks, several texts as a TOML
    /// array, alpha's table as a TOML inline table.
    ///
    /// # Errors
    /// An unknown key; a value of the wrong type.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), RecipeError> {
        let key = known(Place::flag(), key)?;
        let toml = match key.kind {
            KeyType::Text | KeyType::Path | KeyType::Word => Some(Value::String(value.to_owned())),
            KeyType::Number => value.parse().ok().map(Value::Float),
            KeyType::Count => value.parse().ok().map(Value::Integer),
            KeyType::Texts if value.starts_with('[') => inline(value),
            KeyType::Alpha if value.starts_with('{') => inline(value),
            KeyType::Texts | KeyType::Alpha => Some(Value::String(value.to_owned())),
        };
        let wrong = || RecipeError::Value {
            place: Place::flag(),
            key: key.name,
            found: value.to_owned(),
            expected: key.expected,
        };
        self.merge(single(Place::flag(), key, toml.ok_or_else(wrong)?).map_err(|_| wrong())?);
        Ok(())
    }

    /// Says that `key` must be set, for a command that cannot do without it.
    ///
    /// # Errors
    /// The key is not set.
    pub fn require(&self, key: &str) -> Result<(), RecipeError> {
        let key = known(Place::flag(), key)?;
        match self.values().contains_key(key.name) {
            true => Ok(()),
            false => Err(RecipeError::Missing { key: key.name, expected: key.expected }),
        }
    }

    /// The settings as a table, in the order of [`KEYS`].
    pub(super) fn values(&self) -> Table {
        // Every field is a number, a text or a map of them, so only a seed above i64's range can fail; check()
        // refuses those.
        Table::try_from(self).unwrap_or_default()
    }
}

/// The value of an inline TOML expression.
fn inline(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

/// A recipe with this one setting.
fn single(place: Place, key: &'static Key, value: Value) -> Result<RawRecipe, RecipeError> {
    let found = value.to_string();
    Table::from_iter([(key.name.to_owned(), value)]).try_into().map_err(|_| RecipeError::Value {
        place,
        key: key.name,
        found,
        expected: key.expected,
    })
}

/// The key called `name`, or the error that names the closest one.
fn known(place: Place, name: &str) -> Result<&'static Key, RecipeError> {
    Key::named(name).ok_or_else(|| RecipeError::UnknownKey {
        place,
        key: name.to_owned(),
        closest: KEYS.iter().map(|key| key.name).min_by_key(|key| unlikeness(name, key)).unwrap_or_default(),
    })
}

/// How unlike two keys are: 0 for initials (`lr`), else edits; a key that starts with what was typed comes first
/// among equals.
fn unlikeness(typed: &str, key: &str) -> (usize, bool) {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    let initials: String = key.split('-').filter_map(|word| word.chars().next()).collect();
    if initials.len() > 1 && initials == typed {
        return (0, false);
    }
    (edits(&typed, key), !key.starts_with(&typed))
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
