//! Volumes and snapshots come and go here.

use crate::knobs::Knobs;
use crate::proto::csi::controller_server;
use crate::proto::csi::{
    self as csi, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest, DeleteVolumeResponse,
    GetCapacityRequest, GetCapacityResponse, ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest,
    ListVolumesResponse, ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, VolumeCapability,
    VolumeContentSource, controller_service_capability, list_snapshots_response, list_volumes_response,
    validate_volume_capabilities_response, volume_capability, volume_content_source,
};
use crate::store::{Range, Shape, Snapshot, Source, Store, Volume};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long a call waits before a closed gate; the caller asks again after that.
const GATE_TIMEOUT: Duration = Duration::from_secs(5);
const GATE_INTERVAL: Duration = Duration::from_millis(50);

/// The service of that name.
pub struct Controller {
    pub store: Arc<Store>,
    pub snapshots: bool,
}

impl Controller {
    /// Copying blocks, so it is done where that harms nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let finished = tokio::task::spawn_blocking(move || work(&store)).await;
        finished.map_err(|error| Status::internal(format!("the work ended early: {error}")))?
    }

    async fn pass(&self, gate: Option<&str>) -> Result<(), Status> {
        let waited = tokio::time::timeout(GATE_TIMEOUT, async {
            while !self.store.is_open(gate) {
                tokio::time::sleep(GATE_INTERVAL).await;
            }
        });
        waited.await.map_err(|_elapsed| Status::aborted(format!("gate {} is closed", gate.unwrap_or_default())))
    }
}

