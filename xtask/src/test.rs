//! `cargo xtask test`: all of CI, in order, on any machine.
//!
//! Nothing is skipped silently: a missing tool, a demo that does not start or a benchmark that does not restore what it
//! backed up ends the run. The last line sums up the test runner's own closing lines.

use crate::product_image::{self, Profile};
use crate::{checkout, elapsed, steps, tools};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What `cargo xtask test` may be told.
#[derive(Args)]
pub struct Options {
    /// Run this step alone; may be given several times
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Step {
    Tools,
    Fmt,
    Tidy,
    Clippy,
    Test,
    Deploy,
    Demo,
    Bench,
    E2e,
}

/// In the order of the run: what fails fast and often comes first.
const STEPS: [Step; 9] =
    [Step::Tools, Step::Fmt, Step::Tidy, Step::Clippy, Step::Test, Step::Deploy, Step::Demo, Step::Bench, Step::E2e];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Deploy => "deploy",
            Self::Demo => "demo",
            Self::Bench => "bench",
            Self::E2e => "e2e",
        }
    }
}

/// A finished step, for the table at the end.
struct Finished {
    step: Step,
    took: Duration,
}

/// The sum of all `test result:` lines.
#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    passed_count: u64,
    failed_count: u64,
    ignored_count: u64,
}

impl Tally {
    /// Adds `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
            match what {
                "passed" => self.passed_count += count,
                "failed" => self.failed_count += count,
                "ignored" => self.ignored_count += count,
                _ => {}
            }
        }
    }

    fn closing_line(&self) -> String {
        format!("{} passed, {} failed", self.passed_count, self.failed_count)
    }
}

struct Run<'a> {
    root: &'a Path,
    logs: PathBuf,
    /// Our own program, looked up at the start: later steps may build it anew under the same name.
    xtask: PathBuf,
    tally: Tally,
    finished: Vec<Finished>,
}

/// Runs the steps; the first that fails ends the run.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let started = Instant::now();
    let logs = checkout::target_directory(root).join("xtask-logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let xtask = std::env::current_exe().context("find our own program")?;
    let mut run = Run { root, logs, xtask, tally: Tally::default(), finished: Vec::new() };
    let wanted = |step: &&Step| options.only.is_empty() || options.only.contains(step);
    for step in STEPS.iter().filter(wanted) {
        println!("\n==> {} (at {})", step.name(), elapsed::text(started.elapsed()));
        let step_started = Instant::now();
        let outcome = run.step(*step);
        let took = step_started.elapsed();
        if let Err(error) = outcome {
            run.print_summary(Some((*step, took)), started.elapsed());
            bail!("step {} failed after {}: {error:#}\nlogs: {}", step.name(), elapsed::text(took), run.logs.display());
        }
        run.finished.push(Finished { step: *step, took });
    }
    run.print_summary(None, started.elapsed());
    Ok(())
}

impl Run<'_> {
    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Tools => self.xtask("tools", &["tools"]),
            Step::Fmt => self.cargo("fmt", &["fmt", "--all", "--check"]),
            Step::Tidy => self.xtask("tidy", &["tidy"]),
            Step::Clippy => {
                let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
                self.cargo("clippy", &clippy)
            }
            // What needs a cluster is a step of its own.
            Step::Test => {
                self.cargo("test", &["test", "--workspace", "--exclude", "e2e", "--all-features", "--no-fail-fast"])
            }
            Step::Demo => {
                // The one release build of a run, which bench measures and the image takes as well.
                self.cargo("release", &product_image::arguments(Profile::Release))?;
                // Asked first, so that a missing demo is called that and not a failed one.
                self.perennial("demo-help", &["demo", "--help"]).context("the command `perennial demo` is missing")?;
                self.perennial("demo", &["demo"])
            }
            Step::Deploy => self.xtask("deploy", &["deploy", "--check"]),
            Step::Bench => self.xtask("bench", &["bench", "--quick"]),
            Step::E2e => {
                self.xtask("e2e-control-plane", &["e2e", "--control-plane"])?;
                self.xtask("e2e", &["e2e"])
            }
        }
    }

    fn cargo(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = checkout::cargo(self.root);
        command.args(arguments);
        if name == "test" {
            self.show_tools(&mut command)?;
        }
        self.finish(name, command)
    }

    /// The program that was built for the image.
    fn perennial(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(product_image::program_path(self.root, Profile::Release));
        command.args(arguments).current_dir(self.root);
        self.show_tools(&mut command)?;
        self.finish(name, command)
    }

    fn show_tools(&self, command: &mut Command) -> Result<()> {
        for tool in tools::ALL {
            command.env(tool.variable, tools::ensure(self.root, tool)?);
        }
        Ok(())
    }

    fn xtask(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.xtask);
        command.args(arguments).current_dir(self.root);
        self.finish(name, command)
    }

    fn finish(&mut self, name: &str, command: Command) -> Result<()> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        println!("    {line}");
        let tally = &mut self.tally;
        let status = steps::run(command, &self.logs.join(format!("{name}.log")), |line| tally.add(line))?;
        if !status.success() {
            bail!("`{line}` ended with {status}");
        }
        Ok(())
    }

    fn print_summary(&self, failed: Option<(Step, Duration)>, total: Duration) {
        println!("\n{:<8} {:<8} time", "step", "result");
        for finished in &self.finished {
            println!("{:<8} {:<8} {}", finished.step.name(), "passed", elapsed::text(finished.took));
        }
        if let Some((step, took)) = failed {
            println!("{:<8} {:<8} {}", step.name(), "FAILED", elapsed::text(took));
        }
        println!("{:<8} {:<8} {}", "all", "", elapsed::text(total));
        if self.tally != Tally::default() {
            println!("\n{}", self.tally.closing_line());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed_and_others_ignored() {
        let mut tally = Tally::default();
        tally.add("running 3 tests");
        tally.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        tally.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        assert_eq!(tally, Tally { passed_count: 15, failed_count: 2, ignored_count: 1 });
        assert_eq!(tally.closing_line(), "15 passed, 2 failed");
    }
}
