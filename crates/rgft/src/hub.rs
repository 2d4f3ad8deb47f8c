//! Models and data sets of the Hugging Face hub, in the cache that its other clients share.
//!
//! Heard are `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`. Only [`Hub::get`] and
//! [`Hub::files`] use the network. A file in the cache bears the hash of what it holds as its name: SHA-256 for large
//! files, git's SHA-1 of a blob for small ones. [`Hub::get`] checks it each time. A server is trusted to name commits and
//! hashes; file names that it lists are not, because they become paths.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Times that a download which broke off is taken up again, and the pause before the first; each is twice as long.
const RETRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// A repository of the hub: `owner/name` for a model, `datasets/owner/name`, each perhaps with `@revision`.
#[derive(Clone, Debug)]
pub(crate) struct RepoId {
    text: String,
    kind: RepoType,
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
        let fits = id.split('/').count() == 2 && id.split('/').all(is_name) && is_inside(revision);
        let repo = || Repo::with_revision(id.to_owned(), kind, revision.to_owned());
        fits.then(|| Self { text: text.to_owned(), kind, repo: repo() })
            .ok_or_else(|| HubError::NoName { found: text.to_owned() })
    }
}

impl RepoId {
    /// Whether it holds a model.
    pub(crate) fn is_model(&self) -> bool {
        matches!(self.kind, RepoType::Model)
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
    #[error("{name}: {option} is for {goes_with}")]
    Option { name: String, option: &'static str, goes_with: &'static str },
    #[error("{repo}: no file of it is wanted\nhint: --file '*' takes all of its first level")]
    NothingWanted { repo: String },
    #[error("--file: {reason}")]
    Pattern { reason: String },
    #[error("{}: holds something else already\nhint: remove it, or choose another --to", path.display())]
    Occupied { path: PathBuf },
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
    #[error("{}: damaged: its {kind} is {found}, expected {expected}; it has been removed from the cache\nhint: run it again", path.display())]
    Damaged { path: PathBuf, kind: &'static str, found: String, expected: String },
    #[error("{}: its SHA-256 is {found}, that of the file that is meant is {expected}", path.display())]
    Other { path: PathBuf, found: String, expected: String },
    #[error("{}: {reason}", path.display())]
    Io { path: PathBuf, reason: std::io::Error },
}

impl HubError {
    /// Whether what was asked for is wrong, rather than that it could not be had.
    pub(crate) fn is_bad_input(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Damaged { .. } | Self::Other { .. } => false,
            Self::Io { reason, .. } => reason.kind() == std::io::ErrorKind::NotFound,
            _ => true,
        }
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
        let offline = variable("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        if ["1", "true", "yes", "on"].contains(&offline.as_str()) {
            return Ok(Self { api: None, cache });
        }
        // The token lies in HF_HOME, wherever the cache is.
        let token = variable("HF_TOKEN").or_else(|| home().token());
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_token(token).with_progress(progress);
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let builder = builder.with_user_agent("rgft", env!("CARGO_PKG_VERSION"));
        let api = builder.build().map_err(|error| explained(error, "the hub", "", &cache))?;
        Ok(Self { api: Some(api), cache })
    }

    /// Names of the files of `id`: as the hub lists them, from when on its commit is the one that `id` means; offline,
    /// those in the cache.
    ///
    /// # Errors
    /// If there is no such repository; if the hub does not answer, or lists what is no file name.
    pub(crate) fn files(&self, id: &RepoId) -> Result<Vec<String>, HubError> {
        let cached = self.cache.repo(id.repo.clone());
        let Some(api) = &self.api else {
            let folder = cached.get("").ok_or_else(|| self.offline(id, "its list of files"))?;
            return below(&folder);
        };
        let info = api.repo(id.repo.clone()).info();
        let info = info.map_err(|error| explained(error, &id.text, "repository", &self.cache))?;
        let names = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect::<Vec<_>>();
        if let Some(name) = names.iter().chain([&info.sha]).find(|name| !is_inside(name)) {
            let reason = format!("the server lists {name:?}, which is no file name");
            return Err(HubError::Network { repo: id.text.clone(), reason });
        }
        let io = |reason| HubError::Io { path: self.cache.path().clone(), reason };
        cached.create_ref(&info.sha).map_err(io)?;
        Ok(names)
    }

    /// `file` of `id`, fetched where the cache has none, and checked.
    ///
    /// # Errors
    /// If there is none; if it cannot be fetched; if it is damaged.
    pub(crate) fn get(&self, id: &RepoId, file: &str) -> Result<Fetched, HubError> {
        let path = match (self.cache.repo(id.repo.clone()).get(file), &self.api) {
            (Some(path), _) => path,
            (None, None) => return Err(self.offline(id, file)),
            (None, Some(api)) => self.download(api, id, file)?,
        };
        check_by_name(&path).map(|checked| Fetched { path, checked })
    }

    /// The client's own retries begin at the file's front if nothing has come yet; a new download goes on at its end.
    fn download(&self, api: &Api, id: &RepoId, file: &str) -> Result<PathBuf, HubError> {
        let repo = api.repo(id.repo.clone());
        let mut tries = 0;
        loop {
            let error = match repo.download(file) {
                Ok(path) => return Ok(path),
                Err(error) => error,
            };
            if status(&error) == Some(416) || matches!(error, ApiError::InvalidResume) {
                // All of it has come, or more, and nothing is left to ask for: its last byte is asked for again.
                self.shorten(api, id, file);
            }
            let error = explained(error, &id.text, &format!("file {file}"), &self.cache);
            if tries == RETRIES || !matches!(error, HubError::Network { .. }) {
                return Err(error);
            }
            std::thread::sleep(PAUSE * (1 << tries));
            tries += 1;
        }
    }

    /// Takes what has come of a file down to all but its last byte; where that fails, so will the next download.
    fn shorten(&self, api: &Api, id: &RepoId, file: &str) {
        let Ok(about) = api.metadata(&api.repo(id.repo.clone()).url(file)) else { return };
        let part = self.cache.repo(id.repo.clone()).blob_path(about.etag()).with_extension("part");
        if let Ok(part) = std::fs::File::options().write(true).open(part) {
            drop(part.set_len((about.size() as u64).saturating_sub(1)));
        }
    }

    fn offline(&self, id: &RepoId, file: &str) -> HubError {
        HubError::Offline { repo: id.text.clone(), file: file.to_owned(), cache: self.cache.path().clone() }
    }
}

/// Whether `name` is a path that leads nowhere but down.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The files below `folder`, by their paths from there.
fn below(folder: &Path) -> Result<Vec<String>, HubError> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inner) = folders.pop() {
        let io = |reason| HubError::Io { path: folder.join(&inner), reason };
        for entry in std::fs::read_dir(folder.join(&inner)).map_err(io)? {
            let name = inner.join(entry.map_err(io)?.file_name());
            match folder.join(&name).is_dir() {
                true => folders.push(name),
                false => found.push(name.to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A model folder, or the cache's copy of the model of that name.
pub(crate) fn local(model: PathBuf) -> PathBuf {
    let id = model.to_str().filter(|_| !model.exists()).and_then(|name| name.parse::<RepoId>().ok());
    let cached = id.and_then(|id| cache().repo(id.repo).get("config.json"));
    cached.as_deref().and_then(Path::parent).map_or(model, Path::to_owned)
}

/// Checks the file at `path` against a SHA-256 in hexadecimal.
///
/// # Errors
/// If it differs, or cannot be read.
pub(crate) fn check_sha256(path: &Path, expected: &str) -> Result<(), HubError> {
    let found = sha256_of(path)?;
    match found == expected {
        true => Ok(()),
        false => Err(HubError::Other { path: path.to_owned(), found, expected: expected.to_owned() }),
    }
}

/// The SHA-256 of what a file holds, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn sha256_of(path: &Path) -> Result<String, HubError> {
    hash::<Sha256>(path, &[])
}

/// Checks a file of the cache against the hash that is its blob's name; takes a damaged one out of the cache.
fn check_by_name(path: &Path) -> Result<Option<&'static str>, HubError> {
    let io = |reason| HubError::Io { path: path.to_owned(), reason };
    let blob = path.canonicalize().map_err(io)?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_hex = name.chars().all(|c| c.is_ascii_hexdigit());
    let (kind, brief, found) = match name.len() {
        64 if is_hex => ("SHA-256", "sha256", sha256_of(&blob)?),
        40 if is_hex => {
            let bytes = blob.metadata().map_err(io)?.len();
            ("git hash", "git", hash::<Sha1>(&blob, format!("blob {bytes}\0").as_bytes())?)
        }
        _ => return Ok(None),
    };
    if found == name {
        return Ok(Some(brief));
    }
    std::fs::remove_file(&blob).map_err(io)?;
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path).map_err(io)?;
    }
    Err(HubError::Damaged { path: path.to_owned(), kind, found, expected: name })
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
    variable("HF_HUB_CACHE").map_or_else(home, |path| Cache::new(path.into()))
}

/// The cache below `HF_HOME`.
fn home() -> Cache {
    if variable("HF_HOME").is_some() { Cache::from_env() } else { Cache::default() }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The status that a server answered with, where that was the trouble.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(request) => match **request {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// What a client's error means to who asked for `what` of `repo`.
fn explained(error: ApiError, repo: &str, what: &str, cache: &Cache) -> HubError {
    let (repo, what) = (repo.to_owned(), what.to_owned());
    match (status(&error), error) {
        (Some(401 | 403 | 404), _) => HubError::NotThere { repo, what },
        // What breaks off while it is read is an input error too, of kinds that no file gives.
        (_, ApiError::IoError(reason)) if reason.raw_os_error().is_some() && !is_of_network(&reason) => {
            HubError::Io { path: cache.path().clone(), reason }
        }
        (_, error) => HubError::Network { repo, reason: error.to_string() },
    }
}

fn is_of_network(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock,
    };
    [BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock]
        .contains(&error.kind())
}
