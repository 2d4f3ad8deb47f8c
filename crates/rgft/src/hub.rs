//! Models and data sets of the Hugging Face hub, in the cache that its other clients share.
//!
//! Heard are `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`. Only [`Hub::get`] and
//! [`Hub::files`] use the network. A file in the cache bears the hash of what it holds as its name: SHA-256 for large
//! files, git's SHA-1 of a blob for small ones. Each is checked whenever it is asked for.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Times that a broken download is taken up again.
const RETRIES: usize = 4;

/// A repository of the hub: `owner/name` for a model, `datasets/owner/name`, each perhaps with `@revision`.
#[derive(Clone, Debug)]
pub(crate) struct RepoId {
    text: String,
    repo: Repo,
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (kind, id) = match path.strip_prefix("datasets/") {
            Some(id) => (RepoType::Dataset, id),
            None => (RepoType::Model, path),
        };
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
        };
        let fits = id.split('/').count() == 2 && id.split('/').all(is_name) && !revision.is_empty();
        let repo = || Repo::with_revision(id.to_owned(), kind, revision.to_owned());
        fits.then(|| Self { text: text.to_owned(), repo: repo() })
            .ok_or_else(|| HubError::NoName { found: text.to_owned() })
    }
}

impl RepoId {
    /// Whether it holds a model.
    pub(crate) fn is_model(&self) -> bool {
        matches!(self.repo.url().split('/').count(), 2)
    }
}

/// What went wrong with the hub.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error(
        "{found:?}: neither a name that `rgft data list` shows nor owner/name or datasets/owner/name of the hub"
    )]
    NoName { found: String },
    #[error(
        "{name}: no repository of the hub has it in a form that can be read; it was made from {made_from}\nhint: --source DIR copies it from a folder"
    )]
    NotOnHub { name: String, made_from: String },
    #[error("{repo}: no file of it is wanted\nhint: --file '*' takes all of its first level")]
    NothingWanted { repo: String },
    #[error("--file: {reason}")]
    Pattern { reason: String },
    #[error(
        "{repo}: the hub has no {what} of this name, or not for you\nhint: what is gated or private needs HF_TOKEN"
    )]
    NotThere { repo: String, what: String },
    #[error("{repo}: {file} is not in the cache ({}), and HF_HUB_OFFLINE forbids to fetch it", cache.display())]
    Offline { repo: String, file: String, cache: PathBuf },
    #[error(
        "{repo}: {reason}\nhint: run it again, what has come already is kept; HF_ENDPOINT names another server"
    )]
    Network { repo: String, reason: String },
    #[error("{}: damaged: its {kind} is {found}, expected {expected}\nhint: run it again; what was damaged in the hub's cache has been removed", path.display())]
    Damaged { path: PathBuf, kind: &'static str, found: String, expected: String },
    #[error("{}: {reason}", path.display())]
    Io { path: PathBuf, reason: std::io::Error },
}

impl HubError {
    /// Whether what was asked for is wrong, rather than that it could not be had.
    pub(crate) fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Network { .. } | Self::Damaged { .. })
    }
}

/// A file that was asked for.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Where it lies in the cache.
    pub(crate) path: PathBuf,
    /// The hash that it was checked by: `sha256` or `git`; `None` where the server gave none.
    pub(crate) checked: Option<&'static str>,
}

/// The hub, or what of it is in the cache.
pub(crate) struct Hub {
    /// `None` offline.
    api: Option<Api>,
    cache: Cache,
}

