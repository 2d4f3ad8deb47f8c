//! Vocabularies of characters: `vocab.json` as `{"a": 0, "b": 1, …}`, one character a key.
//!
//! A key in angle or square brackets (`<unk>`, `[PAD]`) is a special token: it has an id and no text. `<unk>` or
//! `[UNK]` stands in for characters that are not there, else the space, else the first character.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::EncodedText;
use crate::DataError;

/// What becomes of characters that the vocabulary lacks. In any case `\r\n` is `\n` to a vocabulary without `\r`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownCharacters {
    /// The model's own token for unknown ones, or a space, stands in.
    #[default]
    Replace,
    /// They are left out.
    Drop,
    /// They are an error.
    Refuse,
}

impl UnknownCharacters {
    /// Every choice by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("replace", Self::Replace), ("drop", Self::Drop), ("refuse", Self::Refuse)];
}

impl FromStr for UnknownCharacters {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, choice)| *choice).ok_or_else(|| format!("`{name}`, expected replace, drop or refuse"))
    }
}

/// What encoding a text ends in.
pub(super) enum Encoding {
    Text(EncodedText),
    Refused { character: char, at: usize },
}

#[derive(Debug, Clone)]
pub(super) struct Characters {
    ids: HashMap<char, u32>,
    /// By id; a special token has no character.
    names: Vec<Option<char>>,
    stand_in: u32,
    replacement: String,
    pub(super) unknown: UnknownCharacters,
}

impl Characters {
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
        let bad = |message: String| DataError::BadVocabulary { path: path.to_owned(), message };
        let map: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        Self::from_map(&map).map_err(bad)
    }

    fn from_map(map: &Map<String, Value>) -> Result<Self, String> {
        let mut names: Vec<Option<&str>> = vec![None; map.len()];
        for (name, id) in map {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let place = id.and_then(|id| names.get_mut(id));
            let place = place.ok_or_else(|| format!("`{name}` has an id outside 0 … {}", map.len() - 1))?;
            if let Some(other) = place.replace(name) {
                return Err(format!("`{other}` and `{name}` have the same id"));
            }
        }
        let mut characters = Self {
            ids: HashMap::new(),
            names: Vec::new(),
            stand_in: 0,
            replacement: String::new(),
            unknown: UnknownCharacters::default(),
        };
        let mut own = None;
        for (id, name) in (0u32..).zip(names.iter().copied().flatten()) {
            let mut of_name = name.chars();
            let character = match (of_name.next(), of_name.next()) {
                (Some(character), None) => Some(character),
                _ if is_special(name) => None,
                _ => return Err(format!("`{name}` is no single character")),
            };
            if let Some(character) = character {
                characters.ids.insert(character, id);
            } else if ["<unk>", "[UNK]"].contains(&name) {
                own = Some((id, name));
            }
            characters.names.push(character);
        }
        if characters.ids.is_empty() {
            return Err("no character".to_owned());
        }
        let space = characters.ids.get(&' ').map(|id| (*id, "a space".to_owned()));
        let first = || {
            let id = characters.names.iter().position(Option::is_some).unwrap_or_default() as u32;
            (id, format!("`{}`", characters.name(id).escape_debug()))
        };
        let own = own.map(|(id, name)| (id, format!("`{name}`")));
        let (stand_in, replacement) = own.or(space).unwrap_or_else(first);
        Ok(Self { stand_in, replacement, ..characters })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn replacement(&self) -> &str {
        &self.replacement
    }

    /// The text of an id; of those that have none, and those that do not exist, nothing.
    pub(super) fn name(&self, id: u32) -> String {
        self.names.get(id as usize).copied().flatten().map(String::from).unwrap_or_default()
    }

    pub(super) fn encode(&self, text: &str) -> Encoding {
        let mut encoded = EncodedText::default();
        let count = |of: &mut BTreeMap<char, usize>, character| *of.entry(character).or_default() += 1;
        let mut characters = text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let id = match (self.ids.get(&character), self.unknown) {
                (Some(id), _) => *id,
                (None, _) if character == '\r' && matches!(characters.peek(), Some((_, '\n'))) => {
                    count(&mut encoded.dropped, character);
                    continue;
                }
                (None, UnknownCharacters::Replace) => {
                    count(&mut encoded.replaced, character);
                    self.stand_in
                }
                (None, UnknownCharacters::Drop) => {
                    count(&mut encoded.dropped, character);
                    continue;
                }
                (None, UnknownCharacters::Refuse) => return Encoding::Refused { character, at },
            };
            encoded.ids.push(id);
            encoded.spans.push(at..at + character.len_utf8());
        }
        Encoding::Text(encoded)
    }
}

fn is_special(name: &str) -> bool {
    let inside = |open, close| name.strip_prefix(open).is_some_and(|rest: &str| rest.ends_with(close));
    inside('<', '>') || inside('[', ']')
}
