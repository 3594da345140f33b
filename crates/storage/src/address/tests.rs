use std::collections::HashMap;

use super::*;

#[track_caller]
fn check(text: &str, shown: &str) {
    let address = Address::parse(text).unwrap();
    assert_eq!(address.to_string(), shown);
    assert_eq!(Address::parse(shown).unwrap(), address, "what is shown is an address");
}

#[track_caller]
fn refused(text: &str, words: &str) {
    let error = Address::parse(text).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn directories() {
    check("/srv/repo", "file:/srv/repo");
    check("file:/srv/repo/", "file:/srv/repo");
    check("file:///srv//repo", "file:/srv/repo");
    check("filesystem:///mnt/repository", "file:/mnt/repository");
    refused("srv/repo", "begins with none of");
    refused("file:srv/repo", "not absolute");
    refused("filesystem://srv", "not absolute");
    refused("filesystem:///srv/../etc", "`..`");
    refused("azure://container", "begins with none of");
}

#[test]
fn buckets() {
    check("s3://backups", "s3://backups");
    check("s3://backups/a//b", "s3://backups/a/b/");
    check("s3://backups/media/photos/", "s3://backups/media/photos/");
    check("s3://backups?endpoint=127.0.0.1:9000", "s3://backups?endpoint=https://127.0.0.1:9000");
    check(
        "s3://backups/x?region=eu-west-1&endpoint=http%3A%2F%2F127.0.0.1:9000/&ca=/a%20b.pem&insecure=true",
        "s3://backups/x/?endpoint=http://127.0.0.1:9000&region=eu-west-1&ca=/a%20b.pem&insecure=true",
    );
    check("s3://backups?prefix=no-slash", "s3://backups?prefix=no-slash");
    check("s3://backups?prefix=with-slash/", "s3://backups/with-slash/");
    refused("s3://Backups", "no bucket's name");
    refused("s3://10.0.0.1/x", "no bucket's name");
    refused("s3://backups/a/../b", "`..`");
    refused("s3://backups?endpoint=http://user:pass@host", "the endpoint");
    refused("s3://backups?insecure=1", "neither");
}

#[test]
fn what_may_be_a_secret_is_not_repeated() {
    let error = Address::parse("s3://backups?secret_access_key=hunter2").unwrap_err().to_string();
    assert!(error.contains("secret_access_key") && !error.contains("hunter2"), "{error}");
    let credentials = Credentials {
        s3: Some(S3Credentials {
            access_key_id: "AKIA".to_owned(),
            secret_access_key: "hunter2".to_owned(),
            session_token: None,
        }),
    };
    assert_eq!(format!("{credentials:?}"), "Credentials { s3: Some(S3Credentials([redacted])) }");
}

#[test]
fn parts_of_a_store() {
    let part = |text: &str, sub: &str| Address::parse(text).unwrap().join(sub).map(|address| address.to_string());
    assert_eq!(part("/srv/repo", "media/photos").unwrap(), "file:/srv/repo/media/photos");
    assert_eq!(part("s3://backups", "media/photos").unwrap(), "s3://backups/media/photos/");
    assert_eq!(part("s3://backups/all/", "media/photos").unwrap(), "s3://backups/all/media/photos/");
    assert_eq!(part("s3://backups?prefix=all", "media/photos").unwrap(), "s3://backups/all/media/photos/");
    for sub in ["", "..", "a/../b", "/a", "a/", "a//b"] {
        part("/srv/repo", sub).unwrap_err();
    }
}

#[track_caller]
fn check_env(variables: &[(&str, &str)], shown: Option<&str>) {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let address = Address::from_env(&|name| variables.get(name).map(|value| (*value).to_owned())).unwrap();
    assert_eq!(address.map(|address| address.to_string()).as_deref(), shown);
}

#[test]
fn variables_of_a_kopia_secret() {
    check_env(&[], None);
    check_env(&[("KOPIA_REPOSITORY", "")], None);
    check_env(
        &[("KOPIA_REPOSITORY", "filesystem:///repository"), ("KOPIA_FS_PATH", "/repository")],
        Some("file:/repository"),
    );
    check_env(&[("KOPIA_REPOSITORY", "s3://backups")], Some("s3://backups"));
    check_env(&[("KOPIA_REPOSITORY", "s3://backups/a//b")], Some("s3://backups/a/b/"));
    check_env(
        &[("KOPIA_REPOSITORY", "s3://other/a/b"), ("KOPIA_S3_BUCKET", "backups"), ("AWS_S3_ENDPOINT", "minio:9000")],
        Some("s3://backups/a/b/?endpoint=https://minio:9000"),
    );
    check_env(
        &[("KOPIA_REPOSITORY", "filesystem:///repository"), ("KOPIA_S3_BUCKET", "backups")],
        Some("s3://backups"),
    );
    // The seven keys of a generated Secret.
    check_env(
        &[
            ("KOPIA_PASSWORD", "x"),
            ("KOPIA_S3_BUCKET", "backups"),
            ("KOPIA_S3_ENDPOINT", "minio.storage:9000"),
            ("KOPIA_S3_PREFIX", "media/photos"),
            ("KOPIA_S3_DISABLE_TLS", "true"),
            ("KOPIA_S3_ACCESS_KEY_ID", "a"),
            ("KOPIA_S3_SECRET_ACCESS_KEY", "b"),
        ],
        Some("s3://backups/media/photos/?endpoint=http://minio.storage:9000"),
    );
    check_env(
        &[
            ("KOPIA_S3_BUCKET", "backups"),
            ("KOPIA_S3_ENDPOINT", "http://minio:9000"),
            ("KOPIA_S3_DISABLE_TLS", "yes"),
            ("AWS_DEFAULT_REGION", "home"),
            ("CUSTOM_CA", "/customCA/ca.crt"),
        ],
        Some("s3://backups?endpoint=http://minio:9000&region=home&ca=/customCA/ca.crt"),
    );
    Address::from_env(&|name| (name == "KOPIA_REPOSITORY").then(|| "azure://container".to_owned())).unwrap_err();
}

#[test]
fn keys_of_a_kopia_secret() {
    let from = |variables: &[(&str, &str)]| {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Credentials::from_env(&|name| variables.get(name).map(|value| (*value).to_owned())).s3
    };
    let aws = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_SESSION_TOKEN", "t")];
    let credentials = from(&aws).unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.session_token.as_deref()), ("a", Some("t")));
    let both = [&aws[..], &[("KOPIA_S3_ACCESS_KEY_ID", "k"), ("KOPIA_S3_SECRET_ACCESS_KEY", "s")]].concat();
    let credentials = from(&both).unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.session_token.as_deref()), ("k", None));
    assert_eq!(from(&[("AWS_ACCESS_KEY_ID", "a")]), None);
}
