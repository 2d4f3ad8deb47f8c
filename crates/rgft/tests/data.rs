//! `rgft data` against a server of this process that answers as the hub does: ranges, hashes as tags, large files at
//! another host.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use common::{asset, demo, files_in, rgft, tree};
use sha1::{Digest, Sha1};
use sha2::Sha256;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A file of a repository: its path after the server's address, what it holds, its tag.
#[derive(Clone)]
struct Served {
    path: String,
    bytes: Vec<u8>,
    tag: String,
    /// The server that has it, if this one only says where it is.
    elsewhere: Option<String>,
}

impl Served {
    /// A large file: tagged by its SHA-256.
    fn large(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), tag: hex(Sha256::digest(&bytes)), bytes, elsewhere: None }
    }

    /// A small file: tagged as git does.
    fn small(path: &str, bytes: Vec<u8>) -> Self {
        let head = format!("blob {}\0", bytes.len());
        let tag = hex(Sha1::new_with_prefix(head).chain_update(&bytes).finalize());
        Self { path: path.into(), tag, bytes, elsewhere: None }
    }
}

/// The server: its address, and the requests that came.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `files`.
    fn start(files: Vec<Served>) -> Self {
        Self::limited(files, usize::MAX, 0)
    }

    /// Serves `files`. Of whole files, or the rest of one, it sends no more than `patience` bytes in its life, and the first
    /// `refusals` times that it is asked for them it is too busy.
    fn limited(files: Vec<Served>, patience: usize, refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut limits = Limits { patience, refusals };
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &files, &mut limits, &log);
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

struct Limits {
    patience: usize,
    refusals: usize,
}

/// Reads one request and answers it; the connection ends with it.
fn answer(mut stream: TcpStream, files: &[Served], limits: &mut Limits, log: &Mutex<Vec<String>>) {
    let mut lines = Vec::new();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        match line {
            Ok(line) if !line.is_empty() => lines.push(line),
            _ => break,
        }
    }
    log.lock().unwrap().push(lines.join("\n"));
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let (status, head, body) = match files.iter().find(|file| file.path == path) {
        Some(file) if path.starts_with("/api/") => ("200 OK", String::new(), &file.bytes[..]),
        Some(Served { elsewhere: Some(server), tag, .. }) => {
            let head = format!(
                "Location: {server}{path}\r\nX-Linked-Etag: \"{tag}\"\r\nETag: \"of-the-pointer\"\r\nX-Repo-Commit: {COMMIT}\r\n"
            );
            ("302 Found", head, &[][..])
        }
        Some(file) => {
            let range = lines
                .iter()
                .find_map(|line| line.strip_prefix("range: bytes=").or(line.strip_prefix("Range: bytes=")));
            let (first, last) = range.and_then(|range| range.split_once('-')).unwrap();
            let (first, open): (usize, bool) = (first.parse().unwrap(), last.is_empty());
            let total = file.bytes.len();
            let last = last.parse().unwrap_or(total.saturating_sub(1));
            let head = format!(
                "Content-Range: bytes {first}-{last}/{total}\r\nETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
                file.tag
            );
            if first >= total {
                ("416 Range Not Satisfiable", String::new(), &[][..])
            } else if open && limits.refusals > 0 {
                limits.refusals -= 1;
                ("503 Service Unavailable", String::new(), &[][..])
            } else {
                ("206 Partial Content", head, &file.bytes[first..(last + 1).min(total)])
            }
        }
        None => ("404 Not Found", String::new(), &b"nothing here"[..]),
    };
    let length = body.len();
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n");
    let sent = if length > 1 { length.min(limits.patience) } else { length };
    limits.patience -= if length > 1 { sent } else { 0 };
    let _ = stream.write_all(&body[..sent]);
}

/// `rgft` with its cache in `home`, asking `server`.
fn rgft_at(home: &Path, server: &str) -> Command {
    let mut command = rgft();
    for name in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", server);
    command
}

