use super::*;

#[track_caller]
fn check_username(name: &str, username: &str) {
    assert_eq!(volsync_username(name), username);
}

#[test]
fn usernames_follow_volsync() {
    check_username("app-backup-123", "app-backup-123");
    check_username("app_backup_job", "app_backup_job");
    check_username("App-Backup_123", "App-Backup_123");
    check_username("12345", "12345");
    check_username("app@backup.service", "appbackupservice");
    check_username("-_app-backup_-", "app-backup");
    check_username("app backup service", "appbackupservice");
    check_username("app-backup-ñ-test", "app-backup--test");
    check_username("app.backup.service", "appbackupservice");
    check_username("@#$%", "volsync-default");
    check_username("-_-_", "volsync-default");
    check_username("", "volsync-default");
    check_username(&"a".repeat(107), &"a".repeat(50));
    check_username(&format!("{}-tail", "a".repeat(49)), &format!("{}-", "a".repeat(49)));
}

#[track_caller]
fn check_hostname(namespace: &str, name: &str, hostname: &str) {
    assert_eq!(volsync_hostname(namespace, name), hostname);
}

#[test]
fn hostnames_follow_volsync() {
    check_hostname("production", "x", "production");
    check_hostname("test_ns", "x", "test-ns");
    check_hostname("prod@env", "x", "prodenv");
    check_hostname("-_test-ns_-", "x", "test-ns");
    check_hostname("test-ns---", "x", "test-ns");
    check_hostname("prod.region.cluster", "x", "prod.region.cluster");
    check_hostname("Prod-Env", "x", "Prod-Env");
    check_hostname(&format!("{}-", "n".repeat(74)), "x", &"n".repeat(74));
    check_hostname("@@@", "my_app", "my-app");
    check_hostname("", "", "volsync-default");
    check_hostname("---", "...", "volsync-default");
}

#[track_caller]
fn check_identity(names: VolsyncNames<'_>, identity: &str) {
    assert_eq!(volsync_identity(&names).to_string(), identity);
}

#[test]
fn identities_follow_volsyncs_table() {
    let none = VolsyncNames::default();
    let named = |name, namespace| VolsyncNames { name, namespace, ..none };
    check_identity(named("webapp-backup", "production"), "webapp-backup@production:/data");
    check_identity(named("my.app", "test_ns"), "myapp@test-ns:/data");
    let long = "a".repeat(60);
    check_identity(named(&long, "prod"), &format!("{}@prod:/data", "a".repeat(50)));
    check_identity(named("webapp-restore", "production"), "webapp-restore@production:/data");
    let by_source = VolsyncNames { source_name: "webapp-backup", ..named("webapp-restore", "production") };
    check_identity(by_source, "webapp-backup@production:/data");
    let elsewhere = VolsyncNames { namespace: "staging", source_namespace: "production", ..by_source };
    check_identity(elsewhere, "webapp-backup@production:/data");
    check_identity(VolsyncNames { username: "u", hostname: "h", ..elsewhere }, "u@h:/data");
    check_identity(VolsyncNames { username: "user@domain.com", ..by_source }, "user@domain.com@production:/data");
    let no_name = VolsyncNames { source_namespace: "production", ..named("app", "staging") };
    check_identity(no_name, "app@staging:/data");
    check_identity(VolsyncNames { path: "/var/lib/x", ..by_source }, "webapp-backup@production:/var/lib/x");
    let nothing_left = VolsyncNames { source_name: "src_1", source_namespace: "@", ..named("rd", "staging") };
    check_identity(nothing_left, "src_1@src-1:/data");
}

#[test]
fn objects_of_a_claim() {
    let claim = ClaimKey::new("my-app", "my-data").unwrap();
    assert_eq!(claim.to_string(), "my-app/my-data");
    assert_eq!(claim.repository_prefix(), "my-app/my-data");
    assert_eq!(claim.ledger_object(), "_perennial/ledger/my-app/my-data.json");
    assert_eq!(ClaimKey::of_ledger_object(&claim.ledger_object()), Some(claim.clone()));
    assert_eq!(claim.shared_identity().to_string(), "my-data@my-app:/data");
    assert_eq!(claim.credentials_name(), "volsync-my-data");
    assert_eq!(claim.backup_name(), "my-data-backup");
    assert_eq!(claim.label_value(), "my-data");
    assert_eq!(source_job_name(&claim.backup_name()), "volsync-src-my-data-backup");
    assert_eq!(destination_job_name(&claim.backup_name()), "volsync-dst-my-data-backup");
    assert_eq!(prime_name("8f1c"), "vs-prime-8f1c");
}

#[test]
fn minute_is_the_hash_of_namespace_and_name() {
    // printf karakeep/data-pvc | sha256sum: c7021cf6…, modulo 60.
    assert_eq!(ClaimKey::new("karakeep", "data-pvc").unwrap().minute(), 10);
}

#[test]
fn long_names_are_shortened_where_kubernetes_asks_for_it() {
    assert_eq!(label_value(&"a".repeat(63)), "a".repeat(63));
    // printf 'a%.0s' {1..64} | sha256sum
    assert_eq!(label_value(&"a".repeat(64)), "pvc-ffe054fe7ae0cb6dc65c3af9");
    assert_eq!(source_job_name(&"a".repeat(51)).len(), 63);
    // Python: zlib.crc32(b"a" * 52)
    assert_eq!(source_job_name(&"a".repeat(52)), "volsync-src-b6af0329");
    assert_eq!(destination_job_name(&"a".repeat(52)), "volsync-dst-b6af0329");
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the polynomial's published check value");
}

#[track_caller]
fn check_claim(namespace: &str, pvc: &str, accepted: bool) {
    assert_eq!(ClaimKey::new(namespace, pvc).is_ok(), accepted, "{namespace}/{pvc}");
    let json = serde_json::json!({ "namespace": namespace, "pvc": pvc }).to_string();
    assert_eq!(serde_json::from_str::<ClaimKey>(&json).is_ok(), accepted, "{json}");
}

#[test]
fn names_that_leave_their_place_are_refused() {
    check_claim("media", "photos", true);
    check_claim("0", "a.b-c.9", true);
    check_claim(&"n".repeat(63), &"p".repeat(253), true);
    check_claim(&"n".repeat(64), "p", false);
    check_claim("n", &"p".repeat(254), false);
    check_claim("", "p", false);
    check_claim("n", "", false);
    check_claim("n.n", "p", false);
    check_claim("..", "p", false);
    check_claim("n", "..", false);
    check_claim("n", "a..b", false);
    check_claim("n", "a/b", false);
    check_claim("n", "-a", false);
    check_claim("N", "a", false);
    check_claim("n", "a%2fb", false);
}

#[test]
fn other_names_in_the_ledger_are_nobodys() {
    for name in ["_perennial/ledger/a.json", "_perennial/ledger/a/b", "p/a/b.json", "_perennial/ledger/a/b/c.json"] {
        assert_eq!(ClaimKey::of_ledger_object(name), None, "{name}");
    }
}
