//! What stands in for a cluster: a bucket, a catalog beside it, claims with their volumes, and movers for their Jobs.
//!
//! ```text
//! claim ── GET /facts ──▶ catalog ──┐
//!   ▼                               ├──▶ S3 server (loopback)
//! decide ── Task ──▶ mover ─────────┘
//!   ▲                  ▼
//!   └──── Report ◀── volume
//! ```
//! Nothing is written outside one directory for temporary files, and nothing of it stays but with [`World::keep`].

use std::fs;
use std::io::{self as std_io, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::decide::{Claim as Expected, Decision, Facts, HoldReason, decide};
use api::id::RepositoryId;
use api::naming::ClaimKey;
use engine::{VerifyOptions, VerifyOutcome};
use repository::SystemClock;
use repository_kopia::{Client, Password, Repository};
use storage::embedded::EmbeddedS3;
use storage::{Address, Credentials, Layout, S3Credentials, Storage};

use crate::demo::app::App;
use crate::demo::child::{Catalog, Programs, Secret};
use crate::demo::error::{DemoError, io};
use crate::demo::manifest::Manifest;
use crate::failure::Failure;
use crate::runner::Runner;

/// The bucket of the repositories.
pub const BUCKET: &str = "backups";
/// A bucket that is there and has nothing in it.
pub const EMPTY_BUCKET: &str = "other-backups";
/// The namespace of the claims.
pub const NAMESPACE: &str = "demo";
/// How long a catalog may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long a store that is back may take to be believed.
const BACK_LIMIT: Duration = Duration::from_secs(20);
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// Random bytes of a key or a password.
const KEY_BYTES: usize = 12;

/// Everything that runs, and the directory that holds it.
pub struct World {
    pub runner: Runner,
    pub programs: Programs,
    pub keys: Keys,
    catalog: Option<Catalog>,
    s3: EmbeddedS3,
    root: PathBuf,
    is_kept: bool,
}

/// What opens the bucket and the repositories; another one each time.
#[derive(Clone)]
pub struct Keys {
    pub bucket: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub password: String,
}

/// A claim and its history so far.
pub struct Claim {
    pub key: ClaimKey,
    pub app: Box<dyn App>,
    /// What is backed up.
    pub source: PathBuf,
    /// What is restored into; the same, but for the user's own files.
    pub target: PathBuf,
    /// Which repository it must be, once there is one.
    pub repository: Option<RepositoryId>,
    /// What was there at the last backup.
    pub manifest: Manifest,
    pub figures: Figures,
}

/// What the closing table says of a claim.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub files: u64,
    pub bytes: u64,
    pub first_backup: Duration,
    pub first_bytes: u64,
    /// By the edits; none if nobody edited.
    pub changed_bytes: Option<u64>,
    pub second_bytes: u64,
    pub restore: Duration,
    pub compared: u64,
}

impl World {
    /// Makes the directory, starts the server and the catalog.
    pub fn start(runner: Runner) -> Result<Self, Failure> {
        let made = tempfile::Builder::new().prefix("perennial-demo-").tempdir();
        let root = made.map_err(io("make a directory for temporary files"))?.keep();
        for part in ["store", "volumes"] {
            fs::create_dir(root.join(part)).map_err(io("make a directory"))?;
        }
        for bucket in [BUCKET, EMPTY_BUCKET] {
            fs::create_dir(root.join("store").join(bucket)).map_err(io("make a bucket"))?;
        }
        let keys = Keys {
            bucket: BUCKET.to_owned(),
            access_key_id: random()?,
            secret_access_key: random()?,
            password: random()?,
        };
        let store = root.join("store");
        let server = EmbeddedS3::start(&store, &keys.access_key_id, &keys.secret_access_key);
        let s3 = runner.run.runtime.block_on(server).map_err(io("start the S3 server"))?;
        let executable = std::env::current_exe().map_err(io("find this program"))?;
        let cancel = runner.run.cancel.clone();
        let programs = Programs { executable, log: root.join("log"), cache: root.join("cache"), cancel };
        let mut world = Self { runner, programs, keys, catalog: None, s3, root, is_kept: false };
        let secret = world.secret(None, &world.keys);
        world.catalog = Some(world.programs.catalog(&secret)?);
        Ok(world)
    }

    /// Where everything is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a claim's volume is.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// The server's address.
    pub fn endpoint(&self) -> String {
        self.s3.endpoint()
    }

    /// The catalog's address.
    pub fn catalog_address(&self) -> &str {
        self.catalog.as_ref().map_or("", |catalog| catalog.address.as_str())
    }

