//! `cargo xtask bench`: perennial beside kopia, in turn, on the same generated data.
//!
//! Source, repository, caches and target lie on tmpfs, since a disk's noise is larger than what is to be seen. Each run has
//! a fresh repository and fresh caches, which its own phases then share, as a user's would. Every process is measured
//! by itself: wall time, processor time, peak memory; after the last run of a setting both restores are compared with the
//! source, file by file.

mod contestant;
mod data;
mod delay;
mod goals;
mod large;
mod measure;
mod room;
mod server;
mod table;

use crate::product_image::{self, Profile};
use crate::{checkout, elapsed, tools};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use contestant::{Contestant, Store};
use data::{Kind, State};
use delay::Delay;
use measure::Sample;
use room::Room;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Fewer runs make a median of nothing; quick ones only prove that everything works.
const RUNS_DEFAULT: usize = 5;

/// What `cargo xtask bench` may be told.
#[derive(Args)]
pub struct Options {
    /// A hundredth of the data and one run: proves that it works, measures little
    #[arg(long)]
    quick: bool,
    /// Runs of each program, in turn [default: 5, quick: 1]
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Repositories in a local S3 server (versitygw) instead of a directory; counts the calls
    #[arg(long)]
    s3: bool,
    /// With --s3: every call takes so many milliseconds longer, as to a store far away
    #[arg(long, value_name = "N", requires = "s3")]
    delay_ms: Option<u64>,
    /// What must not grow with the data, or one part of that: a million files, ten million contents, 5,000 index blobs far
    /// away, a restore from there
    #[arg(long, value_enum, value_name = "PART", num_args = 0..=1, default_missing_value = "all")]
    #[arg(conflicts_with_all = ["s3", "data"])]
    large: Option<large::Part>,
    /// Which data
    #[arg(long, value_enum, default_value = "all")]
    data: Wanted,
    /// Measure one program alone
    #[arg(long, value_enum)]
    only: Option<Program>,
    /// Where the numbers go; the table goes beside it, ending in .md [default: bench.json in cargo's target directory]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where data and repositories lie while it runs
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Wanted {
    Small,
    Big,
    All,
}

/// Who is measured; the order is that of each run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
enum Program {
    Perennial,
    Kopia,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Perennial => "perennial",
            Self::Kopia => "kopia",
        }
    }
}

/// The settings that both programs know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Settings {
    Default,
    ZstdFastest,
}

impl Settings {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "no compression",
            Self::ZstdFastest => "zstd-fastest",
        }
    }
}

/// One measured step of a run, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Create,
    First,
    Unchanged,
    Changed,
    Restore,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create repository",
            Self::First => "first backup",
            Self::Unchanged => "unchanged backup",
            Self::Changed => "1 % changed backup",
            Self::Restore => "restore",
        }
    }
}

const PHASES: [Phase; 5] = [Phase::Create, Phase::First, Phase::Unchanged, Phase::Changed, Phase::Restore];

/// Builds both programs, measures them, prints the table and writes it with the numbers.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let programs = programs(options);
    let kopia = tools::ensure(root, &tools::KOPIA)?;
    let server_program =
        if options.s3 || options.large.is_some() { Some(tools::ensure(root, &tools::VERSITYGW)?) } else { None };
    if programs.contains(&Program::Perennial) {
        println!("bench: building perennial, release");
        product_image::program(root, Profile::Release)?;
    }
    let perennial = product_image::program_path(root, Profile::Release);
    let bench = Bench { perennial, kopia, server_program, programs, options, started: Instant::now() };
    if let Some(part) = options.large {
        return large::run(&bench, part, root, &checkout::target_directory(root).join("bench-large.md"));
    }
    let mut samples = Vec::new();
    for kind in bench.kinds() {
        samples.extend(bench.data_set(kind)?);
    }
    let report = table::Report { head: bench.head(root)?, programs: bench.programs.clone(), samples };
    let json = options.json.clone().unwrap_or_else(|| checkout::target_directory(root).join("bench.json"));
    report.write(&json)
}

fn programs(options: &Options) -> Vec<Program> {
    options.only.map_or_else(|| vec![Program::Perennial, Program::Kopia], |program| vec![program])
}

struct Bench<'a> {
    perennial: PathBuf,
    kopia: PathBuf,
    server_program: Option<PathBuf>,
    programs: Vec<Program>,
    options: &'a Options,
    started: Instant,
}

