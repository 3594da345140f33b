//! The webhook's certificate: made by whichever replica comes first, kept in a Secret, renewed before it ends, and told to
//! the API server.
//!
//! What the API server trusts holds the certificate before as well, so that replicas may change over one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Client, ResourceExt};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::sync::watch;

use crate::context::Clock;
use crate::error::Error;
use crate::names::{FIELD_MANAGER, MANAGED_BY, MANAGER};

/// The Secret, the Service and, with the namespace, the name that the certificate is for.
const NAME: &str = "perennial-webhook";
/// The configuration that names us, and the webhook in it.
const CONFIGURATION: &str = "perennial-mark";
const WEBHOOK: &str = "mark.perennial.dev";

/// Keys of the Secret; the last holds all that the API server trusts.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const TRUSTED: &str = "ca.crt";
/// When the certificate ends, on the Secret.
const ENDS: &str = "perennial.dev/ends";

/// How long a certificate is good, and how long before that it is renewed.
const DAYS: i64 = 365;
const DAYS_BEFORE: i64 = 60;

/// How often it is looked whether it is time, or whether another replica has renewed it.
const INTERVAL: Duration = Duration::from_secs(60);

/// What is served with, and the task that keeps it current.
///
/// # Errors
/// There is no certificate, and none can be made.
pub async fn keep(
    client: Client,
    namespace: String,
    clock: Clock,
) -> Result<(impl Future<Output = ()> + Send + use<>, watch::Receiver<Arc<ServerConfig>>), Error> {
    let keeper = Keeper { client, namespace, clock };
    let secret = keeper.current().await?;
    let (configurations, configuration) = watch::channel(Arc::new(configuration_of(&secret)?));
    Ok((keeper.run(secret, configurations), configuration))
}

struct Keeper {
    client: Client,
    namespace: String,
    clock: Clock,
}

impl Keeper {
    async fn run(self, first: Secret, configurations: watch::Sender<Arc<ServerConfig>>) {
        let mut secret = first;
        let hooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut seen = Box::pin(watch_object(hooks, CONFIGURATION));
        let mut looks = tokio::time::interval(INTERVAL);
        let mut hook = None;
        loop {
            tokio::select! {
                Some(found) = seen.next() => match found {
                    Ok(found) => hook = found,
                    Err(error) => tracing::debug!(%error, "the webhook's configuration cannot be watched"),
                },
                _ = looks.tick() => match self.renewed(&secret, &configurations).await {
                    Ok(Some(renewed)) => secret = renewed,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(error = %error.chain(), "look after the webhook's certificate"),
                },
            }
            if let Some(hook) = &hook
                && let Err(error) = self.tell(hook, &secret).await
            {
                tracing::warn!(error = %error.chain(), "tell the API server the webhook's certificate");
            }
        }
    }

    /// The Secret, if it is another than before; then it is served with from now on.
    async fn renewed(
        &self,
        before: &Secret,
        configurations: &watch::Sender<Arc<ServerConfig>>,
    ) -> Result<Option<Secret>, Error> {
        let current = self.current().await?;
        if current.data == before.data {
            return Ok(None);
        }
        configurations.send_replace(Arc::new(configuration_of(&current)?));
        tracing::info!("the webhook has a new certificate");
        Ok(Some(current))
    }

    /// The Secret with a certificate that is good for a while yet.
    async fn current(&self) -> Result<Secret, Error> {
        let what = format!("Secret {}/{NAME}", self.namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            let found = secrets.get_opt(NAME).await.map_err(Error::kubernetes(format!("get {what}")))?;
            if let Some(found) = &found
                && is_good(found, (self.clock)())
            {
                return Ok(found.clone());
            }
            let made = self.make(found.as_ref())?;
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let written = match &found {
                None => secrets.create(&params, &made).await,
                Some(_) => secrets.replace(NAME, &params, &made).await,
            };
            match written {
                Ok(written) => return Ok(written),
                // Another replica was quicker.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(Error::kubernetes(format!("write {what}"))(error)),
            }
        }
    }

