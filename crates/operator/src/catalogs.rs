//! Asking the catalogs, which look at the repositories.
//!
//! Whatever goes wrong on the way is an answer, too: nobody knows. It is never an error, and never "there is nothing".

use std::time::Duration;

use api::decide::{Claim, Creation, Dismissal, Facts, Ledger, Location, Restore};
use api::naming::{ClaimKey, Identity};
use api::overview::{NOT_READY, Overview};
use api::v1alpha1::conditions::Reason;
use reqwest::{Client, Url};

/// A catalog gives up by itself after so long with "unknown"; this is for one that is gone.
const TIMEOUT: Duration = Duration::from_secs(90);

/// How long a connection may take: within a cluster, none does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The port of every catalog.
pub const PORT: u16 = 8080;

/// Those who can be asked.
#[derive(Clone)]
pub struct Catalogs {
    http: Client,
}

/// What is asked about a claim.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The catalog, as `http://host:port`.
    pub catalog: &'a str,
    /// What it wants to be shown.
    pub token: &'a str,
    /// The claim.
    pub claim: &'a ClaimKey,
    /// Its history.
    pub identity: &'a Identity,
    /// What is expected of its repository; the catalog writes its log by it.
    pub expected: &'a Claim,
    /// Whether a person declared the repository new.
    pub declared_new: bool,
}

impl Catalogs {
    /// A client without anything open yet.
    ///
    /// # Errors
    /// The system has no random numbers or no TLS.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy().build()?;
        Ok(Self { http })
    }

    /// What stands in the store for the claim.
    pub async fn facts(&self, question: &Question<'_>) -> Facts {
        match self.ask(question).await {
            Ok(facts) => facts,
            Err(detail) => Facts {
                secret_present: true,
                location: Location::Unreachable { detail: format!("the catalog does not answer: {detail}") },
                ledger: Ledger::Unreadable { detail: "the catalog does not answer".to_owned() },
                declared_new: false,
            },
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Facts, String> {
        let url = url(question).ok_or_else(|| format!("{} is no address", question.catalog))?;
        let answer = self.http.get(url).bearer_auth(question.token).send().await.map_err(|error| chain(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| chain(&error))?;
        if !status.is_success() {
            return Err(format!(
                "it says {status}: {}",
                String::from_utf8_lossy(&body).chars().take(200).collect::<String>()
            ));
        }
        serde_json::from_slice(&body).map_err(|error| format!("it says what makes no sense: {error}"))
    }

    /// What a catalog knows of its store as a whole; none if it does not say.
    pub async fn overview(&self, catalog: &str) -> Option<Overview> {
        let answer = self.http.get(format!("{catalog}/overview")).send().await.ok()?.error_for_status().ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// Whether a catalog is ready, and what it says if it is not.
    pub async fn ready(&self, catalog: &str) -> Result<(), (Reason, String)> {
        let unreachable = |error: reqwest::Error| (Reason::RepositoryUnreachable, chain(&error));
        let answer = self.http.get(format!("{catalog}/readyz")).send().await.map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(());
        }
        let said = answer.headers().get(NOT_READY).and_then(|said| said.to_str().ok());
        let known = [Reason::RepositoryAuth, Reason::RepositoryMissing];
        let reason = known.into_iter().find(|reason| said == Some(reason.as_str()));
        let why = answer.text().await.map_err(unreachable)?.trim().to_owned();
        Err((reason.unwrap_or(Reason::RepositoryUnreachable), why))
    }
}

fn url(question: &Question<'_>) -> Option<Url> {
    let Question { claim, identity, expected, .. } = question;
    let mut url = Url::parse(question.catalog).ok()?;
    url.path_segments_mut().ok()?.extend(["facts", claim.namespace(), claim.pvc()]);
    let mut query = url.query_pairs_mut();
    query.append_pair("username", &identity.username);
    query.append_pair("hostname", &identity.hostname);
    query.append_pair("path", &identity.path);
    if let Some(id) = &expected.pinned_repository_id {
        query.append_pair("pinned", id.as_str());
    }
    if let Some(as_of) = expected.restore_as_of {
        query.append_pair("asOf", &as_of.to_string());
    }
    let creation = match expected.creation {
        Creation::IfEmpty => "IfEmpty",
        Creation::Never => "Never",
    };
    query.append_pair("creation", creation);
    query.append_pair("ledgerExpected", if expected.ledger_expected { "true" } else { "false" });
    query.append_pair("backupExpected", if expected.backup_expected { "true" } else { "false" });
    if question.declared_new {
        query.append_pair("declaredNew", "true");
    }
    match expected.word.restore {
        Restore::IfThere => {}
        Restore::Never => drop(query.append_pair("restore", "never")),
        Restore::Force => drop(query.append_pair("restore", "force")),
    }
    match &expected.word.dismissed {
        Some(Dismissal::UpTo(moment)) => drop(query.append_pair("dismissedUpTo", &moment.to_string())),
        Some(Dismissal::Snapshot(id)) => drop(query.append_pair("dismissedSnapshot", id.as_str())),
        None => {}
    }
    if let Some(accepted) = &expected.word.accepted {
        query.append_pair("accepted", accepted.as_str());
    }
    drop(query);
    Some(url)
}

/// What went wrong and why, without the address, which the caller knows.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        let part = error.to_string();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::decide::Word;
    use api::id::{RepositoryId, SnapshotId};

    #[test]
    fn a_question_says_what_is_expected() {
        let claim = ClaimKey::new("media", "photos").unwrap();
        let identity = claim.shared_identity();
        let expected = Claim {
            pinned_repository_id: Some(RepositoryId::new("abc")),
            creation: Creation::Never,
            restore_as_of: Some("2026-11-22T06:00:00Z".parse().unwrap()),
            ..Claim::default()
        };
        let question = Question {
            catalog: "http://catalog:8080",
            token: "t",
            claim: &claim,
            identity: &identity,
            expected: &expected,
            declared_new: false,
        };
        let begin = "http://catalog:8080/facts/media/photos?username=photos&hostname=media&path=%2Fdata&pinned=abc\
                     &asOf=2026-11-22T06%3A00%3A00Z&creation=Never&ledgerExpected=false&backupExpected=false";
        assert_eq!(url(&question).unwrap().as_str(), begin);
        let word = Word {
            restore: Restore::Force,
            dismissed: Some(Dismissal::Snapshot(SnapshotId::new("k1"))),
            accepted: Some(SnapshotId::new("k2")),
        };
        let question = Question { expected: &Claim { word, ..expected.clone() }, declared_new: true, ..question };
        let said = format!("{begin}&declaredNew=true&restore=force&dismissedSnapshot=k1&accepted=k2");
        assert_eq!(url(&question).unwrap().as_str(), said);
    }
}
