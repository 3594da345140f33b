//! A protected claim: what is generated for it, what it gets, and when its backups begin.
//!
//! ```text
//! judge (pure) → generate (credentials, destination) → observe → plan (pure) → carry out → report
//! ```

pub mod gate;
mod image;
pub mod judge;
mod objects;
mod observe;
mod plan;
pub mod rebuild;
mod volume;
pub mod word;

use std::sync::Arc;
use std::time::Duration;

use api::decide::HoldReason;
use api::naming::ClaimKey;
use api::recorded::{Recorded, Verdict};
use api::v1alpha1::BackupRepository;
use api::v1alpha1::credentials::Credentials;
use api::volsync::status::SynchronizingReason;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use self::gate::Gate;
use self::judge::{Judgement, Protection, judge};
use self::objects::{Material, RESTORE_ONCE};
use self::observe::{Observed, Restoring, is_marked, observe};
pub use self::plan::sentence;
use self::plan::{News, Plan, Reason, Step, plan};
use crate::apply;
use crate::authorities;
use crate::caches::key;
use crate::consumers;
use crate::context::Context;
use crate::credentials::{self, ExternalSecret, User};
use crate::error::{Error, retry_after};
use crate::ids::{self, Ids};
use crate::job::{self, Identity};
use crate::ledger::Entry;
use crate::names::{DECISION, MANAGED_BY, MANAGER};
use crate::slots;
use crate::sync::{self, PAUSE_FOR_SLOT};

/// The version of the credentials that were generated last, on the destination: no Secret is read to know it.
const CREDENTIALS_VERSION: &str = "perennial.dev/credentials";

/// The version of the certificate authorities that were copied last, on the destination.
const AUTHORITIES_VERSION: &str = "perennial.dev/authorities";

/// Brings a claim to where it should be.
///
/// # Errors
/// The API server refuses, or does not answer; nothing is left half done that the next look would not finish.
pub async fn reconcile(claim: Arc<PersistentVolumeClaim>, context: Arc<Context>) -> Result<Action, Error> {
    if claim.meta().deletion_timestamp.is_some() || context.caches.is_going(claim.namespace()) {
        context.succeeded(&*claim);
        return Ok(Action::await_change());
    }
    // Whoever is new in a new namespace is looked at once that is known, too.
    let Some(namespace) = namespace_of(&claim, &context) else { return Ok(Action::await_change()) };
    let judgement = judge(&claim, namespace.labels(), &context.caches.policies_in_order());
    let is_asked_for = matches!(judgement, Judgement::Protected(_) | Judgement::Raw(_) | Judgement::Review { .. });
    // What is generated for a claim fills it in another way than what somebody has written.
    let pause = match is_asked_for && is_marked(&claim) {
        true => None,
        false => image::populate(&claim, &context).await?,
    };
    let again = as_judged(&claim, judgement, &context).await?;
    Ok(pause.map_or(again, Action::requeue))
}

/// Does about a claim what it is judged to be.
async fn as_judged(claim: &PersistentVolumeClaim, judgement: Judgement, context: &Context) -> Result<Action, Error> {
    match judgement {
        Judgement::Protected(protection) => protected(claim, protection, context).await,
        Judgement::Raw(protection) if is_marked(claim) => protected(claim, protection, context).await,
        Judgement::Raw(_) => {
            tracing::debug!(claim = apply::describe(claim), "a raw device, which is not backed up");
            Ok(Action::await_change())
        }
        Judgement::Review { why } => {
            if is_marked(claim) && is_unbound(claim) {
                hold(claim, HoldReason::InvalidLabelOrAnnotation, why, context).await?;
            }
            Ok(Action::await_change())
        }
        Judgement::Ignored(why) => {
            tracing::debug!(claim = apply::describe(claim), why = why.as_str(), "ignored");
            end_backups(claim, context).await?;
            Ok(Action::await_change())
        }
        Judgement::Exempt { reason } => {
            tracing::debug!(claim = apply::describe(claim), reason, "exempt");
            end_backups(claim, context).await?;
            Ok(Action::await_change())
        }
    }
}

