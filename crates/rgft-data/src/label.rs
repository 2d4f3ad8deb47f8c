//! Labels: from the raw label of a row to the target of a task.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{DataError, listed};
use crate::objective::Objective;
use crate::table::{RawLabel, Row, Table};

/// The names of the classes; a class is its index. Empty for regression.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelMap {
    names: Vec<String>,
    /// Class by name.
    index: BTreeMap<String, u32>,
}

impl LabelMap {
    /// The labels of the training table, sorted by value where all are integers, else by name. Empty for
    /// [`Objective::Regression`].
    ///
    /// # Errors
    /// [`DataError::TooFewClasses`] for one class only (classification) or no label at all (multi-label).
    pub fn from_table(train: &Table, objective: Objective) -> Result<Self, DataError> {
        let (least, expected) = match objective {
            Objective::Regression | Objective::NextToken | Objective::Forecast => return Ok(Self::default()),
            Objective::Classification => (2, "two classes"),
            Objective::MultiLabel => (1, "one label"),
        };
        let names: BTreeSet<String> = train.rows.iter().flat_map(|row| names_of(&row.label)).collect();
        if names.len() < least {
            let found = match names.first() {
                Some(name) => format!("one class (`{name}`)"),
                None => "no label".to_owned(),
            };
            return Err(DataError::TooFewClasses { path: train.path.clone(), found, expected });
        }
        let mut names: Vec<String> = names.into_iter().collect();
        let values: Result<Vec<i64>, _> = names.iter().map(|name| name.parse()).collect();
        if let Ok(values) = values {
            let mut numbered: Vec<(i64, String)> = values.into_iter().zip(names).collect();
            numbered.sort();
            names = numbered.into_iter().map(|(_, name)| name).collect();
        }
        Ok(Self::new(names))
    }

    /// The label map of a model's `config.json`: its `id2label` as pairs of id and name, in any order.
    ///
    /// # Errors
    /// [`DataError::BadLabelMap`] unless the ids are 0, 1, 2 … and the names differ.
    pub fn from_id2label<N: Into<String>>(
        pairs: impl IntoIterator<Item = (usize, N)>,
    ) -> Result<Self, DataError> {
        let mut pairs: Vec<(usize, String)> = pairs.into_iter().map(|(id, n)| (id, n.into())).collect();
        pairs.sort();
        if let Some((place, (id, _))) = pairs.iter().enumerate().find(|(place, (id, _))| place != id) {
            return Err(DataError::BadLabelMap { message: format!("id {id} in place of {place}") });
        }
        let map = Self::new(pairs.into_iter().map(|(_, name)| name).collect());
        match map.names.iter().enumerate().find(|(i, name)| map.index(name) != Some(*i)) {
            Some((_, name)) => Err(DataError::BadLabelMap { message: format!("`{name}` twice") }),
            None => Ok(map),
        }
    }

    fn new(names: Vec<String>) -> Self {
        let index = names.iter().zip(0u32..).map(|(name, class)| (name.clone(), class)).collect();
        Self { names, index }
    }

    /// The names; the place of each is its class.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none: regression.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Columns of the output that an objective over these labels needs.
    #[must_use]
    pub fn outputs(&self, objective: Objective) -> usize {
        match objective {
            Objective::Classification | Objective::MultiLabel => self.len(),
            _ => 1,
        }
    }

    /// The class of a name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.index.get(name).map(|&class| class as usize)
    }
}

/// What a model should say about one example.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Classification: the class.
    Class(u32),
    /// Multi-label: 1 for each label that holds, else 0; `[labels]`.
    Classes(Vec<f32>),
    /// Regression: the value.
    Value(f32),
    /// Not known: a row to predict.
    Unknown,
}

/// Turns the labels of a table into targets, row by row.
///
/// An empty label is an error, except that for [`Objective::MultiLabel`] it means that no label holds.
///
/// # Errors
/// A label that is missing, not in `labels` or not a finite number, with file and line.
pub fn encode(table: &Table, objective: Objective, labels: &LabelMap) -> Result<Vec<Target>, DataError> {
    let class = |row: &Row, name: &str| {
        labels.index.get(name).copied().ok_or_else(|| DataError::UnknownLabel {
            path: table.path.clone(),
            line: row.line,
            label: name.to_owned(),
            known: listed(&labels.names, 20),
        })
    };
    let single = |row: &Row| {
        let mut names = names_of(&row.label);
        match (names.len(), names.pop()) {
            (1, Some(name)) => Ok(name),
            (0, _) => Err(DataError::NoLabel { path: table.path.clone(), line: row.line }),
            (found, _) => Err(DataError::SeveralLabels { path: table.path.clone(), line: row.line, found }),
        }
    };
    let target = |row: &Row| match objective {
        Objective::NextToken | Objective::Forecast => Ok(Target::Unknown),
        Objective::Classification => Ok(Target::Class(class(row, &single(row)?)?)),
        Objective::MultiLabel => {
            let mut hot = vec![0.0; labels.len()];
            for name in names_of(&row.label) {
                hot[class(row, &name)? as usize] = 1.0;
            }
            Ok(Target::Classes(hot))
        }
        Objective::Regression => {
            let found = single(row)?;
            match found.parse::<f32>() {
                Ok(value) if value.is_finite() => Ok(Target::Value(value)),
                _ => Err(DataError::NotANumber { path: table.path.clone(), line: row.line, found }),
            }
        }
    };
    table.rows.iter().map(target).collect()
}

/// The names in a raw label. A JSON number is written in its shortest form, so that 5.0, 5 and "5" agree.
fn names_of(label: &RawLabel) -> Vec<String> {
    match label {
        RawLabel::None => Vec::new(),
        RawLabel::One(name) => vec![name.clone()],
        RawLabel::Many(names) => names.clone(),
        RawLabel::Number(value) => vec![value.to_string()],
    }
}
