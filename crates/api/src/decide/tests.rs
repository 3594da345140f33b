use proptest::prelude::*;

use super::*;
use crate::naming::ClaimKey;

const UNEXPECTED: Claim = Claim {
    pinned_repository_id: None,
    creation: Creation::IfEmpty,
    ledger_expected: false,
    backup_expected: false,
    restore_as_of: None,
    word: Word { restore: Restore::IfThere, dismissed: None, accepted: None },
};

/// A moment on one day, by its hour.
fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_777_600_800 + hour * 3600).unwrap()
}

fn snapshot(id: &str, hour: i64) -> Snapshot {
    Snapshot { id: SnapshotId::new(id), time: at(hour), files: 10, bytes: 100, owner: None }
}

fn entry(repository: &str) -> LedgerEntry {
    LedgerEntry {
        format_version: crate::ledger::FORMAT_VERSION,
        repository_id: RepositoryId::new(repository),
        claim: ClaimKey::new("media", "photos").unwrap(),
        snapshot_id: SnapshotId::new("k9"),
        time: at(9),
        files: 10,
        bytes: 100,
        cluster: None,
    }
}

fn found(location: Location, ledger: Ledger) -> Facts {
    Facts { secret_present: true, location, ledger, declared_new: false }
}

/// Repository `r1`, listed to the end.
fn holds(good: &[Snapshot], quarantined: &[Snapshot]) -> Location {
    let snapshots = Snapshots { good: good.to_vec(), quarantined: quarantined.to_vec(), unfinished: 0 };
    Location::Open { id: RepositoryId::new("r1"), listing_complete: true, snapshots }
}

fn knows_others() -> Ledger {
    Ledger::Present { entry: None, entries: 4 }
}

fn knows_it(repository: &str) -> Ledger {
    Ledger::Present { entry: Some(entry(repository)), entries: 4 }
}

fn unreadable() -> Ledger {
    Ledger::Unreadable { detail: "wrong seal".to_owned() }
}

fn pinned(id: &str) -> Claim {
    Claim { pinned_repository_id: Some(RepositoryId::new(id)), ..UNEXPECTED }
}

fn ledger_expected() -> Claim {
    Claim { ledger_expected: true, ..UNEXPECTED }
}

fn backup_expected() -> Claim {
    Claim { backup_expected: true, ..UNEXPECTED }
}

fn as_of(hour: i64) -> Claim {
    Claim { restore_as_of: Some(at(hour)), ..UNEXPECTED }
}

#[track_caller]
fn check(facts: &Facts, claim: &Claim, said: &str) {
    assert_eq!(decide(facts, claim).to_string(), said);
}

#[test]
fn newest_good_snapshot_is_restored() {
    let three = [snapshot("k1", 1), snapshot("k3", 3), snapshot("k2", 2)];
    for ledger in [knows_others(), knows_it("r1"), Ledger::Absent, unreadable()] {
        check(&found(holds(&three, &[]), ledger), &UNEXPECTED, "restore k3 of 2026-05-01T05:00:00Z");
    }
    let known = found(holds(&three, &[]), knows_it("r1"));
    check(&known, &pinned("r1"), "restore k3 of 2026-05-01T05:00:00Z");
    check(&known, &as_of(2), "restore k2 of 2026-05-01T04:00:00Z");
    check(&known, &as_of(1), "restore k1 of 2026-05-01T03:00:00Z");
    check(&known, &as_of(0), "hold ExpectedBackupMissing: no snapshot is as old as 2026-05-01T02:00:00Z");
    let new_by_mistake = Facts { declared_new: true, ..known };
    check(&new_by_mistake, &UNEXPECTED, "restore k3 of 2026-05-01T05:00:00Z");
}