async fn protected(claim: &PersistentVolumeClaim, protection: Protection, context: &Context) -> Result<Action, Error> {
    let names = ClaimKey::new(claim.namespace().unwrap_or_default(), claim.name_any());
    let names = names.map_err(|error| Error::Object { what: error.to_string() })?;
    let repository = match repository_of(&protection, claim, context) {
        Ok(repository) => repository,
        Err(why) => {
            hold(claim, HoldReason::RepositoryNotFound, why, context).await?;
            return Ok(Action::await_change());
        }
    };
    let material = Material { claim, key: &names, protection: &protection, repository: &repository };
    if let Err(why) = generate(&material, context).await? {
        hold(claim, HoldReason::WaitingForRepoSecret, why, context).await?;
        return Ok(Action::requeue(context.failed(claim)));
    }
    let observed = observe(context, claim, protection.clone(), &repository, &names).await?;
    if let Restoring::Job { job, .. } = &observed.restoring {
        context.slots.seen(job);
    }
    let plan = plan(claim, &observed, context.now());
    let pause = carry_out(&material, &observed, &plan, context).await?;
    report(&material, &observed, &plan, context).await?;
    let is_held =
        plan.record.as_ref().or(observed.recorded.as_ref()).is_some_and(|recorded| recorded.verdict.is_hold());
    if observed.is_bound && !is_held {
        context.succeeded(claim);
    }
    let has_failed = plan.step == Step::Discard || is_held && observed.answer.is_some();
    Ok(match pause.or(plan.again) {
        Some(pause) => Action::requeue(pause),
        None if has_failed => Action::requeue(context.failed(claim)),
        None if is_held => Action::requeue(retry_after(context.failures(claim))),
        None => Action::await_change(),
    })
}

/// The repository that a policy names, or why it cannot be used.
fn repository_of(
    protection: &Protection,
    claim: &PersistentVolumeClaim,
    context: &Context,
) -> Result<Arc<BackupRepository>, String> {
    let (policy, name) = (protection.policy.name_any(), &protection.policy.spec.repository);
    let repository = context.caches.repositories.get(&key(name, None));
    let repository =
        repository.ok_or_else(|| format!("policy {policy} names BackupRepository {name}, which does not exist"))?;
    let namespace = claim.namespace().unwrap_or_default();
    let labels = namespace_of(claim, context).map(|namespace| namespace.labels().clone()).unwrap_or_default();
    if !repository.spec.allows(&namespace, &labels) {
        return Err(format!("BackupRepository {name} is not for namespace {namespace}: see its allowedNamespaces"));
    }
    Ok(repository)
}

fn namespace_of(claim: &PersistentVolumeClaim, context: &Context) -> Option<Arc<Namespace>> {
    context.caches.namespaces.get(&key(&claim.namespace()?, None))
}

fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default().is_empty()
}

/// Credentials and destination. Answers what keeps the credentials from being there.
async fn generate(material: &Material<'_>, context: &Context) -> Result<Result<(), String>, Error> {
    let name = material.key.backup_name();
    let namespace = material.key.namespace().to_owned();
    let live = context.caches.destinations.get(&key(&name, Some(namespace.clone())));
    let done = live.as_ref().and_then(|live| live.annotations().get(CREDENTIALS_VERSION).cloned());
    let version = match ensure_credentials(material, done.as_deref(), context).await? {
        Ok(version) => version,
        Err(why) => return Ok(Err(why)),
    };
    if live.as_ref().is_some_and(|live| !is_ours(&**live)) {
        return Ok(Ok(()));
    }
    let copied = live.as_ref().and_then(|live| live.annotations().get(AUTHORITIES_VERSION).cloned());
    let authorities = match ensure_authorities(material, copied.as_deref(), context).await? {
        Ok(authorities) => authorities,
        Err(why) => return Ok(Err(why)),
    };
    let mut destination = material.destination();
    destination.annotations_mut().insert(CREDENTIALS_VERSION.to_owned(), version);
    if let Some(version) = authorities {
        destination.annotations_mut().insert(AUTHORITIES_VERSION.to_owned(), version);
    }
    apply::apply(&context.client, live.as_deref(), &destination).await?;
    Ok(Ok(()))
}

/// Somebody else's objects are read and never changed.
fn is_ours<K: Resource>(object: &K) -> bool {
    object.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)
}

/// Whether the claim's Secret is needed now, or may be what its backups lack: it may be gone, which nobody watches.
fn needs_secret(material: &Material<'_>, context: &Context) -> bool {
    let source = context.caches.sources.get(&key(&material.key.backup_name(), material.claim.namespace()));
    let status = source.as_ref().and_then(|source| source.status.as_ref());
    let Some(sync) = status.map(|status| &status.sync) else { return false };
    let is_wrong = |found: &Condition| found.reason == SynchronizingReason::Error.as_str();
    sync.last_sync_start_time.is_some() || sync.conditions.iter().flatten().any(is_wrong)
}

