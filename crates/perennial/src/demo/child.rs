//! Programs of ours as processes of their own: movers, as their Jobs would run them, and catalogs.
//!
//! Each gets what its pod would get: the keys of its Secret as variables, and nothing of this process's environment.
//! Whatever is started here is ended and waited for when its value goes, by its own id.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use api::mover::{Report, Task};
use engine::Cancel;

use crate::demo::error::{DemoError, io};

/// How often a mover is looked at, so that it can be killed in the middle of its work.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long a catalog may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Keys and values of a Secret.
pub type Secret = Vec<(&'static str, String)>;

/// How this program is started once more.
pub struct Programs {
    pub executable: PathBuf,
    /// Where what they write to standard error goes.
    pub log: PathBuf,
    /// What movers keep from run to run: their cache volume.
    pub cache: PathBuf,
    /// Looked at while they are waited for.
    pub cancel: Cancel,
}

impl Programs {
    fn command(&self, arguments: &[&OsStr], secret: &Secret) -> Result<Command, DemoError> {
        let log = File::options().create(true).append(true).open(&self.log).map_err(io("open the log of movers"))?;
        let mut command = Command::new(&self.executable);
        command
            .args(arguments)
            .env_clear()
            .env("KOPIA_CACHE_DIRECTORY", &self.cache)
            .envs(secret.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        Ok(command)
    }

    /// Starts a mover with its task.
    pub fn mover(&self, task: &Task, secret: &Secret) -> Result<Mover, DemoError> {
        let arguments = ["mover", "--task", "-", "--report", "/dev/null", "--no-progress"].map(OsStr::new);
        let mut child = self.command(&arguments, secret)?.spawn().map_err(io("start a mover"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mover = Mover { running: Running { child }, report: report_of(stdout) };
        let text = serde_json::to_string(task).expect("a task of text and numbers is always JSON");
        if let Some(mut stdin) = stdin {
            stdin.write_all(text.as_bytes()).map_err(io("give a mover its task"))?;
        }
        Ok(mover)
    }

    /// Starts a catalog, and waits until it says where it listens.
    pub fn catalog(&self, secret: &Secret) -> Result<Catalog, DemoError> {
        let arguments =
            ["catalog", "--listen", "127.0.0.1:0", "--layout", "per-claim", "--refresh-every", "0"].map(OsStr::new);
        let mut child = self.command(&arguments, secret)?.spawn().map_err(io("start a catalog"))?;
        let stdout = child.stdout.take();
        let running = Running { child };
        let (said, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout?).lines();
            while let Some(Ok(line)) = lines.next() {
                // Nobody listens once the address is known.
                let _ = said.send(line);
            }
            Some(())
        });
        let line = line.recv_timeout(START_LIMIT).unwrap_or_default();
        match line.rsplit_once("http://") {
            Some((_, address)) => Ok(Catalog { _running: running, address: address.trim().to_owned() }),
            None => Err(DemoError::Unexpected {
                step: "start a catalog".to_owned(),
                expected: "its address".to_owned(),
                found: format!("{line:?}, see {}", self.log.display()),
            }),
        }
    }

    /// Waits for the mover, and kills it as soon as `is_time` says so.
    pub fn wait(&self, mut mover: Mover, is_time: &mut dyn FnMut() -> bool) -> Result<Ended, DemoError> {
        let begun = Instant::now();
        let text = loop {
            match mover.report.recv_timeout(LOOK_INTERVAL) {
                Ok(text) => break text,
                Err(RecvTimeoutError::Disconnected) => break String::new(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.cancel.is_cancelled() {
                return Err(DemoError::Interrupted);
            }
            if is_time() {
                // SIGKILL. One that has ended meanwhile shows it in its status.
                let _ = mover.running.child.kill();
            }
        };
        let status = mover.running.child.wait().map_err(io("wait for a mover"))?;
        if self.cancel.is_cancelled() {
            return Err(DemoError::Interrupted);
        }
        Ok(Ended { status, report: Report::from_termination_message(&text).ok(), took: begun.elapsed() })
    }
}

/// A mover at work.
pub struct Mover {
    running: Running,
    report: Receiver<String>,
}

/// Reads to the end: then the mover is over, or as good as.
fn report_of(stdout: Option<ChildStdout>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout?.read_to_string(&mut text).ok()?;
        sender.send(text).ok()
    });
    receiver
}

/// What came of a mover.
pub struct Ended {
    pub status: ExitStatus,
    /// None if it died before it could say.
    pub report: Option<Report>,
    pub took: Duration,
}

/// A catalog that listens until it is dropped.
pub struct Catalog {
    _running: Running,
    /// `127.0.0.1:port`.
    pub address: String,
}

/// Ended when it goes.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