#[tonic::async_trait]
impl controller_server::Controller for Controller {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        required("name", &request.name)?;
        let shape = shape(&request.volume_capabilities)?;
        let knobs = Knobs(&request.parameters);
        knobs.in_memory()?;
        knobs.refuse_create()?;
        tokio::time::sleep(knobs.create_delay()?).await;
        self.pass(knobs.create_gate()).await?;
        let source = request.volume_content_source.and_then(|source| source.r#type).map(|source| match source {
            volume_content_source::Type::Snapshot(source) => Source::Snapshot(source.snapshot_id),
            volume_content_source::Type::Volume(source) => Source::Volume(source.volume_id),
        });
        if source.is_some() && !self.snapshots {
            return Err(Status::invalid_argument("this storage system makes no copies"));
        }
        let range = range(request.capacity_range);
        let volume = self
            .blocking(move |store| store.create_volume(&request.name, shape, range, source, request.parameters))
            .await?;
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume.into()) }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        required("volume_id", &id)?;
        self.blocking(move |store| store.delete_volume(&id)).await?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        let shape = shape(&request.volume_capabilities)?;
        let volume = self.store.volume(&request.volume_id)?;
        let volume = volume.ok_or_else(|| Status::not_found(format!("there is no volume {}", request.volume_id)))?;
        if volume.shape != shape {
            let message = "the volume is seen in another way".to_owned();
            return Ok(Response::new(ValidateVolumeCapabilitiesResponse { confirmed: None, message }));
        }
        Ok(Response::new(ValidateVolumeCapabilitiesResponse {
            confirmed: Some(validate_volume_capabilities_response::Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        }))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let (volumes, next_token) = page(self.store.volumes()?, &request.starting_token, request.max_entries)?;
        let entries = volumes.into_iter();
        let entries = entries.map(|volume| list_volumes_response::Entry { volume: Some(volume.into()), status: None });
        Ok(Response::new(ListVolumesResponse { entries: entries.collect(), next_token }))
    }

    async fn get_capacity(
        &self,
        _request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        Ok(Response::new(GetCapacityResponse { available_capacity: self.store.free_bytes()?, ..Default::default() }))
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        use controller_service_capability::rpc::Type;
        let always = [
            Type::CreateDeleteVolume,
            Type::ListVolumes,
            Type::GetCapacity,
            Type::ExpandVolume,
            Type::SingleNodeMultiWriter,
        ];
        let copies = [Type::CreateDeleteSnapshot, Type::ListSnapshots, Type::CloneVolume];
        let kinds = always.into_iter().chain(copies.into_iter().filter(|_| self.snapshots));
        let capabilities = kinds.map(|kind| csi::ControllerServiceCapability {
            r#type: Some(controller_service_capability::Type::Rpc(controller_service_capability::Rpc {
                r#type: kind.into(),
            })),
        });
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: capabilities.collect() }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        required("name", &request.name)?;
        required("source_volume_id", &request.source_volume_id)?;
        if !self.snapshots {
            return Err(Status::unimplemented("this storage system has no snapshots"));
        }
        Knobs(&request.parameters).refuse_snapshot()?;
        let snapshot = self
            .blocking(move |store| {
                let gate = Knobs(&request.parameters).snapshot_gate();
                store.create_snapshot(&request.name, &request.source_volume_id, gate)
            })
            .await?;
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(describe(&self.store, snapshot)) }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        required("snapshot_id", &id)?;
        self.blocking(move |store| store.delete_snapshot(&id)).await?;
        Ok(Response::new(DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let wanted = |asked: &str, found: &str| asked.is_empty() || asked == found;
        let mut snapshots = self.store.snapshots()?;
        snapshots.retain(|snapshot| {
            wanted(&request.snapshot_id, &snapshot.id) && wanted(&request.source_volume_id, &snapshot.volume)
        });
        let (snapshots, next_token) = page(snapshots, &request.starting_token, request.max_entries)?;
        let entries = snapshots
            .into_iter()
            .map(|snapshot| list_snapshots_response::Entry { snapshot: Some(describe(&self.store, snapshot)) });
        Ok(Response::new(ListSnapshotsResponse { entries: entries.collect(), next_token }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        required("volume_id", &request.volume_id)?;
        if request.capacity_range.is_none() {
            return Err(Status::invalid_argument("capacity_range is missing"));
        }
        let range = range(request.capacity_range);
        let volume = self.blocking(move |store| store.expand_volume(&request.volume_id, range)).await?;
        Ok(Response::new(ControllerExpandVolumeResponse {
            capacity_bytes: volume.capacity_bytes,
            node_expansion_required: false,
        }))
    }
}

/// An argument that must not be empty.
pub fn required(name: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{name} is missing"))) } else { Ok(()) }
}

/// How a volume with those capabilities, in any access mode, is seen.
pub fn shape(capabilities: &[VolumeCapability]) -> Result<Shape, Status> {
    let is_device =
        |wanted: &VolumeCapability| matches!(wanted.access_type, Some(volume_capability::AccessType::Block(_)));
    match (capabilities.len(), capabilities.iter().filter(|wanted| is_device(wanted)).count()) {
        (0, _) => Err(Status::invalid_argument("volume_capabilities are missing")),
        (_, 0) => Ok(Shape::Directory),
        (all, devices) if all == devices => Ok(Shape::Device),
        _ => Err(Status::invalid_argument("a volume is a directory or a device, not both")),
    }
}

fn range(range: Option<csi::CapacityRange>) -> Range {
    range.map_or_else(Range::default, |range| Range {
        required_bytes: range.required_bytes,
        limit_bytes: range.limit_bytes,
    })
}

/// A part of a list and the token of the next one, which is the index it begins at.
fn page<T>(all: Vec<T>, token: &str, count_max: i32) -> Result<(Vec<T>, String), Status> {
    let refused = || Status::aborted(format!("{token:?} is no token of this list"));
    let start: usize = if token.is_empty() { 0 } else { token.parse().map_err(|_not_a_number| refused())? };
    if start > all.len() {
        return Err(refused());
    }
    let count = usize::try_from(count_max).map_err(|_negative| Status::invalid_argument("max_entries is negative"))?;
    let end = if count == 0 { all.len() } else { all.len().min(start + count) };
    let next = if end < all.len() { end.to_string() } else { String::new() };
    Ok((all.into_iter().take(end).skip(start).collect(), next))
}

/// Whether it is ready is asked each time: a gate may have opened.
fn describe(store: &Store, snapshot: Snapshot) -> csi::Snapshot {
    csi::Snapshot {
        ready_to_use: store.is_ready(&snapshot),
        size_bytes: snapshot.size_bytes,
        snapshot_id: snapshot.id,
        source_volume_id: snapshot.volume,
        creation_time: Some((std::time::SystemTime::UNIX_EPOCH + snapshot.created).into()),
        group_snapshot_id: String::new(),
    }
}

impl From<Volume> for csi::Volume {
    fn from(volume: Volume) -> Self {
        let source = volume.source.map(|source| match source {
            Source::Snapshot(snapshot_id) => {
                volume_content_source::Type::Snapshot(volume_content_source::SnapshotSource { snapshot_id })
            }
            Source::Volume(volume_id) => {
                volume_content_source::Type::Volume(volume_content_source::VolumeSource { volume_id })
            }
        });
        Self {
            capacity_bytes: volume.capacity_bytes,
            volume_id: volume.id,
            volume_context: volume.parameters,
            // The provisioner gives a volume back that does not name the source it asked for.
            content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            accessible_topology: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_in_parts_and_a_foreign_token_is_refused() {
        assert_eq!(page(vec![1, 2, 3], "", 2).unwrap(), (vec![1, 2], "2".to_owned()));
        assert_eq!(page(vec![1, 2, 3], "2", 2).unwrap(), (vec![3], String::new()));
        assert_eq!(page(vec![1, 2, 3], "", 0).unwrap().0.len(), 3);
        assert_eq!(page(vec![1], "x", 0).unwrap_err().code(), tonic::Code::Aborted);
        assert_eq!(page(vec![1], "9", 0).unwrap_err().code(), tonic::Code::Aborted);
    }
}
