//! The rows of a part: where each picture lies and the class that it has there. Nothing is decoded yet, so that
//! wrong labels are told before a long decoding, and a limit spares the pictures that it leaves out.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::files::{ImageSource, images_under, name, no_images};
use super::spec::ImageSpec;
use crate::error::{DataError, listed};
use crate::label::LabelMap;
use crate::parquet::{ParquetFile, ParquetValues};
use crate::split::at_even_distances;

const IMAGE_COLUMNS: [&str; 4] = ["image.bytes", "img.bytes", "image", "img"];
const LABEL_COLUMNS: [&str; 2] = ["label", "labels"];
pub(super) const IMAGE_OPTION: &str = "image-column";
const LABEL_OPTION: &str = "label-column";

/// The pictures of one part, not yet read.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageTable {
    /// The file or folder.
    pub path: PathBuf,
    /// The names of the classes, class *i* the *i*-th, where the file says them.
    pub names: Option<Vec<String>>,
    /// The pictures.
    pub(super) rows: Vec<ImageRow>,
    /// Parquet files that rows name by number.
    pub(super) shards: Vec<Shard>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shard {
    pub path: PathBuf,
    /// The column of encoded pictures.
    pub column: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImageRow {
    /// Its number in the whole part, from 0, whatever a limit leaves out.
    pub number: usize,
    pub place: Place,
    pub class: RawClass,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    File(PathBuf),
    Row { shard: usize, group: usize, row: usize, number: usize },
}

/// A class as it stands in the data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RawClass {
    None,
    Number(i64),
    Name(String),
}

/// Lists the pictures of a part.
///
/// Where `spec.limit` is lower than their number, so many are chosen: sorted by class, those at even distances.
/// Each class keeps its share, within one picture, also in a file that is sorted by class. The choice depends on
/// the labels alone, never on a seed.
///
/// # Errors
/// A file that cannot be read or holds no pictures; a column that is named and not there.
pub fn read_images(source: &ImageSource, spec: &ImageSpec) -> Result<ImageTable, DataError> {
    spec.check()?;
    let mut table =
        ImageTable { path: source.path().to_owned(), names: None, rows: Vec::new(), shards: Vec::new() };
    match source {
        ImageSource::Parquet(files) => {
            for file in files {
                read_parquet(file, spec, &mut table)?;
            }
        }
        ImageSource::Classes { classes, .. } => {
            for folder in classes {
                let class = RawClass::Name(name(folder));
                let images = images_under(folder)?;
                table.rows.extend(images.into_iter().map(|image| row(Place::File(image), class.clone())));
            }
        }
        ImageSource::Images(files) => {
            table.rows.extend(files.iter().map(|file| row(Place::File(file.clone()), RawClass::None)));
        }
    }
    if table.rows.is_empty() {
        return Err(match source {
            ImageSource::Parquet(_) => DataError::NoRows { path: table.path },
            _ => no_images(&table.path, "no picture".to_owned()),
        });
    }
    for (number, row) in table.rows.iter_mut().enumerate() {
        row.number = number;
    }
    if let Some(limit) = spec.limit.filter(|limit| *limit < table.rows.len()) {
        table.keep(limit);
    }
    Ok(table)
}

fn row(place: Place, class: RawClass) -> ImageRow {
    ImageRow { number: 0, place, class }
}

fn read_parquet(path: &Path, spec: &ImageSpec, table: &mut ImageTable) -> Result<(), DataError> {
    let file = ParquetFile::open(path)?;
    let images = match &spec.image_column {
        Some(column) => {
            let inner = format!("{column}.bytes");
            let found = file.first_of(&[inner.as_str(), column.as_str()]).map(str::to_owned);
            found.ok_or_else(|| file.no_column(column, IMAGE_OPTION))?
        }
        None => {
            file.first_of(&IMAGE_COLUMNS).ok_or_else(|| file.no_column("image", IMAGE_OPTION))?.to_owned()
        }
    };
    let labels = match &spec.label_column {
        Some(column) => Some(column.as_str()),
        None => file.first_of(&LABEL_COLUMNS),
    };
    let names = labels.and_then(|column| file.class_names(column));
    let shard = table.shards.len();
    let mut number = 0;
    for group in 0..file.groups() {
        let classes = match labels {
            Some(column) => classes(&file, group, column, names.as_deref())?,
            None => vec![RawClass::None; unlabelled_rows(&file, group)?],
        };
        for (at, class) in classes.into_iter().enumerate() {
            table.rows.push(row(Place::Row { shard, group, row: at, number }, class));
            number += 1;
        }
    }
    table.shards.push(Shard { path: path.to_owned(), column: images });
    table.names = table.names.take().or(names);
    Ok(())
}