#[test]
fn quarantined_and_unfinished_snapshots_wait_for_a_person() {
    let (k1, k2) = (snapshot("k1", 1), snapshot("k2", 2));
    let held = "hold OnlyQuarantined: only quarantined snapshots, the newest k2 of 2026-05-01T04:00:00Z";
    let collapsed = found(holds(std::slice::from_ref(&k1), std::slice::from_ref(&k2)), knows_it("r1"));
    check(&collapsed, &UNEXPECTED, "restore k1 of 2026-05-01T03:00:00Z");
    check(&found(holds(&[], &[k1.clone(), k2.clone()]), knows_others()), &UNEXPECTED, held);
    let both = found(holds(std::slice::from_ref(&k2), std::slice::from_ref(&k2)), knows_others());
    check(&both, &UNEXPECTED, held);
    // Two of the same moment, both in both lists: whichever stands first.
    let same_moment = |first: &str, second: &str| {
        let (first, second) = (snapshot(first, 2), snapshot(second, 2));
        found(holds(&[first.clone(), second.clone()], &[first, second]), knows_others())
    };
    check(&same_moment("k1", "k2"), &UNEXPECTED, held);
    check(&same_moment("k2", "k1"), &UNEXPECTED, held);
    let old_is_held = found(holds(std::slice::from_ref(&k2), std::slice::from_ref(&k1)), knows_others());
    check(
        &old_is_held,
        &as_of(1),
        "hold OnlyQuarantined: only quarantined snapshots, the newest k1 of 2026-05-01T03:00:00Z",
    );
    check(
        &found(holds(&[], &[k2]), knows_others()),
        &as_of(1),
        "hold ExpectedBackupMissing: no snapshot is as old as 2026-05-01T03:00:00Z",
    );
    let snapshots = Snapshots { unfinished: 2, ..Snapshots::default() };
    let begun = Location::Open { id: RepositoryId::new("r1"), listing_complete: true, snapshots };
    check(&found(begun, knows_others()), &UNEXPECTED, "hold OnlyQuarantined: only unfinished snapshots, 2 of them");
}

fn dismissed(what: Dismissal) -> Claim {
    Claim { word: Word { dismissed: Some(what), ..Word::default() }, ..UNEXPECTED }
}

#[test]
fn what_a_person_dismisses_is_not_restored_and_nothing_newer_is_lost_by_it() {
    let (k1, k2) = (snapshot("k1", 1), snapshot("k2", 2));
    let both = found(holds(&[k1.clone(), k2.clone()], &[]), knows_it("r1"));
    let fresh = "fresh: snapshot k2 of 2026-05-01T04:00:00Z was dismissed";
    check(&both, &dismissed(Dismissal::UpTo(at(2))), fresh);
    check(&both, &dismissed(Dismissal::Snapshot(SnapshotId::new("k2"))), fresh);
    // The occasion is over: there is a newer backup.
    check(&both, &dismissed(Dismissal::UpTo(at(1))), "restore k2 of 2026-05-01T04:00:00Z");
    check(&both, &dismissed(Dismissal::Snapshot(SnapshotId::new("k1"))), "restore k2 of 2026-05-01T04:00:00Z");
    let newer_is_held = found(holds(std::slice::from_ref(&k1), std::slice::from_ref(&k2)), knows_it("r1"));
    check(
        &newer_is_held,
        &dismissed(Dismissal::UpTo(at(1))),
        "hold OnlyQuarantined: k1 of 2026-05-01T03:00:00Z is dismissed, k2 of 2026-05-01T04:00:00Z is quarantined",
    );
    check(&newer_is_held, &dismissed(Dismissal::UpTo(at(2))), fresh);
    check(&found(holds(&[], &[k1, k2]), knows_others()), &dismissed(Dismissal::UpTo(at(2))), fresh);
    let twice = found(holds(&[snapshot("k0", 3)], &[snapshot("k0", 1)]), knows_others());
    let held = "hold OnlyQuarantined: only quarantined snapshots, the newest k0 of 2026-05-01T05:00:00Z";
    check(&twice, &dismissed(Dismissal::UpTo(at(1))), held);
    let lost = found(holds(&[], &[]), knows_it("r1"));
    check(&lost, &dismissed(Dismissal::UpTo(at(9))), "fresh: snapshot k9 of 2026-05-01T11:00:00Z was dismissed");
    check(
        &lost,
        &dismissed(Dismissal::UpTo(at(8))),
        "hold ExpectedBackupMissing: no snapshot, but the ledger records k9 of 2026-05-01T11:00:00Z",
    );
    let down = found(Location::Unreachable { detail: "timeout".to_owned() }, unreadable());
    check(&down, &dismissed(Dismissal::UpTo(at(99))), "hold RepositoryUnreachable: timeout");
}

