//! The real kopia and this program on one repository: it opens, lists and checks what we wrote, and we what it wrote.

use crate::support::{PASSWORD, Place, Ran, describe};
use std::path::PathBuf;
use std::process::Command;

/// `KOPIA`, else where `cargo xtask tools` puts it.
fn program() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let built = || cache().map(|cache| cache.join("perennial/tools/kopia/0.22.3/kopia"));
    let program = set("KOPIA").or_else(built).unwrap();
    assert!(program.is_file(), "{} is missing: run `cargo xtask tools`", program.display());
    program
}

pub struct Kopia<'a> {
    pub place: &'a Place,
}

impl Kopia<'_> {
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("HOME", self.place.directory.path())
            .env("KOPIA_PASSWORD", PASSWORD)
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_CACHE_DIRECTORY", self.place.path("kopia-cache"))
            .env("KOPIA_LOG_DIR", self.place.path("kopia-log"))
            .arg(format!("--config-file={}", self.place.text("kopia.config")))
            .args(arguments);
        Ran::of(&command.output().unwrap()).expect(0).stdout
    }
}

/// Kopia's own restore gives directories and links other times than they had.
fn without_times(described: &str) -> Vec<String> {
    let is_of_file = |line: &&str| line.contains(" bytes ");
    let untimed = |line: &str| match (line.find('('), line.find(')')) {
        (Some(from), Some(to)) if !is_of_file(&line) => format!("{}{}", &line[..from], &line[to + 1..]),
        _ => line.to_owned(),
    };
    described.lines().map(untimed).collect()
}

#[test]
fn kopia_accepts_what_we_wrote() {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let kopia = Kopia { place: &place };
    let repo = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "connect", "filesystem", &repo, "--no-persist-credentials"]);
    assert!(kopia.run(&["snapshot", "list", "--all"]).contains("me@box:/data"));
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    let listed: serde_json::Value = serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap();
    kopia.run(&["snapshot", "restore", listed[0]["id"].as_str().unwrap(), &place.text("out")]);
    assert_eq!(without_times(&describe(&place.path("out"))), without_times(&describe(&source)));
}

#[test]
fn we_accept_what_kopia_wrote() {
    let place = Place::new();
    let source = place.plant("source");
    let kopia = Kopia { place: &place };
    std::fs::create_dir(place.path("repo")).unwrap();
    let repo = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "create", "filesystem", &repo, "--no-persist-credentials"]);
    let source_text = place.text("source");
    kopia.run(&["snapshot", "create", &source_text, "--override-source=me@box:/data"]);
    place.run(&["restore", "latest", "out", "--source", "me@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    let second = place.run(&["backup", "source", "--as", "me@box:/data", "--json"]).expect(0).json();
    assert_eq!((&second["filesRead"], &second["bytesNew"]), (&0.into(), &0.into()));
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
}
