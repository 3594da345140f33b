use super::*;
use crate::decide::{Claim, Ledger, Snapshot, decide};
use crate::id::{RepositoryId, SnapshotId};

fn snapshot(id: &str) -> Snapshot {
    Snapshot { id: SnapshotId::new(id), time: "2026-05-01T02:00:00Z".parse().unwrap(), files: 1, bytes: 1, owner: None }
}

fn open(good: Vec<Snapshot>, quarantined: Vec<Snapshot>) -> Location {
    let snapshots = Snapshots { good, quarantined, unfinished: 0 };
    Location::Open { id: RepositoryId::new("r1"), listing_complete: true, snapshots }
}

#[track_caller]
fn check(location: Location, status: u16, json: &str) {
    let ledger = Ledger::Present { entry: None, entries: 1 };
    let facts = Facts { secret_present: true, location, ledger, declared_new: false };
    let claim = ClaimKey::new("karakeep", "data-pvc").unwrap();
    let decision = decide(&facts, &Claim::default());
    let answer = Answer::new(&claim, &claim.shared_identity(), Backend::KopiaS3, &facts, &decision);
    let rest = r#""namespace":"karakeep","pvc":"data-pvc","backend":"kopia-s3","source":"data-pvc@karakeep:/data""#;
    assert_eq!(serde_json::to_string(&answer).unwrap(), json.replace("REST", rest));
    assert_eq!(answer.status(), status);
}

#[test]
fn answers() {
    let (k1, k2) = (snapshot("k1"), snapshot("k2"));
    check(
        open(vec![k1.clone(), k2.clone()], vec![k2.clone()]),
        200,
        r#"{"exists":true,"keyCount":2,"decision":"restore","authoritative":true,REST}"#,
    );
    check(open(vec![], vec![]), 200, r#"{"exists":false,"decision":"fresh","authoritative":true,REST}"#);
    check(Location::Empty, 200, r#"{"exists":false,"decision":"fresh","authoritative":true,REST}"#);
    check(
        Location::Unreachable { detail: "503".to_owned() },
        503,
        r#"{"exists":false,"decision":"unknown","authoritative":false,REST,"error":"RepositoryUnreachable: 503"}"#,
    );
    check(
        open(vec![], vec![k1]),
        503,
        concat!(
            r#"{"exists":true,"keyCount":1,"decision":"unknown","authoritative":false,REST,"#,
            r#""error":"OnlyQuarantined: only quarantined snapshots, the newest k1 of 2026-05-01T02:00:00Z"}"#
        ),
    );
}

#[test]
fn path_that_names_no_claim() {
    let answer = Answer::malformed(&ClaimKey::new("a/b", "c").unwrap_err());
    assert_eq!(answer.status(), 400);
    let json = concat!(
        r#"{"exists":false,"decision":"unknown","authoritative":false,"namespace":"","pvc":"","#,
        r#""error":"\"a/b\" is not the name of a namespace"}"#
    );
    assert_eq!(serde_json::to_string(&answer).unwrap(), json);
}
