use proptest::prelude::*;

use super::*;

fn claim() -> ClaimKey {
    ClaimKey::new("media", "photos").unwrap()
}

#[test]
fn backup_task_has_one_spelling() {
    let task = Task::Backup(BackupTask {
        claim: claim(),
        identity: claim().shared_identity(),
        data: PathBuf::from("/data"),
        layout: Layout::PerClaim,
        ledger: true,
        cluster: None,
        compression: Some("zstd-fastest".to_owned()),
        parallelism: Some(2),
        retain: Retain::of_label(),
        expected_repository_id: None,
        creation: Creation::IfEmpty,
        no_maintenance: false,
        accepted: None,
        disregarded: None,
    });
    let json = concat!(
        r#"{"backup":{"claim":{"namespace":"media","pvc":"photos"},"#,
        r#""identity":{"username":"photos","hostname":"media","path":"/data"},"data":"/data","layout":"PerClaim","#,
        r#""ledger":true,"compression":"zstd-fastest","parallelism":2,"#,
        r#""retain":{"hourly":24,"daily":7,"weekly":4,"monthly":2},"creation":"IfEmpty"}}"#
    );
    assert_eq!(serde_json::to_string(&task).unwrap(), json);
    assert_eq!(serde_json::from_str::<Task>(json).unwrap(), task);
    assert_eq!((task.claim(), task.identity()), (&claim(), &claim().shared_identity()));
    assert!(serde_json::from_str::<Task>(&json.replace("ledger", "ledgre")).is_err());
    let left = json.replace(r#""creation":"IfEmpty""#, r#""creation":"IfEmpty","noMaintenance":true"#);
    let Task::Backup(read) = serde_json::from_str(&left).unwrap() else { panic!("{left}") };
    assert!(read.no_maintenance);
}

#[track_caller]
fn check_selection(selection: Selection, json: &str) {
    assert_eq!(serde_json::to_string(&selection).unwrap(), json);
    let task = format!(
        concat!(
            r#"{{"restore":{{"claim":{{"namespace":"media","pvc":"photos"}},"#,
            r#""identity":{{"username":"photos","hostname":"media","path":"/data"}},"#,
            r#""data":"/restore/data","layout":"Shared","ledger":false,"selection":{}}}}}"#
        ),
        json
    );
    let Task::Restore(read) = serde_json::from_str(&task).unwrap() else { panic!("{task}") };
    assert_eq!((read.selection, read.delete_extra), (selection, false));
}

#[test]
fn selections_have_one_spelling() {
    check_selection(Selection::Latest, r#""latest""#);
    check_selection(Selection::Id(SnapshotId::new("k1")), r#"{"id":"k1"}"#);
    check_selection(Selection::Previous(2), r#"{"previous":2}"#);
    let time = "2026-05-01T02:00:00Z".parse().unwrap();
    check_selection(Selection::AsOf { time, previous: 1 }, r#"{"asOf":{"time":"2026-05-01T02:00:00Z","previous":1}}"#);
    let short: Selection = serde_json::from_str(r#"{"asOf":{"time":"2026-05-01T04:00:00+02:00"}}"#).unwrap();
    assert_eq!(short, Selection::AsOf { time, previous: 0 });
}

#[test]
fn report_has_one_spelling() {
    let report = Report {
        snapshot: Some(SnapshotId::new("k1")),
        repository: Some(RepositoryId::new("r1")),
        files: 3,
        bytes: 30,
        new_bytes: 12,
        unreadable: Unreadable { count: 1, paths: vec!["a/\"b\"".to_owned()] },
        owners: vec![Owner { uid: 568, gid: 568, files: 3 }],
        stages_ms: BTreeMap::from([("walk".to_owned(), 5)]),
        peak_memory_bytes: 1 << 20,
        storage_calls: 7,
        ..Report::new(Outcome::Partial)
    };
    let json = concat!(
        r#"{"outcome":"partial","snapshot":"k1","repository":"r1","files":3,"bytes":30,"newBytes":12,"#,
        r#""unreadable":{"count":1,"paths":["a/\"b\""]},"owners":[{"uid":568,"gid":568,"files":3}],"#,
        r#""stagesMs":{"walk":5},"peakMemoryBytes":1048576,"storageCalls":7}"#
    );
    assert_eq!(report.to_termination_message(), json);
    assert_eq!(Report::from_termination_message(json).unwrap(), report);
    let failed =
        Report::from_termination_message(r#"{"outcome":{"failed":{"class":"blocked","reason":"403"}},"later":1}"#);
    assert_eq!(failed.unwrap(), Report::failed(Class::Blocked, "403", ""));
    assert!(Report::from_termination_message("").is_err());
}

#[track_caller]
fn check_exit(outcome: Outcome, code: u8) {
    assert_eq!(outcome.exit().code(), code);
}

#[test]
fn outcomes_end_with_the_documented_codes() {
    let failed = |class| Outcome::Failed { class, reason: String::new(), hint: String::new() };
    check_exit(Outcome::Complete, 0);
    check_exit(Outcome::Nothing, 0);
    check_exit(Outcome::Partial, 3);
    check_exit(Outcome::Interrupted, 130);
    check_exit(failed(Class::Retry), 6);
    check_exit(failed(Class::Blocked), 4);
    check_exit(failed(Class::Damaged), 5);
    check_exit(failed(Class::Bug), 1);
}

#[track_caller]
fn check_cut(text: &str, max_bytes: usize, beginning: &str) {
    assert_eq!(cut(text, max_bytes), beginning);
}

#[test]
fn long_text_is_cut_between_characters() {
    check_cut("", 4, "");
    check_cut("abcd", 4, "abcd");
    check_cut("abcde", 4, "a…");
    check_cut("ééé", 5, "é…");
    check_cut("a\u{1}bc", 9, "a\u{1}bc");
    check_cut("a\u{1}bcd", 9, "a…");
}

fn available(identity: &str) -> Available {
    Available { identity: identity.to_owned(), snapshots: 3, latest: "2026-05-01T03:00:00Z".parse().unwrap() }
}

#[test]
fn as_many_identities_as_fit() {
    let all: Vec<Available> = (0..1000).map(|index| available(&format!("app-{index:04}@media:/data"))).collect();
    let report = Report { available: all.clone(), ..Report::new(Outcome::Nothing) };
    let message = report.to_termination_message();
    assert!((3900..=TERMINATION_MESSAGE_BYTES_MAX).contains(&message.len()), "{}", message.len());
    let read = Report::from_termination_message(&message).unwrap();
    assert!(read.available.len() > 30 && all.starts_with(&read.available));
}

#[test]
fn as_many_paths_as_fit() {
    let paths: Vec<String> = (0..1000).map(|index| format!("photos/{index:04}.raw")).collect();
    let report = Report {
        unreadable: Unreadable { count: 1000, paths: paths.clone() },
        ..Report::failed(Class::Bug, "\u{1}".repeat(9000), "\\".repeat(9000))
    };
    let message = report.to_termination_message();
    assert!((4000..=TERMINATION_MESSAGE_BYTES_MAX).contains(&message.len()), "{}", message.len());
    let read = Report::from_termination_message(&message).unwrap();
    assert_eq!(read.unreadable.count, 1000);
    assert!(read.unreadable.paths.len() > 100);
    assert!(paths.starts_with(&read.unreadable.paths));
}

/// The longest report that its types allow, so that the sum of the limits is proven and not estimated.
#[test]
fn the_longest_report_has_room_for_paths() {
    let long = "\u{1}".repeat(5000);
    let report = Report {
        outcome: Outcome::Failed { class: Class::Blocked, reason: long.clone(), hint: long.clone() },
        snapshot: Some(SnapshotId::new(long.clone())),
        repository: Some(RepositoryId::new(long.clone())),
        files: u64::MAX,
        bytes: u64::MAX,
        new_bytes: u64::MAX,
        quarantined: true,
        maintenance_failed: true,
        unreadable: Unreadable { count: u64::MAX, paths: vec![long.clone(); 50] },
        shortfalls: (0..50).map(|kind| (format!("{kind:02}{long}"), u64::MAX)).collect(),
        owners: vec![Owner { uid: u32::MAX, gid: u32::MAX, files: u64::MAX }; 50],
        available: vec![available(&long); 50],
        stages_ms: (0..50).map(|stage| (format!("{stage:02}{long}"), u64::MAX)).collect(),
        peak_memory_bytes: u64::MAX,
        storage_calls: u64::MAX,
    };
    let message = report.to_termination_message();
    assert!(message.len() <= TERMINATION_MESSAGE_BYTES_MAX, "{}", message.len());
    let read = Report::from_termination_message(&message).unwrap();
    assert_eq!((read.stages_ms.len(), read.owners.len()), (STAGE_COUNT_MAX, OWNER_COUNT_MAX));
    assert_eq!(read.shortfalls.len(), SHORTFALL_COUNT_MAX);
    assert!(read.unreadable.paths.len() >= 2, "{message}");
}

/// Text of any characters and any length, the expensive ones more often.
fn hostile() -> impl Strategy<Value = String> {
    let char = prop_oneof![any::<char>(), Just('\u{1}'), Just('"'), Just('\\'), Just('𝕏'), Just('/')];
    prop_oneof![
        prop::collection::vec(char, 0..40).prop_map(String::from_iter),
        (any::<char>(), 0..9000_usize).prop_map(|(char, count)| char.to_string().repeat(count)),
    ]
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let class = prop_oneof![Just(Class::Retry), Just(Class::Blocked), Just(Class::Damaged), Just(Class::Bug)];
    let failed =
        (class, hostile(), hostile()).prop_map(|(class, reason, hint)| Outcome::Failed { class, reason, hint });
    prop_oneof![
        Just(Outcome::Complete),
        Just(Outcome::Partial),
        Just(Outcome::Nothing),
        Just(Outcome::Interrupted),
        failed,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn message_fits_and_says_how_it_ended(
        outcome in any_outcome(),
        ids in prop::option::of((hostile(), hostile())),
        numbers: [u64; 6],
        paths in prop::collection::vec(hostile(), 0..40),
        owners in prop::collection::vec(any::<(u32, u32, u64)>(), 0..40),
        identities in prop::collection::vec(hostile(), 0..40),
        stages in prop::collection::btree_map(hostile(), any::<u64>(), 0..40),
    ) {
        let [files, bytes, new_bytes, count, peak_memory_bytes, storage_calls] = numbers;
        let (snapshot, repository) = ids.unzip();
        let report = Report {
            outcome,
            snapshot: snapshot.map(SnapshotId::new),
            repository: repository.map(RepositoryId::new),
            files,
            bytes,
            new_bytes,
            quarantined: count % 2 == 1,
            maintenance_failed: files % 2 == 1,
            unreadable: Unreadable { count, paths },
            shortfalls: stages.clone(),
            owners: owners.into_iter().map(|(uid, gid, files)| Owner { uid, gid, files }).collect(),
            available: identities.iter().map(|identity| available(identity)).collect(),
            stages_ms: stages,
            peak_memory_bytes,
            storage_calls,
        };
        let message = report.to_termination_message();
        prop_assert!(message.len() <= TERMINATION_MESSAGE_BYTES_MAX, "{} bytes", message.len());
        let read = Report::from_termination_message(&message).unwrap();
        prop_assert_eq!(read.outcome.exit(), report.outcome.exit());
        prop_assert_eq!(
            [read.files, read.bytes, read.new_bytes, read.unreadable.count, read.peak_memory_bytes, read.storage_calls],
            numbers
        );
    }

    #[test]
    fn cut_text_is_a_beginning_within_the_limit(text in hostile(), max_bytes in 3..300_usize) {
        let short = cut(&text, max_bytes);
        prop_assert!(serde_json::to_string(&short).unwrap().len() <= max_bytes + 2);
        if short != text {
            prop_assert!(text.starts_with(short.strip_suffix('…').unwrap()));
        }
    }
}
