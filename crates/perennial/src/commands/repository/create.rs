//! `perennial repository create`.

use api::exit::Exit;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use jiff::SignedDuration;
use repository_kopia::CreateOptions;
use storage::{Layout, LockMode, Storage};

use super::show;
use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store;

const EXAMPLES: &str = "\
Examples:
  perennial repository create --store file:/srv/repo --password-file ~/.repo-password
  perennial repository create --store 's3://backups/laptop?endpoint=http://nas:9000'
  perennial repository create --ecc-overhead-percent 2
  perennial repository create --retention-mode COMPLIANCE --retention-period 720h

The place must be empty. The defaults are those of kopia 0.22, and kopia can use the repository from then on. The choices \
have kopia's names, and none of them can be changed later.
Keep the password: without it nothing can be read, by nobody.";

/// Make a repository in an empty place
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Kopia)]
    format: Format,

    /// How contents are named
    #[arg(long, value_name = "NAME", alias = "hash", default_value_t = CreateOptions::default().hash,
          value_parser = PossibleValuesParser::new(CreateOptions::hashes()))]
    block_hash: String,

    /// How contents are encrypted
    #[arg(long, value_name = "NAME", default_value_t = CreateOptions::default().encryption,
          value_parser = PossibleValuesParser::new(CreateOptions::encryptions()))]
    encryption: String,

    /// How files are cut
    #[arg(long, value_name = "NAME", alias = "splitter", default_value_t = CreateOptions::default().splitter,
          value_parser = PossibleValuesParser::new(CreateOptions::splitters()))]
    object_splitter: String,

    /// Version of the format; 1 is what kopia before 0.9 knows
    #[arg(long, value_name = "VERSION", default_value_t = CreateOptions::default().version,
          value_parser = clap::value_parser!(u32).range(1..=3))]
    format_version: u32,

    /// Parity beside the data, so that bytes that rot in the store can be computed back
    #[arg(long, value_name = "NAME", requires = "ecc_overhead_percent",
          value_parser = PossibleValuesParser::new([CreateOptions::ECC]))]
    ecc: Option<String>,

    /// How much room that may take, in percent; 0 for none
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    ecc_overhead_percent: u32,

    /// Size at which a pack is closed, in MiB
    #[arg(long, value_name = "MIB", default_value_t = CreateOptions::default().max_pack_bytes >> 20,
          value_parser = clap::value_parser!(u64).range(10..=120))]
    max_pack_size_mb: u64,

    /// Lock new objects against deletion; the bucket must have object lock
    #[arg(long, value_name = "MODE", requires = "retention_period",
          value_parser = PossibleValuesParser::new(["GOVERNANCE", "COMPLIANCE"]))]
    retention_mode: Option<String>,

    /// For so long, a day at least, as in 720h
    #[arg(long, value_name = "DURATION", requires = "retention_mode", value_parser = duration)]
    retention_period: Option<SignedDuration>,

    /// How the key comes from the password
    #[arg(long, value_name = "NAME", default_value_t = CreateOptions::default().key_derivation,
          value_parser = PossibleValuesParser::new(CreateOptions::key_derivations()))]
    format_block_key_derivation_algorithm: String,

    /// Do not try out first whether the store keeps what it promises
    #[arg(long)]
    no_probe: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Kopia,
}

impl Arguments {
    fn options(&self) -> CreateOptions {
        let mode = self.retention_mode.as_deref().and_then(LockMode::from_s3_name);
        CreateOptions {
            hash: self.block_hash.clone(),
            encryption: self.encryption.clone(),
            splitter: self.object_splitter.clone(),
            version: self.format_version,
            ecc_overhead_percent: self.ecc_overhead_percent,
            max_pack_bytes: self.max_pack_size_mb << 20,
            key_derivation: self.format_block_key_derivation_algorithm.clone(),
            retention: mode.zip(self.retention_period),
        }
    }
}

/// As kopia and Go write a duration: `720h`, `1h30m`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    text.parse::<SignedDuration>().map_err(|_| "not a duration as in 720h".to_owned())
}

pub fn run(arguments: &Arguments, shared: &Shared, runner: &Runner) -> Result<Exit, Failure> {
    let Format::Kopia = arguments.format;
    let layout = if arguments.format_version == 1 { Layout::KopiaVersion1 } else { Layout::Kopia };
    let place = store::place(layout, shared, runner)?;
    // Nothing is tried out among the objects of others: creating refuses such a place.
    if !arguments.no_probe && runner.wait(is_empty(&*place.storage))? {
        runner.wait(storage::probe::probe(&*place.storage))?;
    }
    let open = store::create(place, &arguments.options(), shared, runner)?;
    runner.wait(open.repository.refresh())?;
    show(&open, shared, runner)
}

async fn is_empty(storage: &dyn Storage) -> Result<bool, storage::Error> {
    Ok(storage.list("").next().await.transpose()?.is_none())
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_written_as_for_kopia() {
        for (text, hours) in [("720h", 720), ("24h0m0s", 24), ("36h", 36)] {
            assert_eq!(duration(text).unwrap().as_hours(), hours);
        }
        assert!(duration("a month").is_err() && duration("30").is_err());
    }
}
