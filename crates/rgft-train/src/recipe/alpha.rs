//! `alpha` as written: a word, or a table from component globs to numbers, in the order of the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// `alpha = "relative"` or `alpha = { "encoder.layer.*.attention.head.*" = 2.0 }`.
#[derive(Debug, Clone, PartialEq)]
pub enum RawAlpha {
    /// A named rule.
    Word(String),
    /// Globs over component names with their factors; what no glob matches has 1.
    Table(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for RawAlpha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Alpha;

        impl<'de> Visitor<'de> for Alpha {
            type Value = RawAlpha;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word, or a table from globs to numbers")
            }

            fn visit_str<E>(self, word: &str) -> Result<RawAlpha, E> {
                Ok(RawAlpha::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawAlpha, A::Error> {
                let mut table = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    table.push(entry);
                }
                Ok(RawAlpha::Table(table))
            }
        }

        deserializer.deserialize_any(Alpha)
    }
}

impl Serialize for RawAlpha {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RawAlpha::Word(word) => serializer.serialize_str(word),
            RawAlpha::Table(table) => {
                serializer.collect_map(table.iter().map(|(glob, factor)| (glob, factor)))
            }
        }
    }
}
