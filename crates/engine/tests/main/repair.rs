//! Repairing damaged repositories: what comes back, what is named as lost, and that a second run changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use engine::{RepairOptions, RepairOutcome, VerifyOptions, repair, verify};
use repository::{Clock, SystemClock};
use repository_kopia::{ControlRepair, OpenError, Remedy, RepairMode};
use storage::Storage;
use testkit::{Fault, FaultStore, MemoryStore, Moment};

use crate::golden::{damaged, golden, memory_of, open_for_repair, open_store};

const DATA: &str = "p86a8434ebe97513854114bf8a26b8215-seb88d81eafb03cb6147";
const METADATA: &str = "qb06d1a264f994844437f0380feafd4ac-seb88d81eafb03cb6147";
const INDEX: &str = "xn0_5bc011ecc34b6c476323f230a066487c-seb88d81eafb03cb6147-c1";
const KEEP: RepairOptions =
    RepairOptions { dry_run: false, accept_loss: false, include_dropped: false, read_percent: 100 };
const GIVE_UP: RepairOptions = RepairOptions { accept_loss: true, ..KEEP };

struct Repaired {
    control: Vec<ControlRepair>,
    outcome: RepairOutcome,
}

impl Repaired {
    /// What was done and what is left, a line each.
    fn lines(&self) -> Vec<String> {
        let control = self.control.iter().map(|repair| {
            let remedy = match &repair.remedy {
                Remedy::Recovered(from) => format!("recovered: {from}"),
                Remedy::Replaced(with) => format!("replaced: {with}"),
                Remedy::NeedsConsent(what) => format!("needs consent: {what}"),
            };
            format!("{}: {}: {remedy}", repair.object, repair.problem)
        });
        let actions = self.outcome.actions.iter().map(ToString::to_string);
        let left = self.outcome.left.iter().map(|left| format!("left: {left}"));
        control.chain(actions).chain(left).collect()
    }
}

fn run(store: Arc<dyn Storage>, options: &RepairOptions) -> Result<Repaired, String> {
    let mode = RepairMode { dry_run: options.dry_run, accept_loss: options.accept_loss };
    let (opened, control) = open_for_repair(store, mode).map_err(|error| error.to_string())?;
    let outcome = repair(&opened.repository, options, &opened.run).map_err(|error| error.to_string())?;
    Ok(Repaired { control, outcome })
}

/// Repairs, says what was done, and proves that looking changes nothing and that a second run does not either.
#[track_caller]
fn check(store: &MemoryStore, options: &RepairOptions, expected: &[&str]) -> Repaired {
    let before = store.contents();
    run(Arc::new(store.clone()), &RepairOptions { dry_run: true, ..*options }).unwrap();
    assert_eq!(names_of(&store.contents()), names_of(&before), "a dry run writes nothing");
    let repaired = run(Arc::new(store.clone()), options).unwrap();
    let lines = repaired.lines();
    let matches =
        lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected));
    assert!(matches, "{lines:#?} instead of {expected:#?}");
    let after = store.contents();
    for (name, bytes) in &before {
        let kept = after.get(name) == Some(bytes) || after.iter().any(|(other, kept)| other != name && kept == bytes);
        assert!(kept, "{name} is nowhere any more");
    }
    let again = run(Arc::new(store.clone()), options).unwrap();
    assert!(again.outcome.actions.is_empty() && again.control.is_empty(), "{:#?}", again.lines());
    assert!(store.contents() == after, "a second run changes something");
    repaired
}

fn names_of(objects: &BTreeMap<String, Bytes>) -> Vec<(&String, usize)> {
    objects.iter().map(|(name, bytes)| (name, bytes.len())).collect()
}

/// Everything in the one snapshot verifies, every byte.
#[track_caller]
fn assert_whole(store: &MemoryStore) {
    let opened = open_store(Arc::new(store.clone()), 2);
    let options = VerifyOptions { read_percent: 100, ..VerifyOptions::default() };
    let outcome = verify(&opened.repository, &options, &opened.run).unwrap();
    assert!(outcome.is_clean(), "{:#?}", outcome.findings);
    assert_eq!((outcome.snapshot_count, outcome.file_count), (1, 6));
}

fn damaged_store(name: &str) -> MemoryStore {
    memory_of(&damaged(name))
}

