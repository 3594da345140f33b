//! The nine steps.

use std::path::PathBuf;
use std::time::Duration;

use api::decide::{Creation, Decision, HoldReason};
use api::id::SnapshotId;
use api::mover::{BackupTask, Layout, Outcome, Report, RestoreTask, Selection, Task};
use api::naming::ClaimKey;
use api::retain::Retain;

use super::app::{App, Database, Files, Media, Own};
use super::child::Ended;
use super::error::DemoError;
use super::keep::{self, KeptView};
use super::manifest::{Comparison, Manifest, Owners, compare};
use super::narrator::Narrator;
use super::world::{Claim, EMPTY_BUCKET, Figures, Keys, NAMESPACE, World, new_volume};
use crate::failure::Failure;
use crate::output::{self, Align, bytes, count, duration};

/// A backup is killed when so many new packs are in the bucket.
const KILL_AFTER_PACKS: u64 = 2;
/// A restore is killed when so many files are in the volume.
const KILL_AFTER_FILES: u64 = 2_500;
/// How often a mover may be too quick to be killed.
const KILL_ATTEMPTS: u32 = 5;
/// The claim whose backup is killed, and the one whose restore is.
const KILLED_BACKUP: &str = "media";
const KILLED_RESTORE: &str = "files";

/// Who takes part.
pub struct Story {
    world: World,
    narrator: Narrator,
    pub claims: Vec<Claim>,
    owners: Owners,
    kept: Vec<KeptView>,
}

impl Story {
    /// Everyone in place, nothing told yet.
    pub fn new(world: World, narrator: Narrator, own: Option<PathBuf>) -> Result<Self, Failure> {
        let is_root = rustix::process::geteuid().is_root();
        let made: [Box<dyn App>; 3] =
            [Box::<Database>::default(), Box::<Media>::default(), Box::new(Files { is_root })];
        let mut claims = Vec::new();
        for app in made {
            let volume = world.volume(app.name());
            new_volume(&volume)?;
            claims.push(claim(app, volume.clone(), volume)?);
        }
        if let Some(source) = own {
            if world.root().starts_with(std::fs::canonicalize(&source).unwrap_or_else(|_| source.clone())) {
                let what = format!("{} holds {}, where the demo works", source.display(), world.root().display());
                return Err(Failure::usage(what, "name another directory, or set TMPDIR"));
            }
            let target = world.volume(Own.name());
            claims.push(claim(Box::new(Own), source, target)?);
        }
        let owners = if is_root { Owners::Compare } else { Owners::Skip };
        Ok(Self { world, narrator, claims, owners, kept: Vec::new() })
    }

    /// From the first to the last step.
    pub fn tell(&mut self) -> Result<(), Failure> {
        self.opening()?;
        self.nothing_yet()?;
        self.first_backups()?;
        self.edits()?;
        self.second_backups()?;
        self.disaster()?;
        self.wrong_settings()?;
        self.recovery()?;
        self.killed_backup()?;
        self.killed_restore()?;
        self.verify()
    }

    fn opening(&self) -> Result<(), Failure> {
        let narrator = &self.narrator;
        narrator
            .print(&format!("{}\n\n", narrator.bold("perennial demo: backup, loss and recovery on one machine")))?;
        narrator.say(&format!(
            "{} claims with their volumes, an S3 server at {} and a catalog at http://{}, all in {}. Each backup and each \
             restore is a mover: a process of its own that gets a task and answers with a report, as its Job in a cluster.",
            self.claims.len(),
            self.world.endpoint(),
            self.world.catalog_address(),
            self.world.root().display(),
        ))
    }

    fn nothing_yet(&mut self) -> Result<(), Failure> {
        self.narrator.step("New claims: is there a backup to start from?")?;
        self.narrator.say(
            "The catalog looks into the bucket now, and what it finds decides. A volume may start empty only with a proof \
             that nothing is lost.",
        )?;
        for claim in &self.claims {
            let decision = self.world.decide(claim)?;
            match &decision {
                Decision::Fresh { proof } => self.narrator.good(&shown(claim), &format!("Fresh: {proof}"))?,
                _ => return Err(unexpected(claim, "decide on a new claim", "Fresh", &decision)),
            }
        }
        Ok(())
    }

