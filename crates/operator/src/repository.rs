//! A BackupRepository: its catalog, and what is known of it.
//!
//! ```text
//! reconcile ─ credentials (Secret or ExternalSecret) ─ token ─ Deployment, Services ─ ask whether it is ready ─ status
//! ```

mod objects;
mod overview;

use std::sync::Arc;
use std::time::Duration;

use api::mover::Layout;
use api::naming::{ClaimKey, DATA_PATH, Identity, VolsyncNames, label_value, volsync_identity};
use api::overview::Overview;
use api::v1alpha1::conditions::{ConditionStatus, ConditionType, Finding, Reason, set};
use api::v1alpha1::credentials::Credentials;
use api::v1alpha1::repository::{Format, LedgerStatus};
use api::v1alpha1::store::Store;
use api::v1alpha1::{BackupRepository, BackupRepositorySpec};
use api::validate;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::apply;
use crate::authorities;
use crate::catalogs::PORT;
use crate::claim::rebuild;
use crate::context::Context;
use crate::credentials::{self, ExternalSecret, User};
use crate::error::Error;

/// The key of a catalog's token in its Secret.
const TOKEN: &str = "token";

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// How soon a repository is asked again that did not answer, and how soon one that did.
const PAUSE_UNREADY: Duration = Duration::from_secs(5);
const PAUSE_READY: Duration = Duration::from_secs(15);

/// Bytes of the longest name of a repository that its catalog's name takes as it is.
const NAME_BYTES_MAX: usize = 40;

/// The catalog's Deployment, Service and credentials.
pub fn catalog_name(repository: &str) -> String {
    let short = if repository.len() <= NAME_BYTES_MAX && !repository.contains('.') {
        repository.to_owned()
    } else {
        // As for label values: a name that is too long, or that a Service cannot have, becomes its hash.
        let padded = format!("{repository}{}", "-".repeat(64));
        label_value(&padded)
    };
    format!("perennial-catalog-{short}")
}

/// What the catalog wants to be shown, from its Secret.
pub fn token(secret: &Secret) -> Option<String> {
    let value = secret.data.as_ref()?.get(TOKEN)?;
    String::from_utf8(value.0.clone()).ok().filter(|token| !token.is_empty())
}

/// The history of a claim in the repository.
///
/// PerClaim: as VolSync names that of the source `<pvc>-backup`. Shared: `<pvc>@<namespace>:/data`, the cluster's name
/// behind the namespace where the repository has one.
pub fn identity(repository: &BackupRepositorySpec, claim: &ClaimKey) -> Identity {
    match (repository.layout, &repository.cluster_name) {
        (Layout::PerClaim, _) => volsync_identity(&VolsyncNames {
            name: &claim.backup_name(),
            namespace: claim.namespace(),
            path: DATA_PATH,
            ..VolsyncNames::default()
        }),
        (Layout::Shared, None) => claim.shared_identity(),
        (Layout::Shared, Some(cluster)) => {
            let identity = claim.shared_identity();
            Identity { hostname: format!("{}.{cluster}", identity.hostname), ..identity }
        }
    }
}

/// What a mover or catalog is told beside its credentials.
pub fn variables(repository: &BackupRepositorySpec) -> Vec<(&'static str, String)> {
    match &repository.store {
        Store::S3(s3) => s3.region.iter().map(|region| ("AWS_REGION", region.clone())).collect(),
        Store::Nfs(_) | Store::Claim(_) => {
            repository.declared_new.iter().map(|_| ("PERENNIAL_STORE_DECLARED", "true".to_owned())).collect()
        }
    }
}

/// How the repository is found.
struct Found {
    ready: Result<(), (Reason, String)>,
    overview: Option<Overview>,
}

impl Found {
    fn not_ready(reason: Reason, why: String) -> Self {
        Self { ready: Err((reason, why)), overview: None }
    }
}

/// Brings the catalog up and says how it is.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn reconcile(repository: Arc<BackupRepository>, context: Arc<Context>) -> Result<Action, Error> {
    if repository.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let found = bring_up(&repository, &context).await?;
    report(&repository, &found, &context).await?;
    let pause = if found.ready.is_ok() { PAUSE_READY } else { PAUSE_UNREADY };
    Ok(Action::requeue(pause))
}

