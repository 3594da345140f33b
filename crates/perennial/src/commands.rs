//! A command per file: its arguments, what it does, what it prints.
//!
//! A new command is a module, a variant of [`Command`] and a line of [`run`].

mod backup;
mod cat;
mod catalog;
mod completions;
mod demo;
mod diff;
mod download;
mod find;
mod forget;
mod ls;
mod maintain;
mod mover;
mod operator;
mod repair;
mod repository;
mod restore;
mod snapshots;
mod verify;

use api::exit::Exit;
use clap::Subcommand;

use crate::cli::Cli;
use crate::failure::Failure;

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(subcommand)]
    Repository(repository::Command),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Snapshots(snapshots::Arguments),
    Ls(ls::Arguments),
    Cat(cat::Arguments),
    Find(find::Arguments),
    Diff(diff::Arguments),
    Download(download::Arguments),
    Verify(verify::Arguments),
    Repair(repair::Arguments),
    Forget(forget::Arguments),
    Maintain(maintain::Arguments),
    Demo(demo::Arguments),
    Operator(operator::Arguments),
    Mover(mover::Arguments),
    Catalog(catalog::Arguments),
    Completions(completions::Arguments),
}

/// Does it.
pub fn run(cli: &Cli) -> Result<Exit, Failure> {
    let shared = &cli.shared;
    match &cli.command {
        Command::Repository(command) => repository::run(command, shared),
        Command::Backup(arguments) => backup::run(arguments, shared),
        Command::Restore(arguments) => restore::run(arguments, shared),
        Command::Snapshots(arguments) => snapshots::run(arguments, shared),
        Command::Ls(arguments) => ls::run(arguments, shared),
        Command::Cat(arguments) => cat::run(arguments, shared),
        Command::Find(arguments) => find::run(arguments, shared),
        Command::Diff(arguments) => diff::run(arguments, shared),
        Command::Download(arguments) => download::run(arguments, shared),
        Command::Verify(arguments) => verify::run(arguments, shared),
        Command::Repair(arguments) => repair::run(arguments, shared),
        Command::Forget(arguments) => forget::run(arguments, shared),
        Command::Maintain(arguments) => maintain::run(arguments, shared),
        Command::Demo(arguments) => demo::run(arguments, shared),
        Command::Operator(arguments) => operator::run(arguments, shared),
        Command::Mover(arguments) => mover::run(arguments, shared),
        Command::Catalog(arguments) => catalog::run(arguments, shared),
        Command::Completions(arguments) => completions::run(arguments),
    }
}