fn whole_store() -> MemoryStore {
    memory_of(&golden("default"))
}

#[test]
fn a_lost_index_comes_back_from_the_packs() {
    let back = [
        format!("back in the index: 6 contents of pack {DATA}"),
        format!("back in the index: 3 contents of pack {METADATA}"),
    ];
    let aside = format!("set aside: {INDEX}: it does not decrypt");
    let store = damaged_store("missing-index");
    check(&store, &KEEP, &[&back[0], &back[1]]);
    assert_whole(&store);
    for name in ["flipped-byte-in-index", "truncated-index"] {
        let store = damaged_store(name);
        check(&store, &KEEP, &[&back[0], &back[1], &aside]);
        assert_whole(&store);
        let kept = store.names().into_iter().find(|name| name.ends_with(INDEX)).unwrap();
        assert!(kept.starts_with("aside_"), "{kept}");
    }
}

#[test]
fn all_index_blobs_gone_or_unreadable_is_no_end() {
    let store = whole_store();
    let index: Vec<String> = store.names().into_iter().filter(|name| name.starts_with("xn")).collect();
    let unreadable = store.fork();
    for name in &index {
        store.lose(name);
        unreadable.tamper(name, "no index");
    }
    let repaired = run(Arc::new(store.clone()), &KEEP).unwrap();
    assert!(repaired.outcome.after.is_clean(), "{:#?}", repaired.lines());
    assert_whole(&store);
    run(Arc::new(unreadable.clone()), &KEEP).unwrap();
    assert_whole(&unreadable);
}

#[test]
fn what_is_gone_leaves_the_index_and_the_snapshots_stay() {
    let lost = |count: usize| {
        format!("lost, to be stored again by the next backup that has them: {count} contents of pack {DATA}")
    };
    for (name, count, paths) in [("missing-pack", 6, 6), ("truncated-pack", 3, 3), ("flipped-byte-in-pack", 1, 1)] {
        let store = damaged_store(name);
        let repaired = check(&store, &KEEP, &[&lost(count)]);
        let affected: u64 = repaired.outcome.after.findings.iter().map(|finding| finding.affected_count).sum();
        assert_eq!(affected, paths, "{name}: {:#?}", repaired.outcome.after.findings);
        assert_eq!(repaired.outcome.after.snapshot_count, 1);
    }
}

#[test]
fn unreadable_records_are_given_up_only_when_asked() {
    let store = damaged_store("missing-metadata-pack");
    let struck = format!("lost, to be stored again by the next backup that has them: 2 contents of pack {METADATA}");
    let record = "snapshots and policies recorded in content m27da4f22df2ae1e94371dc385e170e7f";
    let left = format!("left: {record} cannot be read");
    let repaired = check(&store, &KEEP, &[&struck, &left]);
    assert!(repaired.outcome.after.class().is_some());
    let given_up = "given up: the snapshots and policies recorded in content m27da4f22df2ae1e94371dc385e170e7f";
    let repaired = check(&store, &GIVE_UP, &[given_up]);
    assert!(repaired.outcome.after.is_clean(), "{:#?}", repaired.outcome.after.findings);
}

#[test]
fn a_flipped_format_blob_is_what_it_was() {
    let store = damaged_store("flipped-format-blob");
    check(&store, &KEEP, &["kopia.repository: it does not open: recovered: one changed character was undone"]);
    assert_eq!(store.contents()["kopia.repository"], whole_store().contents()["kopia.repository"]);
    assert_whole(&store);
}

#[test]
fn a_lost_format_blob_comes_back_from_a_copy_and_no_other_password_opens_it() {
    let store = memory_of(&golden("format1-upgraded"));
    let stored = store.contents()["kopia.repository"].clone();
    store.lose("kopia.repository");
    let repaired = run(Arc::new(store.clone()), &KEEP).unwrap();
    assert_eq!(repaired.control.len(), 1);
    assert!(repaired.outcome.after.is_clean(), "{:#?}", repaired.outcome.after.findings);
    let copy: serde_json::Value = serde_json::from_slice(&store.contents()["kopia.repository"]).unwrap();
    let original: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(copy["uniqueID"], original["uniqueID"]);
    let lost = whole_store();
    lost.lose("kopia.repository");
    let error = run(Arc::new(lost), &KEEP).err().unwrap();
    assert!(error.contains("there is no kopia.repository"), "{error}");
}

