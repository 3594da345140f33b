use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [7; 32];

fn entry() -> LedgerEntry {
    LedgerEntry {
        format_version: FORMAT_VERSION,
        repository_id: RepositoryId::new("9f3c"),
        claim: ClaimKey::new("media", "photos").unwrap(),
        snapshot_id: SnapshotId::new("k1"),
        time: "2026-05-01T02:00:00Z".parse().unwrap(),
        files: 1200,
        bytes: 3_000_000,
        cluster: Some("home".to_owned()),
    }
}

#[test]
fn record_is_one_line_of_json_that_others_can_check() {
    let text = String::from_utf8(seal(&entry(), &KEY)).unwrap();
    let payload = concat!(
        r#"{"formatVersion":1,"repositoryId":"9f3c","namespace":"media","pvc":"photos","snapshotId":"k1","#,
        r#""time":"2026-05-01T02:00:00Z","files":1200,"bytes":3000000,"cluster":"home"}"#
    );
    // Python: hmac.new(bytes([7] * 32), payload, "sha256").hexdigest()
    let tag = "07fe37373f8a93f837e1865e774a954f88575dd6e6596858ae415679714fb2c2";
    assert_eq!(text, format!(r#"{{"entry":{payload},"hmacSha256":"{tag}"}}"#));
    assert_eq!(open(text.as_bytes(), &KEY).unwrap(), entry());
}

#[track_caller]
fn check_refused(bytes: &[u8], key: &[u8; 32], error: &str, class: Class) {
    let refused = open(bytes, key).unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.class()), (error, class));
}

#[test]
fn what_is_not_sealed_with_this_key_is_not_believed() {
    let sealed = seal(&entry(), &KEY);
    let altered = |from: &str, to: &str| String::from_utf8(sealed.clone()).unwrap().replace(from, to).into_bytes();
    check_refused(&sealed, &[8; 32], "ledger record has a wrong seal", Class::Damaged);
    check_refused(&altered("1200", "1201"), &KEY, "ledger record has a wrong seal", Class::Damaged);
    check_refused(
        &altered(r#""files":1200"#, r#""files": 1200"#),
        &KEY,
        "ledger record has a wrong seal",
        Class::Damaged,
    );
    check_refused(
        &altered(r#""hmacSha256":""#, r#""hmacSha256":"zz"#),
        &KEY,
        "ledger record has a wrong seal",
        Class::Damaged,
    );
    check_refused(br#"{"entry":{},"hmacSha256":""}"#, &KEY, "ledger record has a wrong seal", Class::Damaged);
    check_refused(b"", &KEY, "read ledger record", Class::Damaged);
    check_refused(b"{}", &KEY, "read ledger record", Class::Damaged);
    check_refused(&[b' '; 65_537], &KEY, "ledger record has 65537 bytes, more than 65536", Class::Damaged);
    let newer = seal(&LedgerEntry { format_version: 2, ..entry() }, &KEY);
    check_refused(&newer, &KEY, "ledger record has format version 2, newer than 1", Class::Blocked);
}

proptest! {
    #[test]
    fn sealed_records_open_again_and_any_changed_byte_is_noticed(
        files: u64, bytes: u64, cluster: Option<String>, id: String, key: [u8; 32], at: prop::sample::Index, flip in 1..=255_u8,
    ) {
        let entry = LedgerEntry { files, bytes, cluster, snapshot_id: SnapshotId::new(id), ..entry() };
        let mut sealed = seal(&entry, &key);
        prop_assert_eq!(open(&sealed, &key).unwrap(), entry.clone());
        let index = at.index(sealed.len());
        sealed[index] ^= flip;
        // Changed case of the seal's digits is the same seal; nothing else may open, and never to other content.
        if let Ok(read) = open(&sealed, &key) {
            prop_assert_eq!(read, entry);
        }
    }

    #[test]
    fn opening_never_panics(bytes: Vec<u8>) {
        let _ = open(&bytes, &KEY);
    }
}

#[track_caller]
fn check_guard(previous: (u64, u64), current: (u64, u64), why: Option<&str>) {
    let figures = |(files, bytes)| Figures { files, bytes };
    let said = match guard(&figures(previous), &figures(current), &Thresholds::default()) {
        GuardVerdict::Good => None,
        GuardVerdict::Quarantine { why } => Some(why.to_string()),
    };
    assert_eq!(said.as_deref(), why);
}

#[test]
fn collapsed_snapshots_are_quarantined() {
    check_guard((100, 1000), (100, 1000), None);
    check_guard((100, 1000), (20, 200), None);
    check_guard((100, 1000), (19, 1000), Some("19 files left of 100"));
    check_guard((100, 1000), (100, 199), Some("199 bytes left of 1000"));
    check_guard((100, 1000), (0, 0), Some("no files left of 100"));
    check_guard((1, 1000), (0, 1000), Some("no files left of 1"));
    check_guard((0, 0), (0, 0), None);
    check_guard((0, 0), (5, 50), None);
    check_guard((100, 0), (100, 0), None);
    check_guard(
        (u64::MAX, u64::MAX),
        (u64::MAX / 5 - 1, u64::MAX),
        Some("3689348814741910322 files left of 18446744073709551615"),
    );
    check_guard((u64::MAX, u64::MAX), (u64::MAX, u64::MAX), None);
}

#[test]
fn thresholds_can_be_switched_off_but_not_for_nothing_at_all() {
    let off = Thresholds { files_percent: 0, bytes_percent: 0 };
    let figures = |files, bytes| Figures { files, bytes };
    assert_eq!(guard(&figures(100, 1000), &figures(1, 1), &off), GuardVerdict::Good);
    let why = Collapse::NoFiles { previous: 100 };
    assert_eq!(guard(&figures(100, 1000), &figures(0, 0), &off), GuardVerdict::Quarantine { why });
    let half: Thresholds = serde_json::from_str(r#"{"filesPercent":50}"#).unwrap();
    assert_eq!(half, Thresholds { files_percent: 50, bytes_percent: 20 });
}