async fn bring_up(repository: &BackupRepository, context: &Context) -> Result<Found, Error> {
    if repository.spec.format == Format::Restic {
        let text = "repositories of restic's format are not served by this version".to_owned();
        return Ok(Found::not_ready(Reason::InvalidSpec, text));
    }
    if let Some(first) = validate::repository::violations(&repository.spec).first() {
        return Ok(Found::not_ready(Reason::InvalidSpec, first.to_string()));
    }
    let credentials = match catalogs_credentials(repository, context).await? {
        Ok(version) => version,
        Err(why) => return Ok(Found::not_ready(Reason::WaitingForRepoSecret, why)),
    };
    ensure_token(repository, context).await?;
    let name = catalog_name(&repository.name_any());
    let namespace = &context.settings.namespace;
    let authorities = match catalogs_authorities(repository, context).await? {
        Ok(version) => version,
        Err(why) => return Ok(Found::not_ready(Reason::WaitingForRepoSecret, why)),
    };
    let credentials = [Some(credentials), authorities].into_iter().flatten().collect::<Vec<_>>().join(".");
    let deployment = objects::deployment(repository, &context.settings, &credentials);
    let live = context.caches.catalogs.get(&crate::caches::key(&name, Some(namespace.clone())));
    apply::apply(&context.client, live.as_deref(), &deployment).await?;
    for service in objects::services(repository, namespace) {
        let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(context.client.clone(), namespace);
        let name = service.name_any();
        let live =
            services.get_opt(&name).await.map_err(Error::kubernetes(format!("get Service {namespace}/{name}")))?;
        apply::apply(&context.client, live.as_ref(), &service).await?;
    }
    let address = format!("http://{name}.{namespace}.svc:{PORT}");
    if let Err((reason, why)) = context.catalogs.ready(&address).await {
        return Ok(Found::not_ready(reason, why));
    }
    let before = repository.status.clone().unwrap_or_default();
    let is_due = overview::is_due(&before, ledger_status(repository, context), context.now());
    let overview = if is_due { context.catalogs.overview(&address).await } else { None };
    Ok(Found { ready: Ok(()), overview })
}

/// The catalog's own credentials; answers their version, or what is missing.
async fn catalogs_credentials(
    repository: &BackupRepository,
    context: &Context,
) -> Result<Result<String, String>, Error> {
    let namespace = &context.settings.namespace;
    let name = catalog_name(&repository.name_any());
    let metadata = objects::metadata(repository, namespace, &name);
    match &repository.spec.credentials {
        Credentials::SecretRef(reference) => {
            let from = reference.namespace.as_deref().unwrap_or(namespace);
            let Some(source) = context.secret(from, &reference.name).await? else {
                return Ok(Err(format!("there is no Secret {from}/{}", reference.name)));
            };
            let names = reference.keys.names(repository.spec.format);
            let values = match credentials::values(&repository.spec, &names, &source) {
                Ok(values) => values,
                Err(missing) => return Ok(Err(missing.to_string())),
            };
            let secret = credentials::secret(&repository.spec, &User::Catalog, &values, metadata);
            let live = context.secret_now(namespace, &name).await?;
            apply::apply(&context.client, live.as_deref(), &secret).await?;
            Ok(Ok(credentials::version(&repository.spec, &User::Catalog, &source)))
        }
        Credentials::ExternalSecret(from) => {
            let wanted = credentials::external(&repository.spec, &User::Catalog, from, metadata);
            let objects: Api<ExternalSecret> = Api::namespaced(context.client.clone(), namespace);
            let what = format!("get ExternalSecret {namespace}/{name}");
            let live = objects.get_opt(&name).await.map_err(Error::kubernetes(what))?;
            apply::apply(&context.client, live.as_ref(), &wanted).await?;
            let secret = context.secret(namespace, &name).await?;
            let keys = credentials::keys(&repository.spec, &User::Catalog);
            let missing = secret.as_deref().map(|secret| credentials::first_missing(secret, &keys));
            match (secret, missing) {
                (Some(secret), Some(None)) => Ok(Ok(credentials::version(&repository.spec, &User::Catalog, &secret))),
                (_, Some(Some(missing))) => Ok(Err(missing.to_string())),
                _ => Ok(Err(live
                    .and_then(|live| live.failure())
                    .unwrap_or_else(|| format!("ExternalSecret {namespace}/{name} is not filled yet")))),
            }
        }
    }
}

/// The catalog's copy of the certificate authorities; answers its version, or what is missing.
async fn catalogs_authorities(
    repository: &BackupRepository,
    context: &Context,
) -> Result<Result<Option<String>, String>, Error> {
    let namespace = &context.settings.namespace;
    let name = authorities::copy_name(&catalog_name(&repository.name_any()));
    let metadata = objects::metadata(repository, namespace, &name);
    let (secret, version) = match authorities::copy(&repository.spec, metadata, context).await? {
        Ok(None) => return Ok(Ok(None)),
        Ok(Some(copy)) => copy,
        Err(why) => return Ok(Err(why)),
    };
    let live = context.secret(namespace, &name).await?;
    apply::apply(&context.client, live.as_deref(), &secret).await?;
    Ok(Ok(Some(version)))
}