    fn first_backups(&mut self) -> Result<(), Failure> {
        self.narrator.step("The apps write their first data, and it is backed up")?;
        for claim in &mut self.claims {
            claim.app.fill(&claim.source)?;
            let (report, took) = backup(&self.world, claim)?;
            claim.figures.first_backup = took;
            claim.figures.first_bytes = report.new_bytes;
            let text = format!(
                "{}, {} in {}; {} stored",
                output::counted(report.files, "file", "files"),
                bytes(report.bytes),
                duration(took),
                bytes(report.new_bytes)
            );
            self.narrator.good(&shown(claim), &text)?;
        }
        Ok(())
    }

    fn edits(&mut self) -> Result<(), Failure> {
        self.narrator.step("A day of use")?;
        for claim in &mut self.claims {
            let edit = claim.app.edit(&claim.source)?;
            claim.figures.changed_bytes = edit.changed_bytes;
            self.narrator.good(&shown(claim), &edit.what)?;
        }
        Ok(())
    }

    fn second_backups(&mut self) -> Result<(), Failure> {
        self.narrator.step("The second backups store what is new, and nothing twice")?;
        for claim in &mut self.claims {
            let (report, took) = backup(&self.world, claim)?;
            claim.figures.second_bytes = report.new_bytes;
            (claim.figures.files, claim.figures.bytes) = (report.files, report.bytes);
            let changed = match claim.figures.changed_bytes {
                Some(changed) => format!("{} changed", bytes(changed)),
                None => "nothing changed".to_owned(),
            };
            let text = format!(
                "{changed} of {}; {} stored in {}",
                bytes(report.bytes),
                bytes(report.new_bytes),
                duration(took)
            );
            self.narrator.good(&shown(claim), &text)?;
        }
        Ok(())
    }

    fn disaster(&mut self) -> Result<(), Failure> {
        self.narrator.step("Disaster: the volumes are gone, and the storage is down")?;
        for claim in &mut self.claims {
            claim.app.stop();
            new_volume(&claim.target)?;
        }
        self.world.stop_storage();
        self.narrator.say(
            "The claims are made anew, as after the loss of a cluster. The S3 server refuses connections: an app that got an \
             empty volume now would start over as if it had never had data, and back that up.",
        )?;
        for (position, claim) in self.claims.iter().enumerate() {
            let decision = self.world.decide(claim)?;
            expect_hold(claim, "decide while the storage is down", HoldReason::RepositoryUnreachable, &decision)?;
            let text = if position == 0 { pending(&decision) } else { "the same".to_owned() };
            self.narrator.held(&shown(claim), &text)?;
        }
        Ok(())
    }

    fn wrong_settings(&mut self) -> Result<(), Failure> {
        self.world.start_storage()?;
        self.narrator.step("The storage is back, but the settings are wrong")?;
        self.narrator.say("Each of these looks like \"no backup\" to a program that does not look closely.")?;
        let good = &self.world.keys;
        let wrong = |text: &str| format!("{text}-wrong");
        let cases = [
            ("no such bucket", Keys { bucket: wrong(&good.bucket), ..good.clone() }, HoldReason::RepositoryMissing),
            (
                "another, empty bucket",
                Keys { bucket: EMPTY_BUCKET.to_owned(), ..good.clone() },
                HoldReason::RepositoryMissing,
            ),
            (
                "wrong secret key",
                Keys { secret_access_key: wrong(&good.secret_access_key), ..good.clone() },
                HoldReason::RepositoryAuth,
            ),
            ("wrong password", Keys { password: wrong(&good.password), ..good.clone() }, HoldReason::RepositoryAuth),
        ];
        let Some(claim) = self.claims.first() else { return Ok(()) };
        for (what, keys, reason) in cases {
            let decision = self.world.decide_with(&keys, claim)?;
            expect_hold(claim, what, reason, &decision)?;
            self.narrator.held(what, &pending(&decision))?;
        }
        Ok(())
    }