    /// The Secret of a claim, or of the whole store: the seven keys that the zero-touch installation generates.
    pub fn secret(&self, claim: Option<&ClaimKey>, keys: &Keys) -> Secret {
        let endpoint = self.s3.endpoint();
        vec![
            ("KOPIA_PASSWORD", keys.password.clone()),
            ("KOPIA_S3_BUCKET", keys.bucket.clone()),
            ("KOPIA_S3_ENDPOINT", endpoint.trim_start_matches("http://").to_owned()),
            ("KOPIA_S3_PREFIX", claim.map(ClaimKey::repository_prefix).unwrap_or_default()),
            ("KOPIA_S3_DISABLE_TLS", "true".to_owned()),
            ("KOPIA_S3_ACCESS_KEY_ID", keys.access_key_id.clone()),
            ("KOPIA_S3_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
        ]
    }

    /// Stops the S3 server.
    pub fn stop_storage(&mut self) {
        self.runner.run.runtime.clone().block_on(self.s3.stop());
    }

    /// Starts it again.
    pub fn start_storage(&mut self) -> Result<(), DemoError> {
        let runtime = self.runner.run.runtime.clone();
        runtime.block_on(self.s3.restart()).map_err(io("start the S3 server again"))
    }

    /// Asks the catalog, and decides.
    pub fn decide(&self, claim: &Claim) -> Result<Decision, DemoError> {
        self.decide_at(self.catalog_address(), claim)
    }

    /// The same with a catalog that has other keys, and goes afterwards.
    pub fn decide_with(&self, keys: &Keys, claim: &Claim) -> Result<Decision, DemoError> {
        let catalog = self.programs.catalog(&self.secret(None, keys))?;
        self.decide_at(&catalog.address, claim)
    }

    /// Asks again until the store answers, as the operator does for ever.
    pub fn decide_patiently(&self, claim: &Claim) -> Result<Decision, DemoError> {
        let begun = Instant::now();
        loop {
            let decision = self.decide(claim)?;
            let is_away = matches!(decision, Decision::Hold { reason: HoldReason::RepositoryUnreachable, .. });
            if !is_away || begun.elapsed() > BACK_LIMIT {
                return Ok(decision);
            }
            if self.runner.run.cancel.is_cancelled() {
                return Err(DemoError::Interrupted);
            }
            std::thread::park_timeout(ASK_INTERVAL);
        }
    }

    fn decide_at(&self, address: &str, claim: &Claim) -> Result<Decision, DemoError> {
        let path = format!("/facts/{}/{}", claim.key.namespace(), claim.key.pvc());
        let body = get(address, &path)?;
        let facts: Facts = serde_json::from_str(&body).map_err(|error| DemoError::Unexpected {
            step: format!("GET {path}"),
            expected: "facts".to_owned(),
            found: format!("{body:?} ({error})"),
        })?;
        // What the operator knows of a claim that was backed up before.
        let expected = Expected {
            pinned_repository_id: claim.repository.clone(),
            ledger_expected: claim.repository.is_some(),
            backup_expected: claim.repository.is_some(),
            ..Expected::default()
        };
        Ok(decide(&facts, &expected))
    }

    /// Objects of a claim's repository whose names begin so, and their bytes.
    pub fn objects(&self, claim: &ClaimKey, prefix: &str) -> (u64, u64) {
        let directory = self.root.join("store").join(BUCKET).join(claim.repository_prefix());
        let Ok(entries) = fs::read_dir(directory) else { return (0, 0) };
        let is_one = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
        let sizes = entries.flatten().filter(is_one).map(|entry| entry.metadata().map_or(0, |found| found.len()));
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// The store of a claim's repository, without a mover.
    pub fn storage(&self, claim: &ClaimKey) -> Result<Arc<dyn Storage>, Failure> {
        let text = format!("s3://{BUCKET}/{}?endpoint={}", claim.repository_prefix(), self.endpoint());
        let credentials = Credentials {
            s3: Some(S3Credentials {
                access_key_id: self.keys.access_key_id.clone(),
                secret_access_key: self.keys.secret_access_key.clone(),
                session_token: None,
            }),
        };
        Ok(Address::parse(&text)?.open(Layout::Kopia, &credentials)?)
    }

    /// Verifies a claim's repository, reading back so many of a hundred contents.
    pub fn verify(&self, claim: &ClaimKey, read_percent: u8) -> Result<VerifyOutcome, Failure> {
        let client = Client { username: claim.pvc().to_owned(), hostname: claim.namespace().to_owned() };
        let password = Password::new(self.keys.password.clone());
        let opening = Repository::open(self.storage(claim)?, &password, client, Arc::new(SystemClock));
        let repository = self.runner.wait(opening)?;
        let options = VerifyOptions { read_percent, ..VerifyOptions::default() };
        let verified = self.runner.outcome(engine::verify(&repository, &options, &self.runner.run))?;
        match verified.findings.first() {
            None => Ok(verified),
            Some(finding) => Err(DemoError::Unexpected {
                step: format!("verify the repository of {claim}"),
                expected: "nothing wrong".to_owned(),
                found: format!("{finding:?}"),
            }
            .into()),
        }
    }

    /// The directory stays when this goes.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// The last words of the programs, for when something went wrong.
    pub fn last_words(&self) -> Vec<String> {
        const LINES: usize = 5;
        let text = fs::read_to_string(&self.programs.log).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.catalog = None;
        if !self.is_kept {
            // Nothing better can be done than to say where it lies.
            if let Err(error) = remove(&self.root) {
                crate::output::warn(&format!("{} could not be removed: {error}", self.root.display()));
            }
        }
    }
}

/// A new volume: an empty directory where perhaps was another.
pub fn new_volume(path: &Path) -> Result<(), DemoError> {
    remove(path).map_err(io(format!("remove {}", path.display())))?;
    fs::create_dir(path).map_err(io(format!("make {}", path.display())))
}

/// Removes a directory with everything in it, also what lies in directories that are closed.
pub fn remove(path: &Path) -> std_io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std_io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == std_io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(path: &Path) -> std_io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

fn random() -> Result<String, DemoError> {
    let mut bytes = [0; KEY_BYTES];
    let drawn = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    drawn.map_err(|errno| io("draw a random key")(errno.into()))?;
    Ok(hex::encode(bytes))
}

/// One question over HTTP/1.0, which ends with its answer: no more of HTTP is needed here.
fn get(address: &str, path: &str) -> Result<String, DemoError> {
    let ask = || -> std_io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(io(format!("ask the catalog for {path}")))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(DemoError::Unexpected {
            step: format!("GET {path}"),
            expected: "an answer with status 200".to_owned(),
            found: format!("{answer:?}"),
        }),
    }
}
