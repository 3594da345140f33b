//! A bucket, with the cache that goes with it.

use std::fs;

use crate::support::{Bucket, Place, describe};

#[test]
fn a_bucket_works_and_its_cache_holds_no_control_objects() {
    let place = Place::new();
    let source = place.plant("source");
    let bucket = Bucket::start(&place);
    let endpoint = bucket.server.endpoint();
    let run = |arguments: &[&str]| Bucket::run(&place, &endpoint, arguments);
    run(&["repository", "create"]).expect(0);
    run(&["backup", "source"]).expect(0);
    let cold = run(&["backup", "source", "--json", "--cache-dir", "cold"]).expect(0).json();
    let warm = run(&["backup", "source", "--json"]).expect(0).json();
    let down = |outcome: &serde_json::Value| outcome["storage"]["bytesDown"].as_u64().unwrap();
    assert!(down(&warm) < down(&cold), "{warm} {cold}");
    run(&["restore", "latest", "out"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
    run(&["verify", "--read-percent", "100"]).expect(0);

    let caches = place.path(".cache/perennial/stores");
    assert!(caches.join("CACHEDIR.TAG").exists());
    let stores: Vec<_> =
        fs::read_dir(&caches).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    assert_eq!(stores.len(), 1);
    let format_blob = fs::read(place.path("server/backups/laptop/kopia.repository")).unwrap();
    for file in fs::read_dir(&stores[0]).unwrap() {
        let kept = fs::read(file.unwrap().path()).unwrap();
        assert!(!kept.windows(64).any(|window| window == &format_blob[..64]));
    }
    drop(bucket);
    let gone = run(&["snapshots", "--cache-dir", "cold"]);
    assert_eq!(gone.code, Some(6), "{gone:?}");
}
