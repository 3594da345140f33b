//! `perennial completions`: for the shells.

use api::exit::Exit;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  perennial completions bash > ~/.local/share/bash-completion/completions/perennial
  perennial completions fish > ~/.config/fish/completions/perennial.fish
  perennial completions zsh > \"${fpath[1]}/_perennial\"";

/// Print a script that lets a shell complete commands and options
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "perennial", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
