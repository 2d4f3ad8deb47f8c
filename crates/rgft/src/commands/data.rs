//! `rgft data`: the models and data sets of the experiments, and others of the Hugging Face hub.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use globset::{GlobBuilder, GlobSetBuilder};
use indicatif::HumanBytes;
use rgft_nn::weights::write_beside;
use serde::{Deserialize, Serialize};

use crate::args::{DataAction, GetArgs};
use crate::hub::{Hub, HubError, RepoId, check_sha256, sha256_of};
use crate::printer::Printer;

/// What has a name here.
const CATALOGUE: &str = include_str!("data/catalogue.toml");
/// What of a model is taken, unless `--file` says.
const MODEL_FILES: [&str; 7] = [
    "*.safetensors",
    "*.safetensors.index.json",
    "{config,generation_config}.json",
    "{tokenizer,tokenizer_config,special_tokens_map,added_tokens,vocab}.json",
    "{vocab,merges}.txt",
    "*.model",
    "LICENSE*",
];
/// What of a data set is taken, unless `--file` says.
const DATA_FILES: [&str; 2] = ["**/*.{csv,tsv,json,jsonl,parquet}", "LICENSE*"];

/// A model or a data set that has a name here.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    what: String,
    licence: String,
    /// Where it is put, below `--to`.
    at: PathBuf,
    /// Its repository.
    hub: Option<String>,
    /// What it was made from, where no repository has it.
    made_from: Option<String>,
    /// Files taken from the repository: own name, name there.
    #[serde(default, skip_serializing)]
    take: BTreeMap<String, String>,
    /// What files must be.
    #[serde(default, skip_serializing)]
    sha256: BTreeMap<String, String>,
}

/// A file that was got.
#[derive(Debug, Serialize)]
struct Got {
    path: PathBuf,
    bytes: u64,
    /// The hash that it was checked by, if any.
    checked: Option<&'static str>,
}

/// What was asked for, and where it is.
#[derive(Debug, Serialize)]
struct Place {
    name: String,
    folder: PathBuf,
    files: Vec<Got>,
}

pub(crate) fn run(action: &DataAction, quiet: bool, printer: &mut Printer) -> Result<()> {
    let catalogue: BTreeMap<String, Entry> = toml::from_str(CATALOGUE).context("the catalogue")?;
    match action {
        DataAction::List => list(&catalogue, printer),
        DataAction::Get(args) => get(&catalogue, args, quiet, printer),
    }
}

fn list(catalogue: &BTreeMap<String, Entry>, printer: &mut Printer) -> Result<()> {
    let width = catalogue.keys().map(String::len).max().unwrap_or(0);
    for (name, entry) in catalogue {
        let from = match (&entry.hub, &entry.made_from) {
            (Some(hub), _) => format!("hub: {hub}"),
            (None, made_from) => {
                format!("--source: made from {}", made_from.as_deref().unwrap_or("another form"))
            }
        };
        printer.text(&format!("{name:width$}  {} ({}; {from})", entry.what, entry.licence))?;
    }
    Ok(printer.document(catalogue)?)
}

fn get(
    catalogue: &BTreeMap<String, Entry>,
    args: &GetArgs,
    quiet: bool,
    printer: &mut Printer,
) -> Result<()> {
    // Of all, what can be had.
    let can_be_had = |entry: &Entry| args.source.is_some() || entry.hub.is_some();
    let all = || catalogue.iter().filter(|(_, entry)| can_be_had(entry)).map(|(name, _)| name.clone());
    let names =
        args.names.iter().flat_map(|name| if name == "all" { all().collect() } else { vec![name.clone()] });
    let names: Vec<String> = names.collect();
    names.iter().try_for_each(|name| check(catalogue.get(name), name, args))?;
    let mut hub = None;
    let mut places = Vec::new();
    for name in names {
        let place = match (catalogue.get(&name), &args.source) {
            (Some(entry), Some(source)) => copy(entry, source, to(args))?,
            (found, _) => {
                // Made only where it is needed: it looks for a token.
                let hub = match &mut hub {
                    Some(hub) => hub,
                    none => none.insert(Hub::from_env(!quiet)?),
                };
                match found {
                    Some(entry) => take(hub, entry, to(args))?,
                    None => repository(hub, &name, args)?,
                }
            }
        };
        let (folder, files) = place;
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        printer.text(&format!(
            "{name}: {} ({} files, {})",
            folder.display(),
            files.len(),
            HumanBytes(bytes)
        ))?;
        for file in files.iter().filter(|file| file.checked.is_none()) {
            printer.note(&format!("{}: there is no hash to check it by", file.path.display()));
        }
        places.push(Place { name, folder, files });
    }
    Ok(printer.document(&places)?)
}

/// Refuses what cannot be had, before anything is fetched.
fn check(entry: Option<&Entry>, name: &str, args: &GetArgs) -> Result<(), HubError> {
    let option = |option, goes_with| Err(HubError::Option { name: name.to_owned(), option, goes_with });
    match entry {
        Some(_) if !args.files.is_empty() => option("--file", "repositories of the hub, not for names"),
        Some(Entry { hub: None, made_from, .. }) if args.source.is_none() => {
            let made_from = made_from.clone().unwrap_or_default();
            Err(HubError::NotOnHub { name: name.to_owned(), made_from })
        }
        None if args.source.is_some() => {
            name.parse::<RepoId>()?;
            option("--source", "names that `rgft data list` shows")
        }
        None => name.parse::<RepoId>().map(|_| ()),
        Some(_) => Ok(()),
    }
}

