//! Volumes become directories and devices of pods here.

use crate::controller::{required, shape};
use crate::devices;
use crate::knobs::Knobs;
use crate::mounts;
use crate::proto::csi::node_server;
use crate::proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
    NodeServiceCapability, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, VolumeUsage,
    node_service_capability, volume_capability, volume_usage,
};
use crate::store::{Shape, Store};
use std::path::Path;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service of that name.
pub struct Node {
    pub store: Arc<Store>,
    pub name: String,
}

#[tonic::async_trait]
impl node_server::Node for Node {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("target_path", &request.target_path)?;
        let shape = shape(request.volume_capability.as_slice())?;
        let volume = self.store.volume(&request.volume_id)?;
        let volume = volume.ok_or_else(|| Status::not_found(format!("there is no volume {}", request.volume_id)))?;
        let knobs = Knobs(&volume.parameters);
        if !self.store.is_open(knobs.publish_gate()) {
            return Err(Status::unavailable(format!("gate {} is closed", knobs.publish_gate().unwrap_or_default())));
        }
        if volume.shape != shape {
            return Err(Status::invalid_argument(format!("{} is seen in another way", volume.id)));
        }
        let target = Path::new(&request.target_path);
        let failed = |error: std::io::Error| Status::internal(format!("mount {}: {error}", target.display()));
        if mounts::count(target).map_err(failed)? == 0 {
            let mode = request.volume_capability.and_then(|capability| capability.access_mode);
            let only_read = mode.is_some_and(|mode| is_reader(mode.mode()));
            let read_only = request.readonly || only_read || knobs.is_read_only();
            let data = self.store.data(&volume.id)?;
            match shape {
                Shape::Directory => {
                    std::fs::create_dir_all(target).and_then(|()| mounts::bind(&data, target, read_only))
                }
                Shape::Device if read_only => return Err(Status::invalid_argument("a device cannot be read-only")),
                Shape::Device => publish(&data, target),
            }
            .map_err(failed)?;
        }
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("target_path", &request.target_path)?;
        let target = Path::new(&request.target_path);
        let failed = |error: std::io::Error| Status::internal(format!("unmount {}: {error}", target.display()));
        mounts::clear(target).map_err(failed)?;
        let data = self.store.data(&request.volume_id)?;
        if data.is_file() {
            devices::detach(&data).map_err(failed)?;
        }
        let removed = if target.is_dir() { std::fs::remove_dir(target) } else { std::fs::remove_file(target) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(Response::new(NodeUnpublishVolumeResponse {})),
        }
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        required("volume_path", &request.volume_path)?;
        let volume = self.store.volume(&request.volume_id)?;
        volume.ok_or_else(|| Status::not_found(format!("there is no volume {}", request.volume_id)))?;
        let path = Path::new(&request.volume_path);
        let found = mounts::count(path).map_err(|error| Status::internal(format!("look for mounts: {error}")))?;
        if found == 0 {
            return Err(Status::not_found(format!("nothing is mounted at {}", path.display())));
        }
        let statistics = rustix::fs::statvfs(path)
            .map_err(|error| Status::internal(format!("ask for the room of {}: {error}", path.display())))?;
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let usage = |unit: volume_usage::Unit, total: u64, free: u64| VolumeUsage {
            unit: unit.into(),
            total: signed(total),
            available: signed(free),
            used: signed(total.saturating_sub(free)),
        };
        let bytes = statistics.f_frsize;
        Ok(Response::new(NodeGetVolumeStatsResponse {
            usage: vec![
                usage(volume_usage::Unit::Bytes, statistics.f_blocks * bytes, statistics.f_bavail * bytes),
                usage(volume_usage::Unit::Inodes, statistics.f_files, statistics.f_ffree),
            ],
            volume_condition: None,
        }))
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        use node_service_capability::rpc::Type;
        let kinds = [Type::SingleNodeMultiWriter, Type::GetVolumeStats];
        let capabilities = kinds.map(|kind| NodeServiceCapability {
            r#type: Some(node_service_capability::Type::Rpc(node_service_capability::Rpc { r#type: kind.into() })),
        });
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: capabilities.to_vec() }))
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.name.clone(), ..Default::default() }))
    }
}

/// Shows the device over a file at a path, where a file has to be for that.
fn publish(file: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create(target)?;
    mounts::bind(&devices::attach(file)?, target, false)
}

fn is_reader(mode: volume_capability::access_mode::Mode) -> bool {
    use volume_capability::access_mode::Mode;
    match mode {
        Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => true,
        Mode::Unknown
        | Mode::SingleNodeWriter
        | Mode::SingleNodeSingleWriter
        | Mode::SingleNodeMultiWriter
        | Mode::MultiNodeSingleWriter
        | Mode::MultiNodeMultiWriter => false,
    }
}