    fn recovery(&mut self) -> Result<(), Failure> {
        self.narrator.step("The settings are right again: everything comes back by itself")?;
        let owners = match self.owners {
            Owners::Compare => " owner,",
            Owners::Skip => "",
        };
        self.narrator.say(&format!(
            "Every entry is compared with what the volume held at its last backup: name, kind, bytes, mode,{owners} link \
             target, hard links, attributes, and time to the nanosecond."
        ))?;
        for claim in &mut self.claims {
            let (decision, task) = restore_task(&self.world, claim)?;
            let ended = finished(&self.world, &task, claim)?;
            let report = complete(claim, "restore", &ended)?;
            claim.figures.restore = ended.took;
            let comparison = compared(claim, self.owners)?;
            claim.figures.compared = comparison.entry_count;
            let text = format!(
                "{decision}: {}, {} in {}",
                output::counted(report.files, "file", "files"),
                bytes(report.bytes),
                duration(ended.took)
            );
            self.narrator.good(&shown(claim), &text)?;
            let equal = format!("{} entries compared, all equal", count(comparison.entry_count));
            self.narrator.good("", &equal)?;
            if let Some(said) = claim.app.accept(&claim.target)? {
                self.narrator.good("", &said)?;
            }
        }
        Ok(())
    }

    fn killed_backup(&mut self) -> Result<(), Failure> {
        self.narrator.step("Movers are killed in the middle of their work (SIGKILL)")?;
        let Self { world, narrator, claims, owners, .. } = self;
        let Some(claim) = claims.iter_mut().find(|claim| claim.app.name() == KILLED_BACKUP) else { return Ok(()) };
        for _ in 0..KILL_ATTEMPTS {
            claim.app.replace(&claim.source)?;
            claim.manifest = Manifest::of(&claim.source)?;
            let (before, _) = world.objects(&claim.key, "p");
            let mover = world.programs.mover(&backup_task(claim), &world.secret(Some(&claim.key), &world.keys))?;
            let key = &claim.key;
            let ended = world.programs.wait(mover, &mut || world.objects(key, "p").0 >= before + KILL_AFTER_PACKS)?;
            if ended.report.is_some() {
                continue;
            }
            let packs = world.objects(&claim.key, "p").0 - before;
            narrator
                .held(&shown(claim), &format!("its backup is killed when {packs} of its packs are in the bucket"))?;
            let verified = world.verify(&claim.key, 0)?;
            let text = format!(
                "the repository is as good as before: {} snapshots and {} contents, all there",
                count(verified.snapshot_count),
                count(verified.content_count)
            );
            narrator.good("", &text)?;
            let (report, took) = backup(world, claim)?;
            let text = format!(
                "the next backup is complete: {}, {} stored in {}",
                bytes(report.bytes),
                bytes(report.new_bytes),
                duration(took)
            );
            narrator.good("", &text)?;
            new_volume(&claim.target)?;
            let (_, task) = restore_task(world, claim)?;
            complete(claim, "restore", &finished(world, &task, claim)?)?;
            let comparison = compared(claim, *owners)?;
            return narrator
                .good("", &format!("and restores: {} entries compared, all equal", count(comparison.entry_count)));
        }
        Err(too_quick(claim, "backup"))
    }

    fn killed_restore(&mut self) -> Result<(), Failure> {
        let Self { world, narrator, claims, owners, .. } = self;
        let Some(claim) = claims.iter_mut().find(|claim| claim.app.name() == KILLED_RESTORE) else { return Ok(()) };
        for _ in 0..KILL_ATTEMPTS {
            new_volume(&claim.target)?;
            let (_, task) = restore_task(world, claim)?;
            let mover = world.programs.mover(&task, &world.secret(Some(&claim.key), &world.keys))?;
            let target = claim.target.clone();
            let ended = world.programs.wait(mover, &mut || file_count(&target) >= KILL_AFTER_FILES)?;
            if ended.report.is_some() {
                continue;
            }
            let there = file_count(&claim.target);
            let text = format!(
                "its restore is killed when {} of {} files are there",
                count(there),
                count(claim.manifest.file_count())
            );
            narrator.held(&shown(claim), &text)?;
            let ended = finished(world, &task, claim)?;
            complete(claim, "restore", &ended)?;
            let comparison = compared(claim, *owners)?;
            let text = format!(
                "the next restore carries on and is complete after {}: {} entries compared, all equal",
                duration(ended.took),
                count(comparison.entry_count)
            );
            return narrator.good("", &text);
        }
        Err(too_quick(claim, "restore"))
    }