/// The claim's credentials; answers their version, or what is missing.
async fn ensure_credentials(
    material: &Material<'_>,
    done: Option<&str>,
    context: &Context,
) -> Result<Result<String, String>, Error> {
    let spec = &material.repository.spec;
    let user = User::Claim(material.key);
    let (namespace, name) = (material.key.namespace(), material.key.credentials_name());
    let needs_look = is_unbound(material.claim) || needs_secret(material, context);
    match &spec.credentials {
        Credentials::SecretRef(reference) => {
            let from = reference.namespace.as_deref().unwrap_or(&context.settings.namespace);
            let Some(source) = context.secret(from, &reference.name).await? else {
                return Ok(Err(format!("there is no Secret {from}/{}", reference.name)));
            };
            let values = match credentials::values(spec, &reference.keys.names(spec.format), &source) {
                Ok(values) => values,
                Err(missing) => return Ok(Err(missing.to_string())),
            };
            let version = credentials::version(spec, &user, &source);
            if done != Some(version.as_str()) || needs_look {
                let live = context.secret_now(namespace, &name).await?;
                if let Some(foreign) = live.as_ref().filter(|live| !is_ours(&***live)) {
                    let missing = credentials::first_missing(foreign, &credentials::keys(spec, &user));
                    return Ok(missing.map_or(Ok(version), |missing| Err(missing.to_string())));
                }
                let secret = credentials::secret(spec, &user, &values, material.metadata(name.clone()));
                apply::apply(&context.client, live.as_deref(), &secret).await?;
            }
            Ok(Ok(version))
        }
        Credentials::ExternalSecret(from) => {
            let version = format!(
                "external/{}/{}",
                material.repository.name_any(),
                material.repository.meta().generation.unwrap_or_default()
            );
            if done == Some(version.as_str()) && !needs_look {
                return Ok(Ok(version));
            }
            let wanted = credentials::external(spec, &user, from, material.metadata(name.clone()));
            let objects: Api<ExternalSecret> = Api::namespaced(context.client.clone(), namespace);
            let what = format!("get ExternalSecret {namespace}/{name}");
            let live = objects.get_opt(&name).await.map_err(Error::kubernetes(what))?;
            apply::apply(&context.client, live.as_ref(), &wanted).await?;
            let Some(secret) = context.secret(namespace, &name).await? else {
                let why = live.and_then(|live| live.failure());
                return Ok(Err(why.unwrap_or_else(|| format!("ExternalSecret {namespace}/{name} is not filled yet"))));
            };
            match credentials::first_missing(&secret, &credentials::keys(spec, &user)) {
                Some(missing) => Ok(Err(missing.to_string())),
                None => Ok(Ok(version)),
            }
        }
    }
}

/// The copy of the repository's certificate authorities; answers its version, or what is missing.
async fn ensure_authorities(
    material: &Material<'_>,
    done: Option<&str>,
    context: &Context,
) -> Result<Result<Option<String>, String>, Error> {
    let name = authorities::copy_name(&material.key.credentials_name());
    let copy = authorities::copy(&material.repository.spec, material.metadata(name.clone()), context).await?;
    let (secret, version) = match copy {
        Ok(None) => return Ok(Ok(None)),
        Ok(Some(copy)) => copy,
        Err(why) => return Ok(Err(why)),
    };
    if done != Some(version.as_str()) || is_unbound(material.claim) {
        let live = context.secret_now(material.key.namespace(), &name).await?;
        if live.as_ref().is_none_or(|live| is_ours(&**live)) {
            apply::apply(&context.client, live.as_deref(), &secret).await?;
        }
    }
    Ok(Ok(Some(version)))
}

