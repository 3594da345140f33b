//! `perennial repository password`.

use std::path::PathBuf;

use api::exit::Exit;
use clap::Args;
use serde::Serialize;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::output;
use crate::runner::Runner;
use crate::store;

const EXAMPLES: &str = "\
Examples:
  perennial repository password --password-file old --new-password-file new
  PERENNIAL_NEW_PASSWORD=... perennial repository password

The data stay as they are. Programs that are connected go on until they open the repository anew. Should the change be cut \
off, run it again with the same two passwords.

JSON: {kind: \"password\", address}";

/// Change the password
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A file with the new password; else PERENNIAL_NEW_PASSWORD
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct PasswordView {
    kind: &'static str,
    address: String,
}

pub fn run(arguments: &Arguments, shared: &Shared, runner: &Runner) -> Result<Exit, Failure> {
    let address = store::change_password(arguments.new_password_file.as_deref(), shared, runner)?;
    if shared.json {
        output::json(&PasswordView { kind: "password", address })?;
    } else if !shared.quiet {
        output::print(&format!("the password of {} is changed", output::visible(&address)))?;
    }
    Ok(Exit::Success)
}