/// Exit status and stderr of `rgft data get`.
fn get(home: &Path, server: &str, arguments: &[&str]) -> (i32, String) {
    let output = rgft_at(home, server).args(["data", "get"]).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The demo's model as a repository.
fn model() -> Vec<Served> {
    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let path = |name: &str| format!("/someone/demo/resolve/main/{name}");
    let mut files: Vec<Served> = names
        .iter()
        .map(|name| {
            let bytes = std::fs::read(demo().join(name)).unwrap();
            let make = if name.ends_with("safetensors") { Served::large } else { Served::small };
            make(&path(name), bytes)
        })
        .collect();
    files.push(Served::small(&path("pytorch_model.bin"), vec![0; 9]));
    let names = names.iter().chain(&["pytorch_model.bin", "onnx/model.onnx"]);
    files.push(listing("models/someone/demo", COMMIT, &names.copied().collect::<Vec<_>>()));
    files
}

/// What the hub says of a repository.
fn listing(repository: &str, commit: &str, names: &[&str]) -> Served {
    let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({ "rfilename": name })).collect();
    let info = serde_json::json!({ "sha": commit, "siblings": siblings }).to_string().into_bytes();
    Served::small(&format!("/api/{repository}/revision/main"), info)
}

fn snapshot(home: &Path) -> PathBuf {
    home.join("hub/models--someone--demo/snapshots").join(COMMIT)
}

#[test]
fn a_model_is_fetched_checked_kept_and_used_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    // The hub has large files at another host.
    let store = Server::start(model());
    let mut files = model();
    files[1].elsewhere = Some(store.address.replace("127.0.0.1", "localhost"));
    let server = Server::start(files);
    let output = rgft_at(home.path(), &server.address)
        .args(["data", "get", "someone/demo", "--json", "--quiet"])
        .env("HF_TOKEN", "secret")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let places: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(places[0]["folder"], snapshot(home.path()).to_str().unwrap());
    let checked: Vec<_> =
        places[0]["files"].as_array().unwrap().iter().map(|file| file["checked"].clone()).collect();
    assert_eq!(checked, ["git", "sha256", "git"]);
    assert_eq!(files_in(&snapshot(home.path())), ["config.json", "model.safetensors", "tokenizer.json"]);
    for name in files_in(&snapshot(home.path())) {
        assert_eq!(
            std::fs::read(snapshot(home.path()).join(&name)).unwrap(),
            std::fs::read(demo().join(name)).unwrap()
        );
    }
    let requests = server.requests();
    let knows_token = |request: &String| request.to_lowercase().contains("authorization: bearer secret");
    assert!(requests.iter().all(knows_token));
    assert!(!store.requests().is_empty());
    let last = store.requests().pop().unwrap();
    assert!(!knows_token(&last), "the file itself is asked for without the token: {last}");

    // The same again comes from the cache, and so does a model that is named by its repository, without a network.
    let (status, message) = get(home.path(), &server.address, &["someone/demo"]);
    assert_eq!(status, 0, "{message}");
    assert_eq!(server.requests().len(), requests.len() + 1, "the list of files alone was asked for");
    let plan = |model: &str| {
        let data = ["--data", &asset("shift-train.csv"), "--task", "text-classification", "--json"]
            .map(String::from);
        let output = rgft_at(home.path(), "http://127.0.0.1:9")
            .env("HF_HUB_OFFLINE", "1")
            .args(["plan", "--model", model])
            .args(data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut outlook: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // What the process held when it asked.
        outlook["memory"].take();
        outlook
    };
    assert_eq!(plan("someone/demo"), plan(demo().to_str().unwrap()));
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_was() {
    let (listed, small) = (model().pop().unwrap().bytes.len(), model()[0].bytes.len());
    let arguments = ["someone/demo", "--file", "{config.json,model.safetensors}"];
    let whole = model()[1].bytes.len();
    // Broken off early; or when all of it had come, but for its name.
    for came in [1000, whole] {
        let home = tempfile::tempdir().unwrap();
        let broken = Server::limited(model(), listed + small + came.min(whole - 2), 0);
        let (status, message) = get(home.path(), &broken.address, &arguments);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("what has come already is kept"), "{message}");
        assert_eq!(files_in(&snapshot(home.path())), ["config.json"]);
        let part =
            home.path().join("hub/models--someone--demo/blobs").join(&model()[1].tag).with_extension("part");
        let kept = std::fs::read(&part).unwrap();
        assert_eq!(kept.len(), came.min(whole - 2));
        if came == whole {
            std::fs::write(&part, &model()[1].bytes).unwrap();
        }

        // It is too busy at first, and goes on all the same.
        let mended = Server::limited(model(), usize::MAX, 1);
        let (status, message) = get(home.path(), &mended.address, &arguments);
        assert_eq!(status, 0, "{message}");
        let of_weights: Vec<String> =
            mended.requests().into_iter().filter(|request| request.contains("model.safetensors")).collect();
        assert!(
            !of_weights.iter().any(|request| request.to_lowercase().contains("range: bytes=0-\n")),
            "{of_weights:?}"
        );
        let weights = std::fs::read(snapshot(home.path()).join("model.safetensors")).unwrap();
        assert!(weights == model()[1].bytes);
    }
}