#[test]
fn damaged_settings_are_replaced_by_safe_ones() {
    let store = whole_store();
    let blobcfg = store.contents()["kopia.blobcfg"].clone();
    let mut flipped = blobcfg.to_vec();
    flipped[20] ^= 0x40;
    store.tamper("kopia.blobcfg", flipped);
    store.tamper("kopia.maintenance", "no schedule");
    check(
        &store,
        &KEEP,
        &["kopia.blobcfg: it does not decrypt: recovered", "kopia.maintenance: it does not decrypt: replaced"],
    );
    assert_eq!(store.contents()["kopia.blobcfg"], blobcfg);
    store.tamper("kopia.blobcfg", "nothing of use");
    let asked = run(Arc::new(store.clone()), &KEEP).unwrap();
    assert!(matches!(asked.control[0].remedy, Remedy::NeedsConsent(_)));
    check(&store, &GIVE_UP, &["kopia.blobcfg: it does not decrypt: replaced"]);
    assert_whole(&store);
}

#[test]
fn a_dropped_content_stays_dropped_unless_a_snapshot_needs_it() {
    // Everything in the packs is older than the watermark, and the index knows none of it.
    let store = whole_store();
    let index = store.names().into_iter().find(|name| name.starts_with("xn0_5bc011")).unwrap();
    store.lose(&index);
    store.tamper("xw1900000000", "deletion-watermark");
    let repaired = check(&store, &KEEP, &["left: 9 contents that were dropped on purpose"]);
    assert_eq!(repaired.outcome.after.snapshot_count, 0);
    let all = RepairOptions { include_dropped: true, ..KEEP };
    let repaired = run(Arc::new(store.clone()), &all).unwrap();
    assert_eq!(repaired.outcome.after.snapshot_count, 1, "{:#?}", repaired.lines());
    assert_whole(&store);
}

#[test]
fn open_sessions_are_left_alone() {
    let store = damaged_store("missing-index");
    store.set_now(SystemClock.now());
    store.tamper("s00000000000000000000000000000000-seb88d81eafb03cb6147", "a marker");
    check(&store, &KEEP, &[]);
    let unreadable = damaged_store("flipped-byte-in-index");
    unreadable.set_now(SystemClock.now());
    unreadable.tamper("s00000000000000000000000000000000-seb88d81eafb03cb6147", "a marker");
    check(&unreadable, &KEEP, &[&format!("left: index blob {INDEX} stays where it is: the session")]);
}

#[test]
fn a_marker_far_ahead_and_foreign_objects_do_no_harm() {
    let store = whole_store();
    for (name, bytes) in
        [("xe18446744073709551615", "epoch-marker"), ("photo.jpg", "?"), ("x", ""), ("xn", "x"), ("_", "")]
    {
        store.tamper(name, bytes);
    }
    check(&store, &KEEP, &[]);
    assert_whole(&store);
}

#[test]
fn two_losses_at_once() {
    let store = damaged_store("flipped-byte-in-index");
    let mut pack = store.contents()[METADATA].to_vec();
    pack.truncate(pack.len() / 2);
    store.tamper(METADATA, pack);
    let blind = format!("left: what pack {METADATA} holds is unknown");
    let stays = format!("left: index blob {INDEX} stays where it is: it may be the only one");
    let back = format!("back in the index: 6 contents of pack {DATA}");
    check(&store, &KEEP, &[&back, &stays, &blind]);
    let repaired = check(&store, &GIVE_UP, &[&format!("set aside: {INDEX}"), &blind]);
    assert!(repaired.outcome.after.class().is_none(), "{:#?}", repaired.outcome.after.findings);
}

#[test]
fn keys_of_another_repository_are_not_taken_for_damage() {
    let store = whole_store();
    let other = memory_of(&golden("v3-zstd")).contents()["kopia.repository"].clone();
    store.tamper("kopia.repository", other);
    let mode = RepairMode { dry_run: false, accept_loss: true };
    let before = store.contents();
    let error = open_for_repair(Arc::new(store.clone()), mode).err().unwrap();
    assert!(
        matches!(error, OpenError::ForeignIndex { .. } | OpenError::DamagedBlobcfg(_) | OpenError::WrongPassword),
        "{error}"
    );
    assert_eq!(names_of(&store.contents()), names_of(&before));
}