#[test]
fn whether_to_restore_is_a_persons_word() {
    let mode = |restore| Claim { word: Word { restore, ..Word::default() }, ..UNEXPECTED };
    let held = found(holds(&[snapshot("k1", 1)], &[]), knows_it("r1"));
    check(&held, &mode(Restore::Never), "fresh: it is never to be restored by itself from repository r1");
    check(&held, &mode(Restore::Force), "restore k1 of 2026-05-01T03:00:00Z");
    let nothing = found(holds(&[], &[]), knows_others());
    let insisted = "hold ExpectedBackupMissing: a backup must exist (restore-mode force), but repository r1 has no history \
                    of it, nor has its ledger of 4";
    check(&nothing, &mode(Restore::Force), insisted);
    let other = Claim { pinned_repository_id: Some(RepositoryId::new("r2")), ..mode(Restore::Never) };
    check(&held, &other, "hold WrongRepository: repository r1 is there, r2 is pinned");
    let empty = found(Location::Empty, Ledger::Absent);
    check(
        &empty,
        &mode(Restore::Force),
        "hold ExpectedBackupMissing: a backup must exist (restore-mode force), but the location is empty and was never used",
    );
}

#[test]
fn a_quarantined_snapshot_that_somebody_accepts_is_good() {
    let accepts = |id| Claim { word: Word { accepted: Some(SnapshotId::new(id)), ..Word::default() }, ..UNEXPECTED };
    let (k1, k2) = (snapshot("k1", 1), snapshot("k2", 2));
    let collapsed = found(holds(std::slice::from_ref(&k1), std::slice::from_ref(&k2)), knows_it("r1"));
    check(&collapsed, &accepts("k2"), "restore k2 of 2026-05-01T04:00:00Z");
    check(&collapsed, &accepts("k7"), "restore k1 of 2026-05-01T03:00:00Z");
    check(&found(holds(&[], &[k1, k2]), knows_others()), &accepts("k1"), "restore k1 of 2026-05-01T03:00:00Z");
}

#[test]
fn right_repository_without_history() {
    let facts = |ledger| found(holds(&[], &[]), ledger);
    let fresh = "fresh: repository r1 has no history of it, nor has its ledger of 4";
    let undeclared =
        "hold Unknown: no snapshot and no ledger: declare the repository new if nothing was ever backed up to it";
    let recorded = "hold ExpectedBackupMissing: no snapshot, but the ledger records k9 of 2026-05-01T11:00:00Z";
    check(&facts(knows_others()), &UNEXPECTED, fresh);
    check(&facts(knows_others()), &pinned("r1"), fresh);
    check(&facts(knows_others()), &ledger_expected(), fresh);
    check(&facts(knows_others()), &Claim { creation: Creation::Never, ..UNEXPECTED }, fresh);
    check(&facts(knows_it("r1")), &UNEXPECTED, recorded);
    check(&facts(knows_it("r2")), &pinned("r1"), recorded);
    check(
        &facts(knows_others()),
        &backup_expected(),
        "hold ExpectedBackupMissing: no snapshot, but the cluster's ledger records one",
    );
    check(
        &facts(knows_others()),
        &as_of(1),
        "hold ExpectedBackupMissing: no snapshot, but one as of 2026-05-01T03:00:00Z was asked for",
    );
    check(&facts(Ledger::Absent), &UNEXPECTED, undeclared);
    check(&facts(Ledger::Absent), &ledger_expected(), undeclared);
    check(&facts(Ledger::Present { entry: None, entries: 0 }), &UNEXPECTED, undeclared);
    check(&facts(unreadable()), &UNEXPECTED, "hold Unknown: no snapshot, and the ledger cannot be read: wrong seal");
}