#[test]
fn a_model_comes_from_one_commit() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(model());
    assert_eq!(get(home.path(), &server.address, &["someone/demo", "--file", "config.json"]).0, 0);
    // The hub has moved on: what is cached is of another commit, and is not taken for this one's.
    let reference = home.path().join("hub/models--someone--demo/refs/main");
    let old = "fedcba9876543210fedcba9876543210fedcba98";
    std::fs::rename(snapshot(home.path()), snapshot(home.path()).with_file_name(old)).unwrap();
    std::fs::write(&reference, old).unwrap();
    let (status, message) = get(home.path(), &server.address, &["someone/demo"]);
    assert_eq!(status, 0, "{message}");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
    assert_eq!(files_in(&snapshot(home.path())), ["config.json", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("a.json").display().to_string();
    for name in [absolute.as_str(), "../../a.json", "data/../../a.json"] {
        let home = tempfile::tempdir().unwrap();
        let files = vec![
            listing("datasets/o/n", COMMIT, &[name]),
            Served::small(&format!("/datasets/o/n/resolve/main/{name}"), b"{}".to_vec()),
        ];
        let server = Server::start(files);
        let (status, message) = get(home.path(), &server.address, &["datasets/o/n", "--file", "**"]);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("which is no file name"), "{message}");
        assert!(files_in(outside.path()).is_empty() && !home.path().join("hub").exists());
    }
}

#[test]
fn what_is_damaged_is_refused_and_does_not_stay() {
    for damaged in [0, 1] {
        let home = tempfile::tempdir().unwrap();
        let mut files = model();
        files[damaged].bytes[7] ^= 1;
        let server = Server::start(files);
        let (status, message) = get(home.path(), &server.address, &["someone/demo"]);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("damaged: its") && message.contains("run it again"), "{message}");
        // Mended at its home, it comes anew.
        let server = Server::start(model());
        let (status, message) = get(home.path(), &server.address, &["someone/demo"]);
        assert_eq!(status, 0, "{message}");
    }
}

#[test]
fn offline_serves_from_the_cache_alone() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(model());
    let offline = |arguments: &[&str]| {
        let mut command = rgft_at(home.path(), &server.address);
        let output =
            command.env("HF_HUB_OFFLINE", "1").args(["data", "get"]).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, message) = offline(&["someone/demo"]);
    assert_eq!(status, 2, "{message}");
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    assert_eq!(get(home.path(), &server.address, &["someone/demo", "--file", "config.json"]).0, 0);
    let before = server.requests().len();
    let (status, message) = offline(&["someone/demo"]);
    assert_eq!(status, 0, "{message}");
    assert!(message.contains("(1 files"), "{message}");
    assert_eq!(server.requests().len(), before);
}

