//! `perennial mover`: one task in, one report out. What a Job's pod runs.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::mover::{Environment, OpenStore};
use api::exit::Exit;
use api::mover::{Outcome, Report, Task};
use clap::Args;
use repository::SystemClock;
use storage::layer::meter::Meter;
use storage::layer::retry::RetryOptions;
use storage::{Address, Credentials, Layout};

use crate::cli::Shared;
use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::runner::Runner;
use crate::store;

/// Where Kubernetes reads what a container says at its end.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Names the directory of a mounted Secret.
const CREDENTIALS_DIRECTORY: &str = "PERENNIAL_CREDENTIALS_DIRECTORY";
/// No task is longer, in bytes: a ConfigMap is not.
const TASK_BYTES_MAX: u64 = 1 << 20;

const DETAILS: &str = "\
The repository and its password come from the environment, by the names of a Kopia Secret, or
from files of these names in the directory PERENNIAL_CREDENTIALS_DIRECTORY:
  KOPIA_PASSWORD, and KOPIA_REPOSITORY or KOPIA_S3_BUCKET, KOPIA_S3_ENDPOINT, KOPIA_S3_PREFIX,
  KOPIA_S3_DISABLE_TLS, KOPIA_S3_ACCESS_KEY_ID, KOPIA_S3_SECRET_ACCESS_KEY; CUSTOM_CA names a file
  KOPIA_CACHE_DIRECTORY                copies of a bucket's metadata, kept from run to run
  PERENNIAL_STORE_DECLARED=true        an empty directory is the right one
  PERENNIAL_GUARD_FILES_PERCENT, PERENNIAL_GUARD_BYTES_PERCENT
                                       hold a backup back that has less of the one before [default: 20]

Standard output gets the report as JSON, in one line; standard error a line on the progress every
10 s. The exit code says how it ended. SIGTERM ends the run at the next chunk, with a valid
repository and the report \"interrupted\".

Example:
  perennial mover --task - <<'END'
  {\"backup\":{\"claim\":{\"namespace\":\"media\",\"pvc\":\"photos\"},\"layout\":\"PerClaim\",\"ledger\":true,
   \"creation\":\"IfEmpty\",\"identity\":{\"username\":\"photos\",\"hostname\":\"media\",\"path\":\"/data\"},\"data\":\"/data\"}}
  END";

/// Do one task of the cluster's: back a volume up, or fill one (runs in Jobs)
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub struct Arguments {
    /// The file with the task as JSON, or the task itself; - reads it from standard input
    #[arg(long, value_name = "TASK")]
    task: String,

    /// Write the report here too [default: /dev/termination-log, where there is one]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let task = match task(&arguments.task) {
        Ok(task) => task,
        Err(why) => {
            let report = Report::failed(api::exit::Class::Blocked, why, "give a task of this version");
            deliver(&report, arguments)?;
            return Ok(Exit::Usage);
        }
    };
    let calls = Arc::<Meter>::default();
    let open_store = open_store(&calls, shared, &runner);
    let environment = Environment::from_env(&variable, open_store, calls, Arc::new(SystemClock));
    let report = match environment {
        Ok(mut environment) => {
            environment.cache_directory = store::cache_directory(shared);
            environment.index.cache_directory = store::index_directory(shared, store::Cache::Use);
            let progress = Progress::show(shared, &runner.run.meter);
            let report = ::mover::run(&task, &environment, &runner.run);
            drop(progress);
            report
        }
        Err(error) => error.report(),
    };
    deliver(&report, arguments)?;
    Ok(report.outcome.exit())
}

fn task(given: &str) -> Result<Task, String> {
    let mut text = given.to_owned();
    if !given.starts_with('{') {
        text.clear();
        let source = if given == "-" { "/dev/stdin" } else { given };
        let read = fs::File::open(source).and_then(|file| file.take(TASK_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| format!("read the task from {given}: {error}"))?;
    }
    serde_json::from_str(&text).map_err(|error| format!("read the task: {error}"))
}

/// To whom it may concern: the operator reads the file, people and programs standard output.
fn deliver(report: &Report, arguments: &Arguments) -> Result<(), Failure> {
    let text = report.to_termination_message();
    let usual = Path::new(TERMINATION_LOG);
    let place = arguments.report.as_deref().or_else(|| usual.exists().then_some(usual));
    if let Some(path) = place {
        fs::write(path, &text).map_err(|error| {
            let what = format!("write the report to {}: {error}", path.display());
            Failure::blocked(what, "name another file with --report")
        })?;
    }
    if let Outcome::Failed { reason, hint, .. } = &report.outcome {
        output::say(&format!("error: {reason}"));
        if !hint.is_empty() {
            output::say(&format!("hint: {hint}"));
        }
    }
    output::print(&format!("{text}\n"))
}

/// A variable of the environment, or a key of the Secret that is mounted at `PERENNIAL_CREDENTIALS_DIRECTORY`, which holds a
/// file for each.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().or_else(|| {
        let directory = std::env::var_os(CREDENTIALS_DIRECTORY)?;
        fs::read_to_string(Path::new(&directory).join(name)).ok()
    })
}

/// Stores with the usual layers; the repositories among them with the cache on top.
fn open_store(calls: &Arc<Meter>, shared: &Shared, runner: &Runner) -> OpenStore {
    let (calls, shared, runtime) = (Arc::clone(calls), shared.clone(), runner.run.runtime.clone());
    Arc::new(move |address: &Address, layout: Layout, credentials: &Credentials| {
        let storage = store::sturdy(address.open(layout, credentials)?, &calls, RetryOptions::default());
        match layout {
            Layout::Kopia | Layout::KopiaVersion1 => store::cached(storage, address, &shared, runtime.clone()),
            Layout::Plain => Ok(storage),
        }
    })
}
