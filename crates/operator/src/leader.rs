//! One operator at a time: a Lease that whoever works renews, and that VolSync's controllers of the same name take, too.
//!
//! An old holder is outwaited by our own clock: what matters is how long the Lease has not changed, not what it says when.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use crate::context::Clock;
use crate::error::Error;

/// The Lease's name: VolSync's own, so that one of both stands still.
pub const NAME: &str = "b95b3104.backube";

/// After so long without a renewal the Lease is free.
const DURATION: Duration = Duration::from_secs(15);

/// How often it is renewed or looked at.
const PAUSE: Duration = Duration::from_secs(3);

/// After so long without a successful renewal its holder stops by itself, before anybody else may begin.
const DEADLINE: Duration = Duration::from_secs(10);

/// Who holds it, or wants to.
pub struct Leader {
    leases: Api<Lease>,
    identity: String,
    address: Option<String>,
    clock: Clock,
}

/// Where the holder answers questions, on the Lease.
const ADDRESS: &str = "perennial.dev/address";

impl Leader {
    /// A candidate of this name, which no other may have, and which others reach at this address.
    pub fn new(client: Client, namespace: &str, identity: &str, address: Option<String>, clock: Clock) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity: identity.to_owned(), address, clock }
    }

    /// Where whoever leads can be asked.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn address(&self) -> Result<Option<String>, Error> {
        let found = self.leases.get_opt(NAME).await.map_err(Error::kubernetes(format!("get Lease {NAME}")))?;
        Ok(found.and_then(|lease| lease.annotations().get(ADDRESS).cloned()))
    }

    /// Waits until it is ours.
    pub async fn acquire(&self) {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %error.chain(), "the Lease cannot be had yet"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Renews it until that fails for too long, and returns then: whoever holds it must stop at once.
    pub async fn hold(&self) {
        let mut last = Instant::now();
        loop {
            sleep(PAUSE).await;
            let left = DEADLINE.saturating_sub(last.elapsed());
            match timeout(left, self.renew()).await {
                Ok(Ok(true)) => last = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(error = %error.chain(), "the Lease was not renewed"),
                Err(_elapsed) => {}
            }
            if last.elapsed() >= DEADLINE {
                return;
            }
        }
    }

    /// Gives it back, so that the next need not wait.
    pub async fn release(&self) {
        let Ok(Some(lease)) = self.leases.get_opt(NAME).await else { return };
        if holder(&lease) != Some(self.identity.as_str()) {
            return;
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..lease.spec.clone().unwrap_or_default()
        };
        let released = Lease { spec: Some(spec), ..lease };
        if let Err(error) = self.leases.replace(NAME, &PostParams::default(), &released).await {
            tracing::warn!(error = %error, "the Lease was not given back");
        }
    }

    /// `seen` is the Lease's version when it last changed, and when we saw that.
    async fn try_acquire(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, Error> {
        let found = self.leases.get_opt(NAME).await.map_err(Error::kubernetes(format!("get Lease {NAME}")))?;
        let Some(lease) = found else {
            let metadata = self.metadata(ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() });
            let created = Lease { metadata, spec: Some(self.spec(None, (self.clock)())) };
            return match self.leases.create(&PostParams::default(), &created).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(Error::kubernetes(format!("create Lease {NAME}"))(error)),
            };
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if seen.as_ref().is_none_or(|(known, _)| *known != version) {
            *seen = Some((version, Instant::now()));
        }
        let is_free = holder(&lease).is_none_or(|holder| holder.is_empty() || holder == self.identity);
        let unchanged = seen.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        if !is_free && unchanged < duration(&lease) {
            return Ok(false);
        }
        self.take(&lease).await
    }

    async fn renew(&self) -> Result<bool, Error> {
        let lease = self.leases.get(NAME).await.map_err(Error::kubernetes(format!("get Lease {NAME}")))?;
        if holder(&lease) != Some(self.identity.as_str()) {
            return Ok(false);
        }
        self.take(&lease).await
    }

    /// Writes our name, if nobody was quicker.
    async fn take(&self, lease: &Lease) -> Result<bool, Error> {
        let metadata = self.metadata(lease.metadata.clone());
        let taken = Lease { metadata, spec: Some(self.spec(lease.spec.as_ref(), (self.clock)())) };
        match self.leases.replace(NAME, &PostParams::default(), &taken).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Error::kubernetes(format!("take Lease {NAME}"))(error)),
        }
    }

    fn metadata(&self, before: ObjectMeta) -> ObjectMeta {
        let mut annotations = before.annotations.unwrap_or_default();
        match &self.address {
            Some(address) => drop(annotations.insert(ADDRESS.to_owned(), address.clone())),
            None => drop(annotations.remove(ADDRESS)),
        }
        ObjectMeta { annotations: Some(annotations), ..before }
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let is_new = before.and_then(|before| before.holder_identity.as_deref()) != Some(self.identity.as_str());
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if is_new {
                Some(MicroTime(now))
            } else {
                before.and_then(|before| before.acquire_time.clone())
            },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions + i32::from(is_new)),
            ..LeaseSpec::default()
        }
    }
}

/// Who holds a Lease, if anybody does; an empty name is nobody.
pub fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// How long it is its holder's after a renewal: what that asked for, which need not be one of us.
pub fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).max(Duration::from_secs(1))
}
