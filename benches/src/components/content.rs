//! What cutting, hashing and compressing cost on files, each by itself on one core.
//!
//! Reads every file below the directories, cuts it with the default parameters, and prints the
//! rates and what each zstd level makes of the chunks that are left after deduplication.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use colvault_engine::chunker::{Cutter, Piece};
use colvault_engine::format::config::CutterParameters;
use colvault_engine::id::IdKey;

/// zstd levels that are compared.
const LEVELS: [i32; 5] = [-1, 1, 2, 3, 5];

/// What was measured while cutting and hashing.
#[derive(Default)]
struct Cut {
    raw_bytes: u64,
    cutting: Duration,
    hashing: Duration,
    unique: Vec<Vec<u8>>,
}

/// Measures on every file below some directories.
pub fn run(directories: &[PathBuf], out: &mut impl Write) -> std::io::Result<()> {
    let mut files = Vec::new();
    for directory in directories {
        collect(directory, &mut files)?;
    }
    let mut cut = Cut::default();
    let mut seen = HashSet::new();
    for file in &files {
        cut_file(&std::fs::read(file)?, &mut cut, &mut seen);
    }
    let unique_bytes: usize = cut.unique.iter().map(Vec::len).sum();
    let rate = |bytes: u64, time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    writeln!(
        out,
        "{} files, {:.1} MB; {} chunks, {:.1} MB after deduplication",
        files.len(),
        cut.raw_bytes as f64 / 1e6,
        cut.unique.len(),
        unique_bytes as f64 / 1e6
    )?;
    writeln!(out, "cut   {:8.0} MB/s", rate(cut.raw_bytes, cut.cutting))?;
    writeln!(out, "hash  {:8.0} MB/s", rate(cut.raw_bytes, cut.hashing))?;
    for level in LEVELS {
        let (stored, time) = compress(&cut.unique, level)?;
        writeln!(
            out,
            "zstd {level:>2}: {:8.1} MB stored, {:6.0} MB/s",
            stored as f64 / 1e6,
            rate(unique_bytes as u64, time)
        )?;
    }
    Ok(())
}

pub(super) fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn cut_file(bytes: &[u8], cut: &mut Cut, seen: &mut HashSet<[u8; 32]>) {
    let cutter = Cutter::new(&CutterParameters::default());
    let key = IdKey([7; 32]);
    cut.raw_bytes += bytes.len() as u64;
    let mut at = 0;
    let mut after_zeros = false;
    while at < bytes.len() {
        let begun = Instant::now();
        let piece = cutter.next(&bytes[at..], true, after_zeros);
        cut.cutting += begun.elapsed();
        after_zeros = matches!(piece, Piece::Zeros(_));
        if let Piece::Chunk(length) = piece {
            let chunk = &bytes[at..at + length];
            let begun = Instant::now();
            let id = key.chunk_id(chunk);
            cut.hashing += begun.elapsed();
            if seen.insert(id.0) {
                cut.unique.push(chunk.to_vec());
            }
        }
        at += piece.length();
    }
}

fn compress(chunks: &[Vec<u8>], level: i32) -> std::io::Result<(usize, Duration)> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    let mut out = vec![0; 1 << 20];
    let begun = Instant::now();
    let mut stored = 0;
    for chunk in chunks {
        stored += compressor.compress_to_buffer(chunk, &mut out[..])?.min(chunk.len());
    }
    Ok((stored, begun.elapsed()))
}