fn to(args: &GetArgs) -> &Path {
    args.to.as_deref().unwrap_or(Path::new("."))
}

/// What of the catalogue's entry the hub has, below `to`.
fn take(hub: &Hub, entry: &Entry, to: &Path) -> Result<(PathBuf, Vec<Got>)> {
    let id: RepoId = entry.hub.as_deref().unwrap_or_default().parse()?;
    let folder = to.join(&entry.at);
    let mut files = Vec::new();
    for (own, there) in &entry.take {
        let fetched = hub.get(&id, there)?;
        let got = put(&fetched.path, &folder.join(own), entry.sha256.get(own))?;
        files.push(Got { checked: got.checked.or(fetched.checked), ..got });
    }
    Ok((folder, files))
}

/// The catalogue's entry as it lies below `source`, below `to`.
fn copy(entry: &Entry, source: &Path, to: &Path) -> Result<(PathBuf, Vec<Got>)> {
    let (from, folder) = (source.join(&entry.at), to.join(&entry.at));
    // What came from the hub may have another form than what has hashes here.
    let is_there = |own: &&String| from.join(own).exists();
    let taken = entry.take.keys().any(|own| is_there(&own)) && !entry.sha256.keys().any(|own| is_there(&own));
    let hashed = entry.sha256.keys().filter(|_| !taken);
    let others = entry.take.keys().filter(|own| !entry.sha256.contains_key(*own) && is_there(own));
    let files =
        hashed.chain(others).map(|own| put(&from.join(own), &folder.join(own), entry.sha256.get(own)));
    Ok((folder.clone(), files.collect::<Result<_>>()?))
}

/// Files of any repository, in the cache or below `--to`.
fn repository(hub: &Hub, name: &str, args: &GetArgs) -> Result<(PathBuf, Vec<Got>)> {
    let id: RepoId = name.parse()?;
    let mut wanted = GlobSetBuilder::new();
    let default: &[&str] = if id.is_model() { &MODEL_FILES } else { &DATA_FILES };
    let patterns = args.files.iter().map(String::as_str);
    for pattern in patterns.chain(default.iter().copied().filter(|_| args.files.is_empty())) {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        wanted.add(glob.map_err(|error| HubError::Pattern { reason: error.to_string() })?);
    }
    let wanted = wanted.build().context("the patterns")?;
    let names: Vec<String> = hub.files(&id)?.into_iter().filter(|file| wanted.is_match(file)).collect();
    let mut files = Vec::new();
    let mut folder = PathBuf::new();
    for file in &names {
        let fetched = hub.get(&id, file)?;
        folder = fetched.path.ancestors().nth(file.split('/').count()).unwrap_or(Path::new("")).to_owned();
        let got = match &args.to {
            Some(to) => put(&fetched.path, &to.join(file), None)?,
            None => Got { bytes: size(&fetched.path)?, path: fetched.path, checked: None },
        };
        files.push(Got { checked: fetched.checked, ..got });
    }
    match (files.is_empty(), &args.to) {
        (true, _) => Err(HubError::NothingWanted { repo: name.to_owned() }.into()),
        (false, Some(to)) => Ok((to.clone(), files)),
        (false, None) => Ok((folder, files)),
    }
}

/// Copies a file, whole or not at all, and checks it. What stands there already is kept, and must be the same.
fn put(from: &Path, to: &Path, sha256: Option<&String>) -> Result<Got> {
    if let Some(expected) = sha256 {
        check_sha256(from, expected)?;
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |reason| HubError::Io { path, reason }
    };
    if to.exists() {
        let same = size(from)? == size(to)? && sha256_of(from)? == sha256_of(to)?;
        if !same {
            return Err(HubError::Occupied { path: to.to_owned() }.into());
        }
    } else {
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let mut source = File::open(from).map_err(io(from))?;
        // Not a copy of the file's permissions: what is read may be for reading alone.
        let copy = |beside: &Path| std::io::copy(&mut source, &mut File::create(beside)?);
        write_beside(to, |reason| reason, copy).map_err(io(to))?;
    }
    Ok(Got { path: to.to_owned(), bytes: size(to)?, checked: sha256.map(|_| "sha256") })
}

fn size(path: &Path) -> Result<u64, HubError> {
    let metadata = std::fs::metadata(path);
    Ok(metadata.map_err(|reason| HubError::Io { path: path.to_owned(), reason })?.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_one_home_and_says_what_its_files_are() {
        let catalogue: BTreeMap<String, Entry> = toml::from_str(CATALOGUE).unwrap();
        for (name, entry) in &catalogue {
            assert_eq!(entry.hub.is_some(), !entry.take.is_empty(), "{name}");
            assert_ne!(entry.hub.is_some(), entry.made_from.is_some(), "{name}");
            assert!(!entry.sha256.is_empty(), "{name}");
            assert!(entry.sha256.values().all(|hash| hash.len() == 64), "{name}");
            if let Some(hub) = &entry.hub {
                assert!(hub.parse::<RepoId>().is_ok(), "{name}");
            }
        }
    }
}