/// Says that a claim which waits for us has to wait, before anything could be looked at.
async fn hold(
    claim: &PersistentVolumeClaim,
    reason: HoldReason,
    detail: String,
    context: &Context,
) -> Result<(), Error> {
    let uid = claim.uid().unwrap_or_default();
    let before = Recorded::read(claim.annotations().get(DECISION).map(String::as_str), &uid);
    // What is decided stays decided: credentials may be rewritten while a restore runs.
    if !is_marked(claim) || !is_unbound(claim) || observe::is_decided(before.as_ref()) {
        return Ok(());
    }
    let verdict = Verdict::Hold { reason, detail };
    let recorded = Recorded { verdict, repository_id: None, uid, time: context.now() };
    if before.is_some_and(|before| before.says_the_same_as(&recorded)) {
        return Ok(());
    }
    let is_label = reason == HoldReason::InvalidLabelOrAnnotation;
    let reason = if is_label { Reason::InvalidLabelOrAnnotation } else { Reason::BackupStateUnknown };
    let news = News { reason, text: recorded.verdict.to_string() };
    record(claim, &recorded, context).await?;
    tell(claim, &news, context).await;
    Ok(())
}

/// Does what the plan says. Answers after which pause the claim must be looked at although nothing changes.
async fn carry_out(
    material: &Material<'_>,
    observed: &Observed,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    if let Some(recorded) = &plan.record {
        let repository = material.repository.name_any();
        // A history that was seen is expected from now on, also if this cluster has never written to it.
        if let (Verdict::Restore { snapshot }, Some(id)) = (&recorded.verdict, &recorded.repository_id) {
            let ids = ids::of_snapshot(snapshot.owner).filter(|ids| *ids != ids::USUAL);
            let known = context.ledger.of(&repository, material.key).filter(|known| known.repository_id == *id);
            let is_foreign = known.is_none_or(|known| known.is_foreign);
            let entry = Entry { repository_id: id.clone(), ids, is_foreign };
            let namespace = &context.settings.namespace;
            context.ledger.note(&context.client, namespace, &repository, material.key, entry).await?;
        }
        record(material.claim, recorded, context).await?;
        context.metrics.decided(&repository, &recorded.verdict);
    }
    match &plan.step {
        Step::Stay => {}
        Step::MakePrime { purpose } => drop(apply::create(&context.client, &material.prime(*purpose)).await?),
        Step::DropPrime => {
            if let Some(prime) = &observed.prime {
                apply::delete(&context.client, &**prime).await?;
            }
        }
        Step::Start { snapshot, repository } => {
            return start(material, snapshot, repository.clone(), context).await;
        }
        Step::Discard => {
            if let Restoring::Job { job, .. } = &observed.restoring {
                apply::delete(&context.client, &**job).await?;
            }
        }
        Step::HandOver { volume } => hand_over(material.claim, observed, volume, context).await?,
        Step::ClearUp => clear_up(observed, context).await?,
    }
    ensure_source(material, observed, plan.gate, context).await?;
    Ok(None)
}

/// Starts the mover, if there is room.
async fn start(
    material: &Material<'_>,
    snapshot: &api::decide::Snapshot,
    repository: Option<api::id::RepositoryId>,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let identity = identity(material, snapshot, context).await?;
    let job = material.restore(snapshot, repository, &context.settings.image, identity);
    if !slots::start(&job, &material.repository.spec.limits, context).await? {
        return Ok(Some(PAUSE_FOR_SLOT));
    }
    let text = format!("restores snapshot {} of {}", snapshot.id, snapshot.time);
    tell(material.claim, &News { reason: Reason::RestoreStarted, text }, context).await;
    Ok(None)
}

/// As whom the snapshot is restored.
async fn identity(
    material: &Material<'_>,
    snapshot: &api::decide::Snapshot,
    context: &Context,
) -> Result<Identity, Error> {
    let namespace = material.key.namespace();
    if sync::is_privileged(context, namespace) {
        return Ok(Identity::Elevated(None));
    }
    let mover = &material.protection.policy.spec.mover;
    if mover.uid.is_some() || !ids::may_differ(&material.repository.spec.store) {
        return Ok(Identity::Plain(ids::of_policy(mover, None)));
    }
    let known = match ids::of_snapshot(snapshot.owner) {
        Some(recorded) => Some(recorded),
        None => {
            let consumers = consumers::look(context, namespace, material.key.pvc()).await?;
            let used = ids::of_consumers(&consumers, ids::USUAL);
            // The volume is new: without a group nobody but root could write into it.
            used.map(|used| Ids { fs_group: used.fs_group.or(Some(used.gid)), ..used })
        }
    };
    Ok(Identity::Plain(ids::of_policy(mover, known)))
}

