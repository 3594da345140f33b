//! `perennial`: the program that holds everything.
//!
//! ```text
//! cli        the command line, and what every command shares
//! commands   a file per command
//! store      address, password and layers → an open repository
//! runner     threads, memory budget, counters, signals
//! demo       the whole story on one machine
//! choice     SNAPSHOT[:PATH] → a snapshot and an entry inside it
//! output     text for people, JSON for programs; progress: what is shown meanwhile
//! failure    an error on one line, what to do about it, and the exit code
//! ```

mod choice;
mod cli;
mod commands;
mod demo;
mod failure;
mod memory;
mod output;
mod progress;
mod runner;
mod source;
mod store;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    log_to_stderr(cli.shared.verbose);
    match commands::run(&cli) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.print(cli.shared.json),
    }
}

/// Warnings always; `-v` adds what a person wants to know, `-vv` what a developer does. Only our own crates speak: others
/// could log what belongs to nobody's eyes.
fn log_to_stderr(verbose: u8) {
    const OURS: [&str; 8] =
        ["perennial", "engine", "repository_kopia", "storage", "mover", "catalog", "operator", "api"];
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = OURS.map(|name| format!("{name}={level}")).join(",");
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
}
