//! What the API server was asked, by its own audit log: how many calls a program makes, and which rights it uses.
//!
//! Each call is one line, which the API server writes before the last byte of the answer; a watch's, or that of a
//! command in a pod, when it begins. So whoever has had an answer is in the log. A request of our own ends what is read:
//! once its line is there, everything before it is. Calls of Kubernetes' own components are left out by
//! `xtask/cluster/config/audit.yaml`.

use crate::cluster::{Cluster, variable};
use anyhow::{Context, Result, bail};
use kube::client::Body;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of the API server's audit log; a foreign cluster has none.
const AUDIT: &str = "PERENNIAL_E2E_AUDIT";
/// The log that is being written. Older parts lie beside it, with a time in their names, so that names sort by age.
const CURRENT: &str = "audit.log";
const OLDER_PREFIX: &str = "audit-";

/// Who makes the requests that end a reading; they are no calls.
const MARKER_AGENT: &str = "perennial-e2e-mark";
const MARKER_PATH: &str = "/version";
/// The API server's name for a request, in its answer and in the log.
const AUDIT_ID: &str = "audit-id";

/// Longest wait for the line of a request that has been answered.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(10);

/// A place in the log. It stays good until 150 MB more have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    inode: u64,
    offset_bytes: u64,
}

/// One call, as the API server understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who: `admin`, or `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The program's own name for itself.
    pub agent: String,
    /// As rights have it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Empty for the core group.
    pub group: String,
    /// In the plural; empty for a path that is no object's, which has its verb in lower case.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for what belongs to the whole cluster, and for a call that concerns all namespaces.
    pub namespace: String,
    /// Empty for a call that concerns several, or whose object was named by the API server.
    pub name: String,
    /// The answer's status code.
    pub code: u16,
    /// Do the caller's rights permit it? What is allowed may still fail, or be refused by an admission policy.
    pub allowed: bool,
    /// Path and query.
    pub uri: String,
}