/// Gives the prime's volume to the claim, with what was decided about it.
async fn hand_over(
    claim: &PersistentVolumeClaim,
    observed: &Observed,
    filled: &PersistentVolume,
    context: &Context,
) -> Result<(), Error> {
    let recorded = observed
        .recorded
        .as_ref()
        .ok_or_else(|| Error::Object { what: format!("claim {} has no decision", claim.name_any()) })?;
    let from = match &recorded.verdict {
        Verdict::Restore { snapshot } => snapshot.id.to_string(),
        Verdict::Fresh { .. } | Verdict::Kept { .. } | Verdict::Hold { .. } => "nothing".to_owned(),
    };
    volume::hand_over(claim, filled, &from, &[(DECISION, recorded.to_json())], context).await
}

/// Removes what was needed. The prime goes last: as long as it is there, somebody knows that something is left to do.
async fn clear_up(observed: &Observed, context: &Context) -> Result<(), Error> {
    if let Restoring::Job { job, .. } = &observed.restoring {
        apply::delete(&context.client, &**job).await?;
    }
    if let Some(prime) = &observed.prime {
        apply::delete(&context.client, &**prime).await?;
    }
    Ok(())
}

/// The source is there when the gate is open, and follows its policy from then on.
async fn ensure_source(
    material: &Material<'_>,
    observed: &Observed,
    gate: Gate,
    context: &Context,
) -> Result<(), Error> {
    let live = observed.source.as_deref();
    if live.is_some_and(|live| !is_ours(live)) {
        return Ok(());
    }
    let follows = match gate {
        Gate::Ready => true,
        Gate::Disabled => live.is_some(),
        Gate::WaitingForBound | Gate::WaitingForRestore | Gate::WaitingForAge { .. } | Gate::NoFiles => false,
    };
    if follows {
        apply::apply(&context.client, live, &material.source()).await?;
    }
    context.metrics.gate(material.key, gate);
    Ok(())
}

/// The label is gone or says no: the schedule ends. The history stays, and so does the destination, which a claim that is
/// bound may name for ever.
async fn end_backups(claim: &PersistentVolumeClaim, context: &Context) -> Result<(), Error> {
    let Ok(names) = ClaimKey::new(claim.namespace().unwrap_or_default(), claim.name_any()) else { return Ok(()) };
    let source = context.caches.sources.get(&key(&names.backup_name(), claim.namespace()));
    let is_of_claim = |source: &api::volsync::ReplicationSource| {
        is_ours(source) && source.owner_references().iter().any(|owner| Some(&owner.uid) == claim.uid().as_ref())
    };
    if let Some(source) = source.filter(|source| is_of_claim(source)) {
        apply::delete(&context.client, &*source).await?;
        tracing::info!(
            namespace = names.namespace(),
            claim = names.pvc(),
            "backups end: the claim does not ask for them any more"
        );
    }
    context.metrics.forget(&names);
    Ok(())
}

/// Writes a decision onto its claim.
async fn record(claim: &PersistentVolumeClaim, recorded: &Recorded, context: &Context) -> Result<(), Error> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    // Not onto another claim of the same name.
    let change = json!({"metadata": {"uid": claim.uid(), "annotations": {DECISION: recorded.to_json()}}});
    let what = format!("record the decision about claim {namespace}/{name}");
    apply::merge(&claims, &name, &change, &what).await?;
    tracing::info!(namespace, claim = name, decision = recorded.verdict.as_str(), "{}", recorded.verdict);
    Ok(())
}

/// Tells what is new, and what the destination says of it.
async fn report(material: &Material<'_>, observed: &Observed, plan: &Plan, context: &Context) -> Result<(), Error> {
    if let Some(news) = &plan.news {
        tell(material.claim, news, context).await;
    }
    let obstacle = match &observed.restoring {
        Restoring::Job { job, .. } => job::obstacle(job, &context.caches),
        Restoring::No | Restoring::Foreign { .. } => None,
    };
    let recorded = plan.record.as_ref().or(observed.recorded.as_ref());
    let name = material.key.backup_name();
    let destination = context.caches.destinations.get(&key(&name, Some(material.key.namespace().to_owned())));
    let Some(destination) = destination.filter(|destination| is_ours(&**destination)) else { return Ok(()) };
    crate::destination::report_population(
        &destination,
        recorded,
        observed.is_bound,
        obstacle.as_deref(),
        RESTORE_ONCE,
        context,
    )
    .await
}

async fn tell(claim: &PersistentVolumeClaim, news: &News, context: &Context) {
    let about = claim.object_ref(&());
    context.tell(&about, news.reason.is_warning(), news.reason.as_str(), "Populate", &news.text).await;
}
