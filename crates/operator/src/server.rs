//! What the API server can do, asked once at the start and said in the log.

use kube::Client;

use crate::error::Error;

/// What this cluster offers beyond what every cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// VolumeSnapshots: without them volumes are read directly.
    pub volume_snapshots: bool,
    /// ExternalSecrets.
    pub external_secrets: bool,
    /// How protected claims can be marked.
    pub marking: Marking,
}

/// How protected claims can be marked when they are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marking {
    /// MutatingAdmissionPolicy `v1`, inside the API server.
    Policy,
    /// The same as `v1beta1`.
    PolicyBeta,
    /// Neither: only a webhook can.
    #[default]
    Webhook,
}

impl Marking {
    /// In words, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "MutatingAdmissionPolicy v1",
            Self::PolicyBeta => "MutatingAdmissionPolicy v1beta1",
            Self::Webhook => "webhook",
        }
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "mutatingadmissionpolicies";

/// Asks.
///
/// # Errors
/// The API server does not answer: without its word nothing here may begin.
pub async fn ask(client: &Client) -> Result<Capabilities, Error> {
    let marking = if serves(client, ADMISSION, "v1", POLICIES).await? {
        Marking::Policy
    } else if serves(client, ADMISSION, "v1beta1", POLICIES).await? {
        Marking::PolicyBeta
    } else {
        Marking::Webhook
    };
    Ok(Capabilities {
        volume_snapshots: serves(client, "snapshot.storage.k8s.io", "v1", "volumesnapshots").await?,
        external_secrets: serves(client, "external-secrets.io", "v1", "externalsecrets").await?,
        marking,
    })
}

async fn serves(client: &Client, group: &str, version: &str, plural: &str) -> Result<bool, Error> {
    match client.list_api_group_resources(&format!("{group}/{version}")).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == plural)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(Error::kubernetes(format!("ask what {group}/{version} has"))(error)),
    }
}
