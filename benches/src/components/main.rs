//! What the parts of the engine cost, each by itself.

mod content;
mod cutting;
mod index;
mod packs;
mod recipes;
mod synthetic;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
    /// Cut nights in every way that is considered, and say what each night adds
    Cutting {
        /// Directories, each a night, in order
        #[arg(required = true)]
        nights: Vec<PathBuf>,
    },
    /// Cut what slots unpack to, store it through every transform, and say what each night adds
    Recipes {
        /// Directories, each a night, in order
        #[arg(required = true)]
        nights: Vec<PathBuf>,
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
        Component::Cutting { nights } => cutting::run(&nights, &mut out)?,
        Component::Recipes { nights } => recipes::run(&nights, &mut out)?,
        Component::Index { dir, millions, look_ups, added } => {
            index::run(&dir, millions * 1_000_000, look_ups * 1000, added * 1000, &mut out)?;
        }
        Component::Packs { dir, mib } => packs::run(&dir, mib << 20, &mut out)?,
    }
    Ok(())
}

/// Watches the memory of this process.
struct Memory {
    own: Arc<AtomicU64>,
}

impl Memory {
    /// Looks ten times a second from now on.
    fn watch() -> Memory {
        let own = Arc::new(AtomicU64::new(0));
        let most = Arc::clone(&own);
        std::thread::spawn(move || {
            loop {
                most.fetch_max(status("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Memory { own }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own.load(Ordering::Relaxed).max(status("RssAnon:"));
        let most = status("VmHWM:");
        write!(
            f,
            "peak memory {} MB own, {} MB with mapped files",
            own / 1_000_000,
            most / 1_000_000
        )
    }
}

/// Returns a value of /proc/self/status in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the processor time this process has used, in seconds.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
