//! The whole job, side by side: colvault, restic, rustic, borg and `cp -a` on the same files.
//!
//! `benches/README.md` says how to run it. Tools are interleaved, their order is rotated from round to round, each
//! begins with a fresh repository and a fresh cache, and the figures of a table come from one run.
//! Every tool's last write is waited for (`syncfs` after each step, for all of them alike).

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bucket;
mod ceiling;
mod measure;
mod report;
mod sizes;
mod times;
mod tool;
mod workspace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::tool::Tool;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures whole backups and restores, several tools side by side
#[derive(Debug, Parser)]
#[command(name = "jobs")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What every measurement needs.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// The colvault program
    #[arg(long, default_value = "target/release/colvault")]
    colvault: PathBuf,
    /// Where benches/peers.sh has installed the others
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// The tools, in the order of the first round
    #[arg(long, value_delimiter = ',', default_values = ["colvault", "colvault-packed", "restic", "rustic", "borg", "borg-fast", "cp"])]
    tools: Vec<Tool>,
    /// An empty directory on the file system to restore to; copies of the source and caches too
    #[arg(long)]
    work: PathBuf,
    /// An empty directory for the repositories; by default inside the work directory
    #[arg(long)]
    repositories: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First backup, unchanged night, restore and a changed night, in rounds
    Times(times::TimesArgs),
    /// Bytes stored, night after night laid over each other in one folder
    Sizes(sizes::SizesArgs),
    /// The jobs of `times` with repositories in a bucket of an S3 store on loopback, and its requests
    Bucket(bucket::BucketArgs),
    /// Runs a command and writes what it took to a file (used by the others)
    #[command(hide = true)]
    Measured {
        result: PathBuf,
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Times(args) => times::run(&args),
        Command::Sizes(args) => sizes::run(&args),
        Command::Bucket(args) => bucket::run(&args),
        Command::Measured { result, command } => measure::run_measured(&result, &command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "jobs: {error}");
            ExitCode::FAILURE
        }
    }
}