impl Bench<'_> {
    fn kinds(&self) -> Vec<Kind> {
        match self.options.data {
            Wanted::Small => vec![Kind::Small],
            Wanted::Big => vec![Kind::Big],
            Wanted::All => vec![Kind::Small, Kind::Big],
        }
    }

    fn s3_server(&self) -> Result<&Path> {
        self.server_program.as_deref().context("the S3 server was not asked for")
    }

    fn runs_count(&self) -> usize {
        self.options.runs.unwrap_or(if self.options.quick { 1 } else { RUNS_DEFAULT }).max(1)
    }

    fn say(&self, what: &str) {
        println!("bench: {what} (at {})", elapsed::text(self.started.elapsed()));
    }

    fn data_set(&self, kind: Kind) -> Result<Vec<Sample>> {
        let set = data::Set::new(kind, self.options.quick);
        let room = Room::reserve(&self.options.directory, set.total_bytes())?;
        let source = room.path().join("source");
        self.say(&format!("writing {}", set.describe()));
        set.write(&source)?;
        let mut samples = Vec::new();
        for settings in [Settings::Default, Settings::ZstdFastest] {
            for run in 1..=self.runs_count() {
                for program in &self.programs {
                    self.say(&format!("{}, {}, run {run}, {}", kind.name(), settings.name(), program.name()));
                    let trial = Trial { bench: self, set: &set, source: &source, settings, run, program: *program };
                    samples.extend(trial.run(&room)?);
                }
            }
        }
        Ok(samples)
    }

    fn head(&self, root: &Path) -> Result<table::Head> {
        let perennial = match self.programs.contains(&Program::Perennial) {
            true => format!("perennial {}, commit {}", version_of(&self.perennial)?, commit(root)),
            false => "perennial not measured".to_owned(),
        };
        Ok(table::Head {
            machine: table::machine()?,
            date: said_by(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?,
            versions: format!("{perennial}; kopia {}", version_of(&self.kopia)?),
            store: match (self.options.s3, self.options.delay_ms) {
                (false, _) => "directory".to_owned(),
                (true, None) => "S3 server on loopback".to_owned(),
                (true, Some(delay)) => format!("S3 server on loopback that answers {delay} ms late"),
            },
            runs_count: self.runs_count(),
            quick: self.options.quick,
        })
    }
}

/// One program's way through all phases, on a fresh repository.
struct Trial<'a> {
    bench: &'a Bench<'a>,
    set: &'a data::Set,
    source: &'a Path,
    settings: Settings,
    run: usize,
    program: Program,
}

impl Trial<'_> {
    fn run(&self, room: &Room) -> Result<Vec<Sample>> {
        let place = room.fresh("run")?;
        let server = self.bench.server_program.as_deref().map(|program| server::Server::start(program, &place));
        let server = server.transpose()?;
        let delay = self.bench.options.delay_ms.map(Duration::from_millis);
        let proxy = delay.zip(server.as_ref()).map(|(delay, server)| Delay::start(server.address(), delay));
        let proxy = proxy.transpose()?;
        let store = match &server {
            Some(server) => {
                let address = proxy.as_ref().map_or(server.address(), Delay::address);
                Store::S3 { endpoint: address.to_string(), bucket: server::BUCKET }
            }
            None => Store::Directory(place.join("repository")),
        };
        let repository = server.as_ref().map_or_else(|| place.join("repository"), server::Server::repository);
        let contestant = Contestant {
            program: match self.program {
                Program::Perennial => contestant::Kind::Perennial(self.bench.perennial.clone()),
                Program::Kopia => contestant::Kind::Kopia(self.bench.kopia.clone()),
            },
            store,
            settings: self.settings,
            place: place.clone(),
        };
        self.set.apply(self.source, State::First)?;
        let mut samples = Vec::new();
        for phase in PHASES {
            let calls_before = server.as_ref().map(server::Server::calls_count).transpose()?;
            let measured = self.phase(&contestant, phase)?;
            let calls_after = server.as_ref().map(server::Server::calls_count).transpose()?;
            samples.push(Sample {
                data: self.set.kind,
                settings: self.settings,
                phase,
                program: self.program,
                run: self.run,
                measured,
                repository_bytes: room::size_of(&repository)?,
                s3_calls_count: calls_after.zip(calls_before).map(|(after, before)| after - before),
            });
        }
        if self.run == self.bench.runs_count() {
            self.compare(&contestant.target())?;
        }
        drop((proxy, server));
        std::fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
        Ok(samples)
    }

    fn phase(&self, contestant: &Contestant, phase: Phase) -> Result<measure::Measured> {
        let what = || format!("{} of {} by {}", phase.name(), self.set.kind.name(), self.program.name());
        let command = match phase {
            Phase::Create => contestant.create(),
            Phase::First | Phase::Unchanged => contestant.backup(self.source),
            Phase::Changed => {
                self.set.apply(self.source, State::Changed)?;
                contestant.backup(self.source)
            }
            Phase::Restore => contestant.restore(self.source),
        };
        let measured = measure::run(command, &contestant.log(phase)).with_context(what)?;
        if phase == Phase::Create {
            contestant.prepare().with_context(what)?;
        }
        Ok(measured)
    }

    /// The restored tree must equal the source; a fast restore of wrong bytes is no result.
    fn compare(&self, target: &Path) -> Result<()> {
        let output = Command::new("diff").args(["-r", "--no-dereference"]).arg(self.source).arg(target).output();
        let output = output.context("run diff")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            let first = said.lines().take(5).collect::<Vec<_>>().join("\n");
            bail!("what {} restored differs from the source:\n{first}", self.program.name());
        }
        Ok(())
    }
}

fn version_of(program: &Path) -> Result<String> {
    let said = said_by(Command::new(program).arg("--version"))?;
    let version = said.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    Ok(version.unwrap_or(&said).to_owned())
}

fn commit(root: &Path) -> String {
    let described = said_by(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root));
    described.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "none yet".to_owned())
}

fn said_by(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