/// Rows of a group by the file's own account, which is believed only where each may have a byte.
fn unlabelled_rows(file: &ParquetFile, group: usize) -> Result<usize, DataError> {
    let path = file.path().to_owned();
    let rows = file.group_rows(group);
    match std::fs::metadata(&path) {
        Err(reason) => Err(DataError::Io { path, reason }),
        Ok(kind) if (rows as u64) <= kind.len() => Ok(rows),
        Ok(kind) => {
            let message = format!("{rows} rows in a file of {} bytes", kind.len());
            Err(DataError::BadParquet { path, message })
        }
    }
}

/// The classes of a group of rows; numbers become names where the file says them.
fn classes(
    file: &ParquetFile,
    group: usize,
    column: &str,
    names: Option<&[String]>,
) -> Result<Vec<RawClass>, DataError> {
    let named = |number: i64| {
        let name = names.and_then(|names| names.get(usize::try_from(number).ok()?));
        name.map_or(RawClass::Number(number), |name| RawClass::Name(name.clone()))
    };
    let wrong = |found| file.wrong_kind(column, found, "class numbers or class names");
    match file.values(group, column, LABEL_OPTION)? {
        ParquetValues::Integers(numbers) => {
            Ok(numbers.into_iter().map(|number| number.map_or(RawClass::None, named)).collect())
        }
        ParquetValues::Bytes(values) => values
            .into_iter()
            .map(|value| match value.map(String::from_utf8) {
                None => Ok(RawClass::None),
                Some(Ok(name)) => Ok(RawClass::Name(name)),
                Some(Err(_)) => Err(wrong("bytes that are not UTF-8")),
            })
            .collect(),
        other => Err(wrong(other.kind())),
    }
}

impl ImageTable {
    /// How many pictures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The classes: those that the file names, else those that appear, sorted by value where all are integers, else
    /// by name.
    ///
    /// # Errors
    /// [`DataError::TooFewClasses`] for fewer than two, [`DataError::BadLabelMap`] for a name that is named twice.
    pub fn label_map(&self) -> Result<LabelMap, DataError> {
        let names = match &self.names {
            Some(names) => names.clone(),
            None => self.classes_found(),
        };
        match &names[..] {
            [_, _, ..] => LabelMap::from_id2label(names.into_iter().enumerate()),
            few => Err(DataError::TooFewClasses {
                path: self.path.clone(),
                found: few.first().map_or("no class".to_owned(), |name| format!("one class (`{name}`)")),
                expected: "two classes",
            }),
        }
    }

    fn classes_found(&self) -> Vec<String> {
        let classes: BTreeSet<&RawClass> = self.rows.iter().map(|row| &row.class).collect();
        let text = |class: &RawClass| match class {
            RawClass::None => None,
            RawClass::Number(number) => Some(number.to_string()),
            RawClass::Name(name) => Some(name.clone()),
        };
        let names: BTreeSet<String> = classes.into_iter().filter_map(text).collect();
        let mut names: Vec<String> = names.into_iter().collect();
        if names.iter().all(|name| name.parse::<i64>().is_ok()) {
            names.sort_by_key(|name| name.parse::<i64>().unwrap_or(0));
        }
        names
    }

    /// The class of each row.
    ///
    /// A name is looked up in `labels`; so is a number, written out. A number that is no name there is the class
    /// itself, if there are so many.
    pub(super) fn classes(&self, labels: &LabelMap) -> Result<Vec<u32>, DataError> {
        let mut known: HashMap<&RawClass, u32> = HashMap::new();
        let mut classes = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let class = match known.get(&row.class) {
                Some(class) => *class,
                None => self.class(row, labels)?,
            };
            known.insert(&row.class, class);
            classes.push(class);
        }
        Ok(classes)
    }

    fn class(&self, row: &ImageRow, labels: &LabelMap) -> Result<u32, DataError> {
        let place = || self.place(row);
        let class = match &row.class {
            RawClass::None => return Err(DataError::NoClass { place: place() }),
            RawClass::Name(name) => labels.index(name).ok_or_else(|| DataError::UnknownClass {
                place: place(),
                class: name.clone(),
                known: listed(labels.names(), 20),
            })?,
            RawClass::Number(number) => {
                let named = labels.index(&number.to_string());
                let itself = usize::try_from(*number).ok().filter(|class| *class < labels.len());
                named.or(itself).ok_or_else(|| DataError::LabelRange {
                    place: place(),
                    label: *number,
                    last: labels.len().saturating_sub(1),
                })?
            }
        };
        Ok(class as u32)
    }

    /// The file of a picture, and its row from 1 where the file holds several.
    pub(super) fn place(&self, row: &ImageRow) -> String {
        match &row.place {
            Place::File(path) => path.display().to_string(),
            Place::Row { shard, number, .. } => {
                format!("{}: row {}", self.shards[*shard].path.display(), number + 1)
            }
        }
    }

    fn keep(&mut self, limit: usize) {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|&at| &self.rows[at].class);
        self.rows = at_even_distances(&order, limit).into_iter().map(|at| self.rows[at].clone()).collect();
    }
}