impl Hub {
    /// As the environment says; `progress` shows bars.
    ///
    /// # Errors
    /// If no client can be made.
    pub(crate) fn from_env(progress: bool) -> Result<Self, HubError> {
        let cache = cache();
        if ["1", "true", "yes", "on"]
            .contains(&variable("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase().as_str())
        {
            return Ok(Self { api: None, cache });
        }
        let token = variable("HF_TOKEN").or_else(|| cache.token());
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_token(token).with_retries(RETRIES);
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let builder = builder.with_progress(progress).with_user_agent("rgft", env!("CARGO_PKG_VERSION"));
        let api = builder.build().map_err(|error| explained(error, "the hub", ""))?;
        Ok(Self { api: Some(api), cache })
    }

    /// Names of the files of `id`, as the hub lists them.
    ///
    /// # Errors
    /// Offline; if there is no such repository; if the hub does not answer.
    pub(crate) fn files(&self, id: &RepoId) -> Result<Vec<String>, HubError> {
        let api = self.api.as_ref().ok_or_else(|| self.offline(id, "its list of files"))?;
        let info =
            api.repo(id.repo.clone()).info().map_err(|error| explained(error, &id.text, "repository"))?;
        Ok(info.siblings.into_iter().map(|sibling| sibling.rfilename).collect())
    }

    /// `file` of `id`, fetched where the cache has none, and checked.
    ///
    /// # Errors
    /// If there is none; if it cannot be fetched; if it is damaged.
    pub(crate) fn get(&self, id: &RepoId, file: &str) -> Result<Fetched, HubError> {
        let path = match (self.cache.repo(id.repo.clone()).get(file), &self.api) {
            (Some(path), _) => path,
            (None, None) => return Err(self.offline(id, file)),
            (None, Some(api)) => api
                .repo(id.repo.clone())
                .download(file)
                .map_err(|error| explained(error, &id.text, &format!("file {file}")))?,
        };
        check_by_name(&path).map(|checked| Fetched { path, checked })
    }

    fn offline(&self, id: &RepoId, file: &str) -> HubError {
        HubError::Offline { repo: id.text.clone(), file: file.to_owned(), cache: self.cache.path().clone() }
    }
}

/// A model folder, or the cache's copy of the model of that name.
pub(crate) fn local(model: PathBuf) -> PathBuf {
    let id = model.to_str().filter(|_| !model.exists()).and_then(|name| name.parse::<RepoId>().ok());
    let cached = id.and_then(|id| cache().repo(id.repo).get("config.json"));
    cached.as_deref().and_then(Path::parent).map_or(model, Path::to_owned)
}

/// Checks the file at `path` against a SHA-256 in hexadecimal; one that differs is an error, and stays.
///
/// # Errors
/// If it differs, or cannot be read.
pub(crate) fn check_sha256(path: &Path, expected: &str) -> Result<(), HubError> {
    compare(path, "SHA-256", &hash::<Sha256>(path, &[])?, expected)
}

fn compare(path: &Path, kind: &'static str, found: &str, expected: &str) -> Result<(), HubError> {
    if found == expected {
        return Ok(());
    }
    let (path, found, expected) = (path.to_owned(), found.to_owned(), expected.to_owned());
    Err(HubError::Damaged { path, kind, found, expected })
}

/// Checks a file of the cache against the hash that is its blob's name; takes a damaged one out of the cache.
fn check_by_name(path: &Path) -> Result<Option<&'static str>, HubError> {
    let io = |reason| HubError::Io { path: path.to_owned(), reason };
    let blob = path.canonicalize().map_err(io)?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_hex = name.chars().all(|c| c.is_ascii_hexdigit());
    let (kind, brief, found) = match name.len() {
        64 if is_hex => ("SHA-256", "sha256", hash::<Sha256>(&blob, &[])?),
        40 if is_hex => {
            let bytes = blob.metadata().map_err(io)?.len();
            ("git hash", "git", hash::<Sha1>(&blob, format!("blob {bytes}\0").as_bytes())?)
        }
        _ => return Ok(None),
    };
    let same = compare(path, kind, &found, &name);
    if same.is_err() {
        [blob.as_path(), path]
            .into_iter()
            .filter(|file| file.symlink_metadata().is_ok())
            .try_for_each(std::fs::remove_file)
            .map_err(io)?;
    }
    same.map(|()| Some(brief))
}

/// The hash of `head` and what the file holds, in hexadecimal.
fn hash<D: Digest>(path: &Path, head: &[u8]) -> Result<String, HubError> {
    let io = |reason| HubError::Io { path: path.to_owned(), reason };
    let mut hash = D::new_with_prefix(head);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

fn cache() -> Cache {
    variable("HF_HUB_CACHE").map_or_else(Cache::from_env, |path| Cache::new(path.into()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a client's error means to who asked for `what` of `repo`.
fn explained(error: ApiError, repo: &str, what: &str) -> HubError {
    let (repo, what) = (repo.to_owned(), what.to_owned());
    let root = match &error {
        ApiError::TooManyRetries(inner) => inner.as_ref(),
        error => error,
    };
    match root {
        ApiError::RequestError(request) if matches!(**request, ureq::Error::StatusCode(401 | 403 | 404)) => {
            HubError::NotThere { repo, what }
        }
        _ => HubError::Network { repo, reason: error.to_string() },
    }
}
