//! The chunk index: loading it from index objects, looking chunks up, adding a night's chunks.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use colvault_engine::format::ChunkKind;
use colvault_engine::id::{ChunkId, IndexId, random};
use colvault_engine::index::{CachePlace, ChunkIndex};

use super::synthetic::{CHUNKS_PER_PACK, REPOSITORY, SyntheticIndexes, chunk, pack};
use super::{Memory, processor_seconds};

type Error = Box<dyn std::error::Error>;

/// Loads `chunks` chunks into an index in `directory`, looks `look_ups` up, and adds `added`.
pub fn run(
    directory: &Path,
    chunks: u64,
    look_ups: u64,
    added: u64,
    out: &mut impl Write,
) -> Result<(), Error> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    let memory = Memory::watch();
    let begun = Instant::now();
    let objects = SyntheticIndexes::new(chunks);
    let making = begun.elapsed().as_secs_f64();
    let chunks = objects.chunks();
    writeln!(
        out,
        "{:.1} million chunks in {} packs; index objects of {:.2} GB, made in {making:.1} s",
        chunks as f64 / 1e6,
        objects.packs(),
        objects.bytes() as f64 / 1e9,
    )?;
    out.flush()?;
    let place = CachePlace::Directory(directory.to_owned());
    let (index, note) = ChunkIndex::open(&place, REPOSITORY)?;
    if let Some(note) = note {
        return Err(note.into());
    }
    let (begun, processor) = (Instant::now(), processor_seconds());
    let report = index.refresh(&objects)?;
    let seconds = begun.elapsed().as_secs_f64();
    let processor = processor_seconds() - processor;
    if report.cache_note.is_some() || index.chunks() != chunks {
        return Err(format!("the load went wrong: {report:?}").into());
    }
    let stored = bytes_below(directory)?;
    writeln!(
        out,
        "load     {seconds:8.1} s ({processor:.1} s of processor), {:.2} million chunks/s; the objects \
         are made again among it; {:.2} GB on disk, {:.1} bytes a chunk; {memory}",
        chunks as f64 / seconds / 1e6,
        stored as f64 / 1e9,
        stored as f64 / chunks as f64,
    )?;
    out.flush()?;
    let begun = Instant::now();
    index.close();
    let closing = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let (index, _) = ChunkIndex::open(&place, REPOSITORY)?;
    let opening = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let report = index.refresh(&objects)?;
    if report.loaded != 0 {
        return Err(format!("{} objects loaded twice", report.loaded).into());
    }
    writeln!(
        out,
        "close    {closing:8.1} s; open {opening:.2} s; refresh without news {:.2} s",
        begun.elapsed().as_secs_f64()
    )?;
    for threads in [1, 2] {
        let known = look_up(&index, look_ups, threads, &|n| known_chunk(n, chunks), true)?;
        let new = look_up(&index, look_ups, threads, &|n| chunk(n + (1 << 50)), false)?;
        writeln!(
            out,
            "look up  {:8.0} known/s ({:.1} us of processor each), {:.0} new/s ({:.2} us); {threads} \
             threads",
            known.rate, known.processor_us, new.rate, new.processor_us,
        )?;
        out.flush()?;
    }
    add(&index, objects.packs(), added, out)?;
    let begun = Instant::now();
    index.close();
    let stored = bytes_below(directory)?;
    let chunks = chunks + added;
    writeln!(
        out,
        "close    {:8.1} s; {:.2} GB on disk, {:.1} bytes a chunk; {memory}",
        begun.elapsed().as_secs_f64(),
        stored as f64 / 1e9,
        stored as f64 / chunks as f64,
    )?;
    Ok(())
}

/// One of the loaded chunks, anywhere.
fn known_chunk(number: u64, chunks: u64) -> ChunkId {
    chunk(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % chunks)
}

struct LookUps {
    /// By the second.
    rate: f64,
    /// Processor time of one.
    processor_us: f64,
}

/// Looks chunks up as a backup does and returns how many a second.
fn look_up(
    index: &ChunkIndex,
    count: u64,
    threads: u64,
    id: &(dyn Fn(u64) -> ChunkId + Sync),
    known: bool,
) -> Result<LookUps, Error> {
    let (begun, processor) = (Instant::now(), processor_seconds());
    let right: u64 = std::thread::scope(|scope| {
        let one = |thread: u64| {
            scope.spawn(move || {
                let found = |n: u64| {
                    let id = id(n);
                    index.may_contain(id)
                        && index.find(id, ChunkKind::Data).is_ok_and(|found| found.is_some())
                };
                (thread * count..(thread + 1) * count).filter(|n| found(*n) == known).count() as u64
            })
        };
        let running: Vec<_> = (0..threads).map(one).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    if right != threads * count {
        return Err(format!("{right} of {} look-ups were right", threads * count).into());
    }
    let all = (threads * count) as f64;
    Ok(LookUps {
        rate: all / begun.elapsed().as_secs_f64(),
        processor_us: (processor_seconds() - processor) * 1e6 / all,
    })
}

/// Claims new chunks and adds their packs, an index object for every 20 packs, as a backup does.
fn add(index: &ChunkIndex, packs: u64, added: u64, out: &mut impl Write) -> Result<(), Error> {
    let begun = Instant::now();
    let mut chunks = 0;
    let mut waiting = Vec::new();
    for number in packs..packs + added.div_ceil(CHUNKS_PER_PACK) {
        let pack = pack(number);
        for place in &pack.places {
            if !index.claim(place.id, pack.kind)? {
                return Err("a new chunk is known".into());
            }
        }
        chunks += pack.places.len();
        waiting.push(pack);
        if waiting.len() == 20 {
            index.add(&std::mem::take(&mut waiting), IndexId(random()))?;
        }
    }
    index.add(&waiting, IndexId(random()))?;
    let seconds = begun.elapsed().as_secs_f64();
    writeln!(out, "add      {:8.0} chunks/s, claimed one by one", chunks as f64 / seconds)?;
    Ok(())
}

fn bytes_below(directory: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        use std::os::unix::fs::MetadataExt;
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}