#[test]
fn the_token_lies_in_the_home_wherever_the_cache_is() {
    let (home, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(home.path().join("token"), "of-the-home\n").unwrap();
    std::fs::write(cache.path().join("token"), "of-somebody").unwrap();
    let server = Server::start(model());
    let mut command = rgft_at(home.path(), &server.address);
    command.env("HF_HUB_CACHE", cache.path().join("hub")).args(["data", "get", "someone/demo", "-q"]);
    assert!(command.output().unwrap().status.success());
    assert!(server.requests().iter().all(|request| request.to_lowercase().contains("bearer of-the-home")));
    assert!(cache.path().join("hub/models--someone--demo").exists());
}

#[test]
fn what_cannot_be_had_is_said() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(model());
    let cases: [(&[&str], i32, &str); 10] = [
        (&["trek6"], 2, "rgft data list"),
        (&["../../etc/passwd"], 2, "rgft data list"),
        (&["someone/else"], 2, "HF_TOKEN"),
        (&["someone/demo", "--file", "*.onnx"], 2, "no file of it is wanted"),
        (&["someone/demo", "--file", "a{"], 2, "--file"),
        (&["minilm", "trec6"], 2, "--source DIR"),
        (&["minilm", "--file", "*"], 2, "--file is for repositories"),
        (&["someone/demo", "--source", "."], 2, "--source is for names"),
        (&["someone/demo@../../x"], 2, "rgft data list"),
        (&["trec6", "--source", "/nowhere"], 2, "/nowhere/data/text/trec6"),
    ];
    for (arguments, expected, words) in cases {
        let (status, message) = get(home.path(), &server.address, arguments);
        assert_eq!(status, expected, "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    let (status, message) = get(home.path(), "http://127.0.0.1:9", &["someone/demo"]);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("HF_ENDPOINT"), "{message}");
}

#[test]
fn a_named_set_comes_from_the_hub_or_from_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let at = |part: &str| {
        format!("/datasets/cardiffnlp/tweet_eval/resolve/main/emotion/{part}-00000-of-00001.parquet")
    };
    let files =
        ["train", "validation", "test"].map(|part| Served::large(&at(part), part.as_bytes().to_vec()));
    let server = Server::start(files.to_vec());
    let folder = to.path().to_str().unwrap();
    let (status, message) = get(home.path(), &server.address, &["tweet-emotion", "--to", folder]);
    assert_eq!(status, 0, "{message}");
    let placed = to.path().join("data/text/tweet-emotion");
    assert_eq!(files_in(&placed), ["dev.parquet", "test.parquet", "train.parquet"]);
    assert_eq!(std::fs::read(placed.join("dev.parquet")).unwrap(), b"validation");

    // From a folder, that what it holds is what it should be.
    let source = tempfile::tempdir().unwrap();
    let lies = source.path().join("data/lm");
    std::fs::create_dir_all(&lies).unwrap();
    std::fs::write(lies.join("darwin.txt"), "something else").unwrap();
    let before = tree(to.path());
    let arguments = ["darwin", "--source", source.path().to_str().unwrap(), "--to", folder];
    let (status, message) = get(home.path(), "http://127.0.0.1:9", &arguments);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("that of the file that is meant"), "{message}");
    assert_eq!(tree(to.path()), before);

    // What was put there is a source too, whatever its form; the same again changes nothing, something else is kept.
    let second = tempfile::tempdir().unwrap();
    let arguments = ["tweet-emotion", "--source", folder, "--to", second.path().to_str().unwrap()];
    for _ in 0..2 {
        let (status, message) = get(home.path(), "http://127.0.0.1:9", &arguments);
        assert_eq!(status, 0, "{message}");
    }
    let copied = second.path().join("data/text/tweet-emotion/train.parquet");
    assert_eq!(std::fs::read(&copied).unwrap(), b"train");
    std::fs::write(&copied, "mine!").unwrap();
    let (status, message) = get(home.path(), "http://127.0.0.1:9", &arguments);
    assert_eq!(status, 2, "{message}");
    assert!(message.contains("holds something else already"), "{message}");
    assert_eq!(std::fs::read(&copied).unwrap(), b"mine!");

    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets");
    if !assets.exists() {
        eprintln!("skipped in part: {} is absent", assets.display());
        return;
    }
    let arguments = ["trec6", "etth1", "--source", assets.to_str().unwrap(), "--to", folder];
    let (status, message) = get(home.path(), "http://127.0.0.1:9", &arguments);
    assert_eq!(status, 0, "{message}");
    for file in ["data/text/trec6/train.csv", "data/timeseries/ETTh1.csv"] {
        assert!(std::fs::read(to.path().join(file)).unwrap() == std::fs::read(assets.join(file)).unwrap());
    }
}
