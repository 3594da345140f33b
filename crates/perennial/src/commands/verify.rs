//! `perennial verify`.

use api::exit::Exit;
use clap::Args;
use engine::{Finding, Severity, VerifyOptions, VerifyOutcome};
use serde::Serialize;

use crate::cli::Shared;
use crate::failure::{self, Failure};
use crate::output::{self, StorageView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::source;
use crate::store::{self, Cache};

const EXAMPLES: &str = "\
Examples:
  perennial verify
  perennial verify --read-percent 100
  perennial verify --source media@nas:/srv/photos --json

Every reference of every snapshot is followed, and every pack must be there. --read-percent reads that share of the \
contents back too, decrypts them and compares their hashes. The cache is not asked. What error correction had to repair is told: \
it is sound, and may not be for long.

JSON: {kind: \"verify\", sound, findings: [{severity: \"damaged\" | \"warning\", subject, detail, contents, affectedCount, \
affected: [{snapshot, path}]}], findingsLeftOut, snapshots, directories, files, contents, packs, contentsRead, bytesRead, \
repaired, contentsRepaired, packsUnfinished, durationMs, storage: {…as of backup}}";

/// Affected paths that the text names; the JSON has all that are known.
const AFFECTED_NAMED_MAX: usize = 10;

/// Check that everything that snapshots need is there and sound
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Share of the contents to read back, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,

    /// Only snapshots of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let client = source::client(shared);
    let identity = arguments.source.as_deref().map(|text| source::identity(text, &client)).transpose()?;
    let open = store::open(shared, &runner, Cache::Bypass)?;
    let options = VerifyOptions { read_percent: arguments.read_percent, snapshots: Vec::new(), identity };
    let progress = Progress::show(shared, &runner.run.meter);
    let result = engine::verify(&open.repository, &options, &runner.run);
    drop(progress);
    let outcome = runner.outcome(result).map_err(|failure| failure.during("verify"))?;
    if shared.json {
        output::json(&VerifyView::of(&outcome, &runner, StorageView::of(&open.calls())))?;
    } else {
        output::print(&text(&outcome, &runner, shared.quiet))?;
    }
    Ok(outcome.class().map_or(Exit::Success, failure::exit_of))
}

fn text(outcome: &VerifyOutcome, runner: &Runner, quiet: bool) -> String {
    let mut text: String = outcome.findings.iter().map(text_of_finding).collect();
    if outcome.left_out_count > 0 {
        text.push_str(&format!("and {} more\n", output::count(outcome.left_out_count)));
    }
    if quiet {
        return text;
    }
    let verdict = match (outcome.is_clean(), outcome.class()) {
        (true, _) => "everything that was looked at is sound".to_owned(),
        (false, None) => "nothing is lost".to_owned(),
        (false, Some(_)) => "damage was found".to_owned(),
    };
    let counted = |number: u64| output::count(number);
    let lines = [
        ("snapshots", counted(outcome.snapshot_count)),
        ("directories", counted(outcome.directory_count)),
        ("files", counted(outcome.file_count)),
        ("contents", counted(outcome.content_count)),
        ("packs", counted(outcome.pack_count)),
        (
            "read back",
            format!("{} contents, {}", counted(outcome.contents_read_count), output::bytes(outcome.bytes_read)),
        ),
        ("time", output::duration(runner.started.elapsed())),
    ];
    let verdict = match repaired(outcome) {
        Some(repaired) => format!("{verdict}\n{repaired}"),
        None => verdict,
    };
    format!("{text}{verdict}\n{}", output::block(&lines))
}

/// What rotted, and was repaired on the way.
fn repaired(outcome: &VerifyOutcome) -> Option<String> {
    let places = output::counted(outcome.repaired_count, "damaged place", "damaged places");
    let contents = output::counted(outcome.contents_repaired_count, "content", "contents");
    match (outcome.repaired_count, outcome.contents_repaired_count) {
        (0, _) => None,
        (_, 0) => Some(format!("error correction repaired {places} in what was read")),
        _ => Some(format!(
            "error correction repaired {places} in what was read; `perennial repair --read-percent 100` stores {contents} anew"
        )),
    }
}

/// A finding and the paths it concerns.
pub fn text_of_finding(finding: &Finding) -> String {
    let severity = severity_name(finding.severity);
    let detail = output::visible(&finding.detail);
    let mut text = format!("{severity}: {}: {detail}\n", finding.subject);
    for affected in finding.affected.iter().take(AFFECTED_NAMED_MAX) {
        let id = output::short_id(affected.snapshot.as_str());
        text.push_str(&format!("  {id}:{}\n", output::visible(&affected.path)));
    }
    let named = finding.affected.len().min(AFFECTED_NAMED_MAX) as u64;
    if named < finding.affected_count {
        text.push_str(&format!("  and {} more paths\n", output::count(finding.affected_count - named)));
    }
    text
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Damaged => "damaged",
        Severity::Warning => "warning",
    }
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyView {
    kind: &'static str,
    sound: bool,
    findings: Vec<FindingView>,
    findings_left_out: u64,
    snapshots: u64,
    directories: u64,
    files: u64,
    contents: u64,
    packs: u64,
    contents_read: u64,
    bytes_read: u64,
    repaired: u64,
    contents_repaired: u64,
    packs_unfinished: u64,
    duration_ms: u64,
    storage: StorageView,
}

/// A finding in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingView {
    severity: &'static str,
    subject: String,
    detail: String,
    contents: u64,
    affected_count: u64,
    affected: Vec<AffectedView>,
}

#[derive(Serialize)]
struct AffectedView {
    snapshot: String,
    path: String,
}

impl VerifyView {
    fn of(outcome: &VerifyOutcome, runner: &Runner, storage: StorageView) -> Self {
        Self {
            kind: "verify",
            sound: outcome.class().is_none(),
            findings: outcome.findings.iter().map(FindingView::of).collect(),
            findings_left_out: outcome.left_out_count,
            snapshots: outcome.snapshot_count,
            directories: outcome.directory_count,
            files: outcome.file_count,
            contents: outcome.content_count,
            packs: outcome.pack_count,
            contents_read: outcome.contents_read_count,
            bytes_read: outcome.bytes_read,
            repaired: outcome.repaired_count,
            contents_repaired: outcome.contents_repaired_count,
            packs_unfinished: outcome.unfinished_pack_count,
            duration_ms: output::milliseconds(runner.started.elapsed()),
            storage,
        }
    }
}

impl FindingView {
    /// The view of a finding.
    pub fn of(finding: &Finding) -> Self {
        let affected = finding.affected.iter();
        Self {
            severity: severity_name(finding.severity),
            subject: finding.subject.to_string(),
            detail: finding.detail.clone(),
            contents: finding.content_count,
            affected_count: finding.affected_count,
            affected: affected
                .map(|one| AffectedView { snapshot: one.snapshot.to_string(), path: one.path.clone() })
                .collect(),
        }
    }
}
