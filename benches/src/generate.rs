//! Makes a deployment of any size, night by night.

use std::io::{Error, ErrorKind, Result, Write};
use std::num::NonZero;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use colvault_benches::generator::{
    CodecChoice, CreateOptions, NightKind, NightOptions, create, create_small_files, night,
    small_files_night,
};

/// Make a ColumnStore deployment to measure on, or turn it into its next night.
///
/// `generate DIR --bytes 1600M --seed 7` makes night 0 below DIR; `colvault backup --root DIR`
/// backs it up. `generate DIR --night 1 --kind append` turns night 0, in place, into night 1. With
/// `--files N` a plain tree of N small files is made instead. The same options make the same bytes.
#[derive(Parser)]
struct Args {
    /// Directory of the deployment; for night 0 empty or not there
    dir: PathBuf,
    /// Stored bytes of column and dictionary files (K, M, G: powers of 1024)
    #[arg(long, default_value = "100M", value_parser = bytes)]
    bytes: u64,
    /// Seed of all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes that slots unpack to for each stored byte
    #[arg(long, default_value_t = 2.4)]
    unpacked_ratio: f64,
    /// Numbers of the DB Roots, rising
    #[arg(long, default_value = "1", value_delimiter = ',')]
    dbroots: Vec<u16>,
    /// Number of tables
    #[arg(long, default_value_t = 7)]
    tables: usize,
    /// What packs the columns
    #[arg(long, value_enum, default_value_t = CodecName::Mixed)]
    codec: CodecName,
    /// Make a plain tree of so many small files instead
    #[arg(long)]
    files: Option<u64>,
    /// Turn the night before into this one
    #[arg(long)]
    night: Option<u32>,
    /// What happens in the night
    #[arg(long, value_enum, default_value_t = KindName::Mixed, requires = "night")]
    kind: KindName,
    /// How much of it
    #[arg(long, default_value_t = 0.03, requires = "night")]
    share: f64,
    /// Threads that write
    #[arg(long)]
    threads: Option<NonZero<usize>>,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodecName {
    Snappy,
    Lz4,
    Mixed,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    Append,
    Update,
    Delete,
    Drop,
    Mixed,
}

fn bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("expected a number with K, M or G, found {text}");
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let threads = args.threads.map_or_else(std::thread::available_parallelism, Ok)?;
    let mut out = std::io::stdout().lock();
    match (args.files, args.night) {
        (Some(files), None) => {
            create_small_files(&args.dir, files, args.seed)?;
            writeln!(out, "{files} files")
        }
        (Some(files), Some(night)) => {
            let changed = small_files_night(&args.dir, files, args.seed, night, args.share)?;
            writeln!(out, "night {night}: {changed} of {files} files written again")
        }
        (None, None) => {
            let options = CreateOptions {
                bytes: args.bytes,
                seed: args.seed,
                unpacked_ratio: args.unpacked_ratio,
                dbroots: args.dbroots,
                tables: args.tables,
                codec: match args.codec {
                    CodecName::Snappy => CodecChoice::Snappy,
                    CodecName::Lz4 => CodecChoice::Lz4,
                    CodecName::Mixed => CodecChoice::Mixed,
                },
                threads,
            };
            let made = create(&args.dir, &options)?;
            writeln!(
                out,
                "{} tables, {} rows, {} segment files, {:.1} MB stored, unpacked {:.2} times as much",
                made.tables,
                made.rows,
                made.files,
                made.bytes as f64 / 1e6,
                made.unpacked_bytes as f64 / made.bytes as f64
            )
        }
        (None, Some(number)) => {
            if number == 0 {
                return Err(Error::new(ErrorKind::InvalidInput, "--night: expected 1 or more"));
            }
            let options = NightOptions {
                night: number,
                kind: match args.kind {
                    KindName::Append => NightKind::Append,
                    KindName::Update => NightKind::Update,
                    KindName::Delete => NightKind::Delete,
                    KindName::Drop => NightKind::Drop,
                    KindName::Mixed => NightKind::Mixed,
                },
                share: args.share,
                threads,
            };
            let did = night(&args.dir, &options)?;
            writeln!(
                out,
                "night {number}: {} rows added, {} deleted; {} slots packed again, {} files written \
                 anew; dropped {:?}, made {:?}",
                did.rows_added,
                did.rows_deleted,
                did.slots_changed,
                did.files_rewritten,
                did.tables_dropped,
                did.tables_created
            )
        }
    }
}
