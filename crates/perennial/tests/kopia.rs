//! The real kopia and this program on one repository: it opens, lists and checks what we wrote, and we what it wrote.

use crate::support::{Place, Ran, describe};
use std::path::PathBuf;
use std::process::Command;

/// The releases of kopia that share a repository with us here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 0.22.3.
    Newest,
    /// 0.21.1, which many clusters still run.
    Before,
}

impl Release {
    /// From its variable, else where `cargo xtask tools` puts it.
    fn program(self) -> PathBuf {
        let (variable, version) = match self {
            Self::Newest => ("KOPIA", "0.22.3"),
            Self::Before => ("KOPIA_BEFORE", "0.21.1"),
        };
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let built = || cache().map(|cache| cache.join("perennial/tools/kopia").join(version).join("kopia"));
        let program = set(variable).or_else(built).unwrap();
        assert!(program.is_file(), "{} is missing: run `cargo xtask tools`", program.display());
        program
    }
}

pub struct Kopia<'a> {
    pub place: &'a Place,
    pub release: Release,
}

impl<'a> Kopia<'a> {
    /// The newest release.
    pub fn on(place: &'a Place) -> Self {
        Self { place, release: Release::Newest }
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.release.program());
        command
            .env_clear()
            .env("HOME", self.place.directory.path())
            .env("KOPIA_PASSWORD", &self.place.password)
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_CACHE_DIRECTORY", self.place.path(&format!("kopia-cache-{:?}", self.release)))
            .env("KOPIA_LOG_DIR", self.place.path("kopia-log"))
            .arg(format!("--config-file={}", self.place.text(&format!("kopia-{:?}.config", self.release))))
            .args(arguments);
        Ran::of(&command.output().unwrap()).expect(0).stdout
    }
}

/// Kopia's own restore gives directories and links other times than they had, and the target itself no mode.
pub fn without_times(described: &str) -> Vec<String> {
    let is_of_file = |line: &&str| line.contains(" bytes ");
    let untimed = |line: &str| match (line.find('('), line.find(')')) {
        (Some(from), Some(to)) if !is_of_file(&line) => format!("{}{}", &line[..from], &line[to + 1..]),
        _ => line.to_owned(),
    };
    described.lines().filter(|line| !line.starts_with(". directory")).map(untimed).collect()
}

/// What kopia keeps of a described tree: neither extended attributes nor which names are one file, no special files, and names
/// with U+FFFD for each byte that is not UTF-8.
pub fn as_kopia_keeps(described: &str) -> String {
    let mut lines: Vec<(Vec<u8>, String)> = described.lines().filter_map(line_as_kopia_keeps).collect();
    lines.sort();
    lines.into_iter().map(|(path, rest)| format!("{} {rest}\n", path.escape_ascii())).collect()
}

fn line_as_kopia_keeps(line: &str) -> Option<(Vec<u8>, String)> {
    let is_time = |at: &usize| {
        let digits = line[at + 2..].split(')').next().unwrap_or_default();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let owner = line[..*at].rsplit(' ').next().and_then(|owner| owner.split_once(':'));
        is_number(digits) && owner.is_some_and(|(uid, gid)| is_number(uid) && is_number(gid))
    };
    let time = line.match_indices(" (").map(|(at, _)| at).find(is_time).unwrap();
    let (before, after) = line.split_at(time);
    let mut fields = before.rsplitn(4, ' ');
    let (owner, mode, kind) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
    let words = match kind {
        "directory" => 2,
        "file" => 5,
        "link" => usize::MAX,
        _ => return None,
    };
    let kept = after.split(' ').take(words).collect::<Vec<_>>().join(" ");
    Some((replaced(&unescaped(fields.next().unwrap())), format!("{kind} {mode} {owner}{kept}")))
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, length) = match (first, after) {
            (b'\\', [b'x', digits @ ..]) => {
                (u8::from_str_radix(std::str::from_utf8(&digits[..2]).unwrap(), 16).unwrap(), 4)
            }
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [literal, ..]) => (*literal, 2),
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

fn replaced(name: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into_bytes()
}

#[test]
fn what_kopia_keeps_is_known() {
    let described = "caf\\xe9 1 file 644 0:0 (-1) 3 bytes ab user.a=01 same as caf\\xe8\n. directory 755 0:0 (5) user.b=02\n\
                     l (1) x link 0 0:0 (7) -> a b\npipe fifo 600 0:0 (1)\n";
    let kept =
        ". directory 755 0:0 (5)\ncaf\\xef\\xbf\\xbd 1 file 644 0:0 (-1) 3 bytes ab\nl (1) x link 0 0:0 (7) -> a b\n";
    assert_eq!(as_kopia_keeps(described), kept);
}

fn accepts_what_we_wrote(release: Release) {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let kopia = Kopia { place: &place, release };
    let repo = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "connect", "filesystem", &repo, "--no-persist-credentials"]);
    assert!(kopia.run(&["snapshot", "list", "--all"]).contains("me@box:/data"));
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    let listed: serde_json::Value = serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap();
    kopia.run(&["snapshot", "restore", listed[0]["id"].as_str().unwrap(), &place.text("out")]);
    assert_eq!(without_times(&describe(&place.path("out"))), without_times(&describe(&source)));
}

fn is_accepted_by_us(release: Release) {
    let place = Place::new();
    let source = place.plant("source");
    let kopia = Kopia { place: &place, release };
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

#[test]
fn kopia_accepts_what_we_wrote() {
    accepts_what_we_wrote(Release::Newest);
}

#[test]
fn the_release_before_accepts_what_we_wrote() {
    accepts_what_we_wrote(Release::Before);
}

#[test]
fn we_accept_what_kopia_wrote() {
    is_accepted_by_us(Release::Newest);
}

#[test]
fn we_accept_what_the_release_before_wrote() {
    is_accepted_by_us(Release::Before);
}

/// Files longer than the policy says are cut in parts, which both programs read side by side.
#[test]
fn parts_of_large_files_are_cut_as_kopia_cuts_them() {
    let place = Place::new();
    let source = place.path("source");
    std::fs::create_dir(&source).unwrap();
    let mut state = 1_u64;
    for length in [1 << 20, (1 << 20) + 1, 2 << 20, (3 << 20) - 7, 9 << 20] {
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let bytes: Vec<u8> = bytes.take(length).collect();
        std::fs::write(source.join(length.to_string()), bytes).unwrap();
    }
    let kopia = Kopia::on(&place);
    std::fs::create_dir(place.path("repo")).unwrap();
    let repo = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "create", "filesystem", &repo, "--no-persist-credentials"]);
    kopia.run(&["policy", "set", "--global", "--parallel-upload-above-size-mib=1"]);
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=me@box:/data"]);
    let listed: serde_json::Value = serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap();
    let ours = place.run(&["backup", "source", "--as", "me@box:/data", "--read-all", "--json"]).expect(0).json();
    assert_eq!((&ours["bytesNew"], &ours["filesRead"]), (&0.into(), &5.into()));
    assert_eq!(ours["rootId"], listed[0]["rootEntry"]["obj"]);
}
