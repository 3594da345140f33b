//! `perennial snapshots`.

use std::collections::BTreeMap;

use api::exit::Exit;
use clap::Args;
use repository::{Identity, Snapshot};
use serde::Serialize;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, Align};
use crate::runner::Runner;
use crate::store::{self, Cache};
use crate::{choice, source};

const EXAMPLES: &str = "\
Examples:
  perennial snapshots
  perennial snapshots --all
  perennial snapshots --source media@nas:/srv/photos --json

Records that cannot be read are named on standard error, and make the exit code 5: there may be more snapshots then.

JSON: an array, oldest first, of {id, identity: {user, host, path}, start, end, incomplete, rootId, files, directories, \
bytes, tags: {key: value}, pins: [text], description}";

/// List snapshots, oldest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only those of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE", conflicts_with = "all")]
    source: Option<String>,

    /// Those of every user and machine, not only of this one
    #[arg(long)]
    all: bool,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let client = source::client(shared);
    let wanted = arguments.source.as_deref().map(|text| source::identity(text, &client)).transpose()?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let listing = choice::list(&open.repository, &runner)?;
    let is_wanted = |snapshot: &&Snapshot| match &wanted {
        Some(identity) => snapshot.identity == *identity,
        None => {
            let Identity { user, host, .. } = &snapshot.identity;
            arguments.all || (*user == client.username && *host == client.hostname)
        }
    };
    let views: Vec<SnapshotView> = listing.snapshots.iter().filter(is_wanted).map(SnapshotView::of).collect();
    if shared.json {
        output::json(&views)?;
    } else {
        output::print(&text(&views))?;
    }
    let hidden_count = listing.snapshots.len() - views.len();
    if hidden_count > 0 && wanted.is_none() && !shared.quiet {
        let others = output::counted(hidden_count as u64, "snapshot", "snapshots");
        output::say(&format!("{others} of other users or machines: --all shows them"));
    }
    Ok(if listing.damage.is_empty() { Exit::Success } else { Exit::Damaged })
}

fn text(views: &[SnapshotView]) -> String {
    if views.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let columns = [
        ("ID", Align::Left),
        ("BEGUN", Align::Left),
        ("SIZE", Align::Right),
        ("FILES", Align::Right),
        ("SOURCE", Align::Left),
        ("", Align::Left),
    ];
    let rows: Vec<Vec<String>> = views.iter().map(SnapshotView::row).collect();
    output::table(&columns, &rows)
}

/// Whose, in JSON.
#[derive(Clone, Serialize)]
pub struct IdentityView {
    user: String,
    host: String,
    path: String,
}

impl IdentityView {
    /// The view of an identity.
    pub fn of(identity: &Identity) -> Self {
        Self { user: identity.user.clone(), host: identity.host.clone(), path: identity.path.clone() }
    }

    /// `user@host:/path`.
    pub fn text(&self) -> String {
        format!("{}@{}:{}", self.user, self.host, self.path)
    }
}

/// A snapshot in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotView {
    id: String,
    identity: IdentityView,
    start: jiff::Timestamp,
    end: jiff::Timestamp,
    /// Why it is not a complete backup; null when it is.
    incomplete: Option<String>,
    root_id: Option<String>,
    files: u64,
    directories: u64,
    bytes: u64,
    /// Without Kopia's prefix `tag:`.
    tags: BTreeMap<String, String>,
    pins: Vec<String>,
    description: String,
}

impl SnapshotView {
    fn of(snapshot: &Snapshot) -> Self {
        let root = snapshot.root.as_ref();
        let summary = root.and_then(|root| root.summary.as_ref());
        let tags = snapshot.tags.iter();
        Self {
            id: snapshot.id.to_string(),
            identity: IdentityView::of(&snapshot.identity),
            start: snapshot.start,
            end: snapshot.end,
            incomplete: snapshot.incomplete.clone(),
            root_id: root.map(|root| root.data.to_string()),
            files: summary.map_or(u64::from(root.is_some()), |summary| summary.file_count),
            directories: summary.map_or(0, |summary| summary.directory_count),
            bytes: summary.map_or(root.map_or(0, |root| root.size_bytes), |summary| summary.size_bytes),
            tags: tags
                .map(|(key, value)| (key.strip_prefix("tag:").unwrap_or(key).to_owned(), value.clone()))
                .collect(),
            pins: snapshot.pins.clone(),
            description: snapshot.description.clone(),
        }
    }

    fn row(&self) -> Vec<String> {
        let incomplete = self.incomplete.iter().map(|why| format!("incomplete: {why}"));
        let pins = self.pins.iter().map(|pin| format!("pinned: {pin}"));
        let tags = self.tags.iter().map(|(key, value)| format!("{key}:{value}"));
        let description = Some(self.description.clone()).filter(|text| !text.is_empty());
        let notes: Vec<String> = incomplete.chain(pins).chain(tags).chain(description).collect();
        vec![
            output::short_id(&self.id).to_owned(),
            output::time(self.start),
            output::bytes(self.bytes),
            output::count(self.files),
            self.identity.text(),
            notes.join(", "),
        ]
    }
}