    fn verify(&mut self) -> Result<(), Failure> {
        self.narrator.step("The repositories are verified, and every byte in them is read back")?;
        for claim in &self.claims {
            let verified = self.world.verify(&claim.key, 100)?;
            let text = format!(
                "{}: {} directories, {} files; {} contents ({}) read and checked, nothing wrong",
                output::counted(verified.snapshot_count, "snapshot", "snapshots"),
                count(verified.directory_count),
                count(verified.file_count),
                count(verified.contents_read_count),
                bytes(verified.bytes_read)
            );
            self.narrator.good(&shown(claim), &text)?;
        }
        Ok(())
    }

    /// `--keep`.
    pub fn keep(&mut self) -> Result<Vec<KeptView>, Failure> {
        self.kept = keep::keep(&self.world, &self.claims)?;
        self.world.keep();
        Ok(self.kept.clone())
    }

    /// The closing table.
    pub fn close(&self, took: Duration, is_quiet: bool) -> Result<(), Failure> {
        let columns = [
            ("CLAIM", Align::Left),
            ("FILES", Align::Right),
            ("SIZE", Align::Right),
            ("FIRST BACKUP", Align::Right),
            ("STORED", Align::Right),
            ("SECOND STORED", Align::Right),
            ("RESTORE", Align::Right),
            ("COMPARED", Align::Right),
        ];
        let row = |claim: &Claim| {
            let figures = &claim.figures;
            vec![
                claim.key.to_string(),
                count(figures.files),
                bytes(figures.bytes),
                duration(figures.first_backup),
                bytes(figures.first_bytes),
                bytes(figures.second_bytes),
                duration(figures.restore),
                count(figures.compared),
            ]
        };
        let rows: Vec<_> = self.claims.iter().map(row).collect();
        output::print(&format!("\n{}", output::table(&columns, &rows)))?;
        if !is_quiet {
            output::print(&keep::text(&self.kept, &self.narrator))?;
        }
        let words = self.narrator.bold("everything equal");
        output::print(&format!("\n{words}, after {}\n", duration(took)))
    }

    /// Of the programs, for when something went wrong.
    pub fn last_words(&self) -> Vec<String> {
        self.world.last_words()
    }
}

fn claim(app: Box<dyn App>, source: PathBuf, target: PathBuf) -> Result<Claim, Failure> {
    let key = ClaimKey::new(NAMESPACE, app.name()).expect("the demo's own names are names");
    Ok(Claim { key, app, source, target, repository: None, manifest: Manifest::default(), figures: Figures::default() })
}

fn shown(claim: &Claim) -> String {
    claim.key.to_string()
}

/// As the claim in the cluster shows it.
fn pending(decision: &Decision) -> String {
    match decision {
        Decision::Hold { reason, detail } => format!("Pending, {reason}: {detail}"),
        Decision::Restore { .. } | Decision::Fresh { .. } => decision.to_string(),
    }
}

fn expect_hold(claim: &Claim, what: &str, due: HoldReason, decision: &Decision) -> Result<(), Failure> {
    match decision {
        Decision::Hold { reason, .. } if *reason == due => Ok(()),
        _ => Err(unexpected(claim, what, &format!("Pending, {due}"), decision)),
    }
}

fn unexpected(claim: &Claim, what: &str, expected: &str, found: &Decision) -> Failure {
    let step = format!("{}: {what}", claim.key);
    DemoError::Unexpected { step, expected: expected.to_owned(), found: found.to_string() }.into()
}

fn too_quick(claim: &Claim, what: &str) -> Failure {
    DemoError::Unexpected {
        step: format!("{}: kill its {what}", claim.key),
        expected: "a mover at work".to_owned(),
        found: format!("it was done before that, {KILL_ATTEMPTS} times"),
    }
    .into()
}

