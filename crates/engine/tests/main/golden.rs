//! Repositories written by kopia, the trees they must hold, and what a restored directory really holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Cancel, Limits, Meter, Run};
use repository::{Snapshot, SystemClock};
use repository_kopia::{Client, ControlRepair, OpenError, Password, RepairMode, Repository};
use serde_json::Value;
use storage::{FilesystemStorage, Layout, Storage};
use testkit::MemoryStore;
use tokio::runtime::Runtime;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../repository-kopia/tests");

pub fn golden(name: &str) -> PathBuf {
    Path::new(GOLDEN).join("golden").join(name).join("repo")
}

pub fn damaged(name: &str) -> PathBuf {
    Path::new(GOLDEN).join("golden-damaged").join(name)
}

pub struct Opened {
    pub repository: Repository,
    pub run: Run,
    _runtime: Runtime,
}

pub fn open(path: &Path) -> Opened {
    let store = FilesystemStorage::open(&fs::canonicalize(path).unwrap(), Layout::Kopia).unwrap();
    open_with(Arc::new(store), 2, &password_of(path))
}

pub fn open_store(store: Arc<dyn Storage>, threads: usize) -> Opened {
    open_with(store, threads, "correct horse")
}

/// Opens a repository that may be damaged, and tells what was wrong with its control objects.
pub fn open_for_repair(store: Arc<dyn Storage>, mode: RepairMode) -> Result<(Opened, Vec<ControlRepair>), OpenError> {
    let mut control = Vec::new();
    let opened = try_open_with(2, async |client| {
        let password = Password::new("correct horse");
        let (repository, repairs) =
            Repository::open_for_repair(store, &password, client, Arc::new(SystemClock), mode).await?;
        control = repairs;
        Ok(repository)
    })?;
    Ok((opened, control))
}

/// All objects of a repository in a directory.
pub fn memory_of(path: &Path) -> MemoryStore {
    fn collect(directory: &Path, prefix: &str, objects: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &name, objects);
            } else if let Some(name) = name.strip_suffix(".f") {
                objects.push((name.to_owned(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    let mut objects = Vec::new();
    collect(path, "", &mut objects);
    MemoryStore::with(objects)
}

fn open_with(store: Arc<dyn Storage>, threads: usize, password: &str) -> Opened {
    let password = Password::new(password);
    try_open_with(threads, async |client| Repository::open(store, &password, client, Arc::new(SystemClock)).await)
        .unwrap()
}

fn try_open_with(
    threads: usize,
    open: impl AsyncFnOnce(Client) -> Result<Repository, OpenError>,
) -> Result<Opened, OpenError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let limits = Limits { threads, ..Limits::for_memory(64 << 20, NonZeroUsize::MIN) };
    let run = Run {
        runtime: runtime.handle().clone(),
        limits: Limits { chunks: 1, fetches: threads, ..limits },
        meter: Arc::new(Meter::new()),
        cancel: Cancel::new(),
    };
    let client = Client { username: "golduser".to_owned(), hostname: "goldhost".to_owned() };
    let repository = runtime.block_on(open(client))?;
    Ok(Opened { repository, run, _runtime: runtime })
}

impl Opened {
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.run.runtime.block_on(self.repository.snapshots()).unwrap().snapshots
    }
}

/// Every golden repository.
pub const SUPPORTED: [&str; 13] = [
    "all-compressors",
    "blake3-chacha-rabinkarp-s2",
    "concurrent",
    "default",
    "ecc10",
    "ecc2",
    "epochs",
    "format1",
    "format1-upgraded",
    "format2",
    "incomplete",
    "sha3-224-fixed-pgzip",
    "v3-zstd",
];

/// Of each snapshot of a golden repository the tree that it must hold, one line an entry.
pub fn expected_trees(name: &str) -> Vec<(String, String)> {
    let expected = read_json(&Path::new(GOLDEN).join("golden").join(name).join("expected.json"));
    let tree = |snapshot: &Value| match snapshot["tree_variant"].as_str() {
        Some(variant) => {
            read_json(&Path::new(GOLDEN).join(format!("golden-trees/tree-{variant}.json")))["entries"].clone()
        }
        None => snapshot["tree"].clone(),
    };
    let snapshots = expected["snapshots"].as_array().unwrap();
    snapshots
        .iter()
        .map(|snapshot| (snapshot["id"].as_str().unwrap().to_owned(), lines_of_json(&tree(snapshot))))
        .collect()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The password that the description of a golden repository gives; damaged ones have none and use the usual one.
fn password_of(path: &Path) -> String {
    let description = path.parent().map(|parent| parent.join("expected.json")).filter(|file| file.exists());
    let given = description.map(|file| read_json(&file)["password"].as_str().unwrap().to_owned());
    given.unwrap_or_else(|| "correct horse".to_owned())
}

fn lines_of_json(tree: &Value) -> String {
    let mut lines = BTreeMap::new();
    for entry in tree.as_array().unwrap() {
        if entry["not_stored"].as_bool() == Some(true) {
            continue;
        }
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| entry[key].as_i64().unwrap_or_default();
        let mode = if text("type") == "s" { 0 } else { u32::from_str_radix(&text("mode"), 8).unwrap() };
        let data = match text("type").as_str() {
            "f" => format!("{} {}", number("size"), text("sha256")),
            "s" => text("target"),
            _ => String::new(),
        };
        let owner = owner(number("uid") as u32, number("gid") as u32);
        let line = format!("{} {mode:o} {} {owner} {data}", text("type"), entry["mtime_ns"]);
        lines.insert(text("path"), line);
    }
    lines.iter().fold(String::new(), |mut all, (path, line)| {
        writeln!(all, "{path}: {line}").unwrap();
        all
    })
}

/// Owners are compared only where they can be restored.
fn owner(uid: u32, gid: u32) -> String {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root { format!("{uid}:{gid}") } else { String::new() }
}

/// What a directory holds, in the same form.
pub fn lines_of(root: &Path) -> String {
    let mut lines = BTreeMap::new();
    collect(root, root, &mut lines);
    lines.iter().fold(String::new(), |mut all, (path, line)| {
        writeln!(all, "{path}: {line}").unwrap();
        all
    })
}

fn collect(root: &Path, path: &Path, lines: &mut BTreeMap<String, String>) {
    let found = fs::symlink_metadata(path).unwrap();
    let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    let owner = owner(found.uid(), found.gid());
    let mode = found.mode() & 0o7777;
    let line = if found.is_symlink() {
        format!("s 0 {mtime} {owner} {}", fs::read_link(path).unwrap().display())
    } else if found.is_dir() {
        for child in fs::read_dir(path).unwrap() {
            collect(root, &child.unwrap().path(), lines);
        }
        format!("d {mode:o} {mtime} {owner} ")
    } else {
        let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, &fs::read(path).unwrap()));
        format!("f {mode:o} {mtime} {owner} {} {hash}", found.len())
    };
    let name = path.strip_prefix(root).unwrap().display().to_string();
    lines.insert(if name.is_empty() { ".".to_owned() } else { name }, line);
}
