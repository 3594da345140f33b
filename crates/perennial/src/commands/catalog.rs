//! `perennial catalog`: the read side of a repository over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::catalog::{Catalog, Options};
use ::mover::{Environment, OpenStore};
use api::exit::Exit;
use api::mover;
use clap::{Args, ValueEnum};
use repository::SystemClock;
use storage::layer::meter::Meter;
use storage::layer::retry::RetryOptions;
use storage::{Address, Credentials, Layout};
use tokio::net::TcpListener;

use super::mover::variable;
use crate::cli::Shared;
use crate::failure::Failure;
use crate::output;
use crate::runner::Runner;
use crate::store;

/// Attempts of one store call: an asker is told soon that a store does not answer, and asks again by itself.
const ATTEMPTS: u32 = 2;

const DETAILS: &str = "\
Questions (GET):
  /facts/{namespace}/{pvc}      what stands in the store for this claim
  /decide/{namespace}/{pvc}     what a new claim of this name should get: restore, fresh or hold
  /snapshots/{namespace}/{pvc}  all snapshots, newest first
  /exists/{namespace}/{pvc}     the same as pvc-plumber answers it
  /healthz /readyz /metrics

The store and its password come from the environment, by the names of a Kopia Secret: see
`perennial mover --help`. It prints the address on which it listens, and ends at SIGTERM.

Example:
  perennial catalog --listen 127.0.0.1:8080 --layout per-claim
  curl http://127.0.0.1:8080/decide/media/photos";

/// Answer what a store holds for a claim, over HTTP (runs beside the operator)
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub struct Arguments {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// One repository for every claim, at namespace/claim in the store, or one that all share
    #[arg(long, value_enum, default_value_t = Places::PerClaim)]
    layout: Places,

    /// Answer "there is a backup" from memory for so many seconds; "there is none" is never said from memory
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    refresh_every: u64,

    /// Ask for the bearer token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How repositories lie in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Places {
    // No help on the values: it would make every option of this one command take several lines.
    PerClaim,
    Shared,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let calls = Arc::<Meter>::default();
    let retry = RetryOptions { attempts_count: ATTEMPTS, ..RetryOptions::default() };
    let counted = Arc::clone(&calls);
    // No cache: what the catalog says rests on a look at the store itself.
    let open_store: OpenStore = Arc::new(move |address: &Address, layout: Layout, credentials: &Credentials| {
        Ok(store::sturdy(address.open(layout, credentials)?, &counted, retry))
    });
    let environment = Environment::from_env(&variable, open_store, calls, Arc::new(SystemClock))?;
    let layout = match arguments.layout {
        Places::PerClaim => mover::Layout::PerClaim,
        Places::Shared => mover::Layout::Shared,
    };
    let (open, credentials) = (Arc::clone(&environment.open_store), environment.credentials.clone());
    let open: ::catalog::OpenStore = Arc::new(move |address, layout| open(address, layout, &credentials));
    let options = Options {
        calls: Arc::clone(&environment.calls),
        is_declared: environment.is_declared,
        thresholds: environment.thresholds,
        refresh_every: Duration::from_secs(arguments.refresh_every),
        bearer: arguments.token_file.as_deref().map(token).transpose()?,
        ..Options::new(environment.address, layout, environment.password, open, environment.clock)
    };
    let catalog = Catalog::new(options);
    let runtime = runner.run.runtime.clone();
    let failed = |error: std::io::Error| {
        let what = format!("listen on {}: {error}", arguments.listen);
        Failure::blocked(what, "name another address with --listen")
    };
    let listener = runtime.block_on(TcpListener::bind(arguments.listen)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    output::print(&format!("listening on http://{address}\n"))?;
    let cancel = runner.run.cancel.clone();
    let asked = async move {
        while !cancel.is_cancelled() {
            tokio::time::sleep(END_INTERVAL).await;
        }
    };
    runtime.block_on(::catalog::serve(listener, catalog, asked)).map_err(failed)?;
    Ok(Exit::Success)
}

/// How often it is looked whether it is time to end.
const END_INTERVAL: Duration = Duration::from_millis(100);

fn token(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(
            format!("read the token file {}: {error}", path.display()),
            "check the path and the rights on it",
        )
    })?;
    match text.trim() {
        "" => Err(Failure::usage(format!("the token file {} is empty", path.display()), "put the token into it")),
        token => Ok(token.to_owned()),
    }
}