/// Notes what is there, and backs it up.
fn backup(world: &World, claim: &mut Claim) -> Result<(Report, Duration), Failure> {
    claim.manifest = Manifest::of(&claim.source)?;
    let task = backup_task(claim);
    let ended = finished(world, &task, claim)?;
    let report = complete(claim, "backup", &ended)?;
    claim.repository = report.repository.clone();
    let found = (claim.manifest.file_count(), claim.manifest.bytes());
    if found != (report.files, report.bytes) {
        return Err(DemoError::Unexpected {
            step: format!("{}: backup", claim.key),
            expected: format!("{} files with {} bytes", found.0, found.1),
            found: format!("{} files with {} bytes", report.files, report.bytes),
        }
        .into());
    }
    Ok((report, ended.took))
}

fn backup_task(claim: &Claim) -> Task {
    Task::Backup(BackupTask {
        claim: claim.key.clone(),
        identity: claim.key.shared_identity(),
        data: claim.source.clone(),
        layout: Layout::PerClaim,
        ledger: true,
        cluster: None,
        compression: None,
        parallelism: None,
        retain: Retain::default(),
        expected_repository_id: claim.repository.clone(),
        creation: if claim.repository.is_some() { Creation::Never } else { Creation::IfEmpty },
        no_maintenance: false,
        accepted: None,
        disregarded: None,
    })
}

/// Decides, which must say "restore", and makes the task of it.
fn restore_task(world: &World, claim: &Claim) -> Result<(String, Task), Failure> {
    let decision = world.decide_patiently(claim)?;
    let Decision::Restore { snapshot } = &decision else {
        return Err(unexpected(claim, "decide with everything in place", "Restore", &decision));
    };
    let words = format!("Restore of {}", output::short_id(snapshot.id.as_str()));
    Ok((words, task_of(claim, snapshot.id.clone())))
}

fn task_of(claim: &Claim, snapshot: SnapshotId) -> Task {
    Task::Restore(RestoreTask {
        claim: claim.key.clone(),
        identity: claim.key.shared_identity(),
        data: claim.target.clone(),
        layout: Layout::PerClaim,
        ledger: true,
        cluster: None,
        parallelism: None,
        expected_repository_id: claim.repository.clone(),
        selection: Selection::Id(snapshot),
        may_be_nothing: false,
        delete_extra: false,
    })
}

/// Runs a mover to its end.
fn finished(world: &World, task: &Task, claim: &Claim) -> Result<Ended, Failure> {
    let mover = world.programs.mover(task, &world.secret(Some(&claim.key), &world.keys))?;
    Ok(world.programs.wait(mover, &mut || false)?)
}

/// Its report, which must say "complete".
fn complete(claim: &Claim, what: &str, ended: &Ended) -> Result<Report, Failure> {
    match &ended.report {
        Some(report) if report.outcome == Outcome::Complete && ended.status.success() => Ok(report.clone()),
        report => Err(DemoError::Unexpected {
            step: format!("{}: {what}", claim.key),
            expected: "a complete one".to_owned(),
            found: match report {
                Some(report) => format!(
                    "{:?}, {} paths unreadable {:?}",
                    report.outcome, report.unreadable.count, report.unreadable.paths
                ),
                None => format!("no report, {}", ended.status),
            },
        }
        .into()),
    }
}

/// Holds what was restored against what was there.
fn compared(claim: &Claim, owners: Owners) -> Result<Comparison, Failure> {
    let comparison = compare(&claim.manifest, &Manifest::of(&claim.target)?, owners);
    match comparison.differences.first() {
        None => Ok(comparison),
        Some(first) => Err(DemoError::Differs {
            claim: claim.key.to_string(),
            count: comparison.differences.len() as u64,
            first: first.clone(),
        }
        .into()),
    }
}

/// Files below a directory that is being written.
fn file_count(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let mut found = 0;
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found += file_count(&entry.path()),
            Ok(kind) if kind.is_file() => found += 1,
            _ => {}
        }
    }
    found
}