#[test]
fn repository_declared_new() {
    let facts = |ledger| Facts { declared_new: true, ..found(holds(&[], &[]), ledger) };
    let fresh = "fresh: repository r1 was declared new";
    check(&facts(Ledger::Absent), &UNEXPECTED, fresh);
    check(&facts(Ledger::Absent), &ledger_expected(), fresh);
    check(&facts(Ledger::Absent), &backup_expected(), fresh);
    check(&facts(knows_others()), &pinned("r1"), fresh);
    // What the store held before it was lost does not stop its successor; what this very repository held does.
    check(&facts(knows_it("r0")), &UNEXPECTED, fresh);
    check(
        &facts(knows_it("r1")),
        &UNEXPECTED,
        "hold ExpectedBackupMissing: no snapshot, but the ledger records k9 of 2026-05-01T11:00:00Z",
    );
    check(&facts(unreadable()), &UNEXPECTED, "hold Unknown: no snapshot, and the ledger cannot be read: wrong seal");
    check(&facts(Ledger::Absent), &pinned("r2"), "hold WrongRepository: repository r1 is there, r2 is pinned");
}

#[test]
fn location_without_repository() {
    let empty = |ledger| found(Location::Empty, ledger);
    let fresh = "fresh: the location is empty and was never used";
    check(&empty(Ledger::Absent), &UNEXPECTED, fresh);
    // Layout PerClaim: the ledger beside the empty location is the expected one and does not know the claim.
    check(&empty(knows_others()), &ledger_expected(), fresh);
    check(
        &empty(Ledger::Absent),
        &Claim { creation: Creation::Never, ..UNEXPECTED },
        "hold RepositoryMissing: the location is empty and create is Never",
    );
    check(
        &empty(Ledger::Absent),
        &pinned("r1"),
        "hold RepositoryMissing: the location is empty, but repository r1 is pinned",
    );
    check(
        &empty(knows_others()),
        &pinned("r1"),
        "hold RepositoryMissing: the location is empty, but repository r1 is pinned",
    );
    check(
        &empty(knows_it("r1")),
        &UNEXPECTED,
        "hold RepositoryMissing: the location is empty, but the ledger records k9 in repository r1",
    );
    for ledger in [Ledger::Absent, Ledger::Present { entry: None, entries: 0 }, unreadable()] {
        check(
            &empty(ledger),
            &ledger_expected(),
            "hold RepositoryMissing: the location is empty, but a ledger is expected and was not found",
        );
    }
    check(
        &empty(Ledger::Absent),
        &backup_expected(),
        "hold RepositoryMissing: the location is empty, but the cluster's ledger records a backup",
    );
    check(
        &empty(Ledger::Absent),
        &as_of(0),
        "hold RepositoryMissing: the location is empty, but a backup as of 2026-05-01T02:00:00Z was asked for",
    );
    check(
        &empty(unreadable()),
        &UNEXPECTED,
        "hold Unknown: the location is empty and the ledger cannot be read: wrong seal",
    );
    let declared_new = Facts { declared_new: true, ..empty(Ledger::Absent) };
    check(&declared_new, &pinned("r1"), "hold RepositoryMissing: the location is empty, but repository r1 is pinned");
}

#[test]
fn location_that_is_no_repository() {
    let half = |ledger| found(Location::Uninitialised, ledger);
    check(&half(Ledger::Absent), &UNEXPECTED, "hold Unknown: objects are there, but they are no repository");
    check(
        &half(Ledger::Absent),
        &pinned("r1"),
        "hold RepositoryMissing: no repository is there, but repository r1 is pinned",
    );
    check(
        &half(Ledger::Absent),
        &ledger_expected(),
        "hold RepositoryMissing: no repository is there, but a ledger is expected and was not found",
    );
    check(
        &half(knows_it("r1")),
        &UNEXPECTED,
        "hold RepositoryMissing: no repository is there, but the ledger records k9 in repository r1",
    );
    let missing = found(Location::StoreMissing { detail: "no bucket volsync-backup".to_owned() }, Ledger::Absent);
    check(&missing, &UNEXPECTED, "hold RepositoryUnreachable: no bucket volsync-backup");
    check(&missing, &pinned("r1"), "hold RepositoryMissing: no bucket volsync-backup, but repository r1 is pinned");
    check(
        &missing,
        &ledger_expected(),
        "hold RepositoryMissing: no bucket volsync-backup, but a ledger is expected and was not found",
    );
}