async fn ensure_token(repository: &BackupRepository, context: &Context) -> Result<(), Error> {
    let namespace = &context.settings.namespace;
    let name = token_name(&repository.name_any());
    if context.secret(namespace, &name).await?.as_deref().and_then(token).is_some() {
        return Ok(());
    }
    let mut random = [0; TOKEN_BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| Error::Object { what: "the system has no random numbers".to_owned() })?;
    let secret = objects::token(repository, namespace, &name, TOKEN, hex::encode(random));
    // Not applied: one that somebody else has made meanwhile is as good.
    apply::create(&context.client, &secret).await?;
    Ok(())
}

/// The Secret with the catalog's token.
pub fn token_name(repository: &str) -> String {
    format!("{}-token", catalog_name(repository))
}

async fn report(repository: &BackupRepository, found: &Found, context: &Context) -> Result<(), Error> {
    let before = repository.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let (status, reason, message) = match &found.ready {
        Ok(()) => (ConditionStatus::True, Reason::Ok, "the catalog answers".to_owned()),
        Err((reason, why)) => (ConditionStatus::False, *reason, why.clone()),
    };
    for type_ in [ConditionType::Ready, ConditionType::Reachable] {
        let finding = Finding {
            type_: type_.as_str(),
            status,
            reason: reason.as_str(),
            message: &message,
            observed_generation: repository.meta().generation,
        };
        set(&mut after.conditions, &finding, context.now());
    }
    let reachable = found.ready.is_ok();
    let name = repository.name_any();
    let is_shared = repository.spec.layout == Layout::Shared;
    after.observed_generation = repository.meta().generation;
    after.location = Some(repository.spec.location());
    after.id = context.ledger.id(&name).filter(|_| is_shared).or_else(|| repository.spec.id.clone());
    after.reachable = Some(reachable);
    after.ledger = Some(ledger_status(repository, context));
    (after.declared_new, after.mass_fresh_confirmed) = used_words(repository, context);
    if let Some(overview) = &found.overview {
        overview::note(overview, after.observed_generation, context.now(), &mut after);
    }
    if after == before {
        return Ok(());
    }
    if before.reachable != Some(reachable) {
        let about = repository.object_ref(&());
        context.tell(&about, !reachable, reason.as_str(), "Look", &message).await;
        tracing::info!(repository = name, reachable, %message, "repository");
    }
    // What there is nothing to say of any more is taken away: a field that is missing would stay.
    let change = json!({"status": {
        "observedGeneration": after.observed_generation,
        "location": after.location,
        "id": after.id,
        "reachable": after.reachable,
        "checked": after.checked,
        "latencyMs": after.latency_ms,
        "snapshots": after.snapshots,
        "indexBlobs": after.index_blobs,
        "lastMaintenance": after.last_maintenance,
        "ledger": after.ledger,
        "declaredNew": after.declared_new,
        "massFreshConfirmed": after.mass_fresh_confirmed,
        "conditions": after.conditions,
    }});
    let repositories: Api<BackupRepository> = Api::all(context.client.clone());
    apply::merge_status(&repositories, &name, &change, &format!("report on BackupRepository {name}")).await?;
    Ok(())
}

fn ledger_status(repository: &BackupRepository, context: &Context) -> LedgerStatus {
    LedgerStatus { entries: context.ledger.count(&repository.name_any()) }
}

/// The tags of `declaredNew` and `massFresh.confirmed` that count no more: there is a backup now, or the rebuild is over.
fn used_words(repository: &BackupRepository, context: &Context) -> (Option<String>, Option<String>) {
    let (spec, status) = (&repository.spec, repository.status.as_ref());
    let name = repository.name_any();
    let new = spec.declared_new(status).filter(|_| context.ledger.has_been_written(&name)).map(str::to_owned);
    let confirmed = spec.mass_fresh_confirmed(status).filter(|_| rebuild::is_over(context, &name)).map(str::to_owned);
    (
        new.or_else(|| status.and_then(|status| status.declared_new.clone())),
        confirmed.or_else(|| status.and_then(|status| status.mass_fresh_confirmed.clone())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogs_name_is_one_that_a_service_can_have() {
        assert_eq!(catalog_name("default"), "perennial-catalog-default");
        let long = catalog_name("a.very.long.name.of.a.repository.that.nobody.would.give");
        assert_eq!(long.len(), "perennial-catalog-pvc-".len() + 24, "{long}");
        assert_ne!(long, catalog_name("a.very.long.name.of.a.repository.that.nobody.would.giv"));
        assert!(!catalog_name("with.dots").contains('.'));
    }
}
