//! Where the pictures of each part lie. Names are listed here, no picture is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{DataError, listed};
use crate::files::extension;

/// Names of files and folders that mean a part, lower case.
const TRAIN: [&str; 1] = ["train"];
const VALIDATION: [&str; 4] = ["dev", "validation", "valid", "val"];
const TEST: [&str; 1] = ["test"];

/// Extensions of pictures, lower case.
const IMAGES: [&str; 4] = ["bmp", "jpeg", "jpg", "png"];

/// The pictures of one part of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// Parquet files, one after the other.
    Parquet(Vec<PathBuf>),
    /// A folder with a folder of pictures for each class, named after it.
    Classes {
        /// The folder.
        folder: PathBuf,
        /// The folders in it, sorted.
        classes: Vec<PathBuf>,
    },
    /// Pictures without classes.
    Images(Vec<PathBuf>),
}

/// The parts of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// Training pictures.
    pub train: ImageSource,
    /// Validation pictures; where there are none, a part of the training pictures is split off.
    pub validation: Option<ImageSource>,
    /// Test pictures.
    pub test: Option<ImageSource>,
}

/// Finds the parts of a data set of pictures.
///
/// `data` is a Parquet file, or a folder with one of these layouts; `test` and `validation` replace what it holds,
/// and are read as by [`ImageSource::at`].
///
/// * `train.parquet`, perhaps `test.parquet` and `validation.parquet` (`val`, `valid`, `dev`); or their shards
///   `train-00000-of-00002.parquet` …; in the folder itself or in its folder `data`,
/// * folders `train`, perhaps `test` and `validation`, each with a folder for each class or with Parquet files,
/// * a folder for each class, and perhaps folders `test` and `validation` with the same.
///
/// # Errors
/// [`DataError::Io`] for a path that does not exist, [`DataError::NoImages`] for a folder of another layout,
/// [`DataError::Ambiguous`] for several candidates for one part, [`DataError::MissingShards`].
pub fn locate_images(
    data: &Path,
    test: Option<&Path>,
    validation: Option<&Path>,
) -> Result<ImageFiles, DataError> {
    let test = test.map(ImageSource::at).transpose()?;
    let validation = validation.map(ImageSource::at).transpose()?;
    let (train, validation_found, test_found) = match data.is_dir() {
        true => parts_in(data)?,
        false => (ImageSource::at(data)?, None, None),
    };
    Ok(ImageFiles { train, validation: validation.or(validation_found), test: test.or(test_found) })
}

impl ImageSource {
    /// The pictures of a file or folder that is one part: a Parquet file, a folder of Parquet files, of a folder
    /// for each class, or of pictures (then without classes), or a single picture.
    ///
    /// # Errors
    /// As [`locate_images`].
    pub fn at(path: &Path) -> Result<Self, DataError> {
        let kind =
            std::fs::metadata(path).map_err(|reason| DataError::Io { path: path.to_owned(), reason })?;
        if !kind.is_dir() {
            return match extension(path).as_str() {
                "parquet" => Ok(Self::Parquet(vec![path.to_owned()])),
                end if IMAGES.contains(&end) => Ok(Self::Images(vec![path.to_owned()])),
                _ => Err(no_images(path, "a file of another kind".to_owned())),
            };
        }
        let Listing { parquet, images, folders } = Listing::of(path)?;
        if !parquet.is_empty() {
            let mut groups = shards(path, parquet)?;
            // Shards may also be called 0000.parquet, 0001.parquet …
            let numbered = groups.keys().all(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()));
            return match (groups.len(), numbered) {
                (_, true) => Ok(Self::Parquet(groups.into_values().flatten().collect())),
                (1, _) => Ok(Self::Parquet(groups.pop_first().map(|(_, files)| files).unwrap_or_default())),
                _ => Err(no_images(path, format!("several data sets ({})", listed(groups.keys(), 8)))),
            };
        }
        if !images.is_empty() && !folders.iter().any(|folder| holds_images(folder)) {
            return Ok(Self::Images(images));
        }
        match folders.is_empty() {
            true => Err(no_images(path, "nothing of use".to_owned())),
            false => Ok(Self::Classes { folder: path.to_owned(), classes: folders }),
        }
    }

    /// The file or folder, for messages: of several files the first.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Classes { folder, .. } => folder,
            Self::Parquet(files) | Self::Images(files) => {
                files.first().map_or(Path::new(""), PathBuf::as_path)
            }
        }
    }
}

type Parts = (ImageSource, Option<ImageSource>, Option<ImageSource>);

