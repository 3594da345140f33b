//! One step of a long run: a command whose output goes to the terminal and, in full, to a log.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Runs `command` to its end. Standard output and standard error go through one pipe, so that their order stays;
/// each line is shown, logged and handed to `seen`.
pub fn run(mut command: Command, log: &Path, mut seen: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut log_file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let errors = writer.try_clone().context("copy the pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    // The command holds our copies of the pipe's writing end: without this the reading below never ends.
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).with_context(|| format!("read what {name} says"))? > 0 {
        let mut terminal = std::io::stdout().lock();
        terminal.write_all(&line).and_then(|()| terminal.flush()).context("write to standard output")?;
        log_file.write_all(&line).with_context(|| format!("write {}", log.display()))?;
        seen(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    child.wait().with_context(|| format!("wait for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_seen_and_logged_in_order() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let mut lines = Vec::new();
        let status = run(command, &log, |line| lines.push(line.to_owned()))?;
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(std::fs::read_to_string(log)?, "one\ntwo\nthree\n");
        Ok(())
    }
}
