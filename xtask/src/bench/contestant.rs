//! The two programs' command lines for the same work.

use super::{Phase, Settings};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Both repositories are new for each run, so the password guards nothing.
pub const PASSWORD: &str = "benchmark";

/// Credentials of the S3 server on loopback.
pub const ACCESS_KEY: &str = "benchmark";
pub const SECRET_KEY: &str = "benchmark-secret";
pub const REGION: &str = "us-east-1";

/// Which program, and where it lies.
pub enum Kind {
    Perennial(PathBuf),
    Kopia(PathBuf),
}

/// Where the repository is.
pub enum Store {
    Directory(PathBuf),
    S3 { endpoint: String, bucket: &'static str },
}

/// One program with its own repository, cache and settings.
pub struct Contestant {
    pub program: Kind,
    pub store: Store,
    pub settings: Settings,
    /// Directory of this run: caches, settings, logs and the restored tree.
    pub place: PathBuf,
}

impl Contestant {
    /// Makes the repository.
    pub fn create(&self) -> Command {
        let mut command = self.command();
        command.args(["repository", "create"]);
        if let Kind::Kopia(_) = self.program {
            self.kopias_store(&mut command);
        }
        command
    }

    fn kopias_store(&self, command: &mut Command) {
        match &self.store {
            Store::Directory(directory) => {
                command.arg("filesystem").arg("--path").arg(directory);
            }
            Store::S3 { endpoint, bucket } => {
                command.args(["s3", "--bucket", bucket, "--endpoint", endpoint, "--disable-tls"]);
                command.args(["--region", REGION, "--access-key", ACCESS_KEY, "--secret-access-key", SECRET_KEY]);
            }
        }
        command.arg("--cache-directory").arg(self.place.join("cache"));
    }

    /// What has to be done once, unmeasured: kopia keeps compression in a policy. And both do their first maintenance with
    /// the first command that writes, kopia with this one; it must not count as part of a backup.
    pub fn prepare(&self) -> Result<()> {
        let mut command = self.command();
        match self.program {
            Kind::Kopia(_) => {
                let compression = match self.settings {
                    Settings::Default => "none",
                    Settings::ZstdFastest => "zstd-fastest",
                };
                command.args(["policy", "set", "--global", &format!("--compression={compression}")]);
            }
            Kind::Perennial(_) => {
                command.args(["maintain", "--full"]);
            }
        }
        super::measure::run(command, &self.place.join("prepare.log")).context("set the policy, maintain")?;
        Ok(())
    }

    /// Makes a repository known that somebody else made: kopia wants to be told once.
    pub fn connect(&self, log: &Path) -> Result<()> {
        let Kind::Kopia(_) = self.program else { return Ok(()) };
        let mut command = self.command();
        command.args(["repository", "connect"]);
        self.kopias_store(&mut command);
        super::measure::run(command, log).context("connect kopia")?;
        Ok(())
    }

    /// From now on nothing of the repository is known beforehand.
    pub fn forget_cache(&self) -> Result<()> {
        let cache = self.place.join("cache");
        if cache.exists() {
            std::fs::remove_dir_all(&cache).with_context(|| format!("remove {}", cache.display()))?;
        }
        Ok(())
    }

    /// Lists the snapshots: little more than opening the repository.
    pub fn snapshots(&self) -> Command {
        let mut command = self.command();
        match &self.program {
            Kind::Kopia(_) => command.args(["snapshot", "list", "--all"]),
            Kind::Perennial(_) => command.arg("snapshots"),
        };
        command
    }

    /// Backs the source up.
    pub fn backup(&self, source: &Path) -> Command {
        let mut command = self.command();
        match &self.program {
            Kind::Kopia(_) => command.args(["snapshot", "create"]).arg(source),
            Kind::Perennial(_) => {
                let command = command.arg("backup").arg(source);
                match self.settings {
                    Settings::Default => command,
                    Settings::ZstdFastest => command.args(["--compression", "zstd-fastest"]),
                }
            }
        };
        command
    }

    /// Restores the source's newest snapshot to [`Self::target`].
    pub fn restore(&self, source: &Path) -> Command {
        let mut command = self.command();
        match &self.program {
            Kind::Kopia(_) => command.arg("restore").arg(source).arg(self.target()),
            Kind::Perennial(_) => command.args(["restore", "latest"]).arg(self.target()).arg("--source").arg(source),
        };
        command
    }

    /// Verifies every snapshot, without reading contents.
    pub fn verify(&self) -> Command {
        let mut command = self.command();
        match &self.program {
            Kind::Kopia(_) => command.args(["snapshot", "verify"]),
            Kind::Perennial(_) => command.arg("verify"),
        };
        command
    }

    /// Where the restored tree is; nothing is there before.
    pub fn target(&self) -> PathBuf {
        self.place.join("restored")
    }

    /// Where a phase's output goes.
    pub fn log(&self, phase: Phase) -> PathBuf {
        self.place.join(format!("{phase:?}.log"))
    }

    fn command(&self) -> Command {
        let mut command = match &self.program {
            Kind::Kopia(program) => {
                let mut command = Command::new(program);
                command.arg("--config-file").arg(self.place.join("settings/repository.config"));
                command.arg("--log-dir").arg(self.place.join("logs"));
                command.args(["--no-progress", "--no-use-keyring"]);
                command.env("KOPIA_PASSWORD", PASSWORD).env("KOPIA_CHECK_FOR_UPDATES", "false");
                command
            }
            Kind::Perennial(program) => {
                let mut command = Command::new(program);
                command.arg("--store").arg(self.address()).arg("--cache-dir").arg(self.place.join("cache"));
                command.env("PERENNIAL_PASSWORD", PASSWORD);
                command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
                command
            }
        };
        command.current_dir(&self.place);
        command
    }

    fn address(&self) -> String {
        match &self.store {
            Store::Directory(directory) => format!("file:{}", directory.display()),
            Store::S3 { endpoint, bucket } => format!("s3://{bucket}?endpoint=http://{endpoint}&region={REGION}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: Kind, store: Store, build: impl Fn(&Contestant) -> Command, expected: &str) {
        let contestant = Contestant { program, store, settings: Settings::ZstdFastest, place: "/p".into() };
        let command = build(&contestant);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn the_same_work_is_said_to_both() {
        let ours = || Kind::Perennial("perennial".into());
        let directory = || Store::Directory("/p/r".into());
        let backup = |contestant: &Contestant| contestant.backup(Path::new("/s"));
        let ours_backup = "--store file:/p/r --cache-dir /p/cache backup /s --compression zstd-fastest";
        check(ours(), directory(), backup, ours_backup);
        let restore = |contestant: &Contestant| contestant.restore(Path::new("/s"));
        let ours_restore = "--store file:/p/r --cache-dir /p/cache restore latest /p/restored --source /s";
        check(ours(), directory(), restore, ours_restore);
        let kopia_restore = "--config-file /p/settings/repository.config --log-dir /p/logs --no-progress \
                             --no-use-keyring restore /s /p/restored";
        check(Kind::Kopia("kopia".into()), directory(), restore, kopia_restore);
    }

    #[test]
    fn an_s3_address_names_its_endpoint() {
        let store = Store::S3 { endpoint: "127.0.0.1:9000".into(), bucket: "b" };
        let expected =
            "--store s3://b?endpoint=http://127.0.0.1:9000&region=us-east-1 --cache-dir /p/cache repository create";
        check(Kind::Perennial("perennial".into()), store, Contestant::create, expected);
    }
}