#[test]
fn another_repository() {
    let one = [snapshot("k1", 1)];
    check(
        &found(holds(&one, &[]), knows_others()),
        &pinned("r2"),
        "hold WrongRepository: repository r1 is there, r2 is pinned",
    );
    check(
        &found(holds(&one, &[]), knows_it("r2")),
        &UNEXPECTED,
        "hold WrongRepository: repository r1 is there, the ledger names r2",
    );
    // A pin is a person's word and outweighs the record.
    check(&found(holds(&one, &[]), knows_it("r2")), &pinned("r1"), "restore k1 of 2026-05-01T03:00:00Z");
}

#[test]
fn no_complete_answer() {
    let detail = || "503 from the store".to_owned();
    let said = |location| found(location, knows_others());
    check(
        &said(Location::Unreachable { detail: detail() }),
        &UNEXPECTED,
        "hold RepositoryUnreachable: 503 from the store",
    );
    check(&said(Location::AuthDenied { detail: detail() }), &UNEXPECTED, "hold RepositoryAuth: 503 from the store");
    check(&said(Location::Unknown { detail: detail() }), &UNEXPECTED, "hold Unknown: 503 from the store");
    for snapshots in [Snapshots::default(), Snapshots { good: vec![snapshot("k1", 1)], ..Snapshots::default() }] {
        let cut_off = Location::Open { id: RepositoryId::new("r1"), listing_complete: false, snapshots };
        check(&said(cut_off), &UNEXPECTED, "hold RepositoryUnreachable: the listing of snapshots ended early");
    }
    let no_secret = Facts { secret_present: false, ..found(Location::Empty, Ledger::Absent) };
    check(&no_secret, &UNEXPECTED, "hold WaitingForRepoSecret: the repository's credentials are not there yet");
}

#[track_caller]
fn check_mass(restored: u64, fresh: u64, expected: u64, decision: &str) {
    let guard = MassFreshGuard { restored, fresh, ..MassFreshGuard::new(expected) };
    let admitted = guard.admit(Decision::Fresh { proof: Proof::NeverInitialised });
    assert_eq!(admitted.to_string(), decision);
    let restore = Decision::Restore { snapshot: snapshot("k1", 1) };
    assert_eq!(guard.admit(restore.clone()), restore);
    let declared_new = Decision::Fresh { proof: Proof::DeclaredNew { repository_id: RepositoryId::new("r1") } };
    assert_eq!(guard.admit(declared_new.clone()), declared_new);
    let confirmed = MassFreshGuard { confirmed: true, ..guard };
    let fresh = Decision::Fresh { proof: Proof::NeverInitialised };
    assert_eq!(confirmed.admit(fresh.clone()), fresh);
}

#[test]
fn rebuild_in_which_everything_would_be_empty_stops() {
    let fresh = "fresh: the location is empty and was never used";
    check_mass(0, 0, 40, fresh);
    check_mass(0, 1, 40, fresh);
    check_mass(
        0,
        2,
        40,
        "hold MassFresh: 2 claims started empty and none was restored, but a ledger elsewhere records 40 backups",
    );
    check_mass(
        0,
        9,
        40,
        "hold MassFresh: 9 claims started empty and none was restored, but a ledger elsewhere records 40 backups",
    );
    check_mass(0, 9, 0, fresh);
    check_mass(1, 9, 40, fresh);
}

#[test]
fn only_decisions_that_were_acted_on_count() {
    let mut guard = MassFreshGuard::new(40);
    guard.record(&Decision::Fresh { proof: Proof::NeverInitialised });
    guard.record(&hold(HoldReason::MassFresh, ""));
    guard.record(&Decision::Restore { snapshot: snapshot("k1", 1) });
    assert_eq!((guard.fresh, guard.restored), (1, 1));
}

