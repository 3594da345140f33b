//! What one process cost.

use super::data::Kind;
use super::{Phase, Program, Settings};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wait4::Wait4;

/// The kernel's own count for a finished process and the children it waited for.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub wall: Duration,
    /// User and system together.
    pub cpu: Duration,
    /// Peak resident memory. Never below what this program itself holds when it starts the child: the kernel carries
    /// that number over, so nothing here may read a whole file into memory.
    pub peak_bytes: u64,
}

/// A measured phase of one run.
pub struct Sample {
    pub data: Kind,
    pub settings: Settings,
    pub phase: Phase,
    pub program: Program,
    pub run: usize,
    pub measured: Measured,
    /// Of the repository after the phase.
    pub repository_bytes: u64,
    pub s3_calls_count: Option<u64>,
}

/// Runs the command to its end; what it says goes to `log`, whose last lines are part of the error when it fails.
pub fn run(mut command: Command, log: &Path) -> Result<Measured> {
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let errors = output.try_clone().context("copy the log's handle")?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
    let ended = child.wait4().context("wait for it")?;
    let wall = started.elapsed();
    if !ended.status.success() {
        bail!("{} ended with {}:\n{}", line_of(&command), ended.status, last_lines(log));
    }
    Ok(Measured { wall, cpu: ended.rusage.utime + ended.rusage.stime, peak_bytes: ended.rusage.maxrss })
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_lines(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let mut good = Command::new("sh");
        good.args(["-c", "echo fine"]);
        assert!(run(good, &log)?.peak_bytes > 0);
        let mut bad = Command::new("sh");
        bad.args(["-c", "echo no such bucket >&2; exit 2"]);
        let error = run(bad, &log).expect_err("it ended with 2").to_string();
        assert!(error.contains("no such bucket"), "{error}");
        Ok(())
    }
}
