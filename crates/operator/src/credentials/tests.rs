use serde_json::json;

use super::*;

fn repository(change: serde_json::Value) -> BackupRepositorySpec {
    let mut spec = json!({
        "format": "kopia",
        "store": {"s3": {"endpoint": "http://192.168.10.133:30292", "bucket": "volsync-backup"}},
        "credentials": {"secretRef": {"name": "repo"}},
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn claim() -> ClaimKey {
    ClaimKey::new("karakeep", "data-pvc").unwrap()
}

fn kept(pairs: &[(&str, &str)]) -> Secret {
    let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    Secret {
        metadata: ObjectMeta { name: Some("repo".to_owned()), ..ObjectMeta::default() },
        data: Some(data),
        ..Secret::default()
    }
}

fn text(secret: &Secret) -> Vec<String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| format!("{key}={}", String::from_utf8(value.0.clone()).unwrap())).collect()
}

#[test]
fn a_claims_secret_has_exactly_the_seven_keys() {
    let spec = repository(json!({}));
    let source = kept(&[
        ("KOPIA_PASSWORD", "pw"),
        ("KOPIA_S3_ACCESS_KEY_ID", "a"),
        ("KOPIA_S3_SECRET_ACCESS_KEY", "s"),
        ("more", "x"),
    ]);
    let values = values(&spec, &KeyNames::of_format(spec.format), &source).unwrap();
    let made = secret(&spec, &User::Claim(&claim()), &values, ObjectMeta::default());
    let expected = [
        "KOPIA_PASSWORD=pw",
        "KOPIA_S3_ACCESS_KEY_ID=a",
        "KOPIA_S3_BUCKET=volsync-backup",
        "KOPIA_S3_DISABLE_TLS=true",
        "KOPIA_S3_ENDPOINT=192.168.10.133:30292",
        "KOPIA_S3_PREFIX=karakeep/data-pvc",
        "KOPIA_S3_SECRET_ACCESS_KEY=s",
    ];
    assert_eq!(text(&made), expected);
    let names: Vec<String> = expected.iter().map(|pair| pair.split_once('=').unwrap().0.to_owned()).collect();
    assert_eq!(keys(&spec, &User::Claim(&claim())), names);
    assert_eq!(first_missing(&made, &names), None);
}

#[test]
fn prefixes_and_directories() {
    let prefixed =
        json!({"store": {"s3": {"endpoint": "s3.example.com", "bucket": "bucket", "prefix": "clusters/home"}}});
    let spec = repository(prefixed);
    let of = |user: User<'_>| place(&spec, &user)["KOPIA_S3_PREFIX"].clone();
    assert_eq!(of(User::Claim(&claim())), "clusters/home/karakeep/data-pvc");
    assert_eq!(of(User::Catalog), "clusters/home");
    let nfs =
        |layout: &str| repository(json!({"layout": layout, "store": {"nfs": {"server": "nas", "path": "/mnt/vault"}}}));
    let own = place(&nfs("PerClaim"), &User::Claim(&claim()));
    assert_eq!(own["KOPIA_REPOSITORY"], "filesystem:///repository/karakeep/data-pvc");
    assert_eq!(place(&nfs("Shared"), &User::Claim(&claim()))["KOPIA_REPOSITORY"], "filesystem:///repository");
    assert_eq!(own.len(), 1);
}

#[test]
fn what_is_missing_is_named() {
    let spec = repository(json!({}));
    let missing = |pairs: &[(&str, &str)]| {
        values(&spec, &KeyNames::of_format(spec.format), &kept(pairs)).err().unwrap().to_string()
    };
    assert_eq!(
        missing(&[("KOPIA_S3_ACCESS_KEY_ID", "a"), ("KOPIA_S3_SECRET_ACCESS_KEY", "s")]),
        "Secret repo has no key KOPIA_PASSWORD, or nothing in it"
    );
    assert_eq!(
        missing(&[("KOPIA_PASSWORD", "pw"), ("KOPIA_S3_ACCESS_KEY_ID", "")]),
        "Secret repo has no key KOPIA_S3_ACCESS_KEY_ID, or nothing in it"
    );
}

#[test]
fn an_external_secret_merges_what_it_fetches_with_what_is_no_secret() {
    let values = json!({
        "password": {"key": "rustfs", "property": "kopia_password"},
        "accessKey": {"key": "rustfs", "property": "k8s-admin-access-key"},
        "secretKey": {"key": "rustfs", "property": "k8s-admin-secret-key"},
    });
    let spec = repository(
        json!({"credentials": {"externalSecret": {"store": {"name": "1password"}, "fetch": {"values": values}}}}),
    );
    let api::v1alpha1::credentials::Credentials::ExternalSecret(from) = &spec.credentials else {
        panic!("another kind")
    };
    let metadata = ObjectMeta { name: Some("volsync-data-pvc".to_owned()), ..ObjectMeta::default() };
    let made = serde_json::to_value(external(&spec, &User::Claim(&claim()), from, metadata).spec).unwrap();
    let entry =
        |key: &str, property: &str| json!({"secretKey": key, "remoteRef": {"key": "rustfs", "property": property}});
    let expected = json!({
        "refreshInterval": "1h",
        "secretStoreRef": {"name": "1password", "kind": "ClusterSecretStore"},
        "target": {
            "name": "volsync-data-pvc",
            "creationPolicy": "Owner",
            "template": {"engineVersion": "v2", "mergePolicy": "Merge", "data": {
                "KOPIA_S3_BUCKET": "volsync-backup",
                "KOPIA_S3_ENDPOINT": "192.168.10.133:30292",
                "KOPIA_S3_PREFIX": "karakeep/data-pvc",
                "KOPIA_S3_DISABLE_TLS": "true",
            }},
        },
        "data": [
            entry("KOPIA_PASSWORD", "kopia_password"),
            entry("KOPIA_S3_ACCESS_KEY_ID", "k8s-admin-access-key"),
            entry("KOPIA_S3_SECRET_ACCESS_KEY", "k8s-admin-secret-key"),
        ],
    });
    assert_eq!(made, expected);
}

#[test]
fn a_version_changes_with_the_secret_and_with_the_place() {
    let spec = repository(json!({}));
    let secret = |version: &str| {
        let mut secret = kept(&[("KOPIA_PASSWORD", "pw")]);
        secret.metadata.resource_version = Some(version.to_owned());
        secret
    };
    let of = |spec: &BackupRepositorySpec, secret: &Secret| version(spec, &User::Catalog, secret);
    let elsewhere =
        repository(json!({"store": {"s3": {"endpoint": "http://192.168.10.133:30292", "bucket": "another"}}}));
    assert_eq!(of(&spec, &secret("1")), of(&spec, &secret("1")));
    assert_ne!(of(&spec, &secret("1")), of(&spec, &secret("2")));
    assert_ne!(of(&spec, &secret("1")), of(&elsewhere, &secret("1")));
}
