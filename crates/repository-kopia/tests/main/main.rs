//! Tests over whole repositories.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod damaged;
mod golden;
mod index_tables;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::SystemClock;
use repository_kopia::{Client, OpenError, Password, Repository};
use storage::{FilesystemStorage, Layout};

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder)
}

fn client() -> Client {
    Client { username: "golduser".to_owned(), hostname: "goldhost".to_owned() }
}

/// Opens a repository in a directory. Opening and reading change nothing there.
async fn open(path: &Path, password: &str) -> Result<Repository, OpenError> {
    let storage = FilesystemStorage::open(path, Layout::Kopia).expect("the directory is there");
    Repository::open(Arc::new(storage), &Password::new(password), client(), Arc::new(SystemClock)).await
}

/// The names of the folders in `folder`, sorted.
fn folders(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(data(folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
