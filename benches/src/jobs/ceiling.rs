//! What no backup of these files on this machine can beat: the work alone, without a repository.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use colvault_engine::chunker::{Cutter, Piece};
use colvault_engine::compress::Compressor;
use colvault_engine::format::config::CutterParameters;
use colvault_engine::format::extent::SPAN_BYTES;
use colvault_engine::id::IdKey;
use rayon::prelude::*;

use crate::Outcome;

const PACK_BYTES: usize = 64 << 20;

/// What cutting, hashing and compressing took, and what they gave.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub seconds: f64,
    pub stored_bytes: u64,
}

/// Reads every file below a directory, cuts and hashes it, and compresses every chunk whose id is
/// met for the first time, on all cores. Nothing is written.
pub fn cut_hash_compress(directory: &Path) -> Outcome<Work> {
    let mut spans = Vec::new();
    collect(directory, &mut spans)?;
    let cutter = Cutter::new(&CutterParameters::default());
    let key = IdKey([7; 32]);
    let seen: Vec<Mutex<std::collections::HashSet<[u8; 32]>>> =
        (0..64).map(|_| Mutex::default()).collect();
    let is_new = |id: [u8; 32]| seen[usize::from(id[31] % 64)].lock().unwrap().insert(id);
    let begun = Instant::now();
    let stored = spans
        .par_iter()
        .map_init(
            || (Compressor::new(), Vec::new(), Vec::new()),
            |(compressor, bytes, out), (path, offset, length)| -> std::io::Result<u64> {
                bytes.resize(*length, 0);
                File::open(path)?.read_exact_at(bytes, *offset)?;
                let (mut at, mut after_zeros, mut stored) = (0, false, 0);
                while at < bytes.len() {
                    let piece = cutter.next(&bytes[at..], true, after_zeros);
                    after_zeros = matches!(piece, Piece::Zeros(_));
                    if let Piece::Chunk(length) = piece {
                        let chunk = &bytes[at..at + length];
                        if is_new(key.chunk_id(chunk).0) {
                            out.clear();
                            stored += compressor.store(chunk, out) as u64;
                        }
                    }
                    at += piece.length();
                }
                Ok(stored)
            },
        )
        .try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(Work { seconds: begun.elapsed().as_secs_f64(), stored_bytes: stored })
}

fn collect(directory: &Path, spans: &mut Vec<(PathBuf, u64, usize)>) -> Outcome<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), spans)?;
        } else if metadata.is_file() {
            for start in (0..metadata.len()).step_by(usize::try_from(SPAN_BYTES)?) {
                let length = usize::try_from(SPAN_BYTES.min(metadata.len() - start))?;
                spans.push((entry.path(), start, length));
            }
        }
    }
    Ok(())
}

/// Writes `bytes` bytes as files of the size of packs, two at a time, each synced; returns the
/// seconds.
pub fn write_packs(directory: &Path, bytes: u64) -> Outcome<f64> {
    std::fs::create_dir_all(directory)?;
    // Not compressible, so that no file system or disk makes it less.
    let mut content = vec![0; PACK_BYTES];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in content.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    let lengths: Vec<usize> = (0..bytes)
        .step_by(PACK_BYTES)
        .map(|start| usize::try_from(bytes - start).unwrap_or(usize::MAX).min(PACK_BYTES))
        .collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let begun = Instant::now();
    pool.install(|| {
        lengths.par_iter().enumerate().try_for_each(|(number, length)| {
            let mut file = File::create(directory.join(format!("pack-{number}")))?;
            file.write_all(&content[..*length])?;
            file.sync_all()
        })
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_dir_all(directory)?;
    Ok(seconds)
}
