//! The project's own chores, as `cargo xtask <command>`: build the peers, run everything CI runs, check what
//! no compiler checks, measure us beside kopia, and bring up a Kubernetes.

mod bench;
mod checkout;
mod cluster;
mod deploy;
mod e2e;
mod elapsed;
mod product_image;
mod steps;
mod test;
mod tidy;
mod tools;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own chores")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the real kopia and versitygw into a cache outside the checkout
    Tools,
    /// Run everything that CI runs, in its order
    Test(test::Options),
    /// Check arrows, licences, pins, lengths, words, test files, attributes and links
    Tidy,
    /// Measure perennial beside kopia on generated data
    Bench(bench::Options),
    /// Write what of deploy/ follows from types and lists, or check all of it
    Deploy(deploy::Options),
    /// A real Kubernetes of one node on this machine, for tests
    Cluster(cluster::Options),
    /// Make the product's image, without any engine
    Image(product_image::Options),
    /// Run the tests that need a cluster
    E2e(e2e::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Not returned from main: that would print a backtrace wherever the environment asks for one.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let root = checkout::root()?;
    match command {
        Command::Tools => tools::run(&root),
        Command::Test(options) => test::run(&root, &options),
        Command::Tidy => tidy::run(&root),
        Command::Bench(options) => bench::run(&root, &options),
        Command::Deploy(options) => deploy::run(&root, &options),
        Command::Cluster(options) => cluster::run(&root, &options),
        Command::Image(options) => product_image::run(&root, &options),
        Command::E2e(options) => e2e::run(&root, &options),
    }
}
