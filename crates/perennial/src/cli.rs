//! The command line: what every command shares. Each command's own arguments stand in its file.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::commands::Command;
use crate::memory;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    a fault of this program
  2    the arguments make no sense
  3    done, but some files could not be read or written
  4    someone must act first: see the hint
  5    repository data is damaged
  6    may pass by itself: run it again later
  130  stopped by a signal; what is in the repository is valid

Store and password may come from the environment:
  PERENNIAL_STORE      the store; else KOPIA_REPOSITORY or KOPIA_S3_BUCKET and what belongs to them
  PERENNIAL_PASSWORD   the password; else KOPIA_PASSWORD
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
                       the keys of a bucket; KOPIA_S3_… instead of AWS_… wins

Try it:
  export PERENNIAL_STORE=file:/tmp/repo PERENNIAL_PASSWORD=secret
  perennial repository create
  perennial backup ~/Documents
  perennial snapshots
  perennial restore latest /tmp/restored";

/// Backs up files into Kopia repositories, and gets them back
#[derive(Debug, Parser)]
#[command(name = "perennial", version, after_help = EXIT_CODES, propagate_version = false)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
#[command(max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub shared: Shared,
}

/// What every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Shared {
    /// Where the repository is: a directory's absolute path, file:/srv/repo, or
    /// s3://bucket/prefix?endpoint=https://host:port&region=name
    #[arg(long, global = true, value_name = "ADDRESS", env = "PERENNIAL_STORE", hide_env = true)]
    pub store: Option<String>,

    /// Read the repository's password from this file; a newline at its end does not count
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Keep copies of what a bucket holds in this directory [default: ~/.cache/perennial/stores]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub cache_dir: Option<PathBuf>,

    /// Memory to use, as in 96MiB or 1GiB [default: 96MiB, or what the control group allows if that is less]
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory::parse)]
    pub memory: Option<u64>,

    /// Threads that read files, and as many that hash and encrypt [default: one per processor]
    #[arg(long, global = true, value_name = "NUMBER")]
    pub threads: Option<NonZeroUsize>,

    /// Say whose snapshots are meant by paths alone [default: the user's name]
    #[arg(long, global = true, value_name = "NAME", env = "KOPIA_OVERRIDE_USERNAME", hide_env = true)]
    pub user: Option<String>,

    /// Say which machine's snapshots are meant by paths alone [default: the host's name up to its first dot]
    #[arg(long, global = true, value_name = "NAME", env = "KOPIA_OVERRIDE_HOSTNAME", hide_env = true)]
    pub host: Option<String>,

    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub json: bool,

    /// Print errors and warnings only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,

    /// Log to standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}
