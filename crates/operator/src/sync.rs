//! What sources and destinations have in common: when they are due, the Secret that their mover needs, how they say where
//! they stand.

use std::sync::Arc;
use std::time::Duration;

use api::cron::Cron;
use api::v1alpha1::conditions::{ConditionStatus, Finding, set};
use api::volsync::method::Method;
use api::volsync::options::MoverVolume;
use api::volsync::status::{SYNCHRONIZING, SyncStatus, SynchronizingReason};
use api::volsync::trigger::Trigger;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::authorities::Authorities;
use crate::caches::key;
use crate::context::Context;
use crate::error::Error;
use crate::ids::Ids;
use crate::names::PRIVILEGED_MOVERS;

/// What an object without a mover's section is told.
const NO_METHOD: &str = "a replication method must be specified - enabled movers: [kopia]";

/// What an object without a trigger is told.
pub const NO_TRIGGER: &str = "no trigger: set spec.trigger.schedule or spec.trigger.manual";

/// How soon an object whose mover found no slot asks again.
pub const PAUSE_FOR_SLOT: Duration = Duration::from_secs(5);

/// How long a run that is under way is left alone; its own objects wake it sooner.
pub const UNDER_WAY: Duration = Duration::from_secs(60);

/// As whom movers of objects that somebody wrote run where nobody knows better: the image's own user, whom no machine has.
pub const USER: Ids = Ids::alike(65532);

/// The manual trigger for which a run began, on the first object that it made and on its Job: a newer one gives another run,
/// since what was copied before it does not answer it.
pub const MANUAL: &str = "perennial.dev/manual";

/// The generation of the object for which a Job was started, on the Job: what has failed since is tried at once.
pub const GENERATION: &str = "perennial.dev/generation";

/// The reference by which what a run needs belongs to the object that it runs for, and goes with it.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `object` was made for `owner`, and not for another of its name.
pub fn owns<Owner: Resource, K: Resource>(owner: &Owner, object: &K) -> bool {
    object.owner_references().iter().any(|reference| Some(&reference.uid) == owner.uid().as_ref())
}

/// The Job of a run if it is the owner's; else the name of the one that stands in its way.
pub fn own_or_foreign<Owner: Resource>(owner: &Owner, job: Option<Arc<Job>>) -> (Option<Arc<Job>>, Option<String>) {
    match job {
        Some(job) if owns(owner, &*job) => (Some(job), None),
        Some(job) => (None, Some(job.name_any())),
        None => (None, None),
    }
}

/// The Kopia section, or what the condition says.
pub fn section<Restic, Kopia: Clone>(method: Method<'_, Restic, Kopia>) -> Result<Kopia, String> {
    match method {
        Method::Kopia(kopia) => Ok(kopia.clone()),
        Method::Restic(_) => Err("the restic mover is not served by this version".to_owned()),
        Method::Foreign(name) => Err(format!("the mover {name} is not served here: {NO_METHOD}")),
        Method::External(_) | Method::Missing => Err(NO_METHOD.to_owned()),
        Method::Several(sections) => {
            let names = sections.names().collect::<Vec<_>>().join(", ");
            Err(format!("only one replication method can be supplied, here are {names}"))
        }
    }
}

/// What a run says that did all but what these fields of the section ask for.
pub fn passing_over(text: &str, fields: &[&str]) -> String {
    match fields {
        [] => text.to_owned(),
        fields => format!("{text}; not served, and passed over: {}", fields.join(", ")),
    }
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// From a closed list.
    pub reason: &'static str,
    /// Whether somebody should look at it.
    pub is_warning: bool,
    /// For a person.
    pub text: String,
}

/// When an object is due.
pub struct Times<'a> {
    /// The manual trigger; empty where there is none.
    pub manual: &'a str,
    /// The schedule.
    pub schedule: Option<Cron>,
    /// How much later than the schedule says, always the same.
    pub offset: Duration,
}

impl<'a> Times<'a> {
    /// What the trigger says.
    ///
    /// # Errors
    /// The schedule is none, in words.
    pub fn of(trigger: Option<&'a Trigger>, offset: Duration) -> Result<Self, String> {
        let schedule = trigger.and_then(|trigger| trigger.schedule.as_deref()).filter(|schedule| !schedule.is_empty());
        let schedule = schedule.map(str::parse::<Cron>).transpose().map_err(|error| error.to_string())?;
        Ok(Self { manual: trigger.and_then(|trigger| trigger.manual.as_deref()).unwrap_or_default(), schedule, offset })
    }

    /// Whether there is a trigger at all.
    pub fn is_any(&self) -> bool {
        !self.manual.is_empty() || self.schedule.is_some()
    }

    /// The schedule's first time after `after`; none without a schedule, or for one that never comes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.as_ref()?.next_after(after, &TimeZone::UTC).ok()
    }

    /// Whether what was last done then is older than it should be: a run that should have begun has until the one after it
    /// to end.
    pub fn is_late(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(last) = last else { return true };
        let deadline = self.next(last).and_then(|next| self.next(next));
        deadline.is_some_and(|deadline| now > deadline)
    }

    /// Between two runs of the schedule.
    pub fn interval(&self, now: Timestamp) -> Option<Duration> {
        let next = self.next(now)?;
        Duration::try_from(self.next(next)?.duration_since(next)).ok()
    }

    /// When an object is due that was last synchronized then, the offset included; none if nothing but a tag starts it.
    pub fn due(&self, last: Timestamp) -> Option<Timestamp> {
        let next = self.next(last)?;
        Some(next.checked_add(self.offset).unwrap_or(next))
    }

    /// The condition of an object that waits for its turn.
    pub fn waiting(&self) -> (SynchronizingReason, String) {
        match self.schedule {
            Some(_) => usual(SynchronizingReason::WaitingForSchedule),
            None => usual(SynchronizingReason::WaitingForManual),
        }
    }
}

