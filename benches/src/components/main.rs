//! What the parts of the engine cost, each by itself.

mod content;
mod index;
mod packs;
mod synthetic;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measure parts of the engine by themselves.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    component: Component,
}

#[derive(Subcommand)]
enum Component {
    /// Cut, hash and compress (every level) the files below directories
    Content {
        /// Directories of files; they are read into memory one by one, their chunks are kept
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Fill a chunk index with made-up chunks in a directory, and look chunks up
    Index {
        /// Directory of the index cache; it is emptied first
        dir: PathBuf,
        /// Chunks to load, in millions
        #[arg(long, default_value_t = 1)]
        millions: u64,
        /// Chunks to look up, in thousands
        #[arg(long, default_value_t = 500)]
        look_ups: u64,
        /// Chunks that are claimed and added after the load, in thousands
        #[arg(long, default_value_t = 1000)]
        added: u64,
    },
    /// Write packs of made-up chunks to a directory and read them back
    Packs {
        /// Directory of the repository; it must not exist
        dir: PathBuf,
        /// Raw bytes, in MiB
        #[arg(long, default_value_t = 2048)]
        mib: u64,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    match Args::parse().component {
        Component::Content { dirs } => content::run(&dirs, &mut out)?,
        Component::Index { dir, millions, look_ups, added } => {
            index::run(&dir, millions * 1_000_000, look_ups * 1000, added * 1000, &mut out)?;
        }
        Component::Packs { dir, mib } => packs::run(&dir, mib << 20, &mut out)?,
    }
    Ok(())
}

/// Returns the most memory this process had resident so far, in MB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// Returns the processor time this process has used, in seconds.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