/// What a role would have to grant for a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Empty for the core group.
    pub group: String,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`.
    pub resource: String,
    /// As in [`Call::verb`].
    pub verb: String,
}

/// Calls in the order in which they were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls(Vec<Call>);

impl Cluster {
    /// The end of the log as it is now.
    pub async fn mark(&self) -> Result<Mark> {
        let log = Log::of_this_cluster()?;
        let end = log.end()?;
        Ok(self.read(log, end).await?.1)
    }

    /// All calls whose lines came after a mark, those of other tests among them.
    pub async fn calls(&self, since: Mark) -> Result<Calls> {
        let lines = self.read(Log::of_this_cluster()?, since).await?.0;
        let calls: Result<Vec<Call>> = lines.iter().map(|line| call(line)).collect();
        Ok(Calls(calls?.into_iter().filter(|call| call.agent != MARKER_AGENT).collect()))
    }

    /// The lines from `since` to that of a request made now, and the place behind it.
    async fn read(&self, log: Log, since: Mark) -> Result<(Vec<String>, Mark)> {
        let request = http::Request::get(MARKER_PATH).header(http::header::USER_AGENT, MARKER_AGENT);
        let request = request.body(Body::empty()).context("make a request")?;
        let answer = self.client.send(request).await.context("ask the API server for its version")?;
        let id = answer.headers().get(AUDIT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let id = id.with_context(|| format!("the API server's answer has no {AUDIT_ID}: it writes no audit log"))?;
        let found = tokio::time::timeout(LINE_TIMEOUT, async {
            loop {
                let (log, id) = (log.clone(), id.clone());
                let read = tokio::task::spawn_blocking(move || log.until(since, &id)).await;
                if let Some(found) = read.context("read the audit log")?? {
                    return Ok(found);
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        found.await.unwrap_or_else(|_elapsed| bail!("no line of request {id} in the audit log"))
    }
}

impl Calls {
    fn only(&self, wanted: impl Fn(&Call) -> bool) -> Self {
        Self(self.0.iter().filter(|call| wanted(call)).cloned().collect())
    }

    /// Those of a program, see [`Cluster::agent`].
    pub fn of_agent(&self, agent: &str) -> Self {
        self.only(|call| call.agent == agent)
    }

    /// Those of a service account.
    pub fn of_account(&self, namespace: &str, name: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.only(|call| call.user == user)
    }

    /// Those that concern one namespace.
    pub fn within(&self, namespace: &str) -> Self {
        self.only(|call| call.namespace == namespace)
    }

    /// How many of each kind, as [`Call`] prints itself: `list persistentvolumeclaims` → 10.
    pub fn tally(&self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for call in &self.0 {
            *tally.entry(call.to_string()).or_default() += 1;
        }
        tally
    }

    /// The rights that were used; calls that were not permitted, and paths that are no objects', are left out.
    pub fn rights(&self) -> BTreeSet<Right> {
        self.0.iter().filter(|call| call.allowed).filter_map(Call::right).collect()
    }

    /// Those that their caller has no right to.
    pub fn refused(&self) -> Self {
        self.only(|call| !call.allowed)
    }
}

impl Deref for Calls {
    type Target = [Call];

    fn deref(&self) -> &[Call] {
        &self.0
    }
}

impl Call {
    /// What a role has to grant for it; nothing for a path that is no object's.
    pub fn right(&self) -> Option<Right> {
        let resource = match (self.resource.as_str(), self.subresource.as_str()) {
            ("", _) => return None,
            (resource, "") => resource.to_owned(),
            (resource, part) => format!("{resource}/{part}"),
        };
        Some(Right { group: self.group.clone(), resource, verb: self.verb.clone() })
    }
}

/// `VERB RESOURCE[.GROUP][/SUBRESOURCE]` or `VERB URI`, and the code of a call that failed.
impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.verb)?;
        let dotted = |text: &str, mark: &str| if text.is_empty() { String::new() } else { format!("{mark}{text}") };
        match self.resource.as_str() {
            "" => write!(formatter, "{}", self.uri)?,
            resource => {
                write!(formatter, "{resource}{}{}", dotted(&self.group, "."), dotted(&self.subresource, "/"))?;
            }
        }
        if self.code >= 400 { write!(formatter, ": {}", self.code) } else { Ok(()) }
    }
}

fn call(line: &str) -> Result<Call> {
    let event: Value = serde_json::from_str(line).with_context(|| format!("decode a line of the audit log: {line}"))?;
    let object = &event["objectRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Call {
        user: text(&event["user"]["username"]),
        agent: text(&event["userAgent"]),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default(),
        allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
        uri: text(&event["requestURI"]),
    })
}

/// The log's files.
#[derive(Clone)]
struct Log {
    directory: PathBuf,
}

impl Log {
    fn of_this_cluster() -> Result<Self> {
        Ok(Self { directory: PathBuf::from(variable(AUDIT)?) })
    }

    fn end(&self) -> Result<Mark> {
        let path = self.directory.join(CURRENT);
        let found = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        Ok(Mark { inode: found.ino(), offset_bytes: found.len() })
    }

    /// The lines from `since` up to the one of request `id`, and the place behind that; nothing while it is not there.
    fn until(&self, since: Mark, id: &str) -> Result<Option<(Vec<String>, Mark)>> {
        let id = format!("\"auditID\":\"{id}\"");
        let mut lines = Vec::new();
        for (mut file, inode) in self.files_since(since.inode)? {
            let mut offset_bytes = if inode == since.inode { since.offset_bytes } else { 0 };
            let mut text = String::new();
            let read = file.seek(SeekFrom::Start(offset_bytes)).and_then(|_| file.read_to_string(&mut text));
            read.with_context(|| format!("read the audit log in {}", self.directory.display()))?;
            // The last line may be half written.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                offset_bytes += line.len() as u64;
                if line.contains(&id) {
                    return Ok(Some((lines, Mark { inode, offset_bytes })));
                }
                lines.push(line.to_owned());
            }
        }
        Ok(None)
    }

    /// The file of that number and all that are younger, oldest first.
    fn files_since(&self, inode: u64) -> Result<Vec<(File, u64)>> {
        loop {
            let names = self.names()?;
            let opened: Result<Vec<(File, u64)>> = names.iter().map(|name| open(&self.directory.join(name))).collect();
            // A log that became an old one meanwhile would be missing.
            if self.names()? != names {
                continue;
            }
            let opened = opened?;
            let Some(first) = opened.iter().position(|(_, found)| *found == inode) else {
                bail!("the audit log has no place for what was written since that mark: mark later");
            };
            return Ok(opened.into_iter().skip(first).collect());
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.directory);
        let entries = entries.with_context(|| format!("list {}", self.directory.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(OLDER_PREFIX)).collect();
        names.sort();
        names.push(CURRENT.to_owned());
        Ok(names)
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let inode = file.metadata().with_context(|| format!("look at {}", path.display()))?.ino();
    Ok((file, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_call_that_prints_itself() {
        let line = r#"{"kind":"Event","level":"Metadata","auditID":"1","stage":"ResponseComplete",
            "requestURI":"/apis/batch/v1/namespaces/a/jobs/j/status?x=y","verb":"patch",
            "user":{"username":"system:serviceaccount:a:mover","groups":[]},"userAgent":"tool/1",
            "objectRef":{"resource":"jobs","namespace":"a","name":"j","apiGroup":"batch","subresource":"status"},
            "responseStatus":{"code":403},"annotations":{"authorization.k8s.io/decision":"forbid"}}"#;
        let call = call(line).unwrap();
        assert_eq!(call.to_string(), "patch jobs.batch/status: 403");
        let calls = Calls(vec![call]);
        assert_eq!(calls.of_account("a", "mover").len(), 1);
        assert_eq!((calls.refused().len(), calls.rights().len(), calls.of_agent("tool").len()), (1, 0, 0));
    }

    #[test]
    fn a_mark_is_found_again_when_its_file_has_become_an_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log { directory: directory.path().to_owned() };
        let line = |id: &str| format!("{{\"auditID\":\"{id}\"}}\n");
        let current = directory.path().join(CURRENT);
        std::fs::write(&current, line("before")).unwrap();
        let mark = log.end().unwrap();
        assert!(log.until(mark, "last").unwrap().is_none());
        std::fs::write(&current, line("before") + &line("one")).unwrap();
        std::fs::rename(&current, directory.path().join("audit-2000.log")).unwrap();
        std::fs::write(&current, line("two") + &line("last") + "{\"auditID\"").unwrap();
        let (lines, end) = log.until(mark, "last").unwrap().unwrap();
        assert_eq!(lines, [line("one"), line("two")]);
        assert_eq!(log.until(mark, "two").unwrap().unwrap().0, [line("one")]);
        std::fs::write(&current, line("two") + &line("last") + &line("after")).unwrap();
        assert_eq!(log.until(end, "after").unwrap().unwrap().0, [""; 0]);
        std::fs::remove_file(directory.path().join("audit-2000.log")).unwrap();
        assert!(log.until(mark, "last").is_err());
    }
}