/// The condition's message for a reason that has its own.
pub fn usual(reason: SynchronizingReason) -> (SynchronizingReason, String) {
    (reason, reason.message().unwrap_or_default().to_owned())
}

/// Writes the condition into a status.
pub fn say(status: &mut SyncStatus, (reason, message): &(SynchronizingReason, String), now: Timestamp) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let finding = Finding {
        type_: SYNCHRONIZING,
        status: if reason.is_synchronizing() { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.as_str(),
        message,
        observed_generation: None,
    };
    set(&mut conditions, &finding, now);
    status.conditions = Some(conditions);
}

/// The manual trigger for which a run began, as it stands on one of its objects.
pub fn manual<K: Resource>(object: &K) -> Option<String> {
    object.annotations().get(MANUAL).cloned()
}

/// Whether a Job does what the object has asked for since that generation.
pub fn is_of_generation(job: &Job, generation: Option<i64>) -> bool {
    let of = job.annotations().get(GENERATION).and_then(|text| text.parse().ok());
    of == generation
}

/// When a Job has ended.
pub fn finished(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|found| matches!(found.type_.as_str(), "Complete" | "Failed") && found.status == "True")?;
    Some(ended.last_transition_time.as_ref()?.0)
}

/// Whether a namespace allows movers elevated rights.
pub fn is_privileged(context: &Context, namespace: &str) -> bool {
    let space = context.caches.namespaces.get(&key(namespace, None));
    space.is_some_and(|space| {
        space.annotations().get(PRIVILEGED_MOVERS).is_some_and(|said| said.eq_ignore_ascii_case("true"))
    })
}

/// A repository's Secret, and the authorities, before a mover is started with them; what is missing, in words.
///
/// # Errors
/// The API server does not answer.
pub async fn checked(
    context: &Context,
    namespace: &str,
    name: &str,
    volumes: &[MoverVolume],
    authorities: Option<&Authorities>,
) -> Result<Result<(), String>, Error> {
    let Some(secret) = context.secret(namespace, name).await? else {
        return Ok(Err(format!("there is no Secret {namespace}/{name}")));
    };
    if let Err(key) = complete(&secret, repository_volume(volumes).is_some()) {
        return Ok(Err(format!("Secret {namespace}/{name} has no key {key}")));
    }
    match authorities {
        Some(authorities) => authorities.checked(context, namespace).await,
        None => Ok(Ok(())),
    }
}

/// What every Kopia repository's Secret has, however it names its place.
fn complete(secret: &Secret, is_in_volume: bool) -> Result<(), &'static str> {
    let has = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|value| !value.0.is_empty());
    if !has("KOPIA_PASSWORD") {
        return Err("KOPIA_PASSWORD");
    }
    if !is_in_volume && !has("KOPIA_REPOSITORY") && !has("KOPIA_S3_BUCKET") {
        return Err("KOPIA_REPOSITORY, nor KOPIA_S3_BUCKET");
    }
    Ok(())
}

/// The first claim among the volumes that somebody gives the mover: the repository lies in it, whatever the Secret says
/// of a directory. Source: VolSync API §3.4.
fn repository_volume(volumes: &[MoverVolume]) -> Option<&MoverVolume> {
    volumes.iter().find(|volume| volume.volume_source.persistent_volume_claim.is_some())
}

/// What a mover is told of the volumes that somebody gives it.
///
/// A claim is mounted or the pod does not start, so that an empty one is an empty one.
pub fn variables(volumes: &[MoverVolume]) -> Vec<(&'static str, String)> {
    let Some(volume) = repository_volume(volumes) else { return Vec::new() };
    vec![
        ("KOPIA_REPOSITORY", format!("filesystem:///mnt/{}", volume.mount_path)),
        ("PERENNIAL_STORE_DECLARED", "true".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_secret_says_where_the_repository_is_unless_a_volume_does() {
        let check = |data: Value, in_volume: bool, expected: Result<(), &str>| {
            let secret: Secret = serde_json::from_value(json!({"data": data})).unwrap();
            assert_eq!(complete(&secret, in_volume), expected, "{data}");
        };
        check(json!({}), false, Err("KOPIA_PASSWORD"));
        check(json!({"KOPIA_PASSWORD": "eA=="}), false, Err("KOPIA_REPOSITORY, nor KOPIA_S3_BUCKET"));
        check(json!({"KOPIA_PASSWORD": "eA=="}), true, Ok(()));
        check(json!({"KOPIA_PASSWORD": "eA==", "KOPIA_S3_BUCKET": "eA=="}), false, Ok(()));
        check(json!({"KOPIA_PASSWORD": "", "KOPIA_REPOSITORY": "eA=="}), false, Err("KOPIA_PASSWORD"));
    }

    #[test]
    fn a_claim_among_the_volumes_is_the_repository() {
        let volumes: Vec<MoverVolume> = serde_json::from_value(json!([
            {"mountPath": "keys", "volumeSource": {"secret": {"secretName": "keys"}}},
            {"mountPath": "repo", "volumeSource": {"persistentVolumeClaim": {"claimName": "repo"}}},
        ]))
        .unwrap();
        assert_eq!(variables(&volumes).first(), Some(&("KOPIA_REPOSITORY", "filesystem:///mnt/repo".to_owned())));
        assert_eq!(variables(&volumes[..1]), []);
    }
}
