//! `perennial operator`: looks after claims, sources and destinations of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::operator::{Settings, StartError};
use api::exit::Exit;
use clap::Args;
use repository::{Clock as _, SystemClock};

use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;

/// Where Kubernetes says in which namespace a pod is.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How often it is looked whether it is time to end.
const END_INTERVAL: Duration = Duration::from_millis(100);

const DETAILS: &str = "\
Runs in a cluster, with the account that the installation makes. Of several only one works at a
time; the others stand by. It says over HTTP:
  /healthz /readyz /metrics
  /audit          the verdict on every claim, JSON

Outside of a cluster it works on the one of your kubeconfig, if no other does.";

/// Look after the claims of a cluster (runs in a Deployment)
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub struct Arguments {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// The operator's own namespace; catalogs run in it [default: that of the pod, or volsync-system]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    namespace: Option<String>,

    /// This operator's name, which no other has
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "perennial")]
    pod: String,

    /// This pod's address, at which the others pass questions on to it
    #[arg(long, value_name = "ADDRESS", env = "POD_IP")]
    address: Option<IpAddr>,

    /// Mark claims as a webhook that listens here, for API servers without MutatingAdmissionPolicy
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "0.0.0.0:9443")]
    webhook: Option<SocketAddr>,

    /// The image of movers and catalogs, which is that of this program
    #[arg(long, value_name = "IMAGE", env = "PERENNIAL_IMAGE")]
    image: String,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let of_pod = || std::fs::read_to_string(Path::new(NAMESPACE_FILE)).ok();
    let namespace = arguments.namespace.clone().or_else(of_pod).unwrap_or_else(|| "volsync-system".to_owned());
    let settings = Settings {
        namespace: namespace.trim().to_owned(),
        pod: arguments.pod.clone(),
        address: arguments.address,
        image: arguments.image.clone(),
        catalog_account: None,
        webhook: arguments.webhook,
    };
    let cancel = runner.run.cancel.clone();
    let asked = async move {
        while !cancel.is_cancelled() {
            tokio::time::sleep(END_INTERVAL).await;
        }
    };
    let clock: ::operator::Clock = Arc::new(|| SystemClock.now());
    let run = ::operator::run(settings, arguments.listen, clock, asked);
    runner.run.runtime.block_on(run).map_err(|error| failure(&error))?;
    Ok(Exit::Success)
}

fn failure(error: &StartError) -> Failure {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let hint = match error {
        StartError::LeaseLost => "it is started again and stands by until the Lease is free",
        StartError::Client(_) => "run it in a cluster, or name one with KUBECONFIG",
        StartError::Listen { .. } => "name another address with --listen",
        StartError::Catalogs(_) | StartError::Object(_) => {
            "see whether the API server answers and its account has the rights"
        }
    };
    Failure::blocked(text, hint)
}
