//! `cargo xtask bench --large`: what does not grow with the data, measured where it would show.
//!
//! A million tiny files; half as many in one directory; an index of ten million contents; a bucket far away with 5,000 index blobs; and a restore from
//! such a bucket beside plain parallel GETs of the same packs.

use super::contestant::{ACCESS_KEY, Contestant, Kind as ProgramKind, PASSWORD, REGION, SECRET_KEY, Store};
use super::data::{self, Kind};
use super::delay::Delay;
use super::measure::{self, Measured};
use super::room::Room;
use super::server::{BUCKET, Server};
use super::{Bench, Program, Settings};
use crate::checkout;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DIRECTORIES: u64 = 1_000;
const FILES: u64 = 1_000_000;
const FILES_IN_ONE_DIRECTORY: u64 = 500_000;
const CONTENTS: u64 = 10_000_000;
const INDEX_BLOBS: u64 = 5_000;
/// What a quick run makes of all of these.
const QUICK_DIVISOR: u64 = 100;
/// How much later each call to the bucket is answered.
const DELAY: Duration = Duration::from_millis(30);
/// GETs at the same time, for the plain ones.
const PARALLEL_GETS: &str = "8";

/// What a million tiny files take on tmpfs, in the source and in a target: a page and an inode each.
const FILE_ROOM_BYTES: u64 = 12 << 10;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Part {
    /// A million tiny files
    Files,
    /// 500,000 files in one directory
    Directory,
    /// Ten million contents
    Contents,
    /// 5,000 index blobs far away
    Blobs,
    /// A restore from far away
    Restore,
    /// All of it
    All,
}

/// One line of the result.
struct Line {
    what: String,
    program: &'static str,
    measured: Measured,
    note: String,
}

/// Measures a part or all of it, prints a table and writes it to `table`.
pub fn run(bench: &Bench<'_>, part: Part, root: &Path, table: &Path) -> Result<()> {
    let synthesise = build_synthesise(root)?;
    let divisor = if bench.options.quick { QUICK_DIVISOR } else { 1 };
    let wants = |one: Part| part == one || part == Part::All;
    let mut lines = Vec::new();
    if wants(Part::Files) {
        lines.extend(tiny_files(bench, FILES / divisor, DIRECTORIES)?);
    }
    if wants(Part::Directory) {
        lines.extend(tiny_files(bench, FILES_IN_ONE_DIRECTORY / divisor, 1)?);
    }
    if wants(Part::Contents) {
        lines.extend(many_contents(bench, &synthesise, CONTENTS / divisor)?);
    }
    if wants(Part::Blobs) {
        lines.extend(many_index_blobs(bench, &synthesise, INDEX_BLOBS / divisor)?);
    }
    if wants(Part::Restore) {
        lines.extend(restore_from_afar(bench)?);
    }
    let text = markdown(&lines);
    println!("\n{text}");
    std::fs::write(table, text).with_context(|| format!("write {}", table.display()))?;
    println!("bench: {}", table.display());
    Ok(())
}

fn build_synthesise(root: &Path) -> Result<PathBuf> {
    println!("bench: building synthesise, release");
    let mut build = checkout::cargo(root);
    build.args(["build", "--release", "--package", "repository-kopia", "--example", "synthesise"]);
    if !build.status().context("run cargo build")?.success() {
        bail!("cargo build --release --example synthesise failed");
    }
    Ok(checkout::target_directory(root).join("release/examples/synthesise"))
}

fn markdown(lines: &[Line]) -> String {
    let mut text = "| what | program | wall s | CPU s | peak MiB | |\n|---|---|---|---|---|---|\n".to_owned();
    for Line { what, program, measured, note } in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {what} | {program} | {:.2} | {:.2} | {:.0} | {note} |",
            measured.wall.as_secs_f64(),
            measured.cpu.as_secs_f64(),
            measured.peak_bytes as f64 / f64::from(1 << 20),
        );
    }
    text
}

/// A repository of one program, in a directory of its own below `place`.
fn contestant(bench: &Bench<'_>, program: Program, place: &Path, store: Store) -> Result<Contestant> {
    let place = place.join(program.name());
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let program = match program {
        Program::Perennial => ProgramKind::Perennial(bench.perennial.clone()),
        Program::Kopia => ProgramKind::Kopia(bench.kopia.clone()),
    };
    Ok(Contestant { program, store, settings: Settings::Default, place })
}

