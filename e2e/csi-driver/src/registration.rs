//! Makes the driver known to the kubelet, which watches a directory and calls every socket in it.

use crate::proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, registration_server,
};
use std::path::PathBuf;
use tonic::{Request, Response, Status};

/// What the kubelet is told.
pub struct Registration {
    pub name: String,
    pub endpoint: PathBuf,
    pub registered: Option<PathBuf>,
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn get_info(&self, _request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.name.clone(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if !status.plugin_registered {
            eprintln!("the kubelet refuses the driver: {}", status.error);
        } else if let Some(path) = &self.registered {
            std::fs::write(path, "").map_err(|error| Status::internal(format!("write {}: {error}", path.display())))?;
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
