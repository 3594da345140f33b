//! Killed at random moments: whatever was being done, the real kopia finds the repository sound, and the next run completes.
//!
//! The seed is printed; `PERENNIAL_KILL_SEED` sets it, `PERENNIAL_KILLS` the number of kills of each kind on each store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use storage::embedded::EmbeddedS3;
use tokio::runtime::Runtime;

use crate::kopia::Kopia;
use crate::support::{Place, Ran, describe, noise};

const KILLS: u64 = 50;
const IDENTITY: &str = "me@box:/data";

/// A place with a repository in one of the two kinds of store.
struct Stand {
    place: Place,
    bucket: Option<Bucket>,
}

struct Bucket {
    server: EmbeddedS3,
    _runtime: Runtime,
}

impl Stand {
    fn directory() -> Self {
        Self { place: Place::created(), bucket: None }
    }

    fn bucket() -> Self {
        let place = Place::new();
        fs::create_dir_all(place.path("server/backups")).unwrap();
        let runtime = Runtime::new().unwrap();
        let served = place.path("server");
        let starting = EmbeddedS3::start(&served, "id-of-key", "the-secret-key");
        let server = runtime.block_on(starting).unwrap();
        let stand = Self { place, bucket: Some(Bucket { server, _runtime: runtime }) };
        stand.run(&["repository", "create"]).expect(0);
        stand
    }

    fn command(&self) -> Command {
        let mut command = self.place.command();
        if let Some(bucket) = &self.bucket {
            let store = format!("s3://backups/kills?endpoint={}", bucket.server.endpoint());
            command.env("PERENNIAL_STORE", store).env("KOPIA_S3_ACCESS_KEY_ID", "id-of-key");
            command.env("KOPIA_S3_SECRET_ACCESS_KEY", "the-secret-key");
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command().args(arguments).output().unwrap())
    }

    /// The real kopia, connected to the same repository.
    fn kopia(&self) -> Kopia<'_> {
        let kopia = Kopia::on(&self.place);
        let path = format!("--path={}", self.place.text("repo"));
        let endpoint = self.bucket.as_ref().map(|bucket| bucket.server.endpoint().replace("http://", "--endpoint="));
        let mut arguments = vec!["repository", "connect"];
        match &endpoint {
            None => arguments.extend(["filesystem", &path]),
            Some(endpoint) => {
                let keys = ["--access-key=id-of-key", "--secret-access-key=the-secret-key"];
                arguments.extend(["s3", "--bucket=backups", "--prefix=kills/", "--disable-tls", endpoint]);
                arguments.extend(keys);
            }
        }
        kopia.run(&arguments);
        kopia
    }

    #[track_caller]
    fn assert_restores(&self, source: &Path) {
        let target = self.place.path("compared");
        self.run(&["restore", "latest", "compared", "--source", IDENTITY]).expect(0);
        assert_eq!(describe(&target), describe(source));
        fs::remove_dir_all(target).unwrap();
    }
}

/// A generator of moments: the same for the same seed.
struct Moments(u64);

impl Moments {
    fn new(what: &str) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("PERENNIAL_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()) | 1);
        println!("{what}: PERENNIAL_KILL_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Some moment up to a tenth after `whole`.
    fn within(&mut self, whole: Duration) -> Duration {
        let microseconds = u64::try_from(whole.as_micros()).unwrap() * 11 / 10;
        Duration::from_micros(self.next() % microseconds.max(1))
    }
}

fn kills() -> u64 {
    std::env::var("PERENNIAL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Starts a command and kills it at `moment`, unless it ends before.
fn kill_at(command: &mut Command, moment: Duration) {
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Nothing is waited for: the moment itself is what is being tested.
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(moment);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// Some hundred small files and two large ones.
fn plant(root: &Path) {
    fs::create_dir_all(root).unwrap();
    for number in 0..8 {
        let folder = root.join(format!("folder {number}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..50 {
            let mut bytes = noise(3000);
            bytes[..2].copy_from_slice(&[number, file]);
            fs::write(folder.join(file.to_string()), bytes).unwrap();
        }
    }
    change(root, 0);
}

/// Makes so much new that a backup takes a while.
fn change(root: &Path, round: u64) {
    for (name, length) in [("large", 5_000_000), ("larger", 3_000_000)] {
        let mut bytes = noise(length);
        for block in bytes.chunks_mut(1000) {
            block[..8].copy_from_slice(&round.to_le_bytes());
        }
        fs::write(root.join(name), bytes).unwrap();
    }
    for file in 0..20 {
        fs::write(root.join(format!("folder {}/{file}", round % 8)), round.to_le_bytes()).unwrap();
    }
}

fn backup_is_killed(stand: &Stand) {
    let source = stand.place.path("source");
    plant(&source);
    let arguments = ["backup", "source", "--as", IDENTITY];
    let whole = timed(|| drop(stand.run(&arguments).expect(0)));
    let kopia = stand.kopia();
    let mut moments = Moments::new("backup");
    for round in 1..=kills() {
        change(&source, round);
        kill_at(stand.command().args(arguments), moments.within(whole));
        kopia.run(&["content", "verify"]);
        kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
        if round % 10 == 0 {
            stand.run(&arguments).expect(0);
            stand.assert_restores(&source);
        }
    }
    stand.run(&arguments).expect(0);
    stand.assert_restores(&source);
    stand.run(&["verify", "--read-percent", "100"]).expect(0);
}

fn restore_is_killed(stand: &Stand) {
    let source = stand.place.path("source");
    plant(&source);
    stand.run(&["backup", "source", "--as", IDENTITY]).expect(0);
    let arguments = ["restore", "latest", "target", "--source", IDENTITY];
    let whole = timed(|| drop(stand.run(&arguments).expect(0)));
    let target: PathBuf = stand.place.path("target");
    let mut moments = Moments::new("restore");
    for _ in 0..kills() {
        fs::remove_dir_all(&target).unwrap();
        kill_at(stand.command().args(arguments), moments.within(whole));
        stand.run(&arguments).expect(0);
        assert_eq!(describe(&target), describe(&source));
    }
}

fn forget_is_killed(stand: &Stand) {
    let source = stand.place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "always here").unwrap();
    let back_up = || drop(stand.run(&["backup", "source", "--as", IDENTITY]).expect(0));
    let arguments = ["forget", "--source", IDENTITY, "--keep-latest", "1"];
    back_up();
    back_up();
    let whole = timed(|| drop(stand.run(&arguments).expect(0)));
    let kopia = stand.kopia();
    let mut moments = Moments::new("forget");
    for _ in 0..kills() {
        back_up();
        kill_at(stand.command().args(arguments), moments.within(whole));
        kopia.run(&["content", "verify"]);
        kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    }
    stand.run(&arguments).expect(0);
    let left = stand.run(&["snapshots", "--source", IDENTITY, "--json"]).expect(0).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    stand.assert_restores(&source);
}

#[test]
fn a_backup_into_a_directory_survives_kills() {
    backup_is_killed(&Stand::directory());
}

#[test]
fn a_backup_into_a_bucket_survives_kills() {
    backup_is_killed(&Stand::bucket());
}

#[test]
fn a_restore_from_a_directory_survives_kills() {
    restore_is_killed(&Stand::directory());
}

#[test]
fn a_restore_from_a_bucket_survives_kills() {
    restore_is_killed(&Stand::bucket());
}

#[test]
fn forgetting_in_a_directory_survives_kills() {
    forget_is_killed(&Stand::directory());
}

#[test]
fn forgetting_in_a_bucket_survives_kills() {
    forget_is_killed(&Stand::bucket());
}
