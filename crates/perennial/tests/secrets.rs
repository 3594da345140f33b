//! Nothing that is secret is ever said, however much is asked for.

use crate::support::{Place, Ran};
use std::fs;

const PASSWORD: &str = "pass-of-the-repository-7d1f";
const ACCESS_KEY: &str = "AKIAEXAMPLE7D1F";
const SECRET_KEY: &str = "secret-of-the-bucket-7d1f";
const TOKEN: &str = "token-of-the-bucket-7d1f";

#[test]
fn no_secret_is_in_any_output() {
    let place = Place::new();
    place.plant("source");
    fs::write(place.path("password"), PASSWORD).unwrap();
    let dead = "s3://bucket/prefix?endpoint=http://127.0.0.1:1";
    let run = |store: &str, arguments: &[&str]| {
        let mut command = place.command();
        command.env("PERENNIAL_PASSWORD", PASSWORD).env("KOPIA_PASSWORD", PASSWORD).env("PERENNIAL_STORE", store);
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_SESSION_TOKEN", TOKEN);
        let ran = Ran::of(&command.args(arguments).args(["-vv", "--password-file", "password"]).output().unwrap());
        for secret in [PASSWORD, ACCESS_KEY, SECRET_KEY, TOKEN] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{arguments:?}: {ran:?}");
        }
        ran
    };
    let repo = format!("file:{}", place.text("repo"));
    run(&repo, &["repository", "create"]).expect(0);
    run(&repo, &["backup", "source"]).expect(0);
    for arguments in [
        vec!["repository", "status", "--json"],
        vec!["snapshots"],
        vec!["verify"],
        vec!["--help"],
        vec!["backup", "-h"],
    ] {
        run(&repo, &arguments).expect(0);
    }
    run("ftp://x", &["snapshots"]).expect(4);
    run(dead, &["snapshots", "--json"]).expect(6);
    // Someone puts a key where it does not belong.
    run(&format!("s3://bucket/prefix?secret={SECRET_KEY}"), &["snapshots"]).expect(4);
    run(&format!("s3://bucket/prefix?endpoint=http://{ACCESS_KEY}:{SECRET_KEY}@host"), &["snapshots"]).expect(4);
}