fn tiny_files(bench: &Bench<'_>, count: u64, directories: u64) -> Result<Vec<Line>> {
    let room = Room::reserve(&bench.options.directory, count * FILE_ROOM_BYTES / 4)?;
    let source = room.path().join("source");
    bench.say(&format!("writing {count} tiny files"));
    write_tiny_files(&source, count, directories)?;
    let mut lines = Vec::new();
    for program in &bench.programs {
        let place = room.fresh("run")?;
        let contestant = contestant(bench, *program, &place, Store::Directory(place.join("repository")))?;
        measure::run(contestant.create(), &place.join("create.log"))?;
        contestant.prepare()?;
        for (phase, command) in [
            ("first backup", contestant.backup(&source)),
            ("unchanged backup", contestant.backup(&source)),
            ("restore", contestant.restore(&source)),
            ("verification", contestant.verify()),
        ] {
            let what = format!("{count} tiny files in {directories} directories, {phase}");
            bench.say(&format!("{what}, {}", program.name()));
            let measured = measure::run(command, &place.join("log"))?;
            lines.push(Line { what, program: program.name(), measured, note: String::new() });
        }
    }
    Ok(lines)
}

fn write_tiny_files(root: &Path, count: u64, directories: u64) -> Result<()> {
    for directory in 0..directories {
        let path = root.join(format!("d{:02}/e{directory:03}", directory / 32));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        for number in 0..count / directories {
            let path = path.join(format!("file-{number:06}"));
            let written = File::create(&path).and_then(|mut file| writeln!(file, "{directory} {number}"));
            written.with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Fills an empty place with contents or index blobs.
fn fill(synthesise: &Path, what: &str, count: u64, directory: &Path, log: &Path) -> Result<()> {
    let mut command = Command::new(synthesise);
    command.args([what, &count.to_string()]).arg(directory).env("PERENNIAL_PASSWORD", PASSWORD);
    measure::run(command, log)?;
    Ok(())
}

fn many_contents(bench: &Bench<'_>, synthesise: &Path, count: u64) -> Result<Vec<Line>> {
    /// Of the pack and the index, and of the copies of it in the caches.
    const CONTENT_BYTES: u64 = 160;
    let room = Room::reserve(&bench.options.directory, count * CONTENT_BYTES / 2)?;
    let repository = room.path().join("repository");
    bench.say(&format!("writing {count} contents"));
    fill(synthesise, "contents", count, &repository, &room.path().join("log"))?;
    let source = room.path().join("source");
    write_tiny_files(&source, DIRECTORIES, DIRECTORIES)?;
    let mut lines = Vec::new();
    for program in &bench.programs {
        let contestant = contestant(bench, *program, room.path(), Store::Directory(repository.clone()))?;
        contestant.connect(&room.path().join("connect.log"))?;
        for (phase, command) in [
            ("open", contestant.snapshots()),
            ("open again", contestant.snapshots()),
            ("look up: a backup of 1000 files", contestant.backup(&source)),
        ] {
            let what = format!("{count} contents, {phase}");
            bench.say(&format!("{what}, {}", program.name()));
            let measured = measure::run(command, &room.path().join("log"))?;
            lines.push(Line { what, program: program.name(), measured, note: String::new() });
        }
    }
    Ok(lines)
}

fn many_index_blobs(bench: &Bench<'_>, synthesise: &Path, count: u64) -> Result<Vec<Line>> {
    let room = Room::reserve(&bench.options.directory, count << 10)?;
    let server = Server::start(bench.s3_server()?, room.path())?;
    bench.say(&format!("writing {count} index blobs"));
    let written = room.path().join("repository");
    fill(synthesise, "index-blobs", count, &written, &room.path().join("log"))?;
    move_into_bucket(&written, "", &server.repository())?;
    let far = Delay::start(server.address(), DELAY)?;
    let mut lines = Vec::new();
    for program in &bench.programs {
        let store = Store::S3 { endpoint: far.address().to_string(), bucket: BUCKET };
        let contestant = contestant(bench, *program, room.path(), store)?;
        // Connecting opens the repository too, but kopia does it in a run of its own, whose cache would be full then.
        contestant.connect(&room.path().join("connect.log"))?;
        contestant.forget_cache()?;
        let what = format!("{count} index blobs, {} ms away, open", DELAY.as_millis());
        bench.say(&format!("{what}, {}", program.name()));
        let calls_before = server.calls_count()?;
        let measured = measure::run(contestant.snapshots(), &room.path().join("log"))?;
        let note = format!("{} calls", server.calls_count()? - calls_before);
        lines.push(Line { what, program: program.name(), measured, note });
    }
    Ok(lines)
}

/// Objects as an S3 server keeps them, out of the directories in which Kopia keeps them.
fn move_into_bucket(directory: &Path, key_begins: &str, bucket: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        let key = format!("{key_begins}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            move_into_bucket(&entry.path(), &key, bucket)?;
        } else if let Some(key) = key.strip_suffix(".f") {
            std::fs::rename(entry.path(), bucket.join(key)).with_context(|| format!("move {key}"))?;
        }
    }
    Ok(())
}

/// A restore beside plain GETs, which write nothing and decrypt nothing.
fn restore_from_afar(bench: &Bench<'_>) -> Result<Vec<Line>> {
    let set = data::Set::new(Kind::Big, bench.options.quick);
    let room = Room::reserve(&bench.options.directory, set.total_bytes())?;
    let source = room.path().join("source");
    bench.say(&format!("writing {}", set.describe()));
    set.write(&source)?;
    let server = Server::start(bench.s3_server()?, room.path())?;
    let near = Store::S3 { endpoint: server.address().to_string(), bucket: BUCKET };
    let writer = contestant(bench, Program::Perennial, room.path(), near)?;
    measure::run(writer.create(), &room.path().join("log"))?;
    measure::run(writer.backup(&source), &room.path().join("log"))?;
    let far = Delay::start(server.address(), DELAY)?;
    let packs = packs(&server.repository())?;
    let rate = |measured: &Measured| set.total_bytes() as f64 / f64::from(1 << 20) / measured.wall.as_secs_f64();

    bench.say("plain GETs of all packs");
    let plain = measure::run(gets(&packs, &far, room.path())?, &room.path().join("log"))?;
    let mut text = vec![Line {
        what: format!("{} ms away, {PARALLEL_GETS} plain GETs at a time", DELAY.as_millis()),
        program: "curl",
        measured: plain,
        note: format!("{:.0} MiB/s", rate(&plain)),
    }];
    for program in &bench.programs {
        let what = format!("{} ms away, restore", DELAY.as_millis());
        bench.say(&format!("{what}, {}", program.name()));
        let store = Store::S3 { endpoint: far.address().to_string(), bucket: BUCKET };
        let reader = contestant(bench, *program, room.path(), store)?;
        reader.connect(&room.path().join("connect.log"))?;
        let restored = measure::run(reader.restore(&source), &room.path().join("log"))?;
        let share = 100.0 * rate(&restored) / rate(&plain);
        let note = format!("{:.0} MiB/s, {share:.0} % of plain GETs", rate(&restored));
        std::fs::remove_dir_all(reader.target()).context("remove what was restored")?;
        text.push(Line { what, program: program.name(), measured: restored, note });
    }
    Ok(text)
}

/// Names of all packs with data.
fn packs(bucket: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(bucket).with_context(|| format!("list {}", bucket.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<std::io::Result<_>>().context("list the bucket")?;
    Ok(names.into_iter().filter(|name| name.starts_with('p')).collect())
}

fn gets(packs: &[String], far: &Delay, place: &Path) -> Result<Command> {
    let mut config = String::new();
    for pack in packs {
        let _ = writeln!(config, "url = \"http://{}/{BUCKET}/{pack}\"\noutput = \"/dev/null\"", far.address());
    }
    let file = place.join("gets");
    std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--parallel", "--parallel-max", PARALLEL_GETS]);
    command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
    command.args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3"), "--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")]);
    command.arg("--config").arg(file);
    Ok(command)
}