    fn make(&self, before: Option<&Secret>) -> Result<Secret, Error> {
        let now = (self.clock)();
        let made = certificate(&format!("{NAME}.{}.svc", self.namespace), now);
        let (certificate, key) =
            made.map_err(|error| Error::Object { what: format!("make a certificate: {error}") })?;
        let previous = before.and_then(|secret| text(secret, CERTIFICATE)).unwrap_or_default();
        let data = [(TRUSTED, format!("{certificate}{previous}")), (CERTIFICATE, certificate), (KEY, key)];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
        let ends = after_days(now, DAYS).to_string();
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
                annotations: Some(BTreeMap::from([(ENDS.to_owned(), ends)])),
                resource_version: before.and_then(|secret| secret.resource_version()),
                ..ObjectMeta::default()
            },
            data: Some(data.into()),
            ..Secret::default()
        })
    }

    /// Writes what is trusted into the configuration, if it is not there.
    async fn tell(&self, hook: &MutatingWebhookConfiguration, secret: &Secret) -> Result<(), Error> {
        let trusted = text(secret, TRUSTED).unwrap_or_default();
        let webhook = hook.webhooks.iter().flatten().find(|webhook| webhook.name == WEBHOOK);
        let Some(webhook) = webhook else { return Ok(()) };
        if webhook.client_config.ca_bundle.as_ref().is_some_and(|bundle| bundle.0 == trusted.as_bytes()) {
            return Ok(());
        }
        let change = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": CONFIGURATION},
            "webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": STANDARD.encode(&trusted)}}],
        });
        let hooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let what = format!("apply MutatingWebhookConfiguration {CONFIGURATION}");
        hooks
            .patch(CONFIGURATION, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&change))
            .await
            .map_err(Error::kubernetes(what))?;
        tracing::info!("the API server knows the webhook's certificate");
        Ok(())
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn is_good(secret: &Secret, now: Timestamp) -> bool {
    let ends = secret.annotations().get(ENDS).and_then(|text| text.parse::<Timestamp>().ok());
    let is_long = ends.is_some_and(|ends| ends > after_days(now, DAYS_BEFORE));
    is_long && configuration_of(secret).is_ok() && text(secret, TRUSTED).is_some()
}

fn after_days(now: Timestamp, days: i64) -> Timestamp {
    now.checked_add(Span::new().hours(days * 24)).unwrap_or(Timestamp::MAX)
}

/// A certificate for one name, which is its own authority, and its key, both in PEM.
fn certificate(name: &str, now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    // A day earlier, for clocks that go wrong; a day later, since the last day counts whole.
    let (year, month, day) = date(after_days(now, -1));
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = date(after_days(now, DAYS + 1));
    params.not_after = date_time_ymd(year, month, day);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn date(moment: Timestamp) -> (i32, u8, u8) {
    let date = moment.to_zoned(TimeZone::UTC).date();
    (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn configuration_of(secret: &Secret) -> Result<ServerConfig, Error> {
    let bad = |why: String| Error::Object { what: format!("Secret {NAME}: {why} (delete it, and it is made anew)") };
    let certificate = text(secret, CERTIFICATE).unwrap_or_default();
    let key = text(secret, KEY).unwrap_or_default();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|error| bad(format!("{CERTIFICATE}: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| bad(format!("{KEY}: {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_served_with_until_it_is_time_for_another() {
        let now: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        let (certificate, key) = certificate("perennial-webhook.volsync-system.svc", now).unwrap();
        let data = [(CERTIFICATE, certificate.clone()), (KEY, key), (TRUSTED, certificate)];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        assert!(!is_good(&secret, now), "nobody knows how long");
        secret.annotations_mut().insert(ENDS.to_owned(), after_days(now, DAYS).to_string());
        assert!(is_good(&secret, now));
        assert!(is_good(&secret, after_days(now, DAYS - DAYS_BEFORE - 1)));
        assert!(!is_good(&secret, after_days(now, DAYS - DAYS_BEFORE)));
        secret.data.as_mut().unwrap().remove(KEY);
        assert!(!is_good(&secret, now));
    }
}