#[test]
fn facts_and_decisions_have_one_spelling() {
    let facts = found(holds(&[snapshot("k1", 1)], &[]), knows_others());
    let json = serde_json::to_string(&facts).unwrap();
    let snapshot = r#"{"id":"k1","time":"2026-05-01T03:00:00Z","files":10,"bytes":100}"#;
    assert_eq!(
        json,
        format!(
            concat!(
                r#"{{"secretPresent":true,"location":{{"open":{{"id":"r1","listingComplete":true,"#,
                r#""snapshots":{{"good":[{}],"quarantined":[],"unfinished":0}}}}}},"#,
                r#""ledger":{{"present":{{"entry":null,"entries":4}}}},"declaredNew":false}}"#
            ),
            snapshot
        )
    );
    assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
    let decision = hold(HoldReason::WrongRepository, "r1");
    assert_eq!(serde_json::to_string(&decision).unwrap(), r#"{"hold":{"reason":"WrongRepository","detail":"r1"}}"#);
    let claim: Claim = serde_json::from_str(r#"{"creation":"Never","pinnedRepositoryId":"r1"}"#).unwrap();
    assert_eq!(claim, Claim { creation: Creation::Never, ..pinned("r1") });
}

fn any_id() -> impl Strategy<Value = RepositoryId> {
    prop_oneof![Just("r1"), Just("r2")].prop_map(RepositoryId::new)
}

fn any_snapshots() -> impl Strategy<Value = Vec<Snapshot>> {
    // Few ids and few times, so that the same one is often in both lists.
    prop::collection::vec((0..5_i64, 0..5_i64).prop_map(|(id, hour)| snapshot(&format!("k{id}"), hour)), 0..3)
}

fn any_location() -> impl Strategy<Value = Location> {
    let detail = String::new;
    let lists = (any_snapshots(), any_snapshots(), 0..2_u64);
    let held = lists.prop_map(|(good, quarantined, unfinished)| Snapshots { good, quarantined, unfinished });
    let open = (any_id(), prop::bool::weighted(0.8), prop_oneof![held, Just(Snapshots::default())]);
    let open = open.prop_map(|(id, listing_complete, snapshots)| Location::Open { id, listing_complete, snapshots });
    prop_oneof![
        1 => Just(Location::Unreachable { detail: detail() }),
        1 => Just(Location::AuthDenied { detail: detail() }),
        1 => Just(Location::StoreMissing { detail: detail() }),
        1 => Just(Location::Unknown { detail: detail() }),
        1 => Just(Location::Uninitialised),
        3 => Just(Location::Empty),
        6 => open,
    ]
}

fn any_ledger() -> impl Strategy<Value = Ledger> {
    let present = (prop::option::of(any_id()), 0..3_u64)
        .prop_map(|(id, entries)| Ledger::Present { entry: id.map(|id| entry(id.as_str())), entries });
    prop_oneof![2 => present, 1 => Just(Ledger::Absent), 1 => Just(unreadable())]
}

fn any_facts() -> impl Strategy<Value = Facts> {
    (prop::bool::weighted(0.9), any_location(), any_ledger(), any::<bool>()).prop_map(
        |(secret_present, location, ledger, declared_new)| Facts { secret_present, location, ledger, declared_new },
    )
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let creation = prop_oneof![3 => Just(Creation::IfEmpty), 1 => Just(Creation::Never)];
    let expected = (prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    let as_of = prop::option::weighted(0.3, (0..5_i64).prop_map(at));
    (prop::option::weighted(0.3, any_id()), creation, expected, as_of).prop_map(
        |(pinned_repository_id, creation, (ledger_expected, backup_expected), restore_as_of)| Claim {
            pinned_repository_id,
            creation,
            ledger_expected,
            backup_expected,
            restore_as_of,
            word: Word::default(),
        },
    )
}

fn any_word() -> impl Strategy<Value = Word> {
    let restore = prop_oneof![3 => Just(Restore::IfThere), 1 => Just(Restore::Never), 1 => Just(Restore::Force)];
    let id = || (0..5_i64).prop_map(|id| SnapshotId::new(format!("k{id}")));
    let dismissed =
        prop_oneof![(0..5_i64).prop_map(|hour| Dismissal::UpTo(at(hour))), id().prop_map(Dismissal::Snapshot)];
    (restore, prop::option::of(dismissed), prop::option::of(id())).prop_map(|(restore, dismissed, accepted)| Word {
        restore,
        dismissed,
        accepted,
    })
}

/// An empty volume in an open repository, said as a condition on facts rather than as an order of questions.
fn is_proven_by_an_open_repository(facts: &Facts, claim: &Claim) -> bool {
    let Location::Open { id, listing_complete: true, snapshots } = &facts.location else { return false };
    let is_the_right_one = claim.pinned_repository_id.as_ref().is_none_or(|pinned| pinned == id);
    let is_unknown_to_the_ledger = matches!(facts.ledger, Ledger::Present { entry: None, entries: 1.. });
    is_the_right_one && *snapshots == Snapshots::default() && (is_unknown_to_the_ledger || facts.declared_new)
}

/// The same for a location where nothing is.
fn is_proven_by_an_empty_location(facts: &Facts, claim: &Claim) -> bool {
    let ledger_is_as_expected = match facts.ledger {
        Ledger::Present { entry: None, entries: 1.. } => true,
        Ledger::Present { entry: None, entries: 0 } | Ledger::Absent => !claim.ledger_expected,
        Ledger::Present { entry: Some(_), .. } | Ledger::Unreadable { .. } => false,
    };
    let may_be_created = claim.pinned_repository_id.is_none() && claim.creation == Creation::IfEmpty;
    facts.location == Location::Empty && ledger_is_as_expected && may_be_created
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn unknown_never_becomes_empty(facts in any_facts(), claim in any_claim()) {
        if let Decision::Fresh { .. } = decide(&facts, &claim) {
            prop_assert!(facts.secret_present);
            prop_assert!(claim.restore_as_of.is_none());
            prop_assert!(!claim.backup_expected || facts.declared_new);
            prop_assert!(
                is_proven_by_an_open_repository(&facts, &claim) || is_proven_by_an_empty_location(&facts, &claim)
            );
        }
    }

    #[test]
    fn restore_names_a_good_snapshot_in_time_and_none_is_newer(facts in any_facts(), claim in any_claim()) {
        if let Decision::Restore { snapshot } = decide(&facts, &claim) {
            let Location::Open { id, listing_complete: true, snapshots } = &facts.location else {
                return Err(TestCaseError::fail("restore from a repository that is not open and listed"));
            };
            let is_held = |one: &Snapshot| snapshots.quarantined.iter().any(|held| held.id == one.id);
            let is_in_time = |one: &Snapshot| claim.restore_as_of.is_none_or(|as_of| one.time <= as_of);
            prop_assert!(claim.pinned_repository_id.as_ref().is_none_or(|pinned| pinned == id));
            prop_assert!(snapshots.good.contains(&snapshot) && !is_held(&snapshot) && is_in_time(&snapshot));
            let newer = snapshots.good.iter().find(|one| one.time > snapshot.time && !is_held(one) && is_in_time(one));
            prop_assert_eq!(newer, None);
        }
    }

    #[test]
    fn a_persons_word_empties_no_claim_that_it_does_not_speak_of(
        facts in any_facts(), claim in any_claim(), word in any_word(),
    ) {
        let before = decide(&facts, &claim);
        let claim = Claim { word, ..claim };
        let after = decide(&facts, &claim);
        let Decision::Fresh { proof } = &after else { return Ok(()) };
        prop_assert!(claim.word.restore != Restore::Force);
        if before == after {
            return Ok(());
        }
        let Location::Open { id, listing_complete: true, snapshots } = &facts.location else {
            return Err(TestCaseError::fail("a word outweighs a look that nobody had"));
        };
        prop_assert!(facts.secret_present && claim.pinned_repository_id.as_ref().is_none_or(|pinned| pinned == id));
        match proof {
            Proof::NotWanted { .. } => prop_assert_eq!(claim.word.restore, Restore::Never),
            Proof::Dismissed { snapshot } => {
                let word = claim.word.dismissed.as_ref();
                prop_assert!(word.is_some_and(|word| word.covers(&snapshot.id, snapshot.time)));
                let is_in_time = |one: &Snapshot| claim.restore_as_of.is_none_or(|as_of| one.time <= as_of);
                let mut all = snapshots.good.iter().chain(&snapshots.quarantined);
                prop_assert_eq!(all.find(|one| one.time > snapshot.time && is_in_time(one)), None);
            }
            other => return Err(TestCaseError::fail(format!("a word proves nothing else: {other}"))),
        }
    }

    #[test]
    fn order_of_snapshots_does_not_matter(facts in any_facts(), claim in any_claim()) {
        let mut reversed = facts.clone();
        if let Location::Open { snapshots, .. } = &mut reversed.location {
            snapshots.good.reverse();
            prop_assert_eq!(decide(&facts, &claim), decide(&reversed, &claim));
        }
    }
}
