//! The program under test, a place for it, and trees of files.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use storage::embedded::EmbeddedS3;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const PASSWORD: &str = "correct horse battery staple";

const KEY_ID: &str = "id-of-key";
const SECRET_KEY: &str = "the-secret-key";

/// A directory of its own with a repository that may be made in it, and the program set up to use it.
pub struct Place {
    pub directory: TempDir,
    pub password: String,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The same, if the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), password: PASSWORD.to_owned() }
    }

    /// With a repository.
    #[track_caller]
    pub fn created() -> Self {
        let place = Self::new();
        place.run(&["repository", "create"]).expect(0);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The program, as a user of an otherwise empty environment would call it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        command
            .env_clear()
            .env("HOME", self.directory.path())
            .env("PERENNIAL_STORE", format!("file:{}", self.text("repo")))
            .env("PERENNIAL_PASSWORD", &self.password)
            .current_dir(self.directory.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command().args(arguments).output().unwrap())
    }

    /// A tree with a bit of everything: empty and large files, directories, links, modes, and a name that would steer a
    /// terminal.
    pub fn plant(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        fs::create_dir_all(root.join("photos/2025/empty")).unwrap();
        fs::write(root.join("hello.txt"), "hello\n").unwrap();
        fs::write(root.join("nothing"), "").unwrap();
        fs::write(root.join("photos/large"), noise(9_000_000)).unwrap();
        fs::write(root.join("photos/2025/a b\u{1b}[2J"), noise(70_000)).unwrap();
        fs::set_permissions(root.join("hello.txt"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("hello.txt", root.join("link")).unwrap();
        symlink("../nowhere", root.join("photos/dangling")).unwrap();
        root
    }
}

/// A bucket `backups` on a server of its own, below the place.
pub struct Bucket {
    pub server: EmbeddedS3,
    _runtime: Runtime,
}

impl Bucket {
    pub fn start(place: &Place) -> Self {
        let root = place.path("server");
        fs::create_dir_all(root.join("backups")).unwrap();
        let runtime = Runtime::new().unwrap();
        let server = EmbeddedS3::start(&root, KEY_ID, SECRET_KEY);
        Self { server: runtime.block_on(server).unwrap(), _runtime: runtime }
    }

    /// The program with the keys of the bucket, which answers at `endpoint`.
    pub fn run(place: &Place, endpoint: &str, arguments: &[&str]) -> Ran {
        let mut command = place.command();
        command.env("PERENNIAL_STORE", format!("s3://backups/laptop?endpoint={endpoint}"));
        command.env("KOPIA_S3_ACCESS_KEY_ID", KEY_ID).env("KOPIA_S3_SECRET_ACCESS_KEY", SECRET_KEY);
        Ran::of(&command.args(arguments).output().unwrap())
    }
}

/// Bytes that do not compress and are the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Everything in `root` to the last attribute, one line each, for comparison.
pub fn describe(root: &Path) -> String {
    testkit::describe(root).unwrap()
}
