//! The real kopia, as the judge of what lies in the bucket.

use crate::cluster::variable;
use crate::protected::{PASSWORD, Protected};
use crate::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The program, which `cargo xtask tools` builds.
const PROGRAM: &str = "KOPIA";

impl Protected<'_> {
    /// The real kopia opens a claim's repository and reads every file of every snapshot.
    pub fn verified_by_kopia(&self, claim: &str) -> Result<()> {
        let directory = tempfile::tempdir().context("make a directory for kopia")?;
        let prefix = format!("{}/{claim}/", self.space.name);
        let endpoint = self.server.endpoint();
        let host = endpoint.trim_start_matches("http://");
        let connect = ["repository", "connect", "s3", "--disable-tls", "--bucket", BUCKET, "--prefix", &prefix];
        let place = ["--endpoint", host, "--access-key", ACCESS_KEY, "--secret-access-key", SECRET_KEY];
        let run = |arguments: &[&str]| {
            let output = Command::new(variable(PROGRAM)?)
                .args(arguments)
                .env("HOME", directory.path())
                .env("KOPIA_PASSWORD", PASSWORD)
                .env("KOPIA_CONFIG_PATH", directory.path().join("config"))
                .env("KOPIA_CACHE_DIRECTORY", directory.path().join("cache"))
                .env("KOPIA_LOG_DIR", directory.path().join("log"))
                .env("KOPIA_CHECK_FOR_UPDATES", "false")
                .env("KOPIA_PERSIST_CREDENTIALS_ON_CONNECT", "true")
                .output()
                .context("run kopia")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "kopia {} {prefix}: {said}", arguments[..2].join(" "));
            Ok(())
        };
        run(&[connect.as_slice(), &place].concat())?;
        run(&["snapshot", "verify", "--verify-files-percent=100"])
    }
}
