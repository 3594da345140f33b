//! A CSI driver for tests: a volume is a directory, or a file that is seen as a device; a snapshot is a copy of one.
//!
//! It speaks the real interface over a unix socket, registers with the kubelet by itself, and does on demand what storage
//! systems do in bad hours: see [`knobs`]. It runs in the node's mount namespace, where the kubelet sees its mounts.

mod authority;
mod controller;
mod devices;
mod identity;
mod knobs;
mod mounts;
mod node;
mod proto;
mod registration;
mod store;

use anyhow::{Context, Result};
use clap::Parser;
use proto::csi::controller_server::ControllerServer;
use proto::csi::identity_server::IdentityServer;
use proto::csi::node_server::NodeServer;
use proto::registration::registration_server::RegistrationServer;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

#[derive(Parser, Clone)]
#[command(about = "A CSI driver for tests: volumes are directories")]
struct Arguments {
    /// The driver's name
    #[arg(long, default_value = "dirs.csi.perennial.dev")]
    name: String,
    /// The node's name
    #[arg(long, default_value = "node")]
    node: String,
    /// Where volumes, snapshots and gates lie
    #[arg(long)]
    base: PathBuf,
    /// The socket that the driver answers on
    #[arg(long)]
    endpoint: PathBuf,
    /// Socket in the kubelet's directory of plugins; without it nobody registers the driver
    #[arg(long)]
    registration: Option<PathBuf>,
    /// File that appears when the kubelet has taken the driver in
    #[arg(long, requires = "registration")]
    registered: Option<PathBuf>,
    /// Bytes that all volumes together may take
    #[arg(long, default_value_t = 1 << 40)]
    capacity_bytes: i64,
    /// Be a storage system that has no snapshots and no clones
    #[arg(long)]
    without_snapshots: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let store = store::Store::open(&arguments.base, arguments.capacity_bytes)
        .with_context(|| format!("open {}", arguments.base.display()))?;
    let store = Arc::new(store);
    let driver = Server::builder()
        .add_service(IdentityServer::new(identity::Identity { name: arguments.name.clone() }))
        .add_service(ControllerServer::new(controller::Controller {
            store: store.clone(),
            snapshots: !arguments.without_snapshots,
        }))
        .add_service(NodeServer::new(node::Node { store, name: arguments.node.clone() }))
        .serve_with_incoming(listen(&arguments.endpoint)?);
    let Some(socket) = &arguments.registration else {
        return driver.await.context("serve");
    };
    let registration = registration::Registration {
        name: arguments.name.clone(),
        endpoint: arguments.endpoint.clone(),
        registered: arguments.registered.clone(),
    };
    let registrar =
        Server::builder().add_service(RegistrationServer::new(registration)).serve_with_incoming(listen(socket)?);
    tokio::try_join!(driver, registrar).context("serve")?;
    Ok(())
}

/// A driver that was killed leaves its socket behind.
fn listen(path: &Path) -> Result<ReceiverStream<std::io::Result<DuplexStream>>> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    authority::listen(path).with_context(|| format!("listen on {}", path.display()))
}