fn parts_in(data: &Path) -> Result<Parts, DataError> {
    let listing = Listing::of(data)?;
    if !listing.parquet.is_empty() {
        return parquet_parts(data, listing.parquet);
    }
    let named = |part: &'static str, names: &[&str]| -> Result<Option<ImageSource>, DataError> {
        let found: Vec<&PathBuf> =
            listing.folders.iter().filter(|f| names.contains(&lower_name(f).as_str())).collect();
        match found[..] {
            [] => Ok(None),
            [folder] => ImageSource::at(folder).map(Some),
            _ => Err(ambiguous(data, part, found.iter().map(|f| lower_name(f)))),
        }
    };
    let (validation, test) = (named("validation", &VALIDATION)?, named("test", &TEST)?);
    if let Some(train) = named("train", &TRAIN)? {
        return Ok((train, validation, test));
    }
    let hub = data.join("data");
    if hub.is_dir() {
        let parquet = Listing::of(&hub)?.parquet;
        if !parquet.is_empty() {
            return parquet_parts(&hub, parquet);
        }
    }
    let is_part = |folder: &PathBuf| [&VALIDATION[..], &TEST].concat().contains(&lower_name(folder).as_str());
    let classes: Vec<PathBuf> = listing.folders.iter().filter(|f| !is_part(f)).cloned().collect();
    if classes.iter().any(|folder| holds_images(folder)) {
        return Ok((ImageSource::Classes { folder: data.to_owned(), classes }, validation, test));
    }
    let found = match (listing.images.len(), listing.folders.is_empty()) {
        (0, true) => "nothing of use".to_owned(),
        (0, false) => format!("the folders {}", listed(listing.folders.iter().map(|f| lower_name(f)), 8)),
        (n, _) => format!("{n} images without classes"),
    };
    Err(no_images(data, found))
}

fn parquet_parts(folder: &Path, files: Vec<PathBuf>) -> Result<Parts, DataError> {
    let mut groups = shards(folder, files)?;
    let mut take = |part: &'static str, names: &[&str]| {
        let found: Vec<String> =
            groups.keys().filter(|stem| names.contains(&stem.as_str())).cloned().collect();
        match &found[..] {
            [] => Ok(None),
            [stem] => Ok(groups.remove(stem).map(ImageSource::Parquet)),
            _ => Err(ambiguous(folder, part, found.iter().map(|stem| format!("{stem}.parquet")))),
        }
    };
    let (train, validation, test) =
        (take("train", &TRAIN)?, take("validation", &VALIDATION)?, take("test", &TEST)?);
    let found = || listed(groups.keys().map(|stem| format!("{stem}.parquet")), 8);
    Ok((train.ok_or_else(|| no_images(folder, found()))?, validation, test))
}

/// Parquet files by the lower-case stem that they share, `train` of `train-00001-of-00002.parquet`, in order.
fn shards(folder: &Path, files: Vec<PathBuf>) -> Result<BTreeMap<String, Vec<PathBuf>>, DataError> {
    let mut groups: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let shard = stem.split_once("-of-").and_then(|(front, back)| {
            let (name, number) = front.rsplit_once(['-', '_'])?;
            number.parse::<usize>().ok()?;
            Some((name.to_owned(), back.split('-').next()?.parse::<usize>().ok()?))
        });
        let name = match shard {
            Some((name, of)) => {
                expected.insert(name.clone(), of);
                name
            }
            None => stem,
        };
        groups.entry(name).or_default().push(file);
    }
    for (name, expected) in expected {
        let found = groups.get(&name).map_or(0, Vec::len);
        if found != expected {
            return Err(DataError::MissingShards { folder: folder.to_owned(), name, found, expected });
        }
    }
    Ok(groups)
}

/// What a folder holds, each sorted by name. Hidden files and folders are passed over.
#[derive(Debug, Default)]
struct Listing {
    parquet: Vec<PathBuf>,
    images: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self, DataError> {
        let io = |reason| DataError::Io { path: folder.to_owned(), reason };
        let mut listing = Self::default();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = lower_name(&path);
            if name.starts_with('.') || name == "__macosx" {
                continue;
            }
            if path.is_dir() {
                listing.folders.push(path);
            } else if extension(&path) == "parquet" {
                listing.parquet.push(path);
            } else if IMAGES.contains(&extension(&path).as_str()) {
                listing.images.push(path);
            }
        }
        listing.parquet.sort();
        listing.images.sort();
        listing.folders.sort();
        Ok(listing)
    }
}

/// All pictures under a folder, by path. Links to folders are not followed further down.
pub(super) fn images_under(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let listing = Listing::of(folder)?;
    let mut images = listing.images;
    for inner in listing.folders.iter().filter(|inner| !inner.is_symlink()) {
        images.extend(images_under(inner)?);
    }
    Ok(images)
}

fn holds_images(folder: &Path) -> bool {
    images_under(folder).is_ok_and(|images| !images.is_empty())
}

/// The name of a class of pictures: that of its folder.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lower_name(path: &Path) -> String {
    name(path).to_lowercase()
}

pub(super) fn no_images(path: &Path, found: String) -> DataError {
    DataError::NoImages { path: path.to_owned(), found }
}

fn ambiguous(folder: &Path, part: &'static str, found: impl Iterator<Item = String>) -> DataError {
    DataError::Ambiguous { folder: folder.to_owned(), part, found: listed(found, 8) }
}