/// Whatever call fails, loses its reply or is the last: what could be read before can be read after, and the next run ends
/// where an undisturbed one ends.
#[test]
fn a_run_that_breaks_off_does_no_harm_and_the_next_one_ends_it() {
    // Every call of the first; of the others, which have most calls in common with it, some.
    for (name, options, step) in [
        ("flipped-byte-in-index", RepairOptions { read_percent: 0, ..KEEP }, 1),
        ("missing-metadata-pack", RepairOptions { read_percent: 0, ..GIVE_UP }, 3),
        ("flipped-format-blob", RepairOptions { read_percent: 0, ..KEEP }, 4),
    ] {
        let start = damaged_store(name);
        let undisturbed = start.fork();
        let ended = run(Arc::new(undisturbed.clone()), &options).unwrap().outcome.after;
        let once = FaultStore::each_operation_of(start.fork(), |store| {
            run(store, &options).unwrap();
        });
        // A call that was not made leaves no more behind than one whose reply was lost.
        let once: Vec<Fault> = once.into_iter().filter(|fault| fault.moment == Moment::After).step_by(step).collect();
        assert!(once.len() > 5, "{name}");
        let onwards = once.iter().map(|fault| Fault::onwards(fault.operation, fault.moment));
        for fault in once.iter().copied().chain(onwards) {
            let store = start.fork();
            let _ = run(FaultStore::over(store.clone(), fault), &options);
            let objects = store.contents();
            for (object, bytes) in start.contents() {
                let kept = objects.get(&object) == Some(&bytes) || objects.values().any(|kept| *kept == bytes);
                assert!(kept, "{name} {fault:?}: {object} is lost");
            }
            let next = run(Arc::new(store.clone()), &options).unwrap().outcome.after;
            assert_eq!(next.findings.len(), ended.findings.len(), "{name} {fault:?}");
            assert_eq!(
                (next.snapshot_count, next.file_count),
                (ended.snapshot_count, ended.file_count),
                "{name} {fault:?}"
            );
        }
    }
}

/// Bytes of it have changed, no more than parity reaches; its clock is right, for it is written to.
fn rotten() -> MemoryStore {
    let store = memory_of(&damaged("ecc10-repairable"));
    store.set_now(SystemClock.now());
    store
}

#[test]
fn what_error_correction_had_to_repair_is_stored_anew() {
    let store = rotten();
    let verified = |store: &MemoryStore| {
        let opened = open_store(Arc::new(store.clone()), 2);
        let options = VerifyOptions { read_percent: 100, ..VerifyOptions::default() };
        verify(&opened.repository, &options, &opened.run).unwrap()
    };
    let before = verified(&store);
    assert!(before.is_clean() && before.repaired_count >= before.contents_repaired_count, "{before:?}");
    assert!(before.contents_repaired_count > 0, "{before:?}");
    // Without reading, nobody knows of it.
    let nothing_read = RepairOptions { read_percent: 0, ..KEEP };
    check(&store, &nothing_read, &[]);
    // One for each pack that it was repaired in.
    check(&store, &KEEP, &["stored anew, after error correction repaired them: "; 4]);
    let after = verified(&store);
    assert!(after.is_clean() && after.contents_repaired_count == 0, "{after:?}");
    assert_eq!(after.content_count, before.content_count);
}

/// Cut off at any call, nothing is lost, and the next run carries on.
#[test]
fn storing_anew_may_be_cut_anywhere() {
    let rotten = rotten();
    let counting = FaultStore::counting(rotten.fork());
    run(counting.clone(), &KEEP).unwrap();
    let writing = counting.operations_count() / 3..counting.operations_count();
    for operation in writing.step_by(3) {
        let store = rotten.fork();
        let _ = run(FaultStore::over(store.clone(), Fault::onwards(operation, Moment::After)), &KEEP);
        run(Arc::new(store.clone()), &KEEP).unwrap();
        let opened = open_store(Arc::new(store), 2);
        let options = VerifyOptions { read_percent: 100, ..VerifyOptions::default() };
        let found = verify(&opened.repository, &options, &opened.run).unwrap();
        assert!(found.is_clean() && found.contents_repaired_count == 0, "{operation}: {found:?}");
    }
}
